//! A real Sentry-compatible server, and Sentry's own rules: what a crash in a container looks like where it is read.
//!
//! `.ci/containers` starts the server (bugsink) beside the engine, and brings Sentry's normaliser (sentry-relay). The server takes
//! no attachments; the end of stderr is seen in the breadcrumbs of the event.

use crate::bed::{Bed, Setup, trial, wait_for};
use crate::bridge::Bridge;
use crate::daily;
use crate::docker::{APP, CONTAINERS, Container};
use crate::need::Need;
use crate::product::Product;
use crate::server::{EVENT_ID, LENGTH, Mood, SENT_AT, Server, TIMESTAMP, without};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const RELAY: Need = Need::Prepared { variable: "OBIT_TEST_RELAY", what: "Python with sentry-relay" };

const NEEDS: &[Need] = &[
    CONTAINERS[0],
    CONTAINERS[1],
    CONTAINERS[2],
    CONTAINERS[3],
    Need::Prepared { variable: "OBIT_TEST_SENTRY", what: "a Sentry-compatible server" },
    RELAY,
];

/// Without containers.
const SERVER: &[Need] = &[NEEDS[4], RELAY];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the daily report of a running init and a crash are at a real server what was shown here", SERVER, shown),
        trial("a crash in a container is an issue at a real server", NEEDS, crash),
        trial("deaths of one kind are one issue at a real server, of two kinds two", NEEDS, grouped),
        trial("what could not be delivered arrives with the next start on the volume", NEEDS, next_start),
        trial("each kind of death passes Sentry's own normaliser", NEEDS, normalised),
        trial("what each runtime says as it dies passes Sentry's own normaliser", &[RELAY], recorded),
        trial("what five runtimes say is title and frames at a real server", NEEDS, dialects),
    ]
}

/// The name of a program that this server has never heard of: it may have served a run of the suite before.
fn fresh(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("{name}-{:x}", now.as_millis())
}

/// A container that reports to the server, with this name for its program.
fn reporting<'a>(bed: &'a Bed, component: &str) -> Container<'a> {
    let variables = [
        format!("SENTRY_DSN={}", found("DSN")),
        "SENTRY_RELEASE=shop@1.2.3+7".to_owned(),
        "SENTRY_ENVIRONMENT=production".to_owned(),
        "OBIT_REPORT_WAIT=30s".to_owned(),
        format!("OBIT_COMPONENT={component}"),
    ];
    let container = Container::new(bed).state().with(["--add-host", "sentry.test:host-gateway"]);
    container.with(variables.into_iter().flat_map(|variable| ["-e".to_owned(), variable]))
}

/// What `.ci/containers` learnt when it made the server's project.
fn found(name: &str) -> String {
    let place = PathBuf::from(std::env::var_os("OBIT_TEST_SENTRY").expect("needed")).join("found");
    let text = std::fs::read_to_string(place).expect("needed");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {text:?}")).to_owned()
}

