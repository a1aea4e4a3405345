//! Whole examinations, each in a worker of its own as in life: the cage cannot be left again.

use super::*;
use crate::case::Tail;
use crate::spool::{State, place};
use crate::sys::signal::Signal;
use crate::sys::{fd, poll, process, wait};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

fn state_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { state_dir: Some(dir.path().to_owned()), ..Settings::default() };
    assert_eq!(place::resolve(&settings).dir.as_deref(), Some(dir.path()));
    dir
}

fn run(id: u8) -> Run {
    Run {
        id: Id([id; 16]),
        component: "app".to_owned(),
        argv: vec!["app".into(), "--token=abc".into()],
        exe: Some("/proc/self/exe".into()),
        cwd: None,
        started_unix_ms: 1000,
        release: Some("app@1".to_owned()),
        environment: None,
    }
}

fn case(id: u8) -> Case {
    Case {
        event_id: Id([id; 16]),
        reason: Reason::Signal,
        at_unix_ms: clock::unix_ms(),
        run: run(id),
        subject: Subject::Main,
        pid: Some(12),
        told_code: None,
        death: Some(Death::Killed { signal: Signal::SEGV, core: false }),
        uptime_ms: Some(1000),
        spawn_error: None,
        usage: None,
        zombie: Zombie { status: std::fs::read("/proc/self/status").unwrap_or_default(), ..Zombie::default() },
        oom_before: None,
        oom_after: None,
        stop: None,
        last_directory: None,
        stderr_tail: Some(Tail { bytes: b"password=hunter2\nboom\n".to_vec(), total_bytes: 22 }),
        gaps: Vec::new(),
    }
}

fn settings(termination_log: Option<&Path>) -> Settings {
    Settings { termination_log: termination_log.map(Path::to_owned), ..Settings::default() }
}

/// What `work` returns in a worker that has `keep`.
fn in_worker(keep: Option<&OwnedFd>, work: impl FnOnce() -> u8) -> u8 {
    let keep: Vec<_> = keep.iter().map(|fd| fd.as_raw_fd()).collect();
    let pid = process::fork_worker(c"obit-examine", &keep, work).unwrap();
    loop {
        if let Some((status, _)) = wait::reap(pid) {
            return Death::from_wait_status(status).unwrap().exit_status();
        }
        poll::Waiting::default().wait(Some(Duration::from_millis(1)));
    }
}

fn examined(case: Case, dir: Option<&Path>) -> u8 {
    in_worker(None, || examine(case, &settings(None), dir, None, None))
}

fn reports(dir: &Path) -> Vec<(State, Report)> {
    let spool = Spool::open(dir).unwrap();
    let read = |entry: &Entry| serde_json::from_slice(&spool.read(entry).unwrap()).unwrap();
    spool.entries().iter().map(|entry| (entry.state, read(entry))).collect()
}

#[test]
fn a_case_becomes_a_complete_report_that_waits() {
    let dir = state_dir();
    assert_eq!(examined(case(7), Some(dir.path())), DURABLE);
    let found = reports(dir.path());
    assert_eq!(found.len(), 1);
    let (state, report) = &found[0];
    assert_eq!((*state, report.complete, report.kind.as_str()), (State::Pending, true, "SIGSEGV"));
    assert_eq!(report.stderr_tail.as_ref().unwrap().text, "password=[masked]\nboom\n");
    assert_eq!(report.process.argv, ["app", "--token=[masked]"]);
    assert_eq!(report.process.uid, Some(process::effective_uid()));
    let seccomp = report.gaps.iter().find(|gap| gap.why.contains("seccomp"));
    assert_eq!(seccomp, None);
}

#[test]
fn where_no_disk_takes_it_the_whole_report_is_in_memory() {
    let memory = fd::memory_file(c"test").unwrap();
    let copy = memory.try_clone().unwrap();
    let status = in_worker(Some(&memory), || {
        let memory = memory.try_clone().ok();
        examine(case(7), &settings(None), None, memory, None)
    });
    assert_eq!(status, IN_MEMORY);
    let report: Report = serde_json::from_slice(&memory::read(copy).unwrap()).unwrap();
    assert!(report.complete && report.stderr_tail.is_some());
    assert_eq!(examined(case(7), None), NOTHING);
}

