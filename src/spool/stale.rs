//! Markers that dead runs left: read, locked so that nobody else tells of the same run, and removed when it is told.

#![forbid(unsafe_code)]

use super::marker::{DEATHS, DIR, END, LINE_BYTES, MARKER_BYTES, RUN_BYTES, SUFFIX};
use super::{lock_if_free, remove_leftover};
use crate::case::{Id, Reason, Run, Subject};
use crate::death::Death;
use crate::say::{Level, say};
use crate::sys::file::{Access, Dir, Status};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;

/// Markers taken at once: each holds an fd. What is left is taken by the next start.
const AT_ONCE: usize = 100;

/// What a dead run left.
#[derive(Debug)]
pub struct Stale {
    /// Without what is not in a marker: command line and working directory.
    pub run: Run,
    /// The death of the program itself, if init still wrote it down.
    pub noted: Option<Noted>,
    /// Its end of which there is nothing to report, and when that was: release health wants to know.
    pub ended: Option<(Death, u64)>,
    /// Deaths of what the program left to init, whose reports were not safe yet.
    pub descendants: Vec<Noted>,
    /// When the marker was last written: at the start of the run, or at the last death in it.
    pub changed_unix_ms: u64,
    dir: Rc<Dir>,
    name: String,
    /// Locked by us now.
    _file: File,
}

/// A death that init wrote down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Noted {
    pub event_id: Id,
    pub reason: Reason,
    pub at_unix_ms: u64,
    pub death: Option<Death>,
    pub pid: Option<i32>,
    pub uptime_ms: Option<u64>,
    pub subject: Subject,
}

impl Stale {
    /// All there was to tell is safe.
    pub fn done(self) {
        let _ = self.dir.remove(&self.name);
    }
}

/// Markers whose lock is free. Of one that was damaged what is readable is taken; one that says nothing is removed with a
/// line. Nobody else gets them until they are dropped; if we die before they are done, the next start does.
pub fn stale(state_dir: &Path) -> Vec<Stale> {
    let Ok(dir) = Dir::open(state_dir).and_then(|state| state.open_dir(DIR)) else { return Vec::new() };
    let Ok(names) = dir.names() else { return Vec::new() };
    let dir = Rc::new(dir);
    let names = names.filter_map(|name| name.into_string().ok());
    names.filter_map(|name| read(&dir, name)).take(AT_ONCE).collect()
}

/// The runs that are going on: those whose markers are locked, oldest first.
pub fn living(state_dir: &Path) -> Vec<Run> {
    let Ok(dir) = Dir::open(state_dir).and_then(|state| state.open_dir(DIR)) else { return Vec::new() };
    let names = dir.names().into_iter().flatten().filter_map(|name| name.into_string().ok());
    let mut runs: Vec<Run> = names
        .filter_map(|name| {
            let id = name.strip_suffix(SUFFIX).and_then(Id::parse)?;
            let file = dir.open_file(&name, Access::Write).ok()?;
            matches!(file.try_lock(), Err(TryLockError::WouldBlock)).then_some(())?;
            parse(id, &contents(&file), Status::of(&file).ok()?.modified_unix_ms).map(|told| told.run)
        })
        .take(AT_ONCE)
        .collect();
    runs.sort_by_key(|run| run.started_unix_ms);
    runs
}

/// What is in a marker, as far as a marker can be long.
fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; MARKER_BYTES];
    let mut filled = 0;
    while let Ok(n @ 1..) = file.read_at(&mut bytes[filled..], filled as u64) {
        filled += n;
    }
    bytes.truncate(filled);
    bytes
}

fn read(dir: &Rc<Dir>, name: String) -> Option<Stale> {
    let id = match name.strip_prefix('.') {
        // Its init died before the marker had its name; it was still to begin.
        Some(hidden) => {
            Id::parse(hidden)?;
            remove_leftover(dir, &name);
            return None;
        }
        None => Id::parse(name.strip_suffix(SUFFIX)?)?,
    };
    let file = lock_if_free(dir, &name)?;
    let bytes = contents(&file);
    let changed_unix_ms = Status::of(&file).ok()?.modified_unix_ms;
    let Some(Told { run, noted, ended }) = parse(id, &bytes, changed_unix_ms) else {
        say(
            Level::Warning,
            &format!("run marker {name} says nothing readable, so the end of that run cannot be told; removed"),
        );
        let _ = dir.remove(&name);
        return None;
    };
    let (main, descendants): (Vec<_>, _) = noted.into_iter().partition(|noted| noted.subject == Subject::Main);
    let dir = Rc::clone(dir);
    Some(Stale { run, noted: main.into_iter().next(), ended, descendants, changed_unix_ms, dir, name, _file: file })
}

