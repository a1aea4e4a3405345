//! How many reports were lost here and why, until Sentry has been told (its client reports): one small locked file.
//!
//! The counts are statistics. A power cut may lose some; it never makes any up, and it never costs a report.

#![forbid(unsafe_code)]

use super::Spool;
use crate::sys::file::{FileKind, Status};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// In the spool's directory.
const FILE: &str = "discards";
/// A few dozen lines; a larger file is not ours.
const FILE_BYTES: usize = 16 * 1024;
/// There are about ten reasons and ten categories; more lines than this are not kept.
const LINES: usize = 100;

/// So many reports of a category were lost for a reason, in Sentry's words.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Discard {
    /// `cache_overflow`, `send_error` …
    pub reason: String,
    /// `error`, `session` …
    pub category: String,
    pub quantity: u64,
}

type Counts = BTreeMap<(String, String), u64>;

impl Spool {
    /// Counts what was lost. That this may fail costs a statistic only.
    pub fn note_discard(&self, reason: &str, category: &str, quantity: u64) {
        if quantity == 0 || !is_word(reason) || !is_word(category) {
            return;
        }
        let _ = self.open_discards().and_then(|file| {
            let mut counts = read(&file)?;
            let count = counts.entry((reason.to_owned(), category.to_owned())).or_default();
            *count = count.saturating_add(quantity);
            write(&file, &counts)
        });
    }

    /// What was counted since the last call. Whoever cannot tell Sentry after all notes it again.
    pub fn take_discards(&self) -> Vec<Discard> {
        let taken = self.open_discards().and_then(|file| {
            let counts = read(&file)?;
            file.set_len(0)?;
            Ok(counts)
        });
        let counts = taken.unwrap_or_default().into_iter();
        counts.map(|((reason, category), quantity)| Discard { reason, category, quantity }).collect()
    }

    /// Locked until it is closed. Nobody keeps the lock longer than two small system calls take.
    fn open_discards(&self) -> io::Result<File> {
        let file = self.dir().open_or_create(FILE)?;
        if Status::of(&file)?.kind != FileKind::Regular {
            return Err(io::Error::other("not a file of ours"));
        }
        file.lock()?;
        Ok(file)
    }
}

fn read(file: &File) -> io::Result<Counts> {
    let mut bytes = vec![0; FILE_BYTES];
    let n = file.read_at(&mut bytes, 0)?;
    Ok(parse(&String::from_utf8_lossy(&bytes[..n])))
}

fn write(file: &File, counts: &Counts) -> io::Result<()> {
    let text: String =
        counts.iter().take(LINES).map(|((reason, category), n)| format!("{reason} {category} {n}\n")).collect();
    // Counts only grow, so the new text covers the old: a crash before the cut leaves nothing that was not so.
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

/// Lines that are none are passed over.
fn parse(text: &str) -> Counts {
    let mut counts = Counts::new();
    for line in text.lines().take(LINES) {
        let mut words = line.split(' ');
        let (Some(reason), Some(category), Some(n), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        if let Ok(n) = n.parse::<u64>()
            && is_word(reason)
            && is_word(category)
        {
            let count = counts.entry((reason.to_owned(), category.to_owned())).or_default();
            *count = count.saturating_add(n);
        }
    }
    counts
}

fn is_word(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discard(reason: &str, category: &str, quantity: u64) -> Discard {
        Discard { reason: reason.to_owned(), category: category.to_owned(), quantity }
    }

    #[test]
    fn losses_are_added_up_and_taken_once() {
        let temp = tempfile::tempdir().unwrap();
        let spool = Spool::open(temp.path()).unwrap();
        assert_eq!(spool.take_discards(), []);
        spool.note_discard("cache_overflow", "error", 9);
        spool.note_discard("cache_overflow", "error", 1);
        spool.note_discard("send_error", "session", 2);
        spool.note_discard("no word", "error", 2);
        assert_eq!(
            spool.take_discards(),
            [discard("cache_overflow", "error", 10), discard("send_error", "session", 2)]
        );
        assert_eq!(spool.take_discards(), []);
    }

    #[test]
    fn counts_of_several_processes_at_once_are_all_there() {
        let temp = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let spool = Spool::open(temp.path()).unwrap();
                    (0..50).for_each(|_| spool.note_discard("cache_overflow", "error", 1));
                });
            }
        });
        assert_eq!(Spool::open(temp.path()).unwrap().take_discards(), [discard("cache_overflow", "error", 200)]);
    }

    #[test]
    fn noise_and_a_fifo_in_its_place_are_lived_with() {
        let temp = tempfile::tempdir().unwrap();
        let spool = Spool::open(temp.path()).unwrap();
        std::fs::write(spool.root().join(FILE), b"\xff\0 a\nsend_error error 3\nsend_error error x\nA b 1\n").unwrap();
        assert_eq!(spool.take_discards(), [discard("send_error", "error", 3)]);
        std::fs::remove_file(spool.root().join(FILE)).unwrap();
        nix::unistd::mkfifo(&spool.root().join(FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        spool.note_discard("send_error", "error", 1);
        assert_eq!(spool.take_discards(), []);
    }
}
