//! The report once a day: every field of the page's lists, when it goes, and that what is shown is what is sent.

use crate::bed::{Bed, Setup, trial, trial_with};
use crate::product::Product;
use crate::server::{Mood, SENT_AT, Server, without};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Mutex;

/// One line of the page: its words, where it stands in the event, what it is in the sample's cluster.
type Field = (&'static str, &'static str, Holds);

#[derive(Clone, Copy)]
enum Holds {
    Text(&'static str),
    Count(u64),
    /// A keyed hash: 32 hex digits, and the id is nowhere in the event.
    Hash,
    /// Something that is not empty.
    Something,
}
use Holds::{Count, Hash, Something, Text};

const DAILY: [Field; 23] = [
    ("API version", "/contexts/product/api_version", Text("1")),
    ("Cluster ID", "/tags/cluster.id", Hash),
    ("CPU architechture", "/contexts/device/arch", Text("amd64")),
    ("Go version", "/contexts/product/go_version", Text("go1.13.4")),
    ("Healthy volume count", "/contexts/inventory/volumes_healthy", Count(2)),
    ("Logging level", "/contexts/logging/logging_level", Text("info")),
    ("Logging user", "/contexts/logging/logging_user", Text("storageos")),
    ("License type", "/contexts/product/license_type", Text("basic")),
    ("Namespace count", "/contexts/inventory/namespaces", Count(1)),
    ("Node count", "/contexts/inventory/nodes", Count(3)),
    ("Pool count", "/contexts/inventory/pools", Count(1)),
    ("OS type", "/contexts/os/name", Text("linux")),
    ("Rule count", "/contexts/inventory/rules", Count(1)),
    ("Server name", "/server_name", Something),
    ("Sentry version", "/contexts/obit/sentry_version", Text("7")),
    ("StorageOS build information (CI pipeline reference)", "/contexts/product/build_ref", Text("0a1b2c3d")),
    ("StorageOS version", "/release", Text("storageos@1.5.3")),
    ("Suspect volume count", "/contexts/inventory/volumes_suspect", Count(1)),
    ("Total volume size", "/contexts/inventory/volume_size_gb", Count(33)),
    ("Volume count", "/contexts/inventory/volumes", Count(7)),
    ("Volume degraded count", "/contexts/inventory/volumes_degraded", Count(1)),
    ("Volume offline count", "/contexts/inventory/volumes_offline", Count(1)),
    ("Volume syncing count", "/contexts/inventory/volumes_syncing", Count(1)),
];

/// What a crash report says of the cluster and of the death; the product's part is what the last inventory said.
const CRASH: [Field; 19] = [
    ("API version", "/contexts/product/api_version", Text("1")),
    ("Cluster ID", "/tags/cluster.id", Hash),
    ("CPU architechture", "/contexts/device/arch", Something),
    ("Crashed component name", "/tags/component", Text("dataplane")),
    ("Error level", "/level", Text("fatal")),
    ("Error message", "/exception/values/0/value", Something),
    ("Exceptions", "/exception/values/0/type", Something),
    ("Exit code", "/tags/exit.code", Text("139")),
    ("Datetime of crash", "/timestamp", Something),
    ("Go version", "/contexts/product/go_version", Text("go1.13.4")),
    ("Kernel signal", "/tags/exit.signal", Text("SIGSEGV")),
    ("OS type", "/contexts/os/name", Text("Linux")),
    ("License type", "/contexts/product/license_type", Text("basic")),
    ("Logging user", "/contexts/logging/logging_user", Text("storageos")),
    ("Server name", "/server_name", Something),
    ("Stacktrace", "/exception/values/0/stacktrace/frames/0", Something),
    ("StorageOS build information (CI pipeline reference)", "/contexts/product/build_ref", Text("0a1b2c3d")),
    ("StorageOS version", "/contexts/product/version", Text("1.5.3")),
    ("Whether a core dump occured", "/tags/exit.core_dumped", Something),
];

pub fn trials() -> Vec<Trial> {
    let daily = DAILY.into_iter().map(|field| {
        trial_with(&format!("the daily report has: {}", field.0), &[], move |bed| holds(&events(bed).0, field))
    });
    let crash = CRASH.into_iter().map(|field| {
        trial_with(&format!("the crash report has: {}", field.0), &[], move |bed| holds(&events(bed).1, field))
    });
    let others = [
        trial("the daily report has no field that is not of the page's list", &[], nothing_else),
        trial("the daily report that is shown is the one that is sent, byte for byte", &[], shown_is_sent),
        trial("a monitor is checked in with the daily report when one is named", &[], checks_in),
        trial("the daily report goes once in a day however often the program starts", &[], once),
        trial("the first daily report waits to be due, and the notice comes before it", &[], notice),
        trial("without an inventory the counts are absent with their reason", &[], absent),
        trial("an attempt is in the log with its destination, its proxy and its result", &[], logged),
        trial("a new identity cannot be joined with the old one", &[], reset_id),
        trial("a pseudonym is sent in place of the host name when that is asked for", &[], hidden),
    ];
    daily.chain(crash).chain(others).collect()
}

/// The id in the samples.
const CLUSTER_ID: &str = "5e9c7b1e-0000-4000-8000-000000000001";

#[track_caller]
fn holds(event: &Value, (page, place, holds): Field) {
    let found = event.pointer(place).unwrap_or_else(|| panic!("{page}: nothing at {place} of {event:#}"));
    match holds {
        Text(text) => assert_eq!(found, text, "{page}"),
        Count(count) => assert_eq!(found, count, "{page}"),
        Hash => {
            let hash = found.as_str().expect("a text");
            assert!(hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{page}: {hash}");
            assert!(!event.to_string().contains(CLUSTER_ID), "{page}: the id itself is in the event");
        }
        Something => assert!(!found.is_null() && *found != "", "{page}"),
    }
}

/// A daily report and a crash report of the sample's cluster, made once for all trials.
fn events(bed: &Bed) -> (Value, Value) {
    static MADE: Mutex<Option<(Value, Value)>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    made.get_or_insert_with(|| {
        let (server, product) = (Server::new(Mood::Status(200)), Product::new());
        heartbeat(bed, &server, &product).end().code(0);
        let panic = "thread 'main' (7) panicked at src/main.rs:2:5:\\nit is over\\nstack backtrace:\\n   0: app::main\\n             at ./src/main.rs:2:5\\n";
        let script = format!("printf '%b' \"{panic}\" >&2; kill -SEGV $$");
        let options = ["--report-wait", "30s", "--component", "dataplane"];
        at_product(bed.run(&options, ["sh", "-c", &script]), &server, &product).end().code(139);
        let reports = server.reports();
        let [daily, crash] = &reports[..] else { panic!("two events: {reports:#?}") };
        (daily.clone(), crash.clone())
    })
    .clone()
}

fn at_product(setup: Setup, server: &Server, product: &Product) -> Setup {
    setup
        .env("OBIT_DSN", &server.dsn)
        .env("OBIT_INVENTORY", &product.source)
        .env("ADMIN_USERNAME", "storageos")
        .env("ADMIN_PASSWORD", "storageos")
        .env("OBIT_PRODUCT", "storageos")
}

fn heartbeat(bed: &Bed, server: &Server, product: &Product) -> Setup {
    at_product(bed.obit(["heartbeat", "--now"]), server, product)
}

fn nothing_else(bed: &Bed) {
    let (daily, _) = events(bed);
    let mut keys: Vec<String> = daily.as_object().expect("an object").keys().cloned().collect();
    for (context, fields) in daily["contexts"].as_object().expect("an object") {
        keys.extend(fields.as_object().expect("an object").keys().map(|key| format!("{context}.{key}")));
    }
    keys.extend(daily["tags"].as_object().expect("an object").keys().map(|key| format!("tag {key}")));
    keys.retain(|key| !key.ends_with(".type"));
    keys.sort();
    let mut expected: Vec<String> = DAILY
        .iter()
        .map(|(_, place, _)| place.trim_start_matches("/contexts/").replacen("/tags/", "tag ", 1))
        .map(|place| place.trim_start_matches('/').replace('/', "."))
        .collect();
    // The envelope of it: what makes it an event, whose it is, and where else a field of the list stands.
    expected.extend(
        [
            "contexts",
            "event_id",
            "fingerprint",
            "level",
            "logentry",
            "logger",
            "platform",
            "sdk",
            "tags",
            "timestamp",
            "obit.version",
            "product.arch",
            "product.name",
            "product.os",
            "product.version",
            "tag obit.version",
            "tag product",
            "tag report",
        ]
        .map(str::to_owned),
    );
    expected.sort();
    assert_eq!(keys, expected);
}

fn shown_is_sent(bed: &Bed) {
    let (server, product) = (Server::new(Mood::Status(503)), Product::new());
    heartbeat(bed, &server, &product).end().code(1).complains("waits");
    // Closed, it is shown all the same; and it stays what it was when it goes.
    bed.obit(["telemetry", "disable"]).end().code(0);
    let shown = at_product(bed.obit(["telemetry", "show", "--channel", "daily"]), &server, &product).end();
    bed.obit(["telemetry", "enable"]).end().code(0);
    server.becomes(Mood::Status(200));
    let run = at_product(bed.run(&[], ["sleep", "1000"]), &server, &product).start();
    let noted = || std::fs::read_to_string(bed.state().join("audit.log")).is_ok_and(|log| log.contains("\"200\""));
    run.until("the daily report and its line in the log", || noted().then_some(()));
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.end();
    let envelopes = server.taken();
    let sent = envelopes.iter().find(|envelope| envelope.item("event").is_some()).expect("an event");
    let but_for_the_moment = |text: &[u8]| String::from_utf8(without(text, &[SENT_AT])).expect("text");
    assert_eq!(but_for_the_moment(&shown.stdout), but_for_the_moment(&sent.text));
    let log = bed.obit(["telemetry", "log", "--json"]).end().stdout();
    let log: Value = serde_json::from_str(&log).expect("JSON");
    let sizes: Vec<_> = log.as_array().expect("a list").iter().map(|record| record["bytes"].clone()).collect();
    assert!(sizes.len() == 2 && sizes.iter().all(|size| *size == shown.stdout.len()), "{log:#}");
}

fn checks_in(bed: &Bed) {
    let (server, product) = (Server::new(Mood::Status(200)), Product::new());
    heartbeat(bed, &server, &product).env("OBIT_MONITOR", "Storage OS").end().code(0);
    let envelopes = server.taken();
    let check_in = envelopes.iter().find_map(|envelope| envelope.json("check_in")).expect("a check-in");
    assert_eq!((&check_in["monitor_slug"], &check_in["status"]), (&json!("storage-os"), &json!("ok")));
    assert_eq!(check_in["monitor_config"]["schedule"], json!({"type": "interval", "value": 1, "unit": "day"}));
}

/// A schedule whose time has come.
pub fn due(bed: &Bed) {
    due_in(&bed.state());
}

pub fn due_in(state: &Path) {
    std::fs::create_dir_all(state).expect("a directory");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
    let anchor = json!({"unix_ms": now as u64 - 60_000, "boot_id": "another", "boot_ms": 0});
    let schedule = json!({"format": 1, "anchor": anchor, "wait_ms": 1, "spread": false});
    std::fs::write(state.join("daily.json"), schedule.to_string()).expect("a file");
}

fn once(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    due(bed);
    let run = || {
        let run = bed.run(&[], ["sleep", "1000"]).env("OBIT_DSN", &server.dsn).start();
        run.until("the daily report", || (server.events().len() == 1).then_some(()));
        // The courier leaves when it has looked.
        let pid = run.pid();
        run.until("nobody but the program", || (crate::bed::children_of(pid).len() == 1).then_some(()));
        run.signal(nix::sys::signal::Signal::SIGTERM);
        run.end();
    };
    run();
    run();
    bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).end().code(0);
    assert_eq!(server.events().len(), 1);
    let told = bed.obit(["heartbeat", "--json"]).env("OBIT_DSN", &server.dsn).end();
    let told: Value = serde_json::from_str(&told.stdout()).expect("JSON");
    assert!(told["last"].is_string() && told["next"].as_str() > told["last"].as_str(), "{told}");
}

fn notice(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let run = bed.run(&["--no-error-reporting"], ["sleep", "1000"]).env("OBIT_DSN", &server.dsn).start();
    let schedule = bed.state().join("daily.json");
    run.until("a schedule", || schedule.exists().then_some(()));
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.end().quiet();
    assert_eq!(server.connections(), 0);
    let ended = bed.obit(["heartbeat", "--now"]).env("OBIT_DSN", &server.dsn).end();
    ended.complains("from now on; see them with obit telemetry show");
    let again = bed.obit(["heartbeat", "--now"]).env("OBIT_DSN", &server.dsn).end();
    again.quiet();
    assert_eq!(server.events().len(), 2);
}

fn absent(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    bed.obit(["heartbeat", "--now"]).env("OBIT_DSN", &server.dsn).end().code(0);
    let event = &server.reports()[0];
    assert_eq!(event["contexts"]["unknown"]["nodes"], "no inventory is configured");
    assert!(event["contexts"].get("inventory").is_none(), "{event:#}");
    assert!(event["contexts"]["device"]["arch"].is_string());
}

fn logged(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    bed.obit(["heartbeat", "--now"]).env("OBIT_DSN", &server.dsn).end().code(0);
    let proxied = bed.obit(["heartbeat", "--now"]).env("OBIT_DSN", "http://0123456789abcdef@sentry.test/7");
    proxied.env("HTTP_PROXY", "http://user:sesame@127.0.0.1:1").end().code(1);
    let log = bed.obit(["telemetry", "log", "--json"]).end().stdout();
    let log: Value = serde_json::from_str(&log).expect("JSON");
    assert_eq!((&log[0]["channel"], &log[0]["result"]), (&json!("daily"), &json!("200")));
    assert_eq!((&log[0]["proxy"], log[0]["bytes"].as_u64() > Some(100)), (&json!("direct"), true));
    assert!(log[1]["proxy"].as_str().is_some_and(|proxy| proxy.contains("127.0.0.1:1")), "{log:#}");
    let text = log.to_string() + &bed.obit(["telemetry", "log"]).end().stdout();
    assert!(!text.contains("sesame") && !text.contains("0123456789abcdef"), "{text}");
}

fn reset_id(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    for _ in 0..2 {
        bed.obit(["heartbeat", "--now"]).env("OBIT_DSN", &server.dsn).env("OBIT_CLUSTER_ID", "c-1").end().code(0);
        bed.obit(["telemetry", "reset-id"]).end().code(0);
    }
    let hashes: Vec<Value> = server.reports().iter().map(|event| event["tags"]["cluster.id"].clone()).collect();
    assert!(hashes.len() == 2 && hashes[0] != hashes[1], "{hashes:?}");
}

fn hidden(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let hide = |setup: Setup| {
        setup.env("OBIT_DSN", &server.dsn).env("OBIT_HIDE_SERVER_NAME", "1").env("OBIT_SERVER_NAME", "db7")
    };
    hide(bed.obit(["heartbeat", "--now"])).end().code(0);
    hide(bed.run(&["--report-wait", "30s"], ["sh", "-c", "exit 9"])).end().code(9);
    let names: Vec<Value> = server.reports().iter().map(|event| event["server_name"].clone()).collect();
    assert!(
        names.len() == 2 && names[0] == names[1] && names[0].as_str().is_some_and(|name| name.len() == 32),
        "{names:?}"
    );
}
