//! When init itself breaks: the container lives and dies as it would have, only nothing is reported any more.

use crate::bed::{Bed, Fate, Running, both, program, trial};
use crate::need::Need;
use crate::server::{Mood, Server};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

pub fn trials() -> Vec<Trial> {
    let needs = &[Need::FaultPoints];
    let mut trials = Vec::new();
    trials.extend(both("after a panic of init signals are passed on and the code is kept", needs, panic));
    trials.extend(both("after an abort of init signals are passed on and the code is kept", needs, abort));
    trials.extend(both("after a panic of init orphans are reaped and stderr passes", needs, goes_on));
    trials.extend(both("after a panic of init a program that will not stop is killed", needs, grace));
    trials.extend(both("a panic of init after the program's end keeps the code", needs, after_the_end));
    trials.push(trial("a run whose init broke is told by the next start", needs, told_later));
    trials
}

/// The fault strikes when SIGWINCH comes.
fn broken(bed: &Bed, fault: &str, options: &[&str], command: &[&str]) -> Running {
    let run = bed.run(options, command).env("OBIT_FAULT", fault).start();
    run.says("ready\n");
    run.signal(Signal::SIGWINCH);
    run.complains("obit: internal error (");
    run
}

fn signals_and_code(bed: &Bed, fault: &str) {
    let run = broken(bed, fault, &["--rewrite", "HUP:USR2"], &[program("listen").to_str().unwrap(), "15", "7"]);
    for (sent, got) in [("10", "got 10 "), ("1", "got 12 "), ("34", "got 34 ")] {
        run.queue([sent]);
        run.says(got);
    }
    run.signal(Signal::SIGTERM);
    let ended = run.end();
    ended.code(7);
    assert_eq!(ended.stderr().lines().count(), 1, "{}", ended.stderr());
}

fn panic(bed: &Bed) {
    signals_and_code(bed, "panic");
}

fn abort(bed: &Bed) {
    signals_and_code(bed, "abort");
}

fn goes_on(bed: &Bed) {
    let script = format!(
        "trap '{} 500 42; echo reaped; head -c 300000 /dev/zero | tr \"\\\\0\" x >&2; exit 5' USR1
         echo ready; while :; do sleep 0.02; done",
        program("orphans").display()
    );
    let run = broken(bed, "panic", &[], &["sh", "-c", &script]);
    run.signal(Signal::SIGUSR1);
    let ended = run.end();
    ended.code(5);
    let stderr = ended.stderr();
    let (ours, its) = stderr.split_at(stderr.find('\n').unwrap() + 1);
    assert!(its.len() == 300_000 && its.bytes().all(|byte| byte == b'x'), "{ours}{} bytes", its.len());
}

fn grace(bed: &Bed) {
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done";
    let run = broken(bed, "panic", &["--stop-grace", "500ms", "--map-exit", "137:9"], &["sh", "-c", script]);
    run.signal(Signal::SIGTERM);
    run.says("asked\n");
    // Nobody is drained: what the shell was waiting for ends of itself.
    assert_eq!(run.end().fate, Fate::Exited(9));
}

fn after_the_end(bed: &Bed) {
    let server = Server::new(Mood::Hang);
    let run = bed
        .run(&["--report-wait", "1h"], ["sh", "-c", "exit 33"])
        .env("OBIT_FAULT", "panic")
        .env("OBIT_DSN", &server.dsn)
        .start();
    run.until("the courier waits for the server", || (server.connections() > 0).then_some(()));
    run.signal(Signal::SIGWINCH);
    let ended = run.end();
    // The courier dies with init, a moment later.
    assert_eq!(ended.fate, Fate::Exited(33));
    ended.complains("internal error");
}

fn told_later(bed: &Bed) {
    let run = broken(bed, "panic", &[], &[program("listen").to_str().unwrap(), "15", "7"]);
    run.signal(Signal::SIGTERM);
    run.end().code(7);
    bed.run(&["--report-wait", "30s"], ["true"]).end().code(0);
    let list = bed.obit(["crashes", "list", "--json"]).end();
    let list: serde_json::Value = serde_json::from_str(&list.stdout()).expect("an array");
    assert_eq!(list[0]["reason"].as_str(), Some("unclean"), "{list}");
}
