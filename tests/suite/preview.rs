//! See before you send: what the commands and the panel show is what goes, and a destination that is none is told as one.

use crate::bed::{Bed, Setup, trial};
use crate::browser::Browser;
use crate::need::Need;
use crate::panel::{get, serving};
use crate::product::Product;
use crate::server::{Mood, SENT_AT, Server, without};
use libtest_mimic::Trial;
use serde_json::Value;

const BROWSER: &[Need] = &[Need::Tool("chromium"), Need::Tool("chromedriver")];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the panel shows the daily report that waits, byte for byte", &[], waiting),
        trial("the panel asks an inventory only when somebody wants to see the report", &[], inventory),
        trial("in a browser the report and the question can be read as they would be sent", BROWSER, in_browser),
        trial(
            "before the first start what is shown says that its ids are an example, and stdout is the report alone",
            &[],
            example,
        ),
        trial("a DSN that cannot be used is told as that, and not as on", &[], unusable),
        trial("a switch that is decided elsewhere cannot be thrown on the page, and says where", &[], held),
    ]
}

/// The insides of the page's `pre` elements, as a browser reads them.
fn shown(page: &str) -> Vec<String> {
    let parts = page.split("<pre").skip(1).filter_map(|part| part.split_once('>')?.1.split_once("</pre>"));
    parts
        .map(|(text, _)| {
            let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
            text.replace("&amp;", "&")
        })
        .collect()
}

fn but_for_the_moment(text: &[u8]) -> String {
    String::from_utf8(without(text, &[SENT_AT])).expect("text")
}

fn waiting(bed: &Bed) {
    let server = Server::new(Mood::Status(503));
    let at_server = |setup: Setup| setup.env("OBIT_DSN", &server.dsn).env("OBIT_MONITOR", "beat");
    at_server(bed.obit(["heartbeat", "--now"])).end().code(1).complains("waits");
    // Nothing goes while we look.
    bed.obit(["telemetry", "disable", "--channel", "daily"]).end().code(0);
    let told = at_server(bed.obit(["telemetry", "show", "--channel", "daily"])).end();
    let (_run, address) = serving(bed, at_server);
    let page = get(&address, "/").body;
    let shown = shown(&page);
    assert_eq!(shown.len(), 2, "the report and its check-in: {page}");
    assert_eq!(but_for_the_moment(shown.concat().as_bytes()), but_for_the_moment(&told.stdout));
    assert!(page.contains("The report that waits") && page.contains("no inventory is configured"), "{page}");
}

fn inventory(bed: &Bed) {
    let product = Product::new();
    let with_inventory = |setup: Setup| {
        let setup = setup.env("OBIT_INVENTORY", &product.source).env("OBIT_PRODUCT", "storageos");
        setup.env("OBIT_INVENTORY_USER", "storageos").env("OBIT_INVENTORY_PASSWORD", "storageos")
    };
    let (_run, address) = serving(bed, with_inventory);
    let page = get(&address, "/").body;
    assert!(page.contains("href=\"/preview#daily\"") && shown(&page).is_empty(), "{page}");
    assert_eq!(product.requests(), 0, "nobody is asked who only opens the page");
    let page = get(&address, "/preview").body;
    let report = shown(&page).concat();
    assert!(report.contains("\"volume_size_gb\":33") && product.requests() > 0, "{page}");
    assert!(page.contains("<dt>volume size gb</dt><dd>33</dd>"), "{page}");
    let told = with_inventory(bed.obit(["telemetry", "show", "--channel", "daily"])).end().stdout();
    let event = |text: &str| {
        let mut event: Value = serde_json::from_str(text.lines().nth(2).expect("an event")).expect("JSON");
        // Each look is one of its own moment.
        ["event_id", "timestamp"].into_iter().for_each(|name| event[name] = Value::Null);
        event
    };
    assert_eq!(event(&report), event(&told));
}

