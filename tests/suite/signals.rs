//! Signals: every one that can be passed on is, unchanged and in order, from the first moment to the last.

use crate::bed::{Bed, Fate, Running, both, program, trial};
use crate::need::Need;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(both("every signal that can be passed on arrives", &[], every_signal));
    trials.extend(both("real-time signals keep their payload and their order", &[], payloads));
    trials.extend(both("a signal may be rewritten by number or by name", &[], rewrite));
    trials.extend(both("a signal rewritten to 0 is swallowed", &[], swallow));
    trials.extend(both("without --group only the child is signalled", &[], child_only));
    trials.extend(both("with --group the child's whole group is signalled", &[], group));
    trials.extend(both("no TERM is lost in the first three milliseconds", &[], early));
    trials.extend(both("no TERM to the group is lost in the first three milliseconds", &[], early_to_the_group));
    trials.extend(both("a TERM that comes while setpgid is slow is not lost", &[Need::Tool("strace")], slow_setpgid));
    trials.extend(both("a signal that comes before exec is the program's", &[], before_exec));
    trials.extend(both("who sent the signal that the program died of is in the report", &[], sender));
    trials.push(trial("obit's parent's end is told by parent-death-signal", &[], parent_death_signal));
    trials
}

fn listening(bed: &Bed, options: &[&str], last: &str) -> Running {
    let run = bed.run(options, [program("listen").to_str().unwrap(), last, "7"]).start();
    run.says("ready\n");
    run
}

/// signal(7): KILL and STOP cannot be caught; CHLD is how init learns of its own children. As a guest TSTP, TTIN and TTOU are passed on too.
fn every_signal(bed: &Bed) {
    let run = listening(bed, &["--stop-grace", "1h"], "10");
    let numbers: Vec<u8> = (1..=64).filter(|n| ![9, 10, 17, 19].contains(n)).collect();
    for n in &numbers {
        run.queue([n.to_string()]);
        run.says(&format!("got {n} "));
    }
    run.queue(["10"]);
    run.end().code(7);
}

/// sigqueue(3), signal(7): real-time signals are queued in the order sent, each with its value.
fn payloads(bed: &Bed) {
    let run = listening(bed, &[], "12");
    let sent: Vec<String> = (1..=100).map(|i| format!("{}:{}", 40, i * 7)).collect();
    run.queue(&sent);
    run.says("got 40 -1 700\n");
    run.queue(["12"]);
    let ended = run.end();
    ended.code(7);
    let expected: Vec<String> = (1..=100).map(|i| format!("got 40 -1 {}", i * 7)).collect();
    let told = ended.stdout();
    let got: Vec<&str> = told.lines().filter(|l| l.starts_with("got 40 ")).collect();
    assert_eq!(got, expected);
}

/// In siginfo it is obit that sent it.
fn sender(bed: &Bed) {
    for signal in [Signal::SIGSEGV, Signal::SIGABRT] {
        let run = bed.script("echo ready; exec sleep 1000").start();
        run.says("ready\n");
        run.until("the program has begun", || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", run.child())).ok()?;
            (name == "sleep\n").then_some(())
        });
        run.signal(signal);
        run.end().code(128 + signal as u8);
        let shown = bed.obit(["crashes", "show", "--json"]).end();
        let report: Value = serde_json::from_str(&shown.stdout()).unwrap();
        assert_eq!(report["stop"]["signal"], signal.as_str(), "{report:#}");
        assert!(report["stop"]["sender_pid"].is_i64(), "{report:#}");
    }
}

fn rewrite(bed: &Bed) {
    let run = listening(bed, &["--rewrite", "HUP:USR2", "--rewrite", "1:12", "--rewrite", "TERM:SIGQUIT"], "3");
    run.signal(Signal::SIGHUP);
    run.says("got 12 ");
    run.signal(Signal::SIGTERM);
    let ended = run.end();
    ended.code(7);
    assert!(!ended.stdout().contains("got 1 ") && !ended.stdout().contains("got 15 "), "{}", ended.stdout());
}

/// tini#204: an application that was immune to USR1 as PID 1 dies of it as a child; this is the way out.
fn swallow(bed: &Bed) {
    let run = listening(bed, &["--rewrite", "USR1:0"], "12");
    run.signal(Signal::SIGUSR1);
    run.signal(Signal::SIGUSR2);
    let ended = run.end();
    ended.code(7);
    assert!(!ended.stdout().contains("got 10 "), "{}", ended.stdout());
}