/// RLIMIT_FSIZE stands for the full disk: the first write of a file succeeds, the larger ones do not.
#[test]
fn where_only_part_of_it_fits_the_last_words_do() {
    use nix::sys::resource::{Resource, setrlimit};
    for (room, complete, tail_kept) in [(16 * 1024, true, true), (2 * 1024, false, false)] {
        let dir = state_dir();
        let mut case = case(7);
        let bytes = [b"old\n".repeat(20_000), b"last words\n".to_vec()].concat();
        case.stderr_tail = Some(Tail { total_bytes: bytes.len() as u64, bytes });
        let status = in_worker(None, || {
            crate::sys::signal::block_all();
            setrlimit(Resource::RLIMIT_FSIZE, room, room).unwrap();
            examine(case, &settings(None), Some(dir.path()), None, None)
        });
        assert_eq!(status, DURABLE);
        let found = reports(dir.path());
        assert_eq!((found.len(), found[0].0, found[0].1.complete), (1, State::Pending, complete), "{room}");
        let tail = found[0].1.stderr_tail.as_ref();
        assert_eq!(tail.is_some_and(|tail| tail.text.ends_with("old\nlast words\n")), tail_kept, "{room}");
    }
}

#[test]
fn a_crash_loop_is_counted_and_not_written() {
    let dir = state_dir();
    let outcomes: Vec<u8> = (1..=12).map(|id| examined(case(id), Some(dir.path()))).collect();
    assert_eq!(outcomes, [[DURABLE; 10].as_slice(), &[COUNTED; 2]].concat());
    assert_eq!(reports(dir.path()).len(), 10);
}

#[test]
fn the_termination_log_gets_one_line_where_there_is_one_and_is_never_made() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let examined = || in_worker(None, || examine(case(7), &settings(Some(&log)), None, None, None));
    examined();
    assert!(!log.exists());
    std::fs::write(&log, "x".repeat(5000)).unwrap();
    examined();
    let line = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        line,
        format!("app app@1: SIGSEGV (segmentation fault, 1.0 s after the start); report {}\n", Id([7; 16]))
    );
}

#[test]
fn runs_that_left_no_word_are_told_once_and_under_their_own_name() {
    let dir = state_dir();
    let noted = marker::RunMarker::create(dir.path(), &run(1)).unwrap();
    noted.note_death(&case(9));
    let silent = marker::RunMarker::create(dir.path(), &run(2)).unwrap();
    drop((noted, silent));
    for _ in 0..2 {
        assert_eq!(in_worker(None, || recover(&settings(None), dir.path())), 0);
        let mut found = reports(dir.path());
        found.sort_by_key(|(_, report)| report.run.id.clone());
        let told: Vec<_> = found.iter().map(|(_, report)| (report.reason, report.event_id.as_str())).collect();
        let unclean = unclean_id(Id([2; 16])).to_string();
        let known = Id([9; 16]).to_string();
        assert_eq!(told, [(Reason::Signal, known.as_str()), (Reason::Unclean, unclean.as_str())]);
        assert!(found.iter().all(|(_, report)| report.run.release.as_deref() == Some("app@1")));
    }
    assert!(marker::stale(dir.path()).is_empty());
}

#[test]
fn a_session_is_only_for_who_asked_to_know() {
    let asked = Settings { dsn: Some("https://k@host/1".to_owned()), ..settings(None) };
    let open = Consent::default();
    let closed = consent::decide(&consent::Sources::at_hand(&Settings::default(), |name| {
        (name == "DO_NOT_TRACK").then(|| "1".into())
    }));
    let unnamed = Run { release: None, ..run(1) };
    let told = |run: &Run, settings: &Settings, consent: &Consent| {
        session_to_tell(run, Some(Death::Exited(0)), 5000, settings, consent).is_some()
    };
    assert!(told(&run(1), &asked, &open));
    assert!(!told(&run(1), &settings(None), &open));
    assert!(!told(&run(1), &asked, &closed));
    assert!(!told(&unnamed, &asked, &open));
}
