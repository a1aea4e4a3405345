//! Delivery: the exit code is right and on time whatever the server does, nothing is lost, each report arrives once.

use crate::bed::{Bed, Setup, trial};
use crate::server::{Mood, Server};
use libtest_mimic::Trial;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a report arrives before the end", &[], arrives),
        trial("with a server that answers 503 nothing is lost", &[], |bed| kept(bed, Mood::Status(503))),
        trial("with a server that answers 429 nothing is lost", &[], |bed| kept(bed, Mood::Status(429))),
        trial("with a server that does not know the key nothing is lost", &[], |bed| kept(bed, Mood::Status(403))),
        trial("with a server that resets in the middle nothing is lost", &[], |bed| kept(bed, Mood::Reset)),
        trial("with a server that takes and resets there is one event", &[], |bed| kept(bed, Mood::TakeAndReset)),
        trial("with a server that hangs the end is on time and nothing is lost", &[], |bed| kept(bed, Mood::Hang)),
        trial("what the server refuses is kept as refused", &[], refused),
        trial("the next start takes up what is pending", &[], next_start),
        trial("a run that was killed is told by the next start", &[], unclean),
        trial("switched off is not one connection", &[], off),
        trial("a bad DSN is one clear line and the right exit code", &[], bad_dsn),
    ]
}

fn crash(bed: &Bed, dsn: &str) -> Setup {
    bed.run(&["--report-wait", "1s"], ["sh", "-c", "echo last words >&2; exit 9"]).env("OBIT_DSN", dsn)
}

fn arrives(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let run = bed.run(&["--report-wait", "30s"], ["sh", "-c", "exit 9"]).env("OBIT_DSN", &server.dsn);
    run.end().code(9);
    assert_eq!(server.events().len(), 1);
    assert_eq!(states(bed), ["sent"]);
}

/// `state` of each report, newest first.
fn states(bed: &Bed) -> Vec<String> {
    let list = bed.obit(["crashes", "list", "--json"]).end();
    let list: serde_json::Value = serde_json::from_str(&list.stdout()).expect("an array");
    list.as_array().expect("an array").iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
}

fn kept(bed: &Bed, mood: Mood) {
    let server = Server::new(mood);
    let ended = crash(bed, &server.dsn).end();
    ended.code(9);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!(states(bed), ["pending"]);
    server.becomes(Mood::Status(200));
    bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).end().code(0);
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn refused(bed: &Bed) {
    let server = Server::new(Mood::Status(400));
    bed.run(&["--report-wait", "30s"], ["sh", "-c", "exit 9"]).env("OBIT_DSN", &server.dsn).end().code(9);
    assert_eq!(states(bed), ["rejected"]);
}

fn next_start(bed: &Bed) {
    crash(bed, "http://key@127.0.0.1:1/7").end().code(9);
    let server = Server::new(Mood::Status(200));
    bed.run(&["--report-wait", "30s"], ["true"]).env("OBIT_DSN", &server.dsn).end().code(0);
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn unclean(bed: &Bed) {
    let run = bed.script("echo up; exec sleep 1000").start();
    run.says("up\n");
    let program = run.child();
    run.signal(nix::sys::signal::Signal::SIGKILL);
    run.end();
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(program), nix::sys::signal::Signal::SIGKILL);
    bed.run(&["--report-wait", "30s"], ["true"]).end().code(0);
    let list = bed.obit(["crashes", "list", "--json"]).end();
    let list: serde_json::Value = serde_json::from_str(&list.stdout()).expect("an array");
    assert_eq!((list[0]["reason"].as_str(), list[1].as_object()), (Some("unclean"), None), "{list}");
}

fn off(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    for name in ["DISABLE_ERROR_REPORTING", "DISABLE_CRASH_REPORTING", "OBIT_DISABLE_ERROR_REPORTING", "DO_NOT_TRACK"] {
        crash(bed, &server.dsn).env(name, "1").end().code(9);
    }
    bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).env("DO_NOT_TRACK", "1").end().code(0);
    assert_eq!((server.connections(), states(bed).len()), (0, 4));
}

fn bad_dsn(bed: &Bed) {
    crash(bed, "https://nokey.test/1").end().code(9).complains("the DSN has no key before the @");
    assert_eq!(states(bed), ["pending"]);
}
