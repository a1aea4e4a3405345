//! Once a day whatever restarts and clocks do, shown with the real binary: its own state directory, and a kernel in which a day
//! is made to have gone by (a time namespace), for no trial can wait for one.
//!
//! What is simulated: CLOCK_BOOTTIME and CLOCK_MONOTONIC are those of a time namespace, which a run begins in (a restart later
//! in the hour) or is moved into as it stands (a machine that wakes up, `fixtures/programs/suspend.c`). CLOCK_REALTIME has
//! no namespaces: that it has jumped is a state in which all was noted at other times. No machine sleeps.

use crate::bed::{Bed, Running, Setup, children_of, trial};
use crate::daily;
use crate::nameserver::{Mood as Answers, NameServer};
use crate::need::Need;
use crate::server::{Mood, Server};
use crate::upgrade;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Command;

const CLOCK: &[Need] = &[Need::Root, Need::Tool("unshare")];
const SLEEP: &[Need] = &[Need::Root, Need::X86];
const DAY_MS: i64 = 86_400_000;

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "fifty restarts in an hour, many of them violent, are one daily report and one question, and none is lost",
            CLOCK,
            fifty,
        ),
        trial(
            "a machine that was suspended for five days sends late and once, and then not before a day is over",
            SLEEP,
            suspended,
        ),
        trial(
            "a wall clock that jumps three days ahead brings nothing early, and a day later nothing is lost",
            CLOCK,
            |bed| {
                jumps(bed, 3);
            },
        ),
        trial(
            "a wall clock that jumps three days back loses nothing, and a day later nothing comes twice",
            CLOCK,
            |bed| {
                jumps(bed, -3);
            },
        ),
    ]
}

fn setup(setup: Setup, bed: &Bed, server: &Server, names: &NameServer) -> Setup {
    upgrade::with_question(bed, setup, names).env("OBIT_DSN", &server.dsn)
}

/// Until its courier has come and gone.
fn looked(run: &Running) {
    run.complains("the courier leaves");
    let pid = run.pid();
    run.until("nobody but the program", || (children_of(pid).len() == 1).then_some(()));
}

/// Daily reports, each counted once, and questions.
fn counts(server: &Server, names: &NameServer) -> (usize, usize) {
    // A run that was killed is told as well, by the next.
    let daily = server.reports().iter().filter(|event| event["tags"]["report"] == "daily").count();
    (daily, names.asked().len())
}

/// The run in a kernel whose clock since the boot is so many seconds ahead.
fn ahead<S: AsRef<str>>(bed: &Bed, seconds: u64, run: &[S]) -> Setup {
    let unshare = bed.command("unshare").args(["--time", "--boottime", &seconds.to_string()]);
    unshare.args([crate::bed::binary()]).args(["run", "--log", "debug", "--"]).args(run.iter().map(AsRef::as_ref))
}

fn fifty(bed: &Bed) {
    let server = Server::new(Mood::Status(503));
    let names = NameServer::new(Answers::says(&upgrade::record(bed, "1.6.0", "available")));
    daily::due(bed);
    upgrade::due_in(&bed.state());
    for n in 0..50 {
        // At first the server takes nothing.
        if n == 10 {
            server.becomes(Mood::Status(200));
        }
        // One each 72 seconds.
        let run = ahead(bed, n * 72, &["sleep", "1000"]);
        let run = setup(run, bed, &server, &names).start();
        let pid = run.pid();
        let signal = match n % 5 {
            // In the middle of whatever the courier does.
            _ if n < 10 => {
                let before = server.requests();
                run.until("an attempt", || (server.requests() > before).then_some(()));
                Signal::SIGKILL
            }
            1 | 3 => {
                // Which may be gone before we see it.
                let was_there = || children_of(pid).len() == 2 || run.stderr().contains("the courier leaves");
                run.until("a courier", || was_there().then_some(()));
                Signal::SIGKILL
            }
            _ => {
                looked(&run);
                Signal::SIGTERM
            }
        };
        run.signal(signal);
        run.end();
    }
    setup(bed.obit(["flush"]), bed, &server, &names).end().code(0);
    assert_eq!(counts(&server, &names), (1, 1));
    let heartbeat = setup(bed.obit(["heartbeat", "--json"]), bed, &server, &names).end();
    let told: Value = serde_json::from_str(&heartbeat.stdout()).expect("JSON");
    assert!(told["next"].as_str() > told["last"].as_str(), "{told}");
}

