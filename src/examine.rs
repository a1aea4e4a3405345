//! The role that turns a case into a report: the minimum on disk first, then a cage, then everything else.
//!
//! | step | if we die in it |
//! |---|---|
//! | the death is taken from the crash loop's budget; it may be counted only | init starts another examiner with the same case |
//! | the minimal entry is written and synced | 〃 |
//! | what the cage would forbid is opened and read | the minimal entry stands |
//! | the cage closes ([`confine`](crate::sys::confine)) | 〃 |
//! | foreign bytes are parsed, the full report replaces the minimum | 〃 |
//! | the entry goes to `pending/` | the next courier adopts it |

#![forbid(unsafe_code)]

use crate::case::{Capture, Case, Id, Reason, Run, Subject, Zombie};
use crate::config::Settings;
use crate::consent::{self, Channel, Consent};
use crate::death::Death;
use crate::evidence::autopsy::{self, Autopsy};
use crate::evidence::core_pattern::Dead;
use crate::evidence::images::Files;
use crate::evidence::symbols::Roots;
use crate::evidence::{build_id, core, core_file, host, java_log, minidump, oom, panic, shell, toolchain, zombie};
use crate::limits;
use crate::report::build::{self, Learnt};
use crate::report::group::{self, Budget};
use crate::report::scrub::Scrubber;
use crate::report::{BuildFacts, Gap, Report, Session, text};
use crate::say::{Level, say};
use crate::spool::{Entry, Kind, OpenEntry, Spool, SpoolError, marker, memory, place, quota};
use crate::sys::confine::{self, Cage};
use crate::sys::poll::{Waiting, Want};
use crate::sys::{clock, fd, map};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The report is on disk.
pub const DURABLE: u8 = 0;
/// No disk took it; it is in the memory file.
pub const IN_MEMORY: u8 = 3;
/// A crash loop: counted, and said with the next report.
pub const COUNTED: u8 = 4;
/// Neither disk nor memory took it.
const NOTHING: u8 = 5;

