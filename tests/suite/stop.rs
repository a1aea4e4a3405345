//! Stopping: the grace, its end, the second TERM, the delay before and the signal instead.

use crate::bed::{Bed, both, program};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(both("a program that ends when asked ends with its own code", &[], asked));
    trials.extend(both("a program that does not end when asked is killed after its grace", &[], grace));
    trials.extend(both("a second TERM hurries", &[], hurry));
    trials.extend(both("a TERM that is told twice at once is one wish", &[], one_wish));
    trials.extend(both("stop-delay keeps the TERM back", &[], delay));
    trials.extend(both("a second TERM ends the delay", &[], hurried_delay));
    trials.extend(both("stop-signal is sent instead of TERM", &[], other_signal));
    trials.extend(both("the grace holds for what the program left behind too", &[], grace_of_descendants));
    trials.extend(both("a stop that went well is no news", &[], quiet_stop));
    trials
}

const STUBBORN: &str = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done";

fn asked(bed: &Bed) {
    let run = bed
        .run(
            &["--stop-grace", "1h"],
            ["sh", "-c", "trap 'sleep 0.2; exit 9' TERM; echo ready; while :; do sleep 0.02; done"],
        )
        .start();
    run.says("ready\n");
    run.signal(Signal::SIGTERM);
    run.end().code(9);
}

fn grace(bed: &Bed) {
    let run = bed.run(&["--stop-grace", "700ms", "--report-wait", "0s"], ["sh", "-c", STUBBORN]).start();
    run.says("ready\n");
    let sent = Instant::now();
    run.signal(Signal::SIGTERM);
    run.complains("did not end when asked");
    assert!(sent.elapsed() >= Duration::from_millis(700), "{:?}", sent.elapsed());
    assert!(run.stdout().contains("asked\n"), "{}", run.stdout());
    run.end().code(137);
}

/// Two within a tenth of a second are one wish, so it is asked until it is heard.
fn hurry(bed: &Bed) {
    let run = bed.run(&["--stop-grace", "1h"], ["sh", "-c", STUBBORN]).start();
    run.says("ready\n");
    run.signal(Signal::SIGTERM);
    run.says("asked\n");
    run.until("the end of the patience", || {
        run.signal(Signal::SIGTERM);
        run.stderr().contains("did not end when asked").then_some(())
    });
    run.end().code(137);
}

/// timeout(1) signals its child and then the child's group: the program must still get its grace.
fn one_wish(bed: &Bed) {
    let script = "trap 'sleep 0.5; exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    let run = bed.run(&["--stop-grace", "1h"], ["sh", "-c", script]).start();
    run.says("ready\n");
    run.queue(["15", "15", "15"]);
    run.end().code(9);
}

/// What a load balancer needs: the endpoint is taken out first, then the program stops.
fn delay(bed: &Bed) {
    let run = bed.run(&["--stop-delay", "600ms"], [program("listen").to_str().unwrap(), "15", "7"]).start();
    run.says("ready\n");
    let sent = Instant::now();
    run.signal(Signal::SIGTERM);
    run.signal(Signal::SIGUSR1);
    run.says("got 10 ");
    assert!(!run.stdout().contains("got 15 ") || sent.elapsed() >= Duration::from_millis(600), "{}", run.stdout());
    run.end().code(7);
    assert!(sent.elapsed() >= Duration::from_millis(600), "{:?}", sent.elapsed());
}

fn hurried_delay(bed: &Bed) {
    let run = bed.run(&["--stop-delay", "1h"], [program("listen").to_str().unwrap(), "15", "7"]).start();
    run.says("ready\n");
    run.signal(Signal::SIGTERM);
    run.signal(Signal::SIGUSR1);
    run.says("got 10 ");
    run.signal(Signal::SIGTERM);
    run.end().code(7);
}

/// pebble#719: HAProxy ends softly by USR1 only.
fn other_signal(bed: &Bed) {
    for (spelling, number) in [("USR1", 10), ("SIGQUIT", 3), ("2", 2), ("RTMIN+3", 37)] {
        let last = number.to_string();
        let run = bed.run(&["--stop-signal", spelling], [program("listen").to_str().unwrap(), &last, "7"]).start();
        run.says("ready\n");
        run.signal(Signal::SIGTERM);
        let ended = run.end();
        ended.code(7);
        assert!(!ended.stdout().contains("got 15 "), "{}", ended.stdout());
    }
}

fn grace_of_descendants(bed: &Bed) {
    let up = bed.path("up");
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; echo up >{0}; while :; do sleep 0.02; done' & \
         while ! [ -e {0} ]; do sleep 0.01; done; echo ready; trap 'exit 6' TERM; while :; do sleep 0.02; done",
        up.display()
    );
    let run = bed.run(&["--stop-grace", "1s"], ["sh", "-c", &script]).start();
    run.says("ready\n");
    let sent = Instant::now();
    run.signal(Signal::SIGTERM);
    run.end().code(6);
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
}

fn quiet_stop(bed: &Bed) {
    let run = bed.under([program("die").to_str().unwrap(), "wait"]).start();
    run.says("ready\n");
    run.signal(Signal::SIGTERM);
    run.end().code(143).quiet();
}
