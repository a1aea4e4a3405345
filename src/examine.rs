//! The role that turns a case into a report: the minimum on disk first, then a cage, then everything else.
//!
//! | step | if we die in it |
//! |---|---|
//! | the minimal entry is written and synced | init starts another examiner with the same case |
//! | what the cage would forbid is opened and read | the minimal entry stands |
//! | the cage closes ([`confine`](crate::sys::confine)) | 〃 |
//! | foreign bytes are parsed, the full report replaces the minimum | 〃 |
//! | the entry goes to `pending/` | the next courier adopts it |

#![forbid(unsafe_code)]

use crate::case::{Case, Id, Reason, Run, Subject, Zombie};
use crate::config::Settings;
use crate::death::Death;
use crate::evidence::{build_id, host, oom, zombie};
use crate::report::build::{self, Learnt};
use crate::report::group::{self, Budget};
use crate::report::{Gap, Report, text};
use crate::say::{Level, say};
use crate::spool::{Kind, Spool, marker, memory, quota};
use crate::sys::{clock, confine};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The report is on disk.
pub const DURABLE: u8 = 0;
/// No disk took it; it is in the memory file.
pub const IN_MEMORY: u8 = 3;
/// A crash loop: counted, and said with the next report.
pub const COUNTED: u8 = 4;
/// Neither disk nor memory took it.
const NOTHING: u8 = 5;

/// Examines one case; the result is the exit status that init understands.
pub fn examine(case: Case, settings: &Settings, state_dir: Option<&Path>, memory_file: Option<OwnedFd>) -> u8 {
    let suppressed = match state_dir.map(|dir| group::take(dir, &group::fingerprint(&case), case.at_unix_ms)) {
        Some(Budget::Count) => {
            note_termination(settings, &build::minimal(&case));
            return COUNTED;
        }
        Some(Budget::Tell { suppressed }) => suppressed,
        None => 0,
    };
    let minimal = Report { suppressed, ..build::minimal(&case) };
    let spool = state_dir.map(Spool::open);
    let open = spool.as_ref().and_then(|spool| {
        spool
            .begin(Kind::Crash, case.event_id, case.at_unix_ms, &json(&minimal))
            .inspect_err(|error| {
                say(Level::Error, &format!("{error}; the report is kept in memory until it is delivered"))
            })
            .ok()
    });
    note_termination(settings, &minimal);

    let mut learnt = Learnt { host: host::facts(), ..Learnt::default() };
    let exe = case.run.exe.as_deref().filter(|_| case.subject == Subject::Main).and_then(|exe| File::open(exe).ok());
    let memory_bytes = oom::counter().map(|counter| {
        let (limit, peak) = counter.version.limit_files();
        let read = |name: &str| {
            std::fs::read_to_string(format!("{}/{name}", counter.dir)).ok().and_then(|text| oom::bytes(&text))
        };
        (counter.version.counter_file(), read(limit), read(peak))
    });
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();

    let writable: Vec<&Path> = spool.iter().map(Spool::root).collect();
    for gap in confine::confine(&writable) {
        learnt.gaps.push(gap_of(&gap));
    }

    match exe.as_ref().map(build_id::of) {
        Some(Ok(id)) => learnt.build_id = Some(id),
        Some(Err(why)) => learnt.gaps.push(Gap { what: "build id".to_owned(), why }),
        None if case.subject == Subject::Main => {
            learnt.gaps.push(gap_of("build id: the program's file could not be opened"));
        }
        None => {}
    }
    match memory_bytes {
        Some((source, limit, peak)) => learnt.oom = build::oom_facts(&case, source, limit, peak),
        None => learnt.gaps.push(gap_of("oom counter: no cgroup with a memory controller is visible here")),
    }
    let dead = zombie::facts(&case.zombie);
    learnt.uid = dead.uid;
    learnt.gid = dead.gid;
    learnt.ns_pids = dead.ns_pids;
    learnt.cgroup = dead.cgroup;
    let report = build::build(&case, learnt, &environment, suppressed);
    keep(&json(&report), spool.as_ref().zip(open), memory_file)
}

