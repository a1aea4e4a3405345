//! The run marker: a locked file that says that a run is going on, written at its start and removed at its good end.
//!
//! The kernel drops the lock with the process, so a marker that is there and not locked tells of a run that ended with
//! nobody to say how ([`stale`]). At a death init writes one line into it with a single pwrite(2): if all of us are killed
//! in the next moment, the next start still has the truth. A good end that release health wants to know of is such a line, too,
//! and the marker stays for the next start to take it up: that costs the end one write, and nobody waits.
//!
//! ```text
//! 0     obit-run lines: CRC-32, name, value; filled up with newlines
//! 2048  the death of the program itself, or its good end: one line
//! 2304  seven lines for deaths of what it left to us
//! 4096  end: the block is there from the start, so a full disk cannot refuse the line
//! ```
//!
//! PID 1 runs this at its start and at a death. It writes; reading is in a file of its own, for other roles.

#![forbid(unsafe_code)]

pub use super::stale::{Noted, Stale, living, stale};

use super::SpoolError;
use super::lock_if_free;
use crate::case::{Case, Id, Run, Subject};
use crate::death::Death;
use crate::sys::file::Dir;
use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// One block of any file system.
pub(super) const MARKER_BYTES: usize = 4096;
/// What tells of the run.
pub(super) const RUN_BYTES: usize = 2048;
/// One death: a sector at most, so it is written whole or not.
pub(super) const LINE_BYTES: usize = 256;
/// The first is the program's own.
pub(super) const DEATHS: usize = (MARKER_BYTES - RUN_BYTES) / LINE_BYTES;
/// proc(5): a comm is at most 15 bytes; each may have become a U+FFFD. Escaped it still fits into its line.
const COMM_BYTES: usize = 15 * 3;
/// The first word of the line of a good end, where else is an id.
pub(super) const END: &str = "end";
pub(super) const DIR: &str = "runs";
pub(super) const SUFFIX: &str = ".run";

/// Our own marker, locked for as long as we live. A copy of its fd in another process would keep the lock beyond that.
#[derive(Debug)]
pub struct RunMarker {
    dir: Dir,
    name: String,
    file: File,
    /// Whose death is noted in which line.
    noted: Cell<[Option<Id>; DEATHS]>,
    /// The good end is noted, so the next start is to see it.
    ended: Cell<bool>,
}

impl RunMarker {
    /// Written and locked under a hidden name before it gets its own, so that nobody can take it for an abandoned one. It is
    /// not synced: a marker that a power cut takes away costs the word of an unclean end, syncing it costs every start.
    pub fn create(state_dir: &Path, run: &Run) -> Result<RunMarker, SpoolError> {
        let name = format!("{}{SUFFIX}", run.id);
        let hidden = format!(".{}", run.id);
        let create = || {
            let dir = Dir::open(state_dir)?.make_dir(DIR)?;
            let file = dir.create(&hidden)?;
            let written = file.try_lock().map_err(unlockable).and_then(|()| {
                file.write_all_at(&block(run), 0)?;
                dir.rename(&hidden, &dir, &name)
            });
            if let Err(error) = written {
                let _ = dir.remove(&hidden);
                return Err(error);
            }
            Ok(RunMarker { dir, name: name.clone(), file, noted: Cell::default(), ended: Cell::default() })
        };
        create().map_err(|source| SpoolError {
            doing: "mark the run in",
            path: state_dir.join(DIR).join(&name),
            follows: "an end that nobody sees will not be told by the next start",
            source,
        })
    }

    /// Notes a death, in one write. What fails is lived without: the examiner is about to do better. Of the deaths of
    /// descendants as many are noted as there are lines.
    pub fn note_death(&self, case: &Case) {
        let mut noted = self.noted.get();
        let lines = if case.subject == Subject::Main { 0..1 } else { 1..DEATHS };
        let Some(line) = lines.into_iter().find(|line| *line == 0 || noted[*line].is_none()) else { return };
        if self.write(death_line(case), line) {
            noted[line] = Some(case.event_id);
            self.noted.set(noted);
        }
    }

    /// Notes how the run ended, where there is nothing to report of it. Whether that is safe.
    pub fn note_end(&self, death: Death, at_unix_ms: u64) -> bool {
        self.ended.set(self.write(checked(&format!("{END} {at_unix_ms} {}", status_of(death))), 0));
        self.ended.get()
    }

    fn write(&self, line: String, place: usize) -> bool {
        let mut bytes = line.into_bytes();
        bytes.resize(LINE_BYTES, b'\n');
        self.file.write_all_at(&bytes, offset(place)).is_ok()
    }

