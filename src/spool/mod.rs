//! Where reports are kept until somebody received them: one directory, bounded, every change a rename.
//!
//! ```text
//! open/ ──settle──▶ pending/ ──▶ sent/ | rejected/ | corrupt/
//!   └── its examiner died (lock free) ──▲
//! ```
//!
//! A file is one entry: a header line with format, length and CRC-32, then JSON. It is written under a hidden name, synced
//! and renamed, so that at any instant there is the old content, the new, or nothing. The name is
//! `<unix_ms>-<id>-<attempts>.<kind>`, and the state is the directory: to list, nothing has to be read.

#![forbid(unsafe_code)]

pub mod entry;
pub mod marker;
pub mod memory;
pub mod place;
pub mod quota;

pub use entry::{Entry, Kind, State};

use crate::case::Id;
use crate::limits;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What went wrong with the spool; says what follows.
#[derive(Debug)]
pub struct SpoolError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => "; the disk is full: free some space, or run obit crashes purge",
            Some(libc::EROFS) => "; it is read-only: mount a volume there, or name another one with --state-dir",
            Some(libc::EACCES | libc::EPERM) => "; run as the user that owns it, or name another one with --state-dir",
            _ => "",
        };
        write!(f, "cannot {} {}: {}{advice}", self.doing, self.path.display(), self.source)
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why an entry cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// It was cut short, overwritten, or never ours.
    Corrupt(&'static str),
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Corrupt(why) => write!(f, "the entry is corrupt: {why}"),
            ReadError::Io(error) => write!(f, "the entry cannot be read: {error}"),
        }
    }
}

/// One spool directory.
#[derive(Clone, Debug)]
pub struct Spool {
    root: PathBuf,
}

/// An entry that its examiner still works on; the lock says so to everybody else.
#[derive(Debug)]
pub struct OpenEntry {
    entry: Entry,
    /// Locked; replaced together with the content.
    file: File,
}

impl Spool {
    /// The spool in a state directory that [`place::resolve`] prepared.
    pub fn open(state_dir: &Path) -> Spool {
        Spool { root: state_dir.join("spool") }
    }

    /// The directory itself, for whoever has to allow writing in it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes an entry durable in `open/`: when this returns it survives a power cut. On a full disk settled entries make
    /// room, once.
    pub fn begin(&self, kind: Kind, id: Id, at_unix_ms: u64, content: &[u8]) -> Result<OpenEntry, SpoolError> {
        let entry = Entry {
            state: State::Open,
            kind,
            id,
            at_unix_ms,
            attempts: 0,
            bytes: content.len() as u64,
            tried_unix_ms: 0,
        };
        let file = match self.store(&entry, content) {
            Err(error) if is_full(&error.source) && quota::make_room(self) > 0 => self.store(&entry, content)?,
            other => other?,
        };
        Ok(OpenEntry { entry, file })
    }

    /// Replaces the content; until the rename the old one stands.
    pub fn improve(&self, open: &mut OpenEntry, content: &[u8]) -> Result<(), SpoolError> {
        open.file = self.store(&open.entry, content)?;
        open.entry.bytes = content.len() as u64;
        Ok(())
    }

    /// The entry is complete: it goes to `pending/`.
    pub fn settle(&self, open: OpenEntry) -> Result<Entry, SpoolError> {
        self.mark(&open.entry, State::Pending)
    }