/// One question to the server's API.
fn ask(path: &str) -> Value {
    let socket = PathBuf::from(std::env::var_os("OBIT_TEST_SENTRY").expect("needed")).join("socket");
    let mut stream = UnixStream::connect(socket).expect("the server listens");
    let token = found("TOKEN");
    // 1.0: the answer ends with the connection.
    write!(
        stream,
        "GET /api/canonical/0/{path} HTTP/1.0\r\nHost: sentry.test\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.lines().next().is_some_and(|line| line.contains(" 200 ")), "{path}: {answer}");
    serde_json::from_str(body).expect("JSON")
}

fn results(answer: &Value) -> Vec<Value> {
    answer["results"].as_array().expect("a list").clone()
}

/// The issues of one component, each with its events as the server keeps them, newest first.
fn issues_of(component: &str) -> Vec<(Value, Vec<Value>)> {
    let begin = format!("{component}: ");
    let ours = issues()
        .into_iter()
        .filter(|issue| issue["calculated_value"].as_str().is_some_and(|value| value.starts_with(&begin)));
    ours.map(with_events).collect()
}

fn issues() -> Vec<Value> {
    results(&ask(&format!("issues/?project={}", found("PROJECT"))))
}

fn with_events(issue: Value) -> (Value, Vec<Value>) {
    let events = results(&ask(&format!("events/?issue={}", issue["id"].as_str().expect("an id"))));
    let ids = events.iter().map(|event| event["id"].as_str().expect("an id").to_owned());
    let events = ids.map(|id| ask(&format!("events/{id}/"))["data"].clone()).collect();
    (issue, events)
}

/// The one issue that a program of this type of exception has.
fn issue_with(kind: &str, component: &str) -> (Value, Vec<Value>) {
    let alike = issues().into_iter().filter(|issue| issue["calculated_type"] == kind).map(with_events);
    let mut ours: Vec<_> = alike.filter(|(_, events)| events[0]["tags"]["component"] == component).collect();
    assert_eq!(ours.len(), 1, "of {component}, {kind}");
    ours.remove(0)
}

fn kept(bed: &Bed) -> Vec<Value> {
    let list = bed.obit(["crashes", "list", "--json"]).end();
    serde_json::from_str(&list.stdout()).unwrap_or_else(|e| panic!("{e}: {}{}", list.stdout(), list.stderr()))
}

fn crash(bed: &Bed) {
    let shop = fresh("crash");
    reporting(bed, &shop).run(APP, &["sh", "-c", "echo opening the till >&2; exec /bin/die null"]).code(139);
    let [kept] = &kept(bed)[..] else { panic!("one report") };
    assert_eq!(kept["state"], "sent");
    let found = issues_of(&shop);
    let [(issue, events)] = &found[..] else { panic!("one issue: {found:?}") };
    assert_eq!((&issue["calculated_type"], events.len()), (&json!("SIGSEGV"), 1));
    let event = &events[0];
    assert_eq!(event["event_id"], kept["event_id"]);
    assert_eq!((&event["release"], &event["environment"]), (&json!("shop@1.2.3+7"), &json!("production")));
    assert_eq!((&event["level"], &event["platform"]), (&json!("fatal"), &json!("native")));
    let tags = [
        ("exit.signal", "SIGSEGV"),
        ("exit.code", "139"),
        ("exit.reason", "signal"),
        ("exit.core_dumped", "false"),
        ("component", &*shop),
    ];
    for (tag, value) in tags {
        assert_eq!(event["tags"][tag], value, "{tag}");
    }
    let crumbs = event["breadcrumbs"]["values"].as_array().expect("the end of stderr");
    let lines: Vec<&str> = crumbs.iter().filter_map(|crumb| crumb["message"].as_str()).collect();
    assert_eq!(lines, ["opening the till", "die: null, password=[masked]"]);
    let complaints = normalise(event);
    assert_eq!(complaints, "");
}

fn grouped(bed: &Bed) {
    let shop = fresh("issues");
    for how in ["null", "null", "abort"] {
        reporting(bed, &shop).run(APP, &["/bin/die", how]);
    }
    let mut found: Vec<_> = issues_of(&shop)
        .iter()
        .map(|(issue, events)| (issue["calculated_type"].as_str().expect("a type").to_owned(), events.len()))
        .collect();
    found.sort();
    assert_eq!(found, [("SIGABRT".to_owned(), 1), ("SIGSEGV".to_owned(), 2)]);
}

fn next_start(bed: &Bed) {
    let shop = fresh("later");
    let cut_off = ["--network", "none", "-e", "OBIT_REPORT_WAIT=0s"];
    reporting(bed, &shop).with(cut_off).run(APP, &["/bin/die", "abort"]).code(134);
    assert_eq!((&kept(bed)[0]["state"], issues_of(&shop).len()), (&json!("pending"), 0));
    reporting(bed, &shop).run(APP, &["/bin/die", "exit", "0"]).code(0);
    wait_for(|| (kept(bed)[0]["state"] == "sent").then_some(())).expect("delivered");
    let found = issues_of(&shop);
    assert_eq!(found[0].1.len(), 1);
    assert_eq!(found[0].1[0]["event_id"], kept(bed)[0]["event_id"]);
}

/// All the way, with nothing of ours at its end: shown, sent, kept by the server, and judged by Sentry's rules.
fn shown(bed: &Bed) {
    let shop = fresh("shown");
    let bridge = Bridge::to(&PathBuf::from(std::env::var_os("OBIT_TEST_SENTRY").expect("needed")).join("socket"));
    let product = Product::new();
    let dsn = found("DSN").replace("sentry.test:9460", &bridge.address.to_string());
    let here = |setup: Setup| {
        let setup = setup.env("OBIT_DSN", &dsn).env("OBIT_PRODUCT", &shop).env("OBIT_COMPONENT", &shop);
        let setup = setup.env("OBIT_INVENTORY", &product.source).env("OBIT_ENVIRONMENT", "production");
        setup.env("ADMIN_USERNAME", "storageos").env("ADMIN_PASSWORD", "storageos")
    };
    let show = |channel| here(bed.obit(["telemetry", "show", "--channel", channel])).end().stdout;
    // The envelope of a kind.
    let passed = |text: &str| {
        let has = |envelope: &Vec<u8>| envelope.windows(text.len()).any(|window| window == text.as_bytes());
        bridge.passed().into_iter().find(has)
    };

    daily::due(bed);
    let before = show("daily");
    let run = here(bed.run(&["--report-wait", "30s"], ["sleep", "1000"])).start();
    let day = run.until("the daily report", || passed("\"obit.daily\""));
    // Another report than the one that was made to be seen: another id at another time, which may have a digit less, and not
    // one byte else.
    let anew = [SENT_AT, EVENT_ID, TIMESTAMP, LENGTH];
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    assert_eq!(text(without(&before, &anew)), text(without(&day, &anew)));

    kill(Pid::from_raw(run.child()), Signal::SIGSEGV).expect("it lives");
    run.end().code(139);
    let crash = passed("\"SIGSEGV\"").expect("the crash");
    assert!(without(&show("errors"), &[SENT_AT]) == without(&crash, &[SENT_AT]), "{}", String::from_utf8_lossy(&crash));

    let events: Vec<Value> = issues().into_iter().flat_map(|issue| with_events(issue).1).collect();
    for sent in [day, crash] {
        let line = sent.split(|byte| *byte == b'\n').nth(2).expect("the event");
        let sent: Value = serde_json::from_slice(line).expect("JSON");
        let kept: Vec<_> = events.iter().filter(|event| event["event_id"] == sent["event_id"]).collect();
        assert_eq!(kept, [&sent], "the server has what was sent, once");
        assert_eq!(normalise(&sent), "");
    }
}

/// The normaliser's complaints about an event.
fn normalise(event: &Value) -> String {
    normalise_all(std::slice::from_ref(event))
}

fn normalise_all(events: &[Value]) -> String {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/sentry/normalise.py");
    let mut python = Command::new(std::env::var_os("OBIT_TEST_RELAY").expect("needed"))
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    python.stdin.take().expect("piped").write_all(lines.join("\n").as_bytes()).expect("it reads");
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn normalised(bed: &Bed) {
    // The normaliser itself: what Sentry refuses is found.
    let refused =
        json!({"tags": {"a b c": "d", "x": "y\nz"}, "exception": {"values": []}, "release": "a/b", "surprise": 1});
    let complaints = normalise(&refused);
    assert!(complaints.contains("release") && complaints.contains("surprise"), "{complaints}");

    let many = "i=0; while [ $i -lt 400 ]; do echo $i $(printf %01000d 7) >&2; i=$((i+1)); done; exit 9";
    let name = fresh("kinds");
    let shop = || reporting(bed, &name);
    shop().run(APP, &["/bin/die", "null"]).code(139);
    shop().run(APP, &["sh", "-c", many]).code(9);
    shop().run(APP, &["/nowhere", &"argument ".repeat(2000)]).code(127);
    shop().with(["--memory", "32m", "--memory-swap", "32m"]).run(APP, &["/bin/die", "hog"]).code(137);
    let deaf = shop().with(["-e", "OBIT_STOP_GRACE=0s"]);
    let run = deaf.start(APP, &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
    run.says("ready");
    deaf.docker(&["stop", "-t", "60"]).code(0);
    run.end().code(137);
    let killed = shop();
    let run = killed.start(APP, &["/bin/die", "wait"]);
    run.says("ready");
    killed.docker(&["kill"]).code(0);
    run.end().code(137);
    shop().run(APP, &["/bin/die", "exit", "0"]).code(0);

    let mut reasons: Vec<String> = Vec::new();
    for (_, events) in issues_of(&name) {
        for event in events {
            let complaints = normalise(&event);
            assert_eq!(complaints, "", "{}", event["tags"]);
            reasons.push(event["tags"]["exit.reason"].as_str().expect("a reason").to_owned());
        }
    }
    reasons.sort();
    assert_eq!(reasons, ["code", "oom", "signal", "spawn_failed", "stop_timeout", "unclean"]);
}

/// What dying programs wrote, and the script that ends as they did: `fixtures/panics`.
fn recordings() -> Vec<(&'static str, &'static str)> {
    let table = include_str!("../../fixtures/panics/README.md").lines().filter_map(|line| line.strip_prefix("| "));
    let rows = table.filter_map(|row| {
        let (name, _) = row.split_once(" | ").filter(|(name, _)| name.contains('/'))?;
        Some((name, row.trim_end_matches(" |").rsplit(" | ").next()?))
    });
    rows.collect()
}

/// A shell that writes the recording to stderr and ends in that way: `exit 2`, `signal 6`.
fn replay(file: &str, end: &str) -> String {
    let end = end.strip_prefix("signal ").map_or_else(|| end.to_owned(), |signal| format!("kill -{signal} $$"));
    format!("cat '{file}' >&2; {end}")
}

/// Older versions say the same in other words; of each runtime the newest one's events are enough.
const OLDER: [&str; 11] = [
    "go/1.19",
    "go/1.21",
    "python/2.7",
    "python/3.6",
    "python/3.9",
    "python/3.11",
    "python/3.12",
    "node/12",
    "node/20",
    "java/17",
    "rust/1.64",
];

fn recorded(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let mut recordings = recordings();
    recordings.retain(|(name, _)| !OLDER.iter().any(|older| name.starts_with(&format!("{older}-"))));
    for (name, end) in &recordings {
        let file = format!("{}/fixtures/panics/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        // Each in a directory of its own: a hundred like deaths in one would be a crash loop.
        let run = bed.run(&["--report-wait", "30s", "--capture", "off"], ["sh", "-c", &replay(&file, end)]);
        run.env("OBIT_STATE_DIR", bed.path(name.replace('/', "-"))).env("OBIT_DSN", &server.dsn).end();
    }
    let events: Vec<Value> = server.taken().iter().filter_map(|envelope| envelope.json("event")).collect();
    // A good end of a program that went on is no event.
    let ends_well = recordings.iter().filter(|(_, end)| *end == "exit 0").count();
    assert!(events.len() >= recordings.len() - ends_well && recordings.len() > 100, "{} events", events.len());
    assert_eq!(normalise_all(&events), "");
}

/// Type and last call, as each runtime tells of the same shop. The culprit is for the server to make of the frames: an event that named
/// it would name a transaction.
fn dialects(bed: &Bed) {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/panics");
    let shown = [
        ("python/3.13-key", "KeyError", "crash.py"),
        ("go/1.27-nil", "panic", "crash.go"),
        ("node/20-type", "TypeError", "crash.js"),
        ("java/17-cause", "java.lang.IllegalStateException", "Crash.java"),
        ("rust/1.95-index-short", "panic", "crash.rs"),
    ];
    for (name, kind, file) in shown {
        let (_, end) =
            recordings().into_iter().find(|(recorded, _)| *recorded == name).unwrap_or_else(|| panic!("{name}"));
        let shop = fresh(name.split('/').next().expect("a dialect"));
        let mount = ["-v".to_owned(), format!("{fixtures}:/recorded:ro")];
        reporting(bed, &shop).with(mount).run(APP, &["sh", "-c", &replay(&format!("/recorded/{name}.txt"), end)]);
        let (_, events) = issue_with(kind, &shop);
        assert_eq!(events.len(), 1, "{name}");
        let event = &events[0];
        let exception = event["exception"]["values"].as_array().and_then(|all| all.last()).expect("an exception");
        let frames = exception["stacktrace"]["frames"].as_array().unwrap_or_else(|| panic!("{name}: {exception}"));
        let own = frames.iter().rfind(|frame| frame["in_app"] == true).unwrap_or_else(|| panic!("{name}: {frames:?}"));
        let path = own["filename"].as_str().or(own["abs_path"].as_str()).unwrap_or_default();
        assert!(path.ends_with(file) && own["lineno"].is_u64(), "{name}: {own}");
    }
}
