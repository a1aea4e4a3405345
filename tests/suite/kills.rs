//! kill -9 of any role at any instant: what init said of a crash is delivered under the id it said, once, at the latest by
//! the next start; and no file of the spool is ever half a report.
//!
//! Each turn is a crash in a state directory of its own, a kill, and another start. `OBIT_TEST_KILLS` says how many turns
//! each role gets, `OBIT_TEST_SEED` repeats the instants of a run that failed.

use crate::bed::{Bed, Fate, Running, Setup, children_of, first, trial};
use crate::need::Need;
use crate::server::{Mood, Server};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    vec![
        first("init killed at any instant loses no crash that it told of", &[], |bed| turns(bed, Role::Init)),
        trial("an examiner killed at any instant loses no crash", &[], |bed| turns(bed, Role::Examiner)),
        trial("whoever looks at a dying program may be killed at any instant", &[Need::Root], |bed| {
            turns(bed, Role::Capture)
        }),
        trial("a courier killed at any instant loses no crash", &[], |bed| turns(bed, Role::Courier)),
        trial("whoever tells of an earlier run may be killed at any instant", &[], |bed| turns(bed, Role::Recover)),
        trial("whoever writes a session may be killed at any instant", &[], |bed| turns(bed, Role::Session)),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Init,
    Capture,
    Examiner,
    Courier,
    Recover,
    Session,
}

impl Role {
    /// proc(5), comm.
    fn comm(self) -> &'static str {
        match self {
            Role::Init => "obit",
            Role::Capture => "obit-capture",
            Role::Examiner => "obit-examine",
            Role::Courier => "obit-courier",
            Role::Recover => "obit-recover",
            Role::Session => "obit-session",
        }
    }

    /// What the program ends with in a turn of this role.
    fn code(self) -> u8 {
        match self {
            Role::Capture => 139,
            Role::Recover => 0,
            Role::Init | Role::Examiner | Role::Courier | Role::Session => 9,
        }
    }

    /// Long enough for what the victim does, in a debug build on a busy machine too.
    fn longest(self) -> Duration {
        Duration::from_millis(match self {
            // From before the crash to after the delivery.
            Role::Init => 150,
            Role::Courier => 40,
            Role::Capture | Role::Examiner | Role::Recover | Role::Session => 25,
        })
    }
}