/// What the bytes of a marker say.
#[derive(Debug)]
pub(super) struct Told {
    pub run: Run,
    pub noted: Vec<Noted>,
    pub ended: Option<(Death, u64)>,
}

/// `None` if not one line is whole.
pub(super) fn parse(id: Id, bytes: &[u8], changed_unix_ms: u64) -> Option<Told> {
    let (run, deaths) = bytes.split_at(bytes.len().min(RUN_BYTES));
    let mut values: BTreeMap<&str, OsString> = BTreeMap::new();
    for line in run.split(|byte| *byte == b'\n') {
        if let Some((name, value)) = checked(line).and_then(|line| line.split_once(' '))
            && let Some(value) = unescape(value)
        {
            values.insert(name, OsString::from_vec(value));
        }
    }
    let ended = end(&deaths[..deaths.len().min(LINE_BYTES)]);
    let deaths = deaths.chunks(LINE_BYTES).take(DEATHS).enumerate();
    let noted: Vec<Noted> =
        deaths.filter_map(|(n, line)| death(line).filter(|d| (d.subject == Subject::Main) == (n == 0))).collect();
    if values.is_empty() && noted.is_empty() && ended.is_none() {
        return None;
    }
    let mut text = |name: &str| values.remove(name).and_then(|value| value.into_string().ok());
    let run = Run {
        id,
        component: text("component").unwrap_or_else(|| "unknown".to_owned()),
        argv: Vec::new(),
        started_unix_ms: text("started").and_then(|ms| ms.parse().ok()).unwrap_or(changed_unix_ms),
        release: text("release"),
        environment: text("environment"),
        exe: values.remove("exe").map(Into::into),
        cwd: None,
    };
    Some(Told { run, noted, ended })
}

/// The line behind its CRC-32, if that fits.
fn checked(line: &[u8]) -> Option<&str> {
    let (crc, line) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    (crc == format!("{:08x}", crc32fast::hash(line.as_bytes()))).then_some(line)
}

/// A line's place holds it and newlines behind it.
fn first_line(place: &[u8]) -> Option<&str> {
    checked(&place[..place.iter().position(|byte| *byte == b'\n')?])
}

fn end(place: &[u8]) -> Option<(Death, u64)> {
    let mut words = first_line(place)?.split(' ');
    words.next().filter(|word| *word == END)?;
    let at_unix_ms = words.next()?.parse().ok()?;
    Some((Death::from_wait_status(words.next()?.parse().ok()?)?, at_unix_ms))
}

fn death(place: &[u8]) -> Option<Noted> {
    let line = first_line(place)?;
    let mut words = line.split(' ');
    let event_id = Id::parse(words.next()?)?;
    let reason = words.next()?;
    let reason = Reason::ALL.into_iter().find(|r| r.as_str() == reason)?;
    let at_unix_ms = words.next()?.parse().ok()?;
    let mut number = || words.next().and_then(|word| word.parse::<i64>().ok());
    let death = number().and_then(|status| Death::from_wait_status(i32::try_from(status).ok()?));
    let pid = number().and_then(|pid| i32::try_from(pid).ok());
    let uptime_ms = number().map(|ms| ms.cast_unsigned());
    let subject = match words.next() {
        None => Subject::Main,
        Some(comm) => Subject::Descendant { comm: String::from_utf8_lossy(&unescape(comm)?).into_owned() },
    };
    Some(Noted { event_id, reason, at_unix_ms, death, pid, uptime_ms, subject })
}

/// The inverse of the marker's escaping; `None` if it is none.
fn unescape(word: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = word.bytes();
    let mut plain = Vec::with_capacity(word.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => (digit(bytes.next()?)? * 16 + digit(bytes.next()?)?) as u8,
            _ => byte,
        });
    }
    Some(plain)
}
