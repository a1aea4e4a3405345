//! Burying: orphans, storms of them, and what is left when the program has ended.

use crate::bed::{Bed, both, program};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(both("orphans are reaped while the program lives", &[], orphans_reaped));
    trials.extend(both("twenty thousand orphans are reaped and the code is kept", &[], storm));
    trials.extend(both("a program that ends in mid-storm keeps its code, twenty times of twenty", &[], end_in_storm));
    trials.extend(both("TERM is passed on in the midst of a storm", &[], term_in_storm));
    trials.extend(both("a grandchild in its own session may finish what it does", &[], drain_finishes));
    trials.extend(both("a grandchild that ignores TERM is killed in bounded time", &[], drain_kills));
    trials.extend(both("obit leaves the moment the last one is gone", &[], leaves_at_once));
    trials.extend(both("a stopped grandchild does not hold the end up", &[], drain_stopped));
    trials.extend(both("in a shared PID namespace the neighbours are left alone", &[], neighbours));
    trials.extend(both("the grandchildren's ends do not change the code", &[], codes_of_others));
    trials.extend(both("a program that was stopped is not taken for ended", &[], stopped_is_alive));
    trials
}

fn zombies_of(pid: i32) -> usize {
    let state = |child: &i32| std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    crate::bed::children_of(pid).iter().filter(|c| state(c).contains(") Z ")).count()
}

fn orphans_reaped(bed: &Bed) {
    let run = bed.script("for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.01 &); done; echo made; exec sleep 1000").start();
    run.says("made\n");
    run.until("only the program is left", || (run.children().len() == 1 && zombies_of(run.pid()) == 0).then_some(()));
    run.signal(Signal::SIGTERM);
    run.end().code(143);
}

fn storm(bed: &Bed) {
    let ended = bed.under([program("orphans").to_str().unwrap(), "20000", "42"]).end();
    ended.code(42);
}

fn end_in_storm(bed: &Bed) {
    for turn in 0..20 {
        let end_after = (turn * 20 + 11).to_string();
        bed.under([program("orphans").to_str().unwrap(), "600", "42", &end_after]).end().code(42);
    }
}

/// The benches tell how fast; here it must only not wait for the storm to pass.
fn term_in_storm(bed: &Bed) {
    let run = bed.under([program("orphans").to_str().unwrap(), "100000000", "42"]).start();
    run.says("storm\n");
    let sent = Instant::now();
    run.signal(Signal::SIGTERM);
    run.end().code(143);
    assert!(sent.elapsed() < Duration::from_secs(10), "{:?}", sent.elapsed());
}

/// Lost under tini, dumb-init, catatonit and pid1-rs: the kernel kills what is left when PID 1 ends.
fn drain_finishes(bed: &Bed) {
    let done = bed.path("done");
    let script = format!(
        "setsid sh -c 'trap \"sleep 0.4; echo done >{0}; exit 0\" TERM; echo up >{0}.up; while :; do sleep 0.02; done' & \
         while ! [ -e {0}.up ]; do sleep 0.01; done; exit 5",
        done.display()
    );
    bed.script(&script).end().code(5);
    assert_eq!(std::fs::read_to_string(done).unwrap(), "done\n");
}

fn drain_kills(bed: &Bed) {
    let up = bed.path("up");
    let script = format!(
        "setsid sh -c 'trap \"\" TERM; echo up >{0}; while :; do sleep 0.02; done' & \
         while ! [ -e {0} ]; do sleep 0.01; done; exit 5",
        up.display()
    );
    let ended = bed.script(&script).end();
    ended.code(5);
    assert!(ended.took > Duration::from_secs(2) && ended.took < Duration::from_secs(20), "{:?}", ended.took);
}

fn leaves_at_once(bed: &Bed) {
    for _ in 0..5 {
        let ended = bed.script("setsid sleep 1000 & setsid sleep 1000 & exit 5").end();
        ended.code(5);
        assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
    }
}

/// A stopped process gets its TERM only when it is continued.
fn drain_stopped(bed: &Bed) {
    let ended = bed.script("setsid sleep 1000 & pid=$!; sleep 0.05; kill -STOP $pid; exit 5").end();
    ended.code(5);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
}

/// `shareProcessNamespace`, `docker run --pid`: others are there, and init is none of their parents.
fn neighbours(bed: &Bed) {
    let script = format!(
        "sleep 1000 & them=$!; {} -- sh -c 'setsid sleep 1000 & exit 3'; echo code $?; kill $them && echo lived",
        crate::bed::binary().display()
    );
    let ended = bed.command("sh").args(["-c", &script]).end();
    assert_eq!(ended.stdout(), "code 3\nlived\n");
}

fn codes_of_others(bed: &Bed) {
    bed.script("(sh -c 'exit 3' &) ; (sh -c 'kill -KILL $$' &); sleep 0.05; exit 5").end().code(5);
}

fn stopped_is_alive(bed: &Bed) {
    let run = bed.under([program("die").to_str().unwrap(), "wait"]).start();
    run.says("ready\n");
    let child = nix::unistd::Pid::from_raw(run.child());
    let state = |wanted: &[&str]| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        wanted.iter().any(|state| stat.contains(&format!(") {state} "))).then_some(())
    };
    nix::sys::signal::kill(child, Signal::SIGSTOP).unwrap();
    // A stopped program that is traced shows the small letter: proc(5).
    run.until("the program is stopped", || state(&["T", "t"]));
    run.signal(Signal::SIGCONT);
    run.until("the program goes on", || state(&["S"]));
    run.signal(Signal::SIGTERM);
    run.end().code(143);
}