    fn store(&self, entry: &Entry, content: &[u8]) -> Result<File, SpoolError> {
        let path = self.path(entry);
        let hidden = path.with_file_name(format!(".{}", entry.file_name()));
        let failed = |doing, source| SpoolError { doing, path: hidden.clone(), source };
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&hidden).map_err(|source| failed("create", source))?;
        let written = file
            .write_all(header(content).as_bytes())
            .and_then(|()| file.write_all(content))
            .and_then(|()| file.sync_data())
            .and_then(|()| file.try_lock().map_err(io::Error::from))
            .and_then(|()| std::fs::rename(&hidden, &path))
            .and_then(|()| self.sync_dir(entry.state));
        match written {
            Ok(()) => Ok(file),
            Err(source) => {
                let _ = std::fs::remove_file(&hidden);
                Err(failed("write", source))
            }
        }
    }

    /// Moves an entry to another state.
    pub fn mark(&self, entry: &Entry, state: State) -> Result<Entry, SpoolError> {
        self.rename(entry, Entry { state, ..entry.clone() })
    }

    /// Counts an attempt to deliver it; the file's time is the time of that attempt.
    pub fn attempted(&self, entry: &Entry) -> Result<Entry, SpoolError> {
        let moved = self.rename(entry, Entry { attempts: entry.attempts + 1, ..entry.clone() })?;
        if let Ok(file) = File::open(self.path(&moved)) {
            let _ = file.set_modified(std::time::SystemTime::now());
        }
        Ok(Entry { tried_unix_ms: crate::sys::clock::unix_ms(), ..moved })
    }

    fn rename(&self, from: &Entry, to: Entry) -> Result<Entry, SpoolError> {
        let path = self.path(from);
        std::fs::rename(&path, self.path(&to)).and_then(|()| self.sync_dir(to.state)).map_err(|source| SpoolError {
            doing: "move",
            path,
            source,
        })?;
        Ok(to)
    }

    fn sync_dir(&self, state: State) -> io::Result<()> {
        File::open(self.root.join(state.dir_name()))?.sync_all()
    }

    /// All entries, newest first. What is not ours by name, or no regular file, is not seen.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = State::ALL.into_iter().flat_map(|state| self.entries_in(state)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.at_unix_ms, entry.id.0)));
        entries
    }

    fn entries_in(&self, state: State) -> Vec<Entry> {
        let files = std::fs::read_dir(self.root.join(state.dir_name())).into_iter().flatten().flatten();
        files
            .filter_map(|file| {
                let mut entry = Entry::from_file_name(state, file.file_name().to_str()?)?;
                let found = std::fs::symlink_metadata(file.path()).ok().filter(std::fs::Metadata::is_file)?;
                entry.bytes = found.len();
                let modified = found.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
                entry.tried_unix_ms = modified.as_millis() as u64;
                Some(entry)
            })
            .collect()
    }

    /// The JSON of an entry, once length and checksum fit.
    pub fn read(&self, entry: &Entry) -> Result<Vec<u8>, ReadError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(self.path(entry)).map_err(ReadError::Io)?;
        let mut bytes = Vec::new();
        (&file).take(limits::ENTRY_BYTES + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
        if bytes.len() as u64 > limits::ENTRY_BYTES {
            return Err(ReadError::Corrupt("it is larger than any entry can be"));
        }
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(ReadError::Corrupt("it has no header"))?;
        let content = bytes.split_off(end + 1);
        if bytes != header(&content).as_bytes() {
            return Err(ReadError::Corrupt("length or checksum do not fit the header"));
        }
        Ok(content)
    }

    /// Entries whose examiner died: what they say is what there is, so they go to `pending/`. Returns how many.
    pub fn adopt(&self) -> usize {
        let mut adopted = 0;
        for entry in self.entries_in(State::Open) {
            let free = File::open(self.path(&entry)).is_ok_and(|file| file.try_lock().is_ok());
            if free && self.mark(&entry, State::Pending).is_ok() {
                adopted += 1;
            }
        }
        adopted
    }

    /// The right to deliver from this spool; dropped with the value, and by the kernel with the process. `None`: somebody
    /// else has it, or the directory takes no lock file.
    pub fn sender_lock(&self) -> Option<SenderLock> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(self.root.join("sender.lock")).ok()?;
        file.try_lock().ok()?;
        Some(SenderLock { _file: file })
    }

    /// Forgets an entry for good.
    pub fn remove(&self, entry: &Entry) -> Result<(), SpoolError> {
        let path = self.path(entry);
        std::fs::remove_file(&path).map_err(|source| SpoolError { doing: "remove", path, source })
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.root.join(entry.state.dir_name()).join(entry.file_name())
    }
}

/// See [`Spool::sender_lock`].
#[derive(Debug)]
pub struct SenderLock {
    _file: File,
}

fn header(content: &[u8]) -> String {
    format!("obit 1 {} {:08x}\n", content.len(), crc32fast::hash(content))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

#[cfg(test)]
mod tests;
