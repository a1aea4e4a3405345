//! Written here, read by the file of dead runs: both ends of the marker on a real directory.

use super::super::stale::parse;
use super::*;
use crate::case::{Reason, Zombie};
use crate::sys::signal::Signal;
use proptest::prelude::*;
use std::path::PathBuf;

fn run(n: u8) -> Run {
    Run {
        id: Id([n; 16]),
        component: "my app %1\n".to_owned(),
        argv: vec!["app".into(), "--password=x".into()],
        exe: Some("/bin/app".into()),
        cwd: None,
        started_unix_ms: 1000,
        release: Some("app@1.0".to_owned()),
        environment: None,
    }
}

fn case(n: u8, subject: Subject) -> Case {
    Case {
        event_id: Id([n; 16]),
        reason: Reason::Signal,
        at_unix_ms: 2000,
        run: run(1),
        subject,
        pid: Some(12),
        told_code: None,
        death: Some(Death::Killed { signal: Signal::SEGV, core: true }),
        uptime_ms: Some(1000),
        spawn_error: None,
        usage: None,
        zombie: Zombie::default(),
        oom_before: None,
        oom_after: None,
        stop: None,
        last_directory: None,
        stderr_tail: None,
        gaps: Vec::new(),
    }
}

fn left(comm: &str) -> Subject {
    Subject::Descendant { comm: comm.to_owned() }
}

/// A marker with two deaths, as a dead run left it.
fn abandoned(state: &Path) -> PathBuf {
    let marker = RunMarker::create(state, &run(1)).unwrap();
    marker.note_death(&case(7, Subject::Main));
    marker.note_death(&case(8, left("a b")));
    state.join(DIR).join(&marker.name)
}

#[test]
fn a_good_end_is_there_for_the_next_start_with_what_it_still_owes() {
    let dir = tempfile::tempdir().unwrap();
    let marker = RunMarker::create(dir.path(), &run(1)).unwrap();
    assert!(marker.note_end(Death::Exited(3), 5000));
    marker.note_death(&case(8, left("a")));
    assert!(stale(dir.path()).is_empty(), "it drains");
    marker.settle();
    let mut taken = stale(dir.path());
    let told = taken.pop().unwrap();
    assert_eq!((told.ended, told.noted.is_none(), told.descendants.len()), (Some((Death::Exited(3), 5000)), true, 1));
    assert_eq!((told.run.release.as_deref(), told.run.started_unix_ms), (Some("app@1.0"), 1000));
    told.done();
    assert!(stale(dir.path()).is_empty());
}

#[test]
fn a_living_run_is_not_stale_and_a_good_end_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let marker = RunMarker::create(dir.path(), &run(1)).unwrap();
    assert!(stale(dir.path()).is_empty());
    assert_eq!(attention(dir.path(), Some(&marker)), Attention::default());
    assert_eq!(attention(dir.path(), None), Attention::default(), "a living run of somebody else is no news");
    assert_eq!(living(dir.path()).len(), 1);
    marker.settle();
    assert_eq!(living(dir.path()).len(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join(DIR)).unwrap().count(), 0);
}

#[test]
fn an_abandoned_run_is_told_once_with_its_deaths_and_without_its_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let path = abandoned(dir.path());
    assert!(!std::fs::read_to_string(path).unwrap().contains("password"));
    assert_eq!(attention(dir.path(), None), Attention { untold: true, pending: false });
    let mut found = stale(dir.path());
    assert_eq!(found.len(), 1);
    assert!(stale(dir.path()).is_empty(), "locked by the one who tells of it");
    assert_eq!(attention(dir.path(), None), Attention::default());
    let one = found.remove(0);
    assert_eq!(one.run.component, "my app %1\n");
    assert_eq!(one.run.release.as_deref(), Some("app@1.0"));
    assert_eq!((one.run.started_unix_ms, one.run.exe.as_deref()), (1000, Some(Path::new("/bin/app"))));
    let noted = one.noted.clone().unwrap();
    assert_eq!((noted.event_id, noted.at_unix_ms, noted.uptime_ms), (Id([7; 16]), 2000, Some(1000)));
    assert_eq!((noted.death, noted.reason), (case(7, Subject::Main).death, Reason::Signal));
    assert_eq!(one.descendants.len(), 1);
    assert_eq!((one.descendants[0].event_id, &one.descendants[0].subject), (Id([8; 16]), &left("a b")));
    drop(one);
    assert_eq!(stale(dir.path()).len(), 1, "whoever died before it was told leaves it to the next");
    stale(dir.path()).remove(0).done();
    assert!(stale(dir.path()).is_empty());
    assert_eq!(attention(dir.path(), None), Attention::default());
}