fn suspended(bed: &Bed) {
    const HOUR: u64 = 3600;
    const SLEPT: u64 = 5 * 24 * HOUR;
    let server = Server::new(Mood::Status(200));
    let names = NameServer::new(Answers::says(&upgrade::record(bed, "1.6.0", "available")));
    daily::due(bed);
    upgrade::due_in(&bed.state());
    let program = ["sh", "-c", "trap '' USR1; while :; do sleep 1000; done"];
    let run = setup(bed.run(&["--log", "debug"], program), bed, &server, &names).start();
    looked(&run);
    assert_eq!(counts(&server, &names), (1, 1));
    // One and the same obit all along. So many seconds after its start, of which it slept so many, a signal for its
    // program wakes it up, and it looks at its clock.
    let wakes = |asleep: u64, awake: u64| {
        let clocks = [run.pid().to_string(), (asleep + awake).to_string(), awake.to_string()];
        let moved = Command::new(crate::bed::program("suspend")).args(clocks).output().expect("it starts");
        assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
        run.signal(Signal::SIGUSR1);
    };
    let visits = || run.stderr().matches("the courier leaves").count();
    let mut expected = visits();
    let mut visited = || {
        expected += 1;
        run.until("the courier has come again and gone", || {
            (visits() == expected && children_of(run.pid()).len() == 1).then_some(())
        });
        counts(&server, &names)
    };
    // Right after it woke up nobody looks yet; at the next look what was missed is put off by up to ten minutes.
    wakes(SLEPT, 0);
    wakes(SLEPT, HOUR + 100);
    assert_eq!(visited(), (1, 1), "not at once, with all the others that woke up");
    wakes(SLEPT, HOUR + 100 + 12 * 60);
    assert_eq!(visited(), (2, 2), "late");
    for hours in [3, 5, 19] {
        wakes(SLEPT, hours * HOUR);
        assert_eq!(visited(), (2, 2), "once, {hours} hours later");
    }
    // The clock goes on in leaps, so this end is missed too, by hours.
    wakes(SLEPT, 31 * HOUR);
    assert_eq!(visited(), (2, 2));
    wakes(SLEPT, 31 * HOUR + 12 * 60);
    assert_eq!(visited(), (3, 3), "and the next a day later");
    run.signal(Signal::SIGTERM);
    run.end();
}

/// What is kept about each of the two days.
struct Kept {
    daily: Value,
    question: Value,
}

fn read(bed: &Bed, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(bed.state().join(name)).expect("it is kept")).expect("JSON")
}

fn kept(bed: &Bed) -> Kept {
    Kept { daily: read(bed, "daily.json"), question: read(bed, "upgrade.json") }
}

/// To whoever reads its state, a wall clock that has jumped is one by which all that was noted was noted that much earlier.
fn jump(bed: &Bed, days: i64) {
    let Kept { mut daily, mut question } = kept(bed);
    let earlier = |anchor: &mut Value| {
        let then = anchor["unix_ms"].as_i64().expect("a time");
        anchor["unix_ms"] = (then - days * DAY_MS).into();
    };
    earlier(&mut daily["anchor"]);
    earlier(&mut question["wait"]["anchor"]);
    for (name, value) in [("daily.json", daily), ("upgrade.json", question)] {
        std::fs::write(bed.state().join(name), value.to_string()).expect("a file");
    }
}

fn jumps(bed: &Bed, days: i64) {
    let server = Server::new(Mood::Status(200));
    let names = NameServer::new(Answers::says(&upgrade::record(bed, "1.6.0", "available")));
    daily::due(bed);
    upgrade::due_in(&bed.state());
    // In a kernel whose clock since the boot is so many milliseconds ahead.
    let run = |ahead_ms: u64| {
        let run = ahead(bed, ahead_ms.div_ceil(1000), &["sleep", "1000"]);
        let run = setup(run, bed, &server, &names).start();
        looked(&run);
        run.signal(Signal::SIGTERM);
        run.end();
        counts(&server, &names)
    };
    assert_eq!(run(0), (1, 1));
    let Kept { daily, question } = kept(bed);
    let waits = [&daily["wait_ms"], &question["wait"]["wait_ms"]].map(|wait| wait.as_u64().expect("a time"));
    assert!(waits[0] >= DAY_MS as u64 && waits[1] >= DAY_MS as u64 * 20 / 24, "{waits:?}");
    jump(bed, days);
    assert_eq!(run(0), (1, 1), "right after the jump");
    for wait in [&kept(bed).daily, &kept(bed).question["wait"]] {
        assert_eq!(wait["spread"], false, "nothing was missed: {wait}");
    }
    // Minutes before the end of each wait, and half a minute after it; the earlier one first.
    let mut ends = [(waits[0], 0), (waits[1], 1)];
    ends.sort_unstable();
    for (wait, channel) in ends {
        let of_channel = |counts: (usize, usize)| [counts.0, counts.1][channel];
        assert_eq!(of_channel(run(wait - 300_000)), 1, "not yet: {waits:?}");
        assert_eq!(of_channel(run(wait + 30_000)), 2, "and not later: {waits:?}");
    }
    assert_eq!(counts(&server, &names), (2, 2));
    assert_eq!(run(waits[0].max(waits[1]) + 60_000), (2, 2), "once");
}
