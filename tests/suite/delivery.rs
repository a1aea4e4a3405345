//! Delivery: the exit code is right and on time whatever the server does, nothing is lost, each report arrives once.

use crate::bed::{Bed, Setup, trial, trial_with, wait_for};
use crate::server::{Mood, Server};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    let moods = [
        ("answers 503", Mood::Status(503)),
        ("answers 429", Mood::Status(429)),
        ("limits the rate", Mood::Says(429, "X-Sentry-Rate-Limits: 3600:error:organization")),
        ("says retry later", Mood::Says(503, "Retry-After: 3600")),
        ("does not know the key", Mood::Status(403)),
        ("sends us elsewhere", Mood::Says(302, "Location: http://127.0.0.1:1/")),
        ("resets in the middle", Mood::Reset),
        ("takes and resets", Mood::TakeAndReset),
        ("never reads", Mood::Hang),
        ("hangs in the head of its answer", Mood::HangInHead),
        ("drips", Mood::Drip),
    ];
    let kept = moods.into_iter().map(|(name, mood)| {
        let name = format!("with a server that {name} the end is on time, nothing is lost, and there is one event");
        trial_with(&name, &[], move |bed| kept(bed, mood))
    });
    kept.chain([
        trial("a report arrives before the end, and the end does not wait longer", &[], arrives),
        trial("an answer whose body never comes is an answer", &[], hangs_in_body),
        trial("what the server refuses is kept as refused with the reason", &[], refused),
        trial("what is resent starts anew", &[], resent),
        trial("what is too large goes without its attachment", &[], without_attachment),
        trial("what is too large in any size is refused", &[], too_large),
        trial("the next start takes up what is pending", &[], next_start),
        trial("the next start asks a server again that only failed, however often", &[], failed_often),
        trial("a limit that was said is heeded by the next start", &[], limit_is_kept),
        trial("an hour after a wrong key the next start does not ask", &[], wrong_key_is_kept),
        trial("a limit for sessions holds no crash", &[], other_category),
        trial("a report that the server chokes on does not hold up the others", &[], choking),
        trial("what was lost here is told once something arrives", &[], losses),
        trial("a release that Sentry refuses makes no session and stays in the event's context", &[], bad_release),
        trial("a good end is one session", &[], session),
        trial("a run that was killed is told by the next start", &[], unclean),
        trial("switched off is not one connection", &[], off),
        trial("a bad DSN is one clear line and the right exit code", &[], bad_dsn),
        trial("no wait for a report is no wait", &[], no_wait),
        trial("a person may deliver while the courier waits for a better time", &[], flush_meanwhile),
        trial("a fault of obit's own that is kept is delivered like a report", &[], own_fault),
        trial("the log tells each request when it is asked to, and never the key", &[], log),
    ])
    .collect()
}

/// A crash whose report may be waited for this long.
fn crash(bed: &Bed, wait: &str, dsn: &str) -> Setup {
    bed.run(&["--report-wait", wait], ["sh", "-c", "echo last words >&2; exit 9"]).env("OBIT_DSN", dsn)
}

/// Nothing to tell of but what is pending.
fn next_run(bed: &Bed, dsn: &str) -> Setup {
    bed.run(&["--report-wait", "30s"], ["true"]).env("OBIT_DSN", dsn)
}

fn flush(bed: &Bed, dsn: &str) {
    bed.obit(["flush"]).env("OBIT_DSN", dsn).end().code(0);
}

fn list(bed: &Bed) -> Vec<serde_json::Value> {
    let list = bed.obit(["crashes", "list", "--json"]).end();
    serde_json::from_str(&list.stdout()).expect("an array")
}

/// `state` of each report, newest first.
pub fn states(bed: &Bed) -> Vec<String> {
    list(bed).iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect()
}

fn arrives(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let ended = crash(bed, "50s", &server.dsn).end();
    ended.code(9);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
    assert_eq!(server.taken()[0].item("attachment"), Some(&b"last words\n"[..]));
}