/// Examines one case; the result is the exit status that init understands.
pub fn examine(
    case: Case,
    settings: &Settings,
    state_dir: Option<&Path>,
    memory_file: Option<OwnedFd>,
    capture: Option<Capture>,
) -> u8 {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let argv: Vec<String> = case.run.argv.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let variables = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut scrubber = Scrubber::of(variables, &argv);
    // A good end is news only if a thread died before it, which the cage finds out.
    let good_end = case.death == Some(Death::Exited(0));
    let budget = || state_dir.map(|dir| group::take(dir, &group::fingerprint(&case), case.at_unix_ms));
    let mut suppressed = match (!good_end).then(budget).flatten() {
        Some(Budget::Count) => {
            note_termination(settings, &build::minimal(&case, &mut scrubber));
            say_counted(&case);
            return COUNTED;
        }
        Some(Budget::Tell { suppressed }) => suppressed,
        None => 0,
    };
    let (spool, mut open) = if good_end {
        (state_dir.and_then(|dir| Spool::open(dir).ok()), None)
    } else {
        let minimal = Report { suppressed, ..build::minimal(&case, &mut scrubber) };
        let begun = begin(&case, &minimal, settings, state_dir);
        if let (None, Some(fd)) = (&begun, &memory_file) {
            // Whatever becomes of us now, init holds this.
            let _ = memory::write(fd, &json(&minimal));
        }
        note_termination(settings, &minimal);
        begun.unzip()
    };

    let host = host::Sources::read();
    let exe = case.run.exe.as_deref().filter(|_| case.subject == Subject::Main).and_then(open_to_look);
    let captured = capture.map(|capture| finished(&capture.done, settings).then_some(capture.found));
    let cores = core_of(&case);
    let java_log = case.pid.filter(|_| !good_end).and_then(|pid| java_log::find(&case.run, pid));
    let limits = oom::counter().map(|counter| counter.limits());

    let writable: Vec<&Path> = spool.iter().map(Spool::root).collect();
    let mut learnt = Learnt::default();
    let roots = Roots::new(settings.debug_dirs.iter().cloned());
    let readable = code_directories(&case, &roots);
    let mapped = cores.iter().flatten().flatten().map(|core| core.size).fold(0, u64::saturating_add);
    let cage = Cage { writable: &writable, readable: &readable, mapped };
    learnt.gaps.extend(confine::confine(cage).iter().map(|gap| Gap::of(gap)));

    learnt.host = host.facts();
    learnt.process = zombie::facts(&case.zombie);
    if case.zombie.status.is_empty() && case.pid.is_some() {
        learnt.gaps.push(Gap::of("uid, gid, cgroup: /proc of the dead process could not be read"));
    }
    match exe.as_ref().map(build_id::of) {
        Some(Ok(id)) => learnt.build_id = Some(id),
        Some(Err(why)) => learnt.gaps.push(Gap { what: "build id".to_owned(), why }),
        None if case.subject == Subject::Main && case.reason != Reason::SpawnFailed => {
            learnt.gaps.push(Gap::of("build id: the program's file could not be opened"));
        }
        None => {}
    }
    match captured.map(|found| found.ok_or("live capture: it was not done in time").and_then(read_capture)) {
        Some(Ok(autopsy)) => learnt.autopsy = Some(autopsy),
        Some(Err(gap)) => learnt.gaps.push(Gap::of(gap)),
        None => {}
    }
    // What was seen at the death is worth more than what was written after it.
    let cores = cores.filter(|_| learnt.autopsy.is_none());
    match cores.map(|cores| cores.and_then(|cores| dissect(&cores, &case, settings, &roots))) {
        Some(Ok((autopsy, path))) => (learnt.autopsy, learnt.core_file) = (Some(autopsy), Some(path)),
        Some(Err(why)) => learnt.gaps.push(Gap { what: "core file".to_owned(), why }),
        None => {}
    }
    learnt.built =
        exe.as_ref().and_then(|exe| map::file(exe).ok()).and_then(|file| BuildFacts::of(toolchain::read(file)));
    learnt.tells_signals = shell::is_one(&case.run, exe.as_ref());
    if let (Some(tail), Some(death)) = (&case.stderr_tail, case.death) {
        learnt.said = panic::read(tail, death);
    }
    if let (None, Some(log), Some(pid), Some(death)) = (&learnt.said.found, java_log, case.pid, case.death)
        && let Some(bytes) = log.read(learnt.process.uid)
    {
        learnt.said = panic::read_java_log(&bytes, pid, death);
    }
    learnt.oom = limits.and_then(|limits| build::oom_facts(&case, limits.source, limits.limit, limits.peak));
    if learnt.oom.is_none() && case.pid.is_some() {
        learnt.gaps.push(Gap::of("oom counter: no cgroup with a memory controller is visible here"));
    }
    if good_end {
        if learnt.said.found.is_none() {
            return COUNTED;
        }
        match budget() {
            Some(Budget::Count) => return COUNTED,
            Some(Budget::Tell { suppressed: before }) => suppressed = before,
            None => {}
        }
    }
    let report = Report { suppressed, ..build::build(&case, learnt, &environment, &mut scrubber) };
    if good_end {
        let begun = spool.as_ref().map(|spool| begin_in(spool, &case, &report));
        let tell = |error: &SpoolError| say(Level::Error, &format!("{error}; {}", in_memory(settings)));
        open = begun.and_then(|begun| begun.inspect_err(tell).ok());
        say(Level::Warning, &text::one_line(&report));
    }
    keep(report, spool.as_ref().zip(open), memory_file)
}

/// Makes the report durable where it is to be kept: in the state directory, or what else takes it.
fn begin(case: &Case, minimal: &Report, settings: &Settings, state_dir: Option<&Path>) -> Option<(Spool, OpenEntry)> {
    let begin = |dir: &Path| {
        let spool = Spool::open(dir)?;
        let open = begin_in(&spool, case, minimal)?;
        Ok((spool, open))
    };
    let home = state_dir?;
    let error: SpoolError = match begin(home) {
        Ok(begun) => return Some(begun),
        Err(error) => error,
    };
    let mut refuges = place::refuges(settings, home);
    let found = refuges.find_map(|dir| begin(&dir).ok().map(|begun| (dir, begun)));
    let instead = match &found {
        Some((dir, _)) => format!("it is kept in {0} instead (obit crashes show --state-dir {0})", dir.display()),
        None => in_memory(settings).to_owned(),
    };
    say(Level::Error, &format!("{error}; {instead}"));
    found.map(|(_, begun)| begun)
}

/// What follows where no disk takes it.
fn in_memory(settings: &Settings) -> &'static str {
    match settings.dsn.is_some() {
        true => "it is kept in memory until it is delivered or we end",
        false => "it is kept in memory and lost when we end",
    }
}

fn begin_in(spool: &Spool, case: &Case, report: &Report) -> Result<OpenEntry, SpoolError> {
    spool.begin(Kind::Crash, case.event_id, case.at_unix_ms, &json(report))
}

/// Init has named the report before it could know.
fn say_counted(case: &Case) {
    let sentence =
        "this is a crash loop, so there is no report {}: the death is counted, and told with the next report";
    say(Level::Info, &sentence.replace("{}", &case.event_id.to_string()));
}

