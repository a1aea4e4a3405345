//! Off means off: each way of switching off, what it closes, and who is told to have decided.

use crate::bed::{Bed, Setup, trial};
use crate::server::{Mood, Server};
use libtest_mimic::Trial;
use serde_json::Value;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a choice survives a restart and names who made it", &[], choice_survives),
        trial("switching off while a report is being sent stops it", &[], stops_the_send),
        trial("a spec that says off closes everything, and the status names its field", &[], spec_is_named),
        trial(
            "the waiting reports of a closed channel are held, or purged when that is asked for",
            &[],
            held_or_purged,
        ),
    ]
}

fn crash(bed: &Bed, dsn: &str) -> Setup {
    bed.run(&["--report-wait", "1s"], ["sh", "-c", "exit 9"]).env("OBIT_DSN", dsn)
}

/// `[allowed, by]` of each channel, as `obit telemetry status --json` tells it.
fn status(setup: Setup) -> Vec<(bool, String)> {
    let ended = setup.end();
    let status: Value = serde_json::from_str(&ended.stdout()).expect("an object");
    let by = |channel: &Value| channel["off_by"][0]["by"].as_str().unwrap_or_default().to_owned();
    let channels = status["channels"].as_array().expect("an array").iter();
    channels.map(|channel| (channel["allowed"].as_bool().expect("a boolean"), by(channel))).collect()
}

fn choice_survives(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    bed.obit(["telemetry", "disable", "--channel", "errors"]).end().code(0);
    crash(bed, &server.dsn).end().code(9);
    crash(bed, &server.dsn).end().code(9);
    let channels = status(bed.obit(["telemetry", "status", "--json"]));
    assert!(!channels[0].0 && channels[0].1.starts_with("the choice of obit telemetry, uid "), "{channels:?}");
    assert!(channels[1].0 && channels[2].0, "{channels:?}");
    assert_eq!(server.connections(), 0);
    bed.obit(["telemetry", "enable"]).end().code(0);
    bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).end().code(0);
    assert_eq!(server.events().len(), 2);
}

fn stops_the_send(bed: &Bed) {
    let server = Server::new(Mood::Hang);
    crash(bed, "http://key@127.0.0.1:1/7").end().code(9);
    let flush = bed.obit(["flush", "--json"]).env("OBIT_DSN", &server.dsn).start();
    flush.until("a request is under way", || (server.connections() > 0).then_some(()));
    bed.obit(["telemetry", "disable"]).end().code(0);
    let ended = flush.end();
    // Well below the time-out of a request.
    assert!(ended.took < std::time::Duration::from_secs(20), "{:?}", ended.took);
    let said = ended.stdout();
    assert!(said.contains("switched off by the choice of obit telemetry") && said.contains("\"kept\":1"), "{said}");
}

fn spec_is_named(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let spec = bed.path("cluster.yaml");
    std::fs::write(&spec, "kind: StorageOSCluster\nspec:\n  disableTelemetry: true\n").unwrap();
    crash(bed, &server.dsn).env("OBIT_CLUSTER_SPEC", &spec).end().code(9);
    let channels = status(bed.obit(["telemetry", "status", "--json"]).env("OBIT_CLUSTER_SPEC", &spec));
    let by = format!("disableTelemetry in {}", spec.display());
    assert!(channels.iter().all(|channel| *channel == (false, by.clone())), "{channels:?}");
    assert_eq!(server.connections(), 0);
}

fn held_or_purged(bed: &Bed) {
    let waiting = || {
        let list: Value = serde_json::from_str(&bed.obit(["crashes", "list", "--json"]).end().stdout()).expect("JSON");
        list.as_array().expect("an array").len()
    };
    crash(bed, "http://key@127.0.0.1:1/7").end().code(9);
    bed.obit(["telemetry", "disable"]).end().code(0);
    let flush =
        |policy: &str| bed.obit(["flush"]).env("OBIT_DSN", "http://key@127.0.0.1:1/7").env("OBIT_WHEN_OFF", policy);
    flush("hold").end().code(0);
    assert_eq!(waiting(), 1);
    flush("purge").end().code(0).complains("switched off, so 1 that waited were removed");
    assert_eq!(waiting(), 0);
}
