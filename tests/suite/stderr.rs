//! The program's stderr: every byte in its order, at its reader's pace, to the very end.

use crate::bed::{Bed, Fate, binary, both, program};
use libtest_mimic::Trial;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(both("megabytes of stderr pass byte for byte", &[], byte_exact));
    trials.extend(both("a reader that comes late gets every byte", &[], late_reader));
    trials.extend(both("a slow reader slows the program, as without obit", &[], back_pressure));
    trials.extend(both("the last bytes before a crash are not lost", &[], last_words));
    trials.extend(both("the last words are in the report even if nobody reads them", &[], unread_last_words));
    trials.extend(both("a reader that goes away ends the program by SIGPIPE, as without obit", &[], reader_gone));
    trials.extend(both("what a grandchild writes after the program's end passes too", &[], grandchild_writes));
    trials.extend(both("with stdout and stderr joined their order is kept", &[], joined));
    trials.extend(both("a daemon that keeps stderr open does not hold the end up", &[], kept_open));
    trials.extend(both("a stderr that is a file is the program's own, and its end is in the report", &[], file));
    trials.extend(both("a file that may not grow ends the program as it would", &[], full_file));
    trials.extend(both("a run without incident says nothing", &[], silence));
    trials
}

const BYTES: &str = "8000000";

/// What the program writes when nobody is between.
fn expected(bytes: &str, seed: &str) -> Vec<u8> {
    Command::new(program("scream")).args([bytes, seed, "0"]).output().expect("scream runs").stderr
}

#[track_caller]
fn same_bytes(got: &[u8], expected: &[u8]) {
    let differs = got.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((got.len(), differs), (expected.len(), None), "first difference");
}

fn byte_exact(bed: &Bed) {
    for seed in ["1", "2", "3"] {
        let ended = bed.under([program("scream").to_str().unwrap(), BYTES, seed, "0"]).end();
        assert_eq!(ended.fate, Fate::Exited(0));
        same_bytes(&ended.stderr, &expected(BYTES, seed));
    }
}

fn late_reader(bed: &Bed) {
    let run = bed.under([program("scream").to_str().unwrap(), BYTES, "4", "0"]).unread_stderr().start();
    let child = run.child();
    run.until("the program waits for its reader", || {
        let wchan = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        wchan.contains(") S ").then_some(())
    });
    run.read_stderr();
    let ended = run.end();
    assert_eq!(ended.fate, Fate::Exited(0));
    same_bytes(&ended.stderr, &expected(BYTES, "4"));
}

/// Neither is a byte thrown away nor does obit grow: with no reader the program gets no further than the pipes are deep.
fn back_pressure(bed: &Bed) {
    let run = bed
        .under(["sh", "-c", "i=0; while :; do printf '%01000d\\n' $i >&2; i=$((i+1)); echo $i >&1; done"])
        .unread_stderr()
        .start();
    run.says("10\n");
    let mut last = String::new();
    run.until("the program is held", || {
        let now = run.stdout();
        std::thread::sleep(Duration::from_millis(300));
        let held = now == last && run.stdout() == now;
        last = now;
        held.then_some(())
    });
    let lines = run.stdout().lines().count();
    assert!(lines < 600, "{lines} lines of 1 kB went nowhere");
}

fn last_words(bed: &Bed) {
    for seed in ["5", "6", "7"] {
        let run = bed.under([program("scream").to_str().unwrap(), "500000", seed, "0", "null"]).end();
        assert_eq!(run.fate, Fate::Exited(139));
        let expected = expected("500000", seed);
        assert!(run.stderr.starts_with(&expected), "{} of {} bytes", run.stderr.len(), expected.len());
    }
}

