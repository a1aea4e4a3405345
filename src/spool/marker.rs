//! The run marker: a locked file that says that a run is going on, written at its start and removed at its good end.
//!
//! The kernel drops the lock with the process, so a marker that is there and not locked tells of a run that ended with
//! nobody to say how. At a death init adds one line to it with a single write(2) of a few bytes to the open file: if all
//! of us are killed in the next moment, the next start still has the truth.

#![forbid(unsafe_code)]

use crate::case::{Case, Id, Reason, Run};
use crate::death::Death;
use crate::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A marker is a few hundred bytes; what is larger is not ours.
const MARKER_BYTES: u64 = 64 * 1024;
const SUFFIX: &str = "run";

/// The first line. The command line stays out: it has not been scrubbed yet.
#[derive(Serialize, Deserialize)]
struct Head {
    id: String,
    component: String,
    exe: Option<PathBuf>,
    started_unix_ms: u64,
    release: Option<String>,
    environment: Option<String>,
}

/// The second line, once there is a death.
#[derive(Serialize, Deserialize)]
struct Note {
    event_id: String,
    reason: Reason,
    at_unix_ms: u64,
    pid: Option<i32>,
    uptime_ms: Option<u64>,
    code: Option<u8>,
    signal: Option<i32>,
    core: bool,
}

/// Our own marker, locked for as long as we live.
#[derive(Debug)]
pub struct RunMarker {
    path: PathBuf,
    file: File,
}

impl RunMarker {
    /// Written under another name and locked before it gets its own, so that nobody can take it for an abandoned one.
    pub fn create(state_dir: &Path, run: &Run) -> io::Result<RunMarker> {
        let dir = state_dir.join("runs");
        let path = dir.join(format!("{}.{SUFFIX}", run.id));
        let new = dir.join(format!(".{}", run.id));
        let mut options = OpenOptions::new();
        let options = options.append(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&new)?;
        let head = Head {
            id: run.id.to_string(),
            component: run.component.clone(),
            exe: run.exe.clone(),
            started_unix_ms: run.started_unix_ms,
            release: run.release.clone(),
            environment: run.environment.clone(),
        };
        let written = line(&head).and_then(|line| file.write_all(&line)).and_then(|()| {
            file.try_lock().map_err(io::Error::from)?;
            std::fs::rename(&new, &path)
        });
        match written {
            Ok(()) => Ok(RunMarker { path, file }),
            Err(error) => {
                let _ = std::fs::remove_file(&new);
                Err(error)
            }
        }
    }

    /// Adds the death, in one write. What fails is lived without: the examiner is about to do better.
    pub fn note_death(&self, case: &Case) {
        let note = Note {
            event_id: case.event_id.to_string(),
            reason: case.reason,
            at_unix_ms: case.at_unix_ms,
            pid: case.pid,
            uptime_ms: case.uptime_ms,
            code: match case.death {
                Some(Death::Exited(code)) => Some(code),
                _ => None,
            },
            signal: case.death.and_then(Death::signal).map(Signal::number),
            core: case.death.is_some_and(Death::core_dumped),
        };
        if let Ok(line) = line(&note) {
            let _ = (&self.file).write_all(&line);
        }
    }

    /// The run ended well, or its report is safe.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// What a dead run left.
#[derive(Debug)]
pub struct Stale {
    pub run: Run,
    pub noted: Option<Noted>,
    path: PathBuf,
    /// Locked by us now, so that nobody else tells of the same run.
    _file: File,
}

/// The death that init still wrote down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Noted {
    pub event_id: Id,
    pub reason: Reason,
    pub at_unix_ms: u64,
    pub pid: Option<i32>,
    pub uptime_ms: Option<u64>,
    pub death: Option<Death>,
}

impl Stale {
    /// Its report is safe.
    pub fn done(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Markers whose lock is free. A marker that says nothing readable still tells that there was a run.
pub fn stale(state_dir: &Path) -> Vec<Stale> {
    markers(state_dir).filter_map(|path| read_stale(&path)).collect()
}

fn markers(state_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(state_dir.join("runs")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX))
}

fn read_stale(path: &Path) -> Option<Stale> {
    // O_NONBLOCK: a FIFO that somebody put here must not hold us.
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path).ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || file.try_lock().is_err() || !path.exists() {
        return None;
    }
    let mut text = Vec::new();
    (&file).take(MARKER_BYTES).read_to_end(&mut text).ok()?;
    let mut lines = text.split(|byte| *byte == b'\n');
    let head: Option<Head> = lines.next().and_then(|line| serde_json::from_slice(line).ok());
    let noted = lines.next().and_then(|line| serde_json::from_slice(line).ok()).and_then(noted);
    let name = path.file_stem().and_then(|stem| stem.to_str()).and_then(Id::parse)?;
    let modified = found.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let started = modified.map_or(0, |since| since.as_millis() as u64);
    let run = Run {
        id: head.as_ref().and_then(|head| Id::parse(&head.id)).unwrap_or(name),
        component: head.as_ref().map_or_else(|| "unknown".to_owned(), |head| head.component.clone()),
        argv: Vec::new(),
        exe: head.as_ref().and_then(|head| head.exe.clone()),
        cwd: None,
        started_unix_ms: head.as_ref().map_or(started, |head| head.started_unix_ms),
        release: head.as_ref().and_then(|head| head.release.clone()),
        environment: head.and_then(|head| head.environment),
    };
    Some(Stale { run, noted, path: path.to_owned(), _file: file })
}