    /// The report of a noted death is safe. The program's own death stays noted: it is how the run ended.
    pub fn note_kept(&self, event_id: Id) {
        let mut noted = self.noted.get();
        for (line, whose) in noted.iter_mut().enumerate().skip(1) {
            if *whose == Some(event_id) && self.file.write_all_at(&[b'\n'; LINE_BYTES], offset(line)).is_ok() {
                *whose = None;
            }
        }
        self.noted.set(noted);
    }

    /// The run ended well, or its report is safe: the marker goes, unless its end is still to be taken up.
    pub fn settle(self) {
        if !self.ended.get() {
            let _ = self.dir.remove(&self.name);
        }
    }
}

/// The locked file, for whoever closes fds in a copy of this process.
impl AsFd for RunMarker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn unlockable(error: TryLockError) -> io::Error {
    match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::Error::other("somebody else has locked it"),
    }
}

fn offset(line: usize) -> u64 {
    (RUN_BYTES + line * LINE_BYTES) as u64
}

/// The whole file as it is at the start. The command line stays out: it has not been scrubbed yet.
fn block(run: &Run) -> Vec<u8> {
    let mut text = String::with_capacity(MARKER_BYTES);
    let started = run.started_unix_ms.to_string();
    let lines = [
        ("started", Some(started.as_bytes())),
        ("component", Some(run.component.as_bytes())),
        ("release", run.release.as_deref().map(str::as_bytes)),
        ("environment", run.environment.as_deref().map(str::as_bytes)),
        ("exe", run.exe.as_deref().map(|exe| exe.as_os_str().as_bytes())),
    ];
    for (name, value) in lines {
        let Some(value) = value else { continue };
        let line = checked(&format!("{name} {}", escape(value)));
        // What does not fit is left out, never cut: half a name would be another name.
        if text.len() + line.len() <= RUN_BYTES {
            text.push_str(&line);
        }
    }
    let mut block = text.into_bytes();
    block.resize(MARKER_BYTES, b'\n');
    block
}

fn death_line(case: &Case) -> String {
    let mut line = String::with_capacity(LINE_BYTES);
    let _ = write!(line, "{} {} {}", case.event_id, case.reason.as_str(), case.at_unix_ms);
    let status = case.death.map(status_of);
    for number in [status, case.pid.map(i64::from), case.uptime_ms.map(|ms| ms.cast_signed())] {
        let _ = match number {
            Some(number) => write!(line, " {number}"),
            None => line.write_str(" -"),
        };
    }
    if let Some(comm) = case.subject.comm() {
        let end = (0..=comm.len().min(COMM_BYTES)).rev().find(|end| comm.is_char_boundary(*end)).unwrap_or(0);
        let _ = write!(line, " {}", escape(&comm.as_bytes()[..end]));
    }
    checked(&line)
}

/// The status of wait(2) that tells of this death.
fn status_of(death: Death) -> i64 {
    match death {
        Death::Exited(code) => i64::from(code) << 8,
        Death::Killed { signal, core } => i64::from(signal.number()) | if core { 0x80 } else { 0 },
    }
}

/// A line with its CRC-32 before it.
fn checked(line: &str) -> String {
    format!("{:08x} {line}\n", crc32fast::hash(line.as_bytes()))
}

/// Any bytes as one word: what is not printable ASCII, and the percent sign, becomes %XX.
fn escape(bytes: &[u8]) -> String {
    let mut word = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'!'..=b'~' if byte != b'%' => word.push(char::from(byte)),
            _ => {
                let _ = write!(word, "%{byte:02X}");
            }
        }
    }
    word
}

/// What earlier runs left to be taken up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attention {
    /// The marker of a dead run, or an entry whose examiner died.
    pub untold: bool,
    /// Entries that wait for their delivery.
    pub pending: bool,
}

/// Looks for it, with a few system calls.
pub fn attention(state_dir: &Path, ours: Option<&RunMarker>) -> Attention {
    let Ok(state) = Dir::open(state_dir) else { return Attention::default() };
    let waits = |name: &str| {
        let names = state.open_dir("spool").and_then(|spool| spool.open_dir(name)).and_then(|dir| dir.names());
        names.is_ok_and(|mut names| names.any(|name| !name.as_bytes().starts_with(b".")))
    };
    let abandoned = || {
        let Ok(runs) = state.open_dir(DIR) else { return false };
        let Ok(names) = runs.names() else { return false };
        names.filter_map(|name| name.into_string().ok()).any(|name| {
            name.ends_with(SUFFIX) && ours.is_none_or(|ours| ours.name != name) && lock_if_free(&runs, &name).is_some()
        })
    };
    Attention { untold: waits("open") || abandoned(), pending: waits("pending") }
}

#[cfg(test)]
mod tests;