#[test]
fn a_death_whose_report_is_safe_is_not_told_again_but_the_programs_own_stays_known() {
    let dir = tempfile::tempdir().unwrap();
    let marker = RunMarker::create(dir.path(), &run(1)).unwrap();
    marker.note_death(&case(7, Subject::Main));
    for n in 20..40 {
        marker.note_death(&case(n, left("worker")));
    }
    for n in [7, 20, 22] {
        marker.note_kept(Id([n; 16]));
    }
    marker.note_death(&case(50, left("late")));
    drop(marker);
    let found = stale(dir.path()).remove(0);
    assert_eq!(found.noted.as_ref().map(|noted| noted.event_id), Some(Id([7; 16])));
    let mut ids: Vec<u8> = found.descendants.iter().map(|noted| noted.event_id.0[0]).collect();
    ids.sort_unstable();
    assert_eq!(ids, [21, 23, 24, 25, 26, 50], "as many as there is room for");
}

#[test]
fn what_is_unknown_stays_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let marker = RunMarker::create(dir.path(), &run(1)).unwrap();
    marker.note_death(&Case {
        reason: Reason::SpawnFailed,
        told_code: None,
        death: None,
        pid: None,
        uptime_ms: None,
        ..case(7, Subject::Main)
    });
    drop(marker);
    let noted = stale(dir.path()).remove(0).noted.unwrap();
    assert_eq!((noted.reason, noted.death, noted.pid, noted.uptime_ms), (Reason::SpawnFailed, None, None, None));
}

#[test]
fn the_longest_death_fits_its_line() {
    let longest = Case {
        reason: Reason::SpawnFailed,
        at_unix_ms: u64::MAX,
        pid: Some(i32::MIN),
        uptime_ms: Some(i64::MIN.cast_unsigned()),
        ..case(7, left(&"\u{fffd}".repeat(20)))
    };
    let line = death_line(&longest);
    assert!((LINE_BYTES - 8..=LINE_BYTES).contains(&line.len()), "{}", line.len());
}

#[test]
fn values_that_do_not_fit_are_left_out_whole() {
    let dir = tempfile::tempdir().unwrap();
    let long = Run { release: Some("é".repeat(400)), ..run(1) };
    drop(RunMarker::create(dir.path(), &long).unwrap());
    let found = stale(dir.path()).remove(0);
    assert_eq!((found.run.release, found.run.component.as_str()), (None, "my app %1\n"));
    assert_eq!(found.run.exe.as_deref(), Some(Path::new("/bin/app")));
}

/// What may be said of [`abandoned`] however it was damaged: each value is right or absent.
fn never_wrong(found: &Stale) {
    assert_eq!(found.run.id, Id([1; 16]));
    assert!(["my app %1\n", "unknown"].contains(&found.run.component.as_str()), "{:?}", found.run);
    assert!([None, Some("app@1.0")].contains(&found.run.release.as_deref()), "{:?}", found.run);
    assert_eq!(found.run.environment, None);
    for (noted, whole) in found
        .noted
        .iter()
        .map(|n| (n, case(7, Subject::Main)))
        .chain(found.descendants.iter().map(|n| (n, case(8, left("a b")))))
    {
        assert_eq!((noted.event_id, noted.death, noted.pid), (whole.event_id, whole.death, whole.pid));
        assert_eq!((noted.at_unix_ms, &noted.subject), (whole.at_unix_ms, &whole.subject));
    }
}