/// The reader comes when everything is over: the program's bytes, all of them, then obit's line.
fn unread_last_words(bed: &Bed) {
    let script = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo the last words >&2; kill -SEGV $$";
    let run = bed.run(&["--report-wait", "0s"], ["sh", "-c", script]).unread_stderr().start();
    let kept = run.until("the report", || {
        let pending = std::fs::read_dir(bed.state().join("spool/pending")).ok()?.next()?.ok()?;
        std::fs::read_to_string(pending.path()).ok()
    });
    assert!(kept.contains("the last words"), "{}", &kept[kept.len().saturating_sub(300)..]);
    let ended = run.end();
    ended.code(139);
    let (words, rest) = ended.stderr.split_at(100_000);
    assert!(words.iter().all(|byte| *byte == b'x'), "{:?}", ended.stderr());
    assert!(rest.starts_with(b"the last words\nobit: sh"), "{:?}", String::from_utf8_lossy(rest));
}

/// pipe(7): a write to a pipe without readers is SIGPIPE.
fn reader_gone(bed: &Bed) {
    let obit = binary();
    let script = format!(
        "{{ {} -- sh -c 'while :; do echo x >&2; done'; echo $? >{}; }} 2>&1 | head -c 10; sleep 1000",
        obit.display(),
        bed.path("code").display()
    );
    let run = bed.command("sh").args(["-c", &script]).start();
    let code = run.until("the program's end", || {
        std::fs::read_to_string(bed.path("code")).ok().filter(|code| code.ends_with('\n'))
    });
    assert_eq!(code, "141\n");
}

fn grandchild_writes(bed: &Bed) {
    let ended = bed.script("setsid sh -c 'trap \"sleep 0.2; echo late >&2; exit\" TERM; echo up >&2; while :; do sleep 0.01; done' & sleep 0.2; exit 3").end();
    ended.code(3).complains("up\n").complains("late\n");
}

/// Two streams into one file: a line that was written later must not come before.
fn joined(bed: &Bed) {
    let obit = binary();
    let script = format!(
        "exec 2>&1; exec {} -- sh -c 'i=0; while [ $i -lt 300 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done'",
        obit.display()
    );
    let ended = bed.command("sh").args(["-c", &script]).end();
    ended.code(0);
    let expected: String = (0..300).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert_eq!(ended.stdout(), expected);
}

fn kept_open(bed: &Bed) {
    let ended = bed.script("setsid sleep 1000 & exit 3").end();
    ended.code(3);
    assert!(ended.took < Duration::from_secs(4), "{:?}", ended.took);
}

/// Neither what others wrote into the file before nor obit's own lines are the program's words.
fn file(bed: &Bed) {
    for redirection in [">>", ">"] {
        let log = bed.path("log");
        std::fs::write(&log, "of another run\n").unwrap();
        let program = "(sh -c 'kill -ABRT $$' &); log=$(readlink /proc/self/fd/2); echo $log
            until grep -q '^obit: ' $log; do sleep 0.05; done; printf 'last words' >&2; kill -SEGV $$";
        let script = format!("exec {} -- sh -c \"$program\" 2{redirection}{}", binary().display(), log.display());
        let ended = bed.command("sh").args(["-c", &script]).env("program", program).end();
        ended.code(139);
        assert_eq!(ended.stdout(), format!("{}\n", log.display()));
        let shown = bed.obit(["crashes", "show", "--json"]).end();
        let report: Value = serde_json::from_str(&shown.stdout()).unwrap();
        assert_eq!(report["stderr_tail"]["text"], "last words", "{report:#}");
        let written = std::fs::read_to_string(&log).unwrap();
        let written = written.strip_prefix("of another run\n").unwrap_or(&written);
        let (ours, last) = written.split_once('\n').unwrap();
        assert!(ours.contains("left by sh") && last.starts_with("last words\nobit: sh (pid "), "{written:?}");
    }
}

/// setrlimit(2): a write beyond RLIMIT_FSIZE is SIGXFSZ, while into a pipe it is not.
fn full_file(bed: &Bed) {
    let obit = binary();
    let script =
        format!("ulimit -f 0; exec {} -- sh -c 'echo x >&2; exit 7' 2>>{}", obit.display(), bed.path("log").display());
    bed.command("sh").args(["-c", &script]).end().code(153);
}

fn silence(bed: &Bed) {
    let ended = bed.script("echo out; exit 0").end();
    ended.code(0).quiet();
    assert_eq!(ended.stdout(), "out\n");
}