fn kept(bed: &Bed, mood: Mood) {
    let server = Server::new(mood);
    let ended = crash(bed, "1s", &server.dsn).end();
    ended.code(9);
    // The time-out of a request is thirty seconds: nobody waited for that.
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!(states(bed), ["pending"]);
    server.becomes(Mood::Status(200));
    flush(bed, &server.dsn);
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn hangs_in_body(bed: &Bed) {
    let server = Server::new(Mood::HangInBody);
    let ended = crash(bed, "25s", &server.dsn).end();
    ended.code(9);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!((server.taken().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn refused(bed: &Bed) {
    let server = Server::new(Mood::Status(400));
    crash(bed, "30s", &server.dsn).end().code(9);
    let list = list(bed);
    assert_eq!((&list[0]["state"], &list[0]["refused"]), (&"rejected".into(), &"the server answered 400".into()));
    flush(bed, &server.dsn);
    next_run(bed, &server.dsn).end().code(0);
    assert_eq!(server.requests(), 1, "nobody asks again");
}

fn resent(bed: &Bed) {
    let server = Server::new(Mood::Status(400));
    crash(bed, "30s", &server.dsn).end().code(9);
    server.becomes(Mood::Status(200));
    let id = list(bed)[0]["event_id"].as_str().unwrap().to_owned();
    bed.obit(["crashes", "resend", &id]).end().code(0);
    assert_eq!((states(bed), &list(bed)[0]["refused"]), (vec!["pending".to_owned()], &serde_json::Value::Null));
    next_run(bed, &server.dsn).end().code(0);
    assert_eq!((server.events(), states(bed)), (vec![id], vec!["sent".to_owned()]));
}

/// Prints what a tail keeps, in lines short enough for breadcrumbs.
const MUCH: &str =
    "i=0; while [ $i -lt 2000 ]; do echo 'a line of no interest to anybody'; i=$((i+1)); done >&2; exit 9";

fn without_attachment(bed: &Bed) {
    let server = Server::new(Mood::NoLargerThan(40_000));
    bed.run(&["--report-wait", "30s"], ["sh", "-c", MUCH]).env("OBIT_DSN", &server.dsn).end().code(9);
    let taken = server.taken();
    assert_eq!((server.requests(), taken.len(), states(bed)), (2, 1, vec!["sent".to_owned()]));
    assert!(taken[0].item("attachment").is_none());
    assert!(taken[0].json("event").unwrap()["breadcrumbs"]["values"].as_array().is_some_and(|all| all.len() == 30));
}

fn too_large(bed: &Bed) {
    let server = Server::new(Mood::NoLargerThan(10));
    crash(bed, "30s", &server.dsn).end().code(9);
    assert_eq!(server.requests(), 3, "whole, without the attachment, trimmed");
    let why = list(bed)[0]["refused"].as_str().unwrap_or_default().to_owned();
    assert_eq!(why, "the server takes nothing of this size (413)");
}

fn next_start(bed: &Bed) {
    crash(bed, "1s", "http://key@127.0.0.1:1/7").end().code(9);
    let server = Server::new(Mood::Status(200));
    next_run(bed, &server.dsn).end().code(0);
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn failed_often(bed: &Bed) {
    let server = Server::new(Mood::Status(503));
    crash(bed, "9s", &server.dsn).end().code(9);
    assert!(server.requests() > 2, "{}", server.requests());
    server.becomes(Mood::Status(200));
    let ended = next_run(bed, &server.dsn).end();
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
}

fn limit_is_kept(bed: &Bed) {
    let server = Server::new(Mood::Says(429, "X-Sentry-Rate-Limits: 3600:error:organization"));
    crash(bed, "30s", &server.dsn).end().code(9);
    server.becomes(Mood::Status(200));
    let ended = next_run(bed, &server.dsn).end();
    ended.code(0);
    assert!(ended.took < Duration::from_secs(20), "nobody waits for an hour to pass: {:?}", ended.took);
    crash(bed, "30s", &server.dsn).end().code(9);
    assert_eq!((server.connections(), states(bed).len()), (1, 2));
    flush(bed, &server.dsn);
    assert_eq!((server.events().len(), states(bed)), (2, vec!["sent".to_owned(); 2]));
}

fn wrong_key_is_kept(bed: &Bed) {
    let server = Server::new(Mood::Status(403));
    crash(bed, "30s", &server.dsn).end().code(9);
    next_run(bed, &server.dsn).end().code(0);
    assert_eq!(server.connections(), 1);
    let other = Server::new(Mood::Status(200));
    next_run(bed, &other.dsn).end().code(0);
    assert_eq!((other.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn other_category(bed: &Bed) {
    let server = Server::new(Mood::Says(200, "X-Sentry-Rate-Limits: 3600:session:key, 3600:transaction:organization"));
    crash(bed, "30s", &server.dsn).env("SENTRY_RELEASE", "app@1").end().code(9);
    crash(bed, "30s", &server.dsn).env("SENTRY_RELEASE", "app@1").end().code(9);
    assert_eq!(server.events().len(), 2);
    let sessions = server.taken().iter().filter(|envelope| envelope.item("session").is_some()).count();
    assert_eq!(sessions, 0, "the answer to the first crash closed them");
}

fn choking(bed: &Bed) {
    for word in ["poison", "food"] {
        let script = format!("echo {word} >&2; exit 9");
        let run = bed.run(&["--report-wait", "1s", "--component", word], ["sh", "-c", &script]);
        run.env("OBIT_DSN", "http://key@127.0.0.1:1/7").end().code(9);
    }
    let server = Server::new(Mood::ChokesOn("poison"));
    let arrived = |word: &str| server.reports().iter().any(|event| event["tags"]["component"] == word);
    let run = bed.run(&["--report-wait", "30s"], ["sleep", "1000"]).env("OBIT_DSN", &server.dsn).start();
    run.until("the other report", || arrived("food").then_some(()));
    drop(run);
    server.becomes(Mood::Status(200));
    // The courier of the run may still be on its way out, with the lock.
    let both = wait_for(|| {
        flush(bed, &server.dsn);
        (arrived("poison") && arrived("food")).then_some(())
    });
    assert!(both.is_some(), "{:?}", list(bed));
}

fn losses(bed: &Bed) {
    let server = Server::new(Mood::Status(400));
    crash(bed, "30s", &server.dsn).end().code(9);
    server.becomes(Mood::Status(200));
    crash(bed, "30s", &server.dsn).end().code(9);
    let told: Vec<_> = server.taken().iter().filter_map(|envelope| envelope.json("client_report")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let lost = serde_json::json!([{"reason": "send_error", "category": "error", "quantity": 1}]);
    assert_eq!(told[0]["discarded_events"], lost);
}

fn bad_release(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    crash(bed, "30s", &server.dsn)
        .env("SENTRY_RELEASE", "feature/x")
        .env("SENTRY_ENVIRONMENT", "eu/prod")
        .end()
        .code(9);
    let taken = server.taken();
    assert_eq!(taken.len(), 1);
    let event = taken[0].json("event").expect("an event");
    assert_eq!((event.get("release"), event.get("environment")), (None, None));
    assert_eq!(event["contexts"]["process"]["release"], "feature/x");
    bed.obit(["doctor"]).env("SENTRY_RELEASE", "feature/x").end().code(1).complains("1 problem was found");
}

fn session(bed: &Bed) {
    let server = Server::new(Mood::TakeAndReset);
    let run = || bed.run(&["--report-wait", "30s"], ["true"]).env("OBIT_DSN", &server.dsn);
    run().env("SENTRY_RELEASE", "app@1").end().code(0);
    bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).end().code(1);
    server.becomes(Mood::Status(200));
    flush(bed, &server.dsn);
    let init: Vec<_> = server.taken().iter().filter_map(|envelope| envelope.json("session")).collect();
    let init: Vec<_> = init.iter().map(|session| (session["init"].as_bool(), session["status"].as_str())).collect();
    assert_eq!(init.first(), Some(&(Some(true), Some("exited"))), "{init:?}");
    assert!(init.len() > 1 && init[1..].iter().all(|again| again.0 == Some(false)), "it began once: {init:?}");
    assert!(bed.obit(["status", "--json"]).end().stdout().contains("\"pending\":0"));

    // With nobody who flushes the next start takes it up.
    let told = server.taken().len();
    run().env("SENTRY_RELEASE", "app@2").end().code(0);
    assert_eq!(server.taken().len(), told, "a good end waits for nobody");
    run().end().code(0);
    let last = server.taken().last().and_then(|envelope| envelope.json("session")).expect("a session");
    assert_eq!((last["attrs"]["release"].as_str(), last["status"].as_str()), (Some("app@2"), Some("exited")));
    assert_eq!(std::fs::read_dir(bed.state().join("runs")).unwrap().count(), 0);
}

fn unclean(bed: &Bed) {
    let run = bed.script("echo up; exec sleep 1000").start();
    run.says("up\n");
    let program = run.child();
    run.signal(nix::sys::signal::Signal::SIGKILL);
    run.end();
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(program), nix::sys::signal::Signal::SIGKILL);
    bed.run(&["--report-wait", "30s"], ["true"]).end().code(0);
    let list = list(bed);
    assert_eq!((list[0]["reason"].as_str(), list.len()), (Some("unclean"), 1), "{list:?}");
}

fn off(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    for name in ["DISABLE_ERROR_REPORTING", "DISABLE_CRASH_REPORTING", "OBIT_DISABLE_ERROR_REPORTING", "DO_NOT_TRACK"] {
        crash(bed, "1s", &server.dsn).env(name, "1").end().code(9);
    }
    bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).env("DO_NOT_TRACK", "1").end().code(0);
    assert_eq!((server.connections(), states(bed).len()), (0, 4));
}

fn bad_dsn(bed: &Bed) {
    crash(bed, "1s", "https://nokey.test/1").end().code(9).complains("the DSN has no key before the @");
    assert_eq!(states(bed), ["pending"]);
    // It is told while the program runs well and nothing waits, too.
    let run = bed.script("exec sleep 1000").env("OBIT_DSN", "https://nokey.test/1").env("OBIT_DNS_ZONE", "a..b");
    let run = run.env("OBIT_PRODUCT_VERSION", "1.0.0").env("OBIT_STATE_DIR", bed.path("other")).start();
    run.complains("the DSN has no key before the @; nothing leaves until that is mended");
    run.complains("\"a..b\" is no DNS zone");
    run.signal(Signal::SIGTERM);
    run.end().code(143);
}

fn no_wait(bed: &Bed) {
    let server = Server::new(Mood::Hang);
    let ended = crash(bed, "0", &server.dsn).end();
    ended.code(9);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    assert_eq!(states(bed), ["pending"]);
}

fn flush_meanwhile(bed: &Bed) {
    let dead = "http://key@127.0.0.1:1/7";
    crash(bed, "0", dead).end().code(9);
    let run = bed.run(&["--report-wait", "60s"], ["sleep", "1000"]).env("OBIT_DSN", dead).start();
    run.until("two attempts", || (run.stderr().matches("waits: ").count() > 1).then_some(()));
    let server = Server::new(Mood::Status(200));
    run.until("the report", || {
        bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).end().code(0);
        (server.events().len() == 1).then_some(())
    });
    assert_eq!(states(bed), ["sent"]);
}

fn own_fault(bed: &Bed) {
    use obit::spool::{Kind, Spool};
    let server = Server::new(Mood::Status(200));
    std::fs::create_dir(bed.state()).expect("a state directory");
    let spool = Spool::open(&bed.state()).expect("a spool");
    let id = obit::case::Id([7; 16]);
    let event = format!("{{\"event_id\":\"{id}\",\"level\":\"fatal\"}}");
    spool.settle(spool.begin(Kind::Fault, id, 1, event.as_bytes()).expect("room")).expect("a rename");
    next_run(bed, &server.dsn).end().code(0);
    assert_eq!((server.events(), states(bed)), (vec![id.to_string()], Vec::new()));
    assert!(bed.obit(["status", "--json"]).end().stdout().contains("\"pending\":0"));
}

fn log(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    for (level, tells) in [("info", false), ("debug", true)] {
        crash(bed, "1s", "http://key@127.0.0.1:1/7").end().code(9);
        let flush = bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).env("OBIT_LOG", level).end();
        let said = flush.stderr();
        let line = format!("obit: debug: visit[to=http://{}/api/7/envelope/ way=direct]: entry[", server.address);
        assert_eq!(said.contains(&line), tells, "{said}");
        assert_eq!(said.contains(": one request "), tells, "{said}");
        assert!(!said.contains("0123456789abcdef"), "{said}");
    }
    let dead = "http://key@127.0.0.1:1/7";
    let warned = |level: &str| crash(bed, "1s", dead).env("OBIT_LOG", level).end().stderr().contains("waits: ");
    assert_eq!((warned("warning"), warned("error")), (true, false));
}