/// Puts the full report where it can be: over the minimum, else beside it in memory.
fn keep(content: &[u8], entry: Option<(&Spool, crate::spool::OpenEntry)>, memory_file: Option<OwnedFd>) -> u8 {
    if let Some((spool, mut open)) = entry {
        if let Err(error) = spool.improve(&mut open, content) {
            say(Level::Warning, &format!("{error}; the minimal report stands"));
        }
        return match spool.settle(open) {
            Ok(_) => DURABLE,
            Err(error) => {
                say(Level::Warning, &format!("{error}; the next courier takes it up where it is"));
                DURABLE
            }
        };
    }
    match memory_file.map(|fd| memory::write(fd, content)) {
        Some(Ok(())) => IN_MEMORY,
        _ => NOTHING,
    }
}

/// Turns what dead runs left behind into reports, each once.
pub fn recover(settings: &Settings, state_dir: &Path) -> u8 {
    let spool = Spool::open(state_dir);
    spool.adopt();
    quota::enforce(&spool, clock::unix_ms());
    for stale in marker::stale(state_dir) {
        let case = case_of(&stale);
        let told = spool.entries().iter().any(|entry| entry.id == case.event_id);
        let report = Report {
            complete: true,
            ..build::build(&case, Learnt { host: host::facts(), ..Learnt::default() }, &[], 0)
        };
        if told {
            stale.done();
            continue;
        }
        say(
            Level::Warning,
            &format!("the last run of {} left no word of its end; report {}", case.run.component, case.event_id),
        );
        let kept = spool
            .begin(Kind::Crash, case.event_id, case.at_unix_ms, &json(&report))
            .and_then(|open| spool.settle(open));
        match kept {
            Ok(_) => {
                if settings.dsn.is_some() {
                    write_session(&spool, &case.run, None, case.at_unix_ms);
                }
                stale.done();
            }
            Err(error) => say(Level::Error, &format!("{error}; the next start tells of it")),
        }
    }
    0
}

/// The death that init still noted, or the bare fact that nobody saw the end.
fn case_of(stale: &marker::Stale) -> Case {
    let noted = stale.noted.as_ref();
    Case {
        // Derived from the run: whoever recovers it twice, after a crash in between, gives it the same id.
        event_id: noted.map_or_else(|| unclean_id(stale.run.id), |noted| noted.event_id),
        reason: noted.map_or(Reason::Unclean, |noted| noted.reason),
        at_unix_ms: noted.map_or_else(clock::unix_ms, |noted| noted.at_unix_ms),
        run: stale.run.clone(),
        subject: Subject::Main,
        pid: noted.and_then(|noted| noted.pid),
        death: noted.and_then(|noted| noted.death),
        uptime_ms: noted.and_then(|noted| noted.uptime_ms),
        spawn_error: None,
        usage: None,
        zombie: Zombie::default(),
        oom_before: None,
        oom_after: None,
        stop: None,
        stderr_tail: None,
        gaps: vec!["evidence: told by a later start, from the marker of the run".to_owned()],
    }
}

fn unclean_id(run: Id) -> Id {
    let mut bytes = run.0;
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Id(bytes)
}

/// Writes down how a run ended.
pub fn session(run: &Run, death: Option<Death>, ended_unix_ms: u64, _: &Settings, state_dir: &Path) -> u8 {
    write_session(&Spool::open(state_dir), run, death, ended_unix_ms);
    0
}

fn write_session(spool: &Spool, run: &Run, death: Option<Death>, ended_unix_ms: u64) {
    let Some(session) = build::session(run, death, ended_unix_ms) else { return };
    let kept = spool.begin(Kind::Session, run.id, ended_unix_ms, &json(&session)).and_then(|open| spool.settle(open));
    if let Err(error) = kept {
        say(Level::Warning, &format!("{error}; release health misses this run"));
    }
}

/// One line for `kubectl describe pod`. The file is the runtime's: it is never created.
fn note_termination(settings: &Settings, report: &Report) {
    if let Some(path) = settings.termination_log.as_deref().filter(|_| !report.process.descendant)
        && let Ok(mut file) = OpenOptions::new().write(true).truncate(true).open(path)
    {
        let _ = writeln!(file, "{}", text::one_line(report));
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn gap_of(sentence: &str) -> Gap {
    let (what, why) = sentence.split_once(": ").unwrap_or((sentence, ""));
    Gap { what: what.to_owned(), why: why.to_owned() }
}