/// xorshift64*: enough to be anywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    /// From at once to almost the longest.
    fn instant(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(longest.as_micros() as u64))
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn turns(bed: &Bed, role: Role) {
    let seed = number("OBIT_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 8 | role as u64) | 1;
    println!("{role:?}: OBIT_TEST_SEED={seed}");
    let mut chance = Chance(seed);
    let mut killed = 0;
    let count = number("OBIT_TEST_KILLS").unwrap_or(4);
    let mut longest = role.longest();
    // A few turns may all come too late for a role that lives a moment: then there are more of them.
    let mut turn = 0;
    while turn < count || killed * 3 < count && turn < count * 5 {
        // How long a victim lives depends on the machine: who was gone already was given too much time.
        if one_turn(bed, role, turn, chance.instant(longest), &mut chance) {
            killed += 1;
            longest = (longest * 5 / 4).min(role.longest());
        } else {
            longest = (longest / 2).max(Duration::from_millis(1));
        }
        turn += 1;
    }
    // Somebody may be done before it is found; if all always were, nothing would have been tried.
    assert!(killed * 3 >= count, "{killed} of {count} kills reached a {role:?}; seed {seed}");
}

/// A crash, a kill and the next start; whether the kill reached anybody.
fn one_turn(bed: &Bed, role: Role, turn: u64, instant: Duration, chance: &mut Chance) -> bool {
    let server = Server::new(Mood::Status(200));
    let state = bed.path(format!("state-{turn}"));
    let setup = |command: &str| -> Setup {
        let options = ["--report-wait", "30s"];
        bed.run(&options, ["sh", "-c", command])
            .env("OBIT_STATE_DIR", &state)
            .env("OBIT_DSN", &server.dsn)
            .env("OBIT_RELEASE", "app@1.0.0")
    };
    let mut told: Vec<String> = Vec::new();
    let end = if role == Role::Capture { "kill -SEGV $$" } else { "exit 9" };
    let crash = format!("sleep 0.0{}; {end}", chance.below(4));
    if role == Role::Recover {
        // An earlier run that was killed with its crash told and nothing else done.
        let run = setup(&crash).start();
        run.complains("; report ");
        kill_it(&run, Role::Init, Duration::ZERO);
        told.extend(told_of(&run.end().stderr()));
    }
    let run = setup(if role == Role::Recover { "sleep 0.3" } else { &crash }).start();
    run.pid();
    let killed = kill_it(&run, role, instant);
    let ended = run.end();
    if role != Role::Init {
        assert_eq!(ended.fate, Fate::Exited(role.code()), "{}", ended.stderr());
    }
    told.extend(told_of(&ended.stderr()));
    let next = setup("true").end();
    next.code(0);

    let context = || format!("turn {turn} of {role:?}\nkilled: {}\nnext: {}", ended.stderr(), next.stderr());
    let taken: Vec<String> = server
        .taken()
        .iter()
        .filter_map(|envelope| Some(envelope.json("event")?["event_id"].as_str()?.to_owned()))
        .collect();
    for id in &told {
        let times = taken.iter().filter(|taken| *taken == id).count();
        // Who dies between the server's answer and the rename cannot know of the answer.
        let most = if matches!(role, Role::Courier | Role::Init) && killed { 2 } else { 1 };
        assert!((1..=most).contains(&times), "{id} arrived {times} times; {}", context());
    }
    // At most one more: an end that nobody saw.
    let others = server.events().iter().filter(|id| !told.contains(id)).count();
    assert!(others <= usize::from(role == Role::Init || role == Role::Recover), "{others} others; {}", context());
    let left = |name: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(state.join("spool").join(name));
        let paths = entries.map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
        // A good end does not wait for its session to be sent.
        let is_session = |path: &PathBuf| name == "pending" && path.extension().is_some_and(|kind| kind == "session");
        paths.unwrap_or_default().into_iter().filter(|path| !is_session(path)).collect()
    };
    assert_eq!((left("corrupt"), left("rejected"), left("pending")), (vec![], vec![], vec![]), "{}", context());
    assert!(!state.join("spool/open").exists() || whole(&left("open")), "{}", context());
    killed
}

/// What was left hidden in `open/` has no name yet, so it is nobody's report.
fn whole(files: &[PathBuf]) -> bool {
    files.iter().all(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
}

/// The ids in obit's death lines.
fn told_of(stderr: &str) -> Vec<String> {
    let lines = stderr.lines().filter(|line| line.starts_with("obit: "));
    let ids = lines.filter_map(|line| line.split_once("; report ")).map(|(_, id)| id.trim().to_owned());
    ids.filter(|id| id.len() == 32).collect()
}

/// Waits for somebody in that role and kills it this long after; false if nobody came, or it was gone by then.
fn kill_it(run: &Running, role: Role, after: Duration) -> bool {
    let obit = run.pid();
    let victim = loop {
        if role == Role::Init {
            break obit;
        }
        let named = |pid: &i32| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim_end() == role.comm()
        };
        if let Some(found) = children_of(obit).into_iter().find(named) {
            break found;
        }
        if std::fs::read_to_string(format!("/proc/{obit}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::sleep(Duration::from_micros(300));
        } else {
            return false;
        }
    };
    let begun = Instant::now();
    while begun.elapsed() < after {
        std::thread::sleep(Duration::from_micros(100));
    }
    let alive = std::fs::read_to_string(format!("/proc/{victim}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    alive && kill(Pid::from_raw(victim), Signal::SIGKILL).is_ok()
}