fn noted(note: Note) -> Option<Noted> {
    let death = match (note.code, note.signal.and_then(Signal::new)) {
        (Some(code), _) => Some(Death::Exited(code)),
        (None, Some(signal)) => Some(Death::Killed { signal, core: note.core }),
        (None, None) => None,
    };
    Some(Noted {
        event_id: Id::parse(&note.event_id)?,
        reason: note.reason,
        at_unix_ms: note.at_unix_ms,
        pid: note.pid,
        uptime_ms: note.uptime_ms,
        death,
    })
}

/// Whether there is anything to take up: entries that wait, or a marker besides `ours`. A few system calls.
pub fn attention(state_dir: &Path, ours: Option<&RunMarker>) -> bool {
    let not_empty = |name: &str| std::fs::read_dir(state_dir.join(name)).is_ok_and(|mut dir| dir.next().is_some());
    not_empty("spool/pending")
        || not_empty("spool/open")
        || markers(state_dir).any(|path| ours.is_none_or(|ours| ours.path != path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Subject;
    use crate::case::Zombie;

    fn run(id: u8) -> Run {
        Run {
            id: Id([id; 16]),
            component: "app".to_owned(),
            argv: vec!["app".into(), "--password=x".into()],
            exe: Some("/bin/app".into()),
            cwd: None,
            started_unix_ms: 1000,
            release: Some("app@1.0".to_owned()),
            environment: None,
        }
    }

    fn case() -> Case {
        Case {
            event_id: Id([7; 16]),
            reason: Reason::Signal,
            at_unix_ms: 2000,
            run: run(1),
            subject: Subject::Main,
            pid: Some(12),
            death: Some(Death::Killed { signal: Signal::SEGV, core: true }),
            uptime_ms: Some(1000),
            spawn_error: None,
            usage: None,
            zombie: Zombie::default(),
            oom_before: None,
            oom_after: None,
            stop: None,
            stderr_tail: None,
            gaps: Vec::new(),
        }
    }

    fn state_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        prepare_for_tests(dir.path());
        dir
    }

    fn prepare_for_tests(dir: &Path) {
        let settings = crate::config::Settings { state_dir: Some(dir.to_owned()), ..Default::default() };
        assert_eq!(super::super::place::resolve(&settings).dir.as_deref(), Some(dir));
    }

    #[test]
    fn a_living_run_is_not_stale_and_a_good_end_leaves_nothing() {
        let dir = state_dir();
        let marker = RunMarker::create(dir.path(), &run(1)).unwrap();
        assert!(stale(dir.path()).is_empty());
        assert!(!attention(dir.path(), Some(&marker)));
        marker.remove();
        assert_eq!(std::fs::read_dir(dir.path().join("runs")).unwrap().count(), 0);
    }

    #[test]
    fn an_abandoned_run_is_told_once_with_its_death_and_without_its_arguments() {
        let dir = state_dir();
        let marker = RunMarker::create(dir.path(), &run(1)).unwrap();
        marker.note_death(&case());
        let text = std::fs::read_to_string(&marker.path).unwrap();
        assert!(!text.contains("password"), "{text}");
        drop(marker);
        assert!(attention(dir.path(), None));
        let mut found = stale(dir.path());
        assert_eq!(found.len(), 1);
        assert!(stale(dir.path()).is_empty(), "locked by the one who tells of it");
        let one = found.remove(0);
        assert_eq!(one.run.release.as_deref(), Some("app@1.0"));
        let noted = one.noted.clone().unwrap();
        assert_eq!(noted.death, Some(Death::Killed { signal: Signal::SEGV, core: true }));
        assert_eq!(noted.event_id, Id([7; 16]));
        one.done();
        assert!(stale(dir.path()).is_empty());
    }

    #[test]
    fn a_marker_cut_at_any_byte_is_still_an_unclean_run_and_never_a_wrong_death() {
        let dir = state_dir();
        let marker = RunMarker::create(dir.path(), &run(1)).unwrap();
        marker.note_death(&case());
        let path = marker.path.clone();
        drop(marker);
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let found = stale(dir.path());
            assert_eq!(found.len(), 1, "cut at {cut}");
            // Only the closing newline may be missing from a death that counts.
            assert!(found[0].noted.is_none() || cut + 1 >= whole.len(), "cut at {cut}");
        }
    }
}
