//! What was sent: one line for each attempt, with when, channel, destination, proxy, bytes and result; and the notice before
//! the first.
//!
//! The log is JSON lines in the state directory. It only grows at its end, until it is full; then it becomes the old one and
//! a new one begins, so that there is always at least one full log of the past and never more than two. Keys and passwords
//! are masked before they get here.

#![forbid(unsafe_code)]

use crate::consent::Channel;
use crate::limits;
use crate::say::{Level, say};
use crate::sys::file::{Access, Dir, FileKind, Status};
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

const FILE: &str = "audit.log";
const OLD: &str = "audit.log.1";
const LOCK: &str = "audit.lock";
/// Its being there says that the notice was given.
const NOTICE: &str = "noticed";
/// Of a result; a server may say much.
const RESULT_CHARS: usize = 300;

/// One attempt to send something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    pub at_unix_ms: u64,
    /// `errors`, `daily`, `dns`.
    pub channel: String,
    /// `crash 0123…`, `daily 0123…`, the name that was asked for.
    pub what: String,
    /// URL without its key, or name server.
    pub to: String,
    /// `direct`, or the proxy without its password.
    pub proxy: String,
    /// As they are shown by `obit telemetry show`, before compression.
    pub bytes: u64,
    /// `200`, or what happened instead.
    pub result: String,
}

impl Record {
    pub fn channel(&self) -> Option<Channel> {
        Channel::parse(&self.channel)
    }
}

/// Adds a line. A log that cannot be written is told, and keeps nothing from being sent: whoever agreed has agreed.
pub fn note(state_dir: &Path, record: &Record) {
    // Of a full disk the spool has told already.
    if let Err(error) = append(state_dir, record).or_else(|error| if is_full(&error) { Ok(()) } else { Err(error) }) {
        let path = state_dir.join(FILE);
        say(
            Level::Warning,
            &format!("{} cannot be written ({error}); what is sent now is not noted there", path.display()),
        );
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn append(state_dir: &Path, record: &Record) -> io::Result<()> {
    let dir = Dir::open(state_dir)?;
    let lock = dir.open_or_create(LOCK)?;
    lock.lock()?;
    let mut record = record.clone();
    record.result = record.result.chars().filter(|c| !c.is_control()).take(RESULT_CHARS).collect();
    let mut line = serde_json::json!(record).to_string();
    line.push('\n');
    let mut file = dir.open_or_create(FILE)?;
    let status = Status::of(&file)?;
    if status.kind != FileKind::Regular {
        return Err(io::Error::other("it is no file"));
    }
    if status.bytes + line.len() as u64 > limits::AUDIT_BYTES {
        dir.rename(FILE, &dir, OLD)?;
        file = dir.open_or_create(FILE)?;
    }
    file.seek(SeekFrom::End(0))?;
    file.write_all(line.as_bytes())
}

/// What is noted, oldest first. A line that was cut short by a death is left out.
pub fn read(state_dir: &Path) -> Vec<Record> {
    let Ok(dir) = Dir::open(state_dir) else { return Vec::new() };
    let mut text = String::new();
    for name in [OLD, FILE] {
        let Ok(file) = dir.open_file(name, Access::Read) else { continue };
        if Status::of(&file).is_ok_and(|status| status.kind == FileKind::Regular) {
            let mut bytes = Vec::new();
            let _ = file.take(limits::AUDIT_BYTES).read_to_end(&mut bytes);
            text.push_str(&String::from_utf8_lossy(&bytes));
            text.push('\n');
        }
    }
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Says, once for a state directory and before anything is sent, what goes where and how to stop it.
pub fn notice(state_dir: Option<&Path>, to: &str) {
    let dir = state_dir.and_then(|dir| Dir::open(dir).ok());
    // The file first: whoever makes it is the one who says it.
    let first = dir.is_none_or(|dir| match dir.create(NOTICE) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AlreadyExists,
    });
    if first {
        say(
            Level::Info,
            &format!(
                "reports go to {to} from now on; see them with obit telemetry show, who allows it with obit telemetry \
                 status, stop it with obit telemetry disable"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> Record {
        Record {
            at_unix_ms: n,
            channel: "errors".to_owned(),
            what: "crash".to_owned(),
            to: "https://h/api/7/envelope/".to_owned(),
            proxy: "direct".to_owned(),
            bytes: 1,
            result: "200".to_owned(),
        }
    }

    #[test]
    fn the_newest_are_always_there_and_the_whole_is_bounded() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(read(temp.path()), []);
        let long = Record { result: format!("x\n{}", "y".repeat(9000)), ..record(0) };
        for n in 0..2500 {
            append(temp.path(), &Record { at_unix_ms: n, ..long.clone() }).unwrap();
        }
        let records = read(temp.path());
        assert_eq!(records.last().map(|record| record.at_unix_ms), Some(2499));
        assert!(records.windows(2).all(|pair| pair[0].at_unix_ms + 1 == pair[1].at_unix_ms));
        assert_eq!(records[0].result.chars().count(), 300);
        assert!((600..2500).contains(&records.len()), "{}", records.len());
        let bytes: u64 = [FILE, OLD].map(|name| std::fs::metadata(temp.path().join(name)).unwrap().len()).iter().sum();
        assert!(bytes <= 2 * limits::AUDIT_BYTES);
    }

    #[test]
    fn a_line_cut_short_and_noise_are_left_out() {
        let temp = tempfile::tempdir().unwrap();
        append(temp.path(), &record(1)).unwrap();
        let mut text = std::fs::read(temp.path().join(FILE)).unwrap();
        text.extend_from_slice(b"\xff{}\n{\"at_unix_ms\":");
        std::fs::write(temp.path().join(FILE), text).unwrap();
        assert_eq!(read(temp.path()), [record(1)]);
    }
}