/// The child and its own child tell which of them a signal reached.
const TWO: &str = r#"
    trap 'echo parent' USR1; trap 'echo stop; exit 7' USR2
    sh -c 'trap "echo child" USR1; echo up; while :; do sleep 0.05; done' &
    while :; do wait; done"#;

fn child_only(bed: &Bed) {
    let run = bed.run(&[], ["sh", "-c", TWO]).start();
    run.says("up\n");
    run.signal(Signal::SIGUSR1);
    run.says("parent\n");
    run.signal(Signal::SIGUSR2);
    let ended = run.end();
    assert_eq!(ended.fate, Fate::Exited(7));
    assert!(!ended.stdout().contains("child"), "{}", ended.stdout());
}

fn group(bed: &Bed) {
    let run = bed.run(&["--group"], ["sh", "-c", TWO]).start();
    run.says("up\n");
    run.signal(Signal::SIGUSR1);
    run.says("parent\n");
    run.says("child\n");
    run.signal(Signal::SIGUSR2);
    assert_eq!(run.end().fate, Fate::Exited(7));
}

const TERM: u64 = 1 << 14;

/// The blocked set in a /proc/PID/status.
fn blocked_in(status: &str) -> u64 {
    let hex = status.lines().find_map(|l| l.strip_prefix("SigBlk:\t"));
    hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

/// The promise begins when obit has blocked its signals; before that a TERM is the kernel's to answer.
fn blocks_term(run: &Running) -> bool {
    blocked_in(&std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap_or_default()) & TERM != 0
}

fn send_early(bed: &Bed, options: &[&str]) {
    for turn in 0..60u64 {
        let run = bed.run(options, ["sleep", "1000"]).start();
        run.pid();
        let begun = Instant::now();
        while !blocks_term(&run) {
            assert!(begun.elapsed() < crate::bed::DEADLINE, "obit never blocked TERM");
        }
        // Spread over 0 to 3 ms, each moment hit by another turn.
        let wait = Duration::from_micros(turn * 50);
        let blocked = Instant::now();
        while blocked.elapsed() < wait {
            std::hint::spin_loop();
        }
        run.signal(Signal::SIGTERM);
        let ended = run.end();
        assert_eq!(ended.fate, Fate::Exited(143), "TERM {wait:?} after it was blocked: {}", ended.stderr());
    }
}

fn early(bed: &Bed) {
    send_early(bed, &["--stop-grace", "1h"]);
}

fn early_to_the_group(bed: &Bed) {
    send_early(bed, &["--stop-grace", "1h", "--group"]);
}

/// tini -g, dumb-init and catatonit -g lose it here: kill(-child) is ESRCH as long as the group does not exist.
fn slow_setpgid(bed: &Bed) {
    let trace = bed.path("trace");
    let run = bed
        .command("strace")
        .args(["-f", "-qq", "-o"])
        .args([&trace])
        .args(["-e", "trace=setpgid,setsid,execve", "-e", "inject=setpgid:delay_enter=400ms"])
        .args([crate::bed::binary().as_os_str()])
        .args(["run", "--group", "--stop-grace", "1h", "--", "sleep", "1000"])
        .start();
    // strace starts short-lived children of its own first.
    let obit = run.until("obit under strace with its signals blocked", || {
        run.children().into_iter().find(|&pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.starts_with("Name:\tobit\n") && blocked_in(&status) & TERM != 0
        })
    });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(obit), Signal::SIGTERM).unwrap();
    run.end().code(143);
}

/// A signal that the program ignores must not be lost to init's own rules while exec is on its way: the program decides.
fn before_exec(bed: &Bed) {
    for _ in 0..20 {
        let run = bed.run(&[], [program("listen").to_str().unwrap(), "12", "7"]).room(["--block", "12"]).start();
        run.pid();
        while !blocks_term(&run) {
            std::hint::spin_loop();
        }
        run.signal(Signal::SIGUSR2);
        run.end().code(7);
    }
}

/// prctl(2), PR_SET_PDEATHSIG: sent to obit when its parent ends, and passed on like any other.
fn parent_death_signal(bed: &Bed) {
    let script = format!(
        "{} run --parent-death-signal USR2 -- {} 12 7 & while ! grep -q ready said; do sleep 0.02; done; kill -9 $$",
        crate::bed::binary().display(),
        program("listen").display()
    );
    let said = bed.path("said");
    std::fs::write(&said, "").unwrap();
    let outer = format!("cd {} && sh -c '{script}' >said; tail -f /dev/null", bed.path("").display());
    let run = bed.command("sh").args(["-c", &outer]).start();
    run.until("USR2 for the program", || std::fs::read_to_string(&said).ok()?.contains("got 12").then_some(()));
}