/// What is found once nobody holds the lock: a process that another test forks has a copy of our fds until its exec.
fn found_in(dir: &Path) -> Vec<Stale> {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let found = stale(dir);
        if !found.is_empty() || std::time::Instant::now() > until {
            return found;
        }
    }
}

#[test]
fn a_marker_cut_at_any_byte_is_still_an_unclean_run_and_never_a_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = abandoned(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for cut in 0..whole.len() {
        // Before the end of the first line there is nothing to tell.
        assert_eq!(parse(Id([1; 16]), &whole[..cut], 0).is_none(), cut < first_line, "cut at {cut}");
    }
    for cut in first_line..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let found = found_in(dir.path());
        assert_eq!(found.len(), 1, "cut at {cut}");
        found.iter().for_each(never_wrong);
    }
}

#[test]
fn a_flip_of_any_bit_never_makes_a_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = abandoned(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let written = whole.iter().enumerate().filter(|(_, byte)| **byte != b'\n').map(|(at, _)| at);
    for bit in written.flat_map(|at| at * 8..at * 8 + 8) {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bytes).unwrap();
        let found = found_in(dir.path());
        assert_eq!(found.len(), 1, "bit {bit}");
        never_wrong(&found[0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn noise_is_never_believed(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
        prop_assert!(parse(Id([1; 16]), &bytes, 0).is_none());
    }

    #[test]
    fn any_value_reads_back(component: String, release: Option<String>, comm in "[^\\x00]{0,11}") {
        let dir = tempfile::tempdir().unwrap();
        let marker = RunMarker::create(dir.path(), &Run { component: component.clone(), release: release.clone(), ..run(1) }).unwrap();
        marker.note_death(&case(8, left(&comm)));
        drop(marker);
        let found = stale(dir.path()).remove(0);
        prop_assert_eq!(found.run.component, component);
        prop_assert_eq!(found.run.release, release);
        prop_assert_eq!(&found.descendants[0].subject, &left(&comm));
    }
}

#[test]
fn a_marker_that_says_nothing_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = abandoned(dir.path());
    std::fs::write(&path, [0; 4096]).unwrap();
    assert!(stale(dir.path()).is_empty());
    assert!(!path.exists());
}

#[test]
fn what_is_no_marker_is_left_alone_and_holds_nobody() {
    let dir = tempfile::tempdir().unwrap();
    drop(RunMarker::create(dir.path(), &run(1)).unwrap());
    let runs = dir.path().join(DIR);
    stale(dir.path()).remove(0).done();
    let name = |n: u8| runs.join(format!("{}{SUFFIX}", Id([n; 16])));
    nix::unistd::mkfifo(&name(2), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", name(3)).unwrap();
    std::fs::create_dir(name(4)).unwrap();
    std::fs::write(runs.join("notes.run"), "x").unwrap();
    assert!(stale(dir.path()).is_empty());
    assert_eq!(living(dir.path()).len(), 0);
    assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 4);
}

#[test]
fn two_who_look_at_once_never_tell_of_the_same_run() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..50 {
        drop(RunMarker::create(dir.path(), &run(n)).unwrap());
    }
    let tell = || {
        let mut told: Vec<Id> = Vec::new();
        for _ in 0..5 {
            for one in stale(dir.path()) {
                told.push(one.run.id);
                one.done();
            }
        }
        told
    };
    let mut told = std::thread::scope(|scope| {
        let tellers: Vec<_> = (0..4).map(|_| scope.spawn(tell)).collect();
        tellers.into_iter().flat_map(|teller| teller.join().unwrap()).collect::<Vec<_>>()
    });
    let all = told.len();
    told.sort_by_key(|id| id.0);
    told.dedup();
    assert_eq!((told.len(), all), (50, 50));
}