fn in_browser(bed: &Bed) {
    let settings = |setup: Setup| {
        let setup = setup.env("OBIT_DNS_ZONE", "updates.example.test").env("OBIT_PRODUCT_VERSION", "1.5.3");
        setup.env("OBIT_NO_VERSION_CHECK", "1")
    };
    let (_run, address) = serving(bed, settings);
    let browser = Browser::start(&bed.path("browser"));
    browser.open(&format!("http://storageos:storageos@{address}/"));
    browser.click("#daily summary");
    browser.click("#dns summary");
    let text = |selector: &str| {
        let text = browser.eval(&format!("document.querySelector('{selector}').textContent"));
        text.as_str().expect("text").to_owned()
    };
    let report = text("#daily pre");
    let [header, item, event] = report.lines().collect::<Vec<_>>()[..] else { panic!("an envelope: {report}") };
    let length = serde_json::from_str::<Value>(item).expect("JSON")["length"].as_u64();
    assert_eq!(length, Some(event.len() as u64), "{report}");
    assert!(header.contains("\"event_id\""), "{report}");
    let asked = settings(bed.obit(["telemetry", "show", "--channel", "dns"])).end().stdout();
    assert_eq!(text("#dns pre"), asked.trim_end());
    let said = text("#dns .words");
    assert!(said.contains("version 1.5.3") && said.contains("this node: a keyed hash of its id"), "{said}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn example(bed: &Bed) {
    let show = || bed.obit(["telemetry", "show", "--channel", "daily"]).end();
    let cluster = |text: &str| {
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 3, "{text}");
        lines[2]["tags"]["cluster.id"].as_str().expect("a hash").to_owned()
    };
    let before = show();
    before.code(0).complains("daily: there is no state directory of ours here yet, so these ids are an example");
    bed.under(["true"]).end().code(0);
    let after = [show(), show()];
    for ended in &after {
        ended.code(0).quiet();
    }
    let [first, second] = after.map(|ended| cluster(&ended.stdout()));
    assert_eq!(first, second, "from now on they are those that will be sent");
    assert_ne!(cluster(&before.stdout()), first);
    let server = Server::new(Mood::Status(200));
    bed.obit(["heartbeat", "--now"]).env("OBIT_DSN", &server.dsn).end().code(0);
    assert_eq!(server.reports()[0]["tags"]["cluster.id"], *first);
}

fn unusable(bed: &Bed) {
    const BAD: &str = "https://0123456789abcdef@sentry.test/";
    const WHY: &str = "the DSN has no project at its end";
    let with = |words: &[&str]| bed.obit(words).env("OBIT_DSN", BAD).end();
    let json = |words: &[&str]| serde_json::from_str::<Value>(&with(words).stdout()).expect("JSON");
    let status = with(&["telemetry", "status"]).stdout();
    let lines: Vec<&str> = status.lines().take(2).collect();
    let line = |channel: &str| format!("{channel:<8}unusable: {WHY}; nothing leaves until that is mended");
    assert_eq!(lines, [line("errors"), line("daily")]);
    let status = json(&["telemetry", "status", "--json"]);
    let errors = &status["channels"][0];
    assert_eq!(
        (&errors["allowed"], &errors["destination"], &errors["unusable"]),
        (&true.into(), &false.into(), &WHY.into())
    );
    assert!(with(&["heartbeat"]).stdout().contains(&format!("next  never, {WHY}")));
    assert_eq!(json(&["heartbeat", "--json"])["unusable"], WHY);
    with(&["heartbeat", "--now"]).code(1).complains(&format!("{WHY}, so the daily report goes nowhere"));
    let (_run, address) = serving(bed, |setup| setup.env("OBIT_DSN", BAD));
    let state = get(&address, "/v1/telemetry").json();
    assert_eq!((&state["channels"][1]["unusable"], &state["effective"]["daily"]), (&WHY.into(), &false.into()));
    let page = get(&address, "/").body;
    assert_eq!(page.matches(WHY).count(), 2, "{page}");
    assert!(page.contains("https://0123…@sentry.test/") && !page.contains("0123456789abcdef"), "{page}");
    assert!(get(&address, "/metrics").body.contains("obit_channel_sends{channel=\"errors\"} 0\n"));
}

fn held(bed: &Bed) {
    let spec = bed.path("spec.yaml");
    std::fs::write(&spec, "disableVersionCheck: true\n").expect("a file");
    let (_run, address) =
        serving(bed, |setup| setup.env("DISABLE_ERROR_REPORTING", "1").env("OBIT_CLUSTER_SPEC", &spec));
    let page = get(&address, "/").body;
    let button = |name: &str| {
        let (before, _) = page.split_once(&format!("data-name=\"{name}\"")).expect("a switch");
        before.rsplit_once("<button").expect("its tag").1.to_owned()
    };
    for (name, is_held) in [("reportErrors", true), ("telemetryEnabled", false), ("versionCheck", true)] {
        assert_eq!(button(name).contains("held"), is_held, "{name}: {page}");
        assert_eq!(button(name).contains("aria-checked=\"false\""), is_held, "{name}: {page}");
    }
    assert!(page.contains("Closed by <strong>DISABLE_ERROR_REPORTING=1</strong>."), "{page}");
    let by = format!(
        "Closed by <strong>disableVersionCheck in {}</strong>. This cannot be changed here: it is decided by the cluster spec",
        spec.display()
    );
    assert!(page.contains(&by), "{page}");
}