/// Waits for whoever looked at the process as it died, but not so long that the rest of the report could not be written before
/// init leaves; whether they are done.
fn finished(done: &OwnedFd, settings: &Settings) -> bool {
    let stay = settings.report_wait.max(limits::EXAMINE_LEAST);
    let until = clock::monotonic() + (stay / 2).min(limits::CAPTURE_DEADLINE);
    loop {
        let mut byte = [0; 8];
        match fd::read(done.as_fd(), &mut byte) {
            Ok(0) => return true,
            Ok(_) => continue,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return false,
            Err(_) => {}
        }
        let now = clock::monotonic();
        if now >= until {
            return false;
        }
        let mut waiting = Waiting::default();
        waiting.add(done.as_fd(), Want::Readable);
        waiting.wait(Some(until - now));
    }
}

fn read_capture(found: OwnedFd) -> Result<Autopsy, &'static str> {
    let bytes = memory::read(found).map_err(|_| "live capture: whoever did it died in it")?;
    serde_json::from_slice(&bytes).map_err(|_| "live capture: what was found cannot be read")
}

/// What may be the core of this death, if the kernel says that it dumped one.
fn core_of(case: &Case) -> Option<Result<Vec<core_file::Found>, String>> {
    let Some(Death::Killed { signal, core: true }) = case.death else { return None };
    let zombie = zombie::facts(&case.zombie);
    let dead = Dead {
        pid: case.pid?,
        outermost_pid: zombie.ns_pids.first().copied(),
        uid: zombie.uid,
        gid: zombie.gid,
        signal: signal.number(),
        host: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
    };
    Some(core_file::find(case, &dead))
}

/// Where the cage allows code and its debug files to be read: the system's, and what lies beside the program.
fn code_directories(case: &Case, roots: &Roots) -> Vec<PathBuf> {
    const SYSTEM: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"];
    let program = case.run.exe.as_deref().map(|exe| std::fs::canonicalize(exe).unwrap_or_else(|_| exe.to_owned()));
    let mut readable = roots.to_read(program.as_deref());
    readable.extend(SYSTEM.map(PathBuf::from));
    readable
}

/// The stacks in the first of these files that is a core of this process by its own notes, and where it is; else what is wrong with
/// the first.
fn dissect(
    found: &[core_file::Found],
    case: &Case,
    settings: &Settings,
    roots: &Roots,
) -> Result<(Autopsy, PathBuf), String> {
    let mut why_not = None;
    for found in found {
        match stacks_in(found, case, settings, roots) {
            Ok(autopsy) => return Ok((autopsy, found.path.clone())),
            Err(why) => drop(why_not.get_or_insert(why)),
        }
    }
    Err(why_not.unwrap_or_default())
}

fn stacks_in(found: &core_file::Found, case: &Case, settings: &Settings, roots: &Roots) -> Result<Autopsy, String> {
    let bytes = map::file(&found.file).map_err(|error| format!("{}: {error}", found.path.display()))?;
    let core = core::read(bytes).map_err(|why| format!("{}: {why}", found.path.display()))?;
    if core.snapshot.pid.is_some_and(|pid| Some(pid) != case.pid) {
        return Err(format!("{} is of another process", found.path.display()));
    }
    let (autopsy, images) = autopsy::of(&core.snapshot, &core.memory, &Files::by_path(None), roots);
    let minidump = settings.minidump.then(|| minidump::of(&core.snapshot, &core.memory, &images));
    Ok(Autopsy { minidump, ..autopsy })
}

/// Opens a file of the program's, which may be anything by now, without waiting for it.
fn open_to_look(path: &Path) -> Option<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()
}

/// Puts the full report where it can be: over the minimum, else into memory.
fn keep(report: Report, entry: Option<(&Spool, OpenEntry)>, memory_file: Option<OwnedFd>) -> u8 {
    let content = json(&report);
    let Some((spool, mut open)) = entry else {
        return match memory_file.map(|fd| memory::write(fd, &content)) {
            Some(Ok(())) => IN_MEMORY,
            _ => NOTHING,
        };
    };
    // On a disk that is nearly full: with less of it, then the minimum alone.
    let improved =
        spool.improve(&mut open, &content).or_else(|_| spool.improve(&mut open, &json(&build::shortened(report))));
    if let Err(error) = improved {
        say(Level::Warning, &format!("{error}; of this death the minimal report stands"));
    }
    if let Err(error) = spool.settle(open) {
        say(Level::Warning, &format!("{error}; the next courier takes the report up where it is"));
    }
    DURABLE
}

/// Turns what dead runs left behind into reports, each once.
pub fn recover(settings: &Settings, state_dir: &Path) -> u8 {
    let spool = match Spool::open(state_dir) {
        Ok(spool) => spool,
        Err(error) => {
            say(Level::Error, &format!("{error}; what earlier runs left is told by a later start"));
            return NOTHING;
        }
    };
    spool.adopt();
    quota::enforce(&spool, clock::unix_ms());
    for stale in marker::stale(state_dir) {
        if tell_of(&stale, &spool, settings) {
            stale.done();
        }
    }
    0
}

/// Makes the reports that a dead run still owes. Whether all of them are safe now.
fn tell_of(stale: &marker::Stale, spool: &Spool, settings: &Settings) -> bool {
    let is_told = |case: &Case| !spool.find(&case.event_id.to_string()).is_empty();
    let mut safe = true;
    for noted in &stale.descendants {
        let case = case_of(stale, Some(noted));
        safe &= is_told(&case) || keep_late(&case, spool);
    }
    if let Some((death, at_unix_ms)) = stale.ended {
        if safe {
            session(&stale.run, Some(death), at_unix_ms, settings, spool.state_dir());
        }
        return safe;
    }
    let case = case_of(stale, stale.noted.as_ref());
    if is_told(&case) {
        return safe;
    }
    safe &= keep_late(&case, spool);
    if safe {
        session(&case.run, case.death, case.at_unix_ms, settings, spool.state_dir());
    }
    safe
}

fn keep_late(case: &Case, spool: &Spool) -> bool {
    // The environment that could name its secrets is gone with the run, and so is all that they could stand in.
    let mut scrubber = Scrubber::new([]);
    let learnt = Learnt { host: host::Sources::read().facts(), ..Learnt::default() };
    let report = build::build(case, learnt, &[], &mut scrubber);
    let kept = write(spool, Kind::Crash, case.event_id, case.at_unix_ms, &json(&report));
    match &kept {
        Ok(_) => say(Level::Warning, &format!("told late, of an earlier run: {}", text::one_line(&report))),
        Err(error) => say(Level::Error, &format!("{error}; the next start tells of it")),
    }
    kept.is_ok()
}

/// A death that init still noted, or the bare fact that nobody saw the end.
fn case_of(stale: &marker::Stale, noted: Option<&marker::Noted>) -> Case {
    Case {
        // Derived from the run: whoever recovers it twice, after a crash in between, gives it the same id.
        event_id: noted.map_or_else(|| unclean_id(stale.run.id), |noted| noted.event_id),
        reason: noted.map_or(Reason::Unclean, |noted| noted.reason),
        at_unix_ms: noted.map_or_else(clock::unix_ms, |noted| noted.at_unix_ms),
        run: stale.run.clone(),
        subject: noted.map_or(Subject::Main, |noted| noted.subject.clone()),
        pid: noted.and_then(|noted| noted.pid),
        death: noted.and_then(|noted| noted.death),
        told_code: None,
        uptime_ms: noted.and_then(|noted| noted.uptime_ms),
        spawn_error: None,
        usage: None,
        zombie: Zombie::default(),
        oom_before: None,
        oom_after: None,
        stop: None,
        last_directory: None,
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

/// Writes down how a run ended, for those who asked to know: a release, a destination and consent are there.
pub fn session(run: &Run, death: Option<Death>, ended_unix_ms: u64, settings: &Settings, state_dir: &Path) -> u8 {
    let consent = consent::current(settings, Some(state_dir));
    let Some(session) = session_to_tell(run, death, ended_unix_ms, settings, &consent) else { return 0 };
    let kept =
        Spool::open(state_dir).and_then(|spool| write(&spool, Kind::Session, run.id, ended_unix_ms, &json(&session)));
    if let Err(error) = kept {
        say(Level::Warning, &format!("{error}; release health misses this run"));
    }
    0
}

fn session_to_tell(
    run: &Run,
    death: Option<Death>,
    ended_unix_ms: u64,
    settings: &Settings,
    consent: &Consent,
) -> Option<Session> {
    settings.dsn.as_ref()?;
    consent.grant(Channel::Errors).ok()?;
    build::session(run, death, ended_unix_ms)
}

fn write(
    spool: &Spool,
    kind: Kind,
    id: Id,
    at_unix_ms: u64,
    content: &[u8],
) -> Result<Entry, crate::spool::SpoolError> {
    spool.begin(kind, id, at_unix_ms, content).and_then(|open| spool.settle(open))
}

/// One line for `kubectl describe pod`. The file is the runtime's: it is never created, and nothing waits for it.
fn note_termination(settings: &Settings, report: &Report) {
    let mut options = OpenOptions::new();
    let options = options.write(true).truncate(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    if let Some(path) = settings.termination_log.as_deref().filter(|_| !report.process.descendant)
        && let Ok(mut file) = options.open(path)
    {
        let _ = writeln!(file, "{}", text::one_line(report));
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
