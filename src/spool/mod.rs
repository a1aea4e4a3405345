//! Where reports are kept until somebody received them: one directory, bounded, every change a rename.
//!
//! ```text
//! open/ ──settle──▶ pending/ ──▶ sent/ | rejected/ | corrupt/
//!   └── its examiner died (lock free) ──▲
//! ```
//!
//! A file is one entry ([`format`](mod@format)): a header line with format, length and CRC-32, then JSON. It is written under a
//! hidden name, synced and renamed, so that at any instant there is the old content, the new, or nothing. The name is
//! `<unix_ms>-<id>-<attempts>.<kind>`, and the state is the directory: to list, nothing has to be read.
//!
//! All goes through directories held open, so it works in a process that may reach nothing else. What is in them that is
//! not ours (links, FIFOs, directories, files of somebody else, other names) is never followed, waited for or believed.

#![forbid(unsafe_code)]

pub mod discards;
pub mod entry;
mod error;
mod format;
pub mod marker;
pub mod memory;
mod note;
pub mod place;
pub mod quota;
mod refusals;
mod stale;

pub use discards::Discard;
pub use entry::{Entry, Kind, State};
pub use error::{ReadError, SpoolError};

use crate::case::Id;
use crate::limits;
use crate::sys::clock::unix_ms;
use crate::sys::file::{Access, Dir, FileKind, Status};
use crate::sys::process::effective_uid;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Names looked at in one directory; whoever puts more there cannot keep us busy for ever.
const NAMES_MAX: usize = 20_000;
/// A hidden file without a lock this old was left by somebody who died while writing.
const LEFTOVER: Duration = Duration::from_secs(60);
/// A housekeeper may take a new file for a leftover once, between its making and its locking; not three times.
const STORE_ATTEMPTS: usize = 3;

/// One spool directory.
#[derive(Debug)]
pub struct Spool {
    /// For messages, and for whoever has to allow writing there.
    root: PathBuf,
    dir: Dir,
    /// In the order of [`State::ALL`].
    states: [Dir; 5],
    /// Whose files we believe: our own, and those of the directory's owner.
    uids: [u32; 2],
}

/// An entry that its examiner still works on; the lock says so to everybody else.
#[derive(Debug)]
pub struct OpenEntry {
    entry: Entry,
    /// Locked; replaced together with the content.
    file: File,
}

impl OpenEntry {
    pub fn entry(&self) -> &Entry {
        &self.entry
    }
}

impl Spool {
    /// The spool in a state directory; what is missing of it is made.
    pub fn open(state_dir: &Path) -> Result<Spool, SpoolError> {
        let root = state_dir.join("spool");
        let open = || {
            let dir = Dir::open(state_dir)?.make_dir("spool")?;
            let owner = dir.status()?.uid;
            let [open, pending, sent, rejected, corrupt] = State::ALL.map(|state| dir.make_dir(state.dir_name()));
            Ok(Spool {
                root: root.clone(),
                dir,
                states: [open?, pending?, sent?, rejected?, corrupt?],
                uids: [effective_uid(), owner],
            })
        };
        open().map_err(|source| SpoolError {
            doing: "open",
            path: root.clone(),
            follows: "no report can be kept there",
            source,
        })
    }

    /// The directory itself, for whoever has to allow writing in it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state directory it is in.
    pub fn state_dir(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    fn dir(&self) -> &Dir {
        &self.dir
    }

    fn dir_of(&self, state: State) -> &Dir {
        &self.states[state as usize]
    }

    /// Makes an entry durable in `open/`: when this returns it survives a power cut, if its kind is worth that. On a full
    /// disk what is settled makes room, once.
    pub fn begin(&self, kind: Kind, id: Id, at_unix_ms: u64, content: &[u8]) -> Result<OpenEntry, SpoolError> {
        let mut entry =
            Entry { state: State::Open, kind, id, at_unix_ms, attempts: 0, bytes: 0, tried_unix_ms: unix_ms() };
        let file = self.store_making_room(&mut entry, content, "the report is not on this disk")?;
        Ok(OpenEntry { entry, file })
    }

    /// Replaces the content; until the rename the old one stands, and after a failure too.
    pub fn improve(&self, open: &mut OpenEntry, content: &[u8]) -> Result<(), SpoolError> {
        // The new file is locked before it gets the name, the old one is unlocked after it lost it.
        open.file = self.store_making_room(&mut open.entry, content, "the report stays as it was before")?;
        Ok(())
    }

    /// The entry is complete: it goes to `pending/`, and what is over the bounds of the spool goes.
    pub fn settle(&self, open: OpenEntry) -> Result<Entry, SpoolError> {
        let entry = self.mark(&open.entry, State::Pending)?;
        drop(open.file);
        quota::enforce(self, unix_ms());
        Ok(entry)
    }

    fn store_making_room(&self, entry: &mut Entry, content: &[u8], follows: &'static str) -> Result<File, SpoolError> {
        let failed = |source| SpoolError { doing: "write", path: self.path(entry), follows, source };
        let bytes = format::encode(content);
        if bytes.len() as u64 > limits::ENTRY_BYTES {
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than any entry may be")));
        }
        let name = entry.file_name();
        let stored = match self.store(entry, &name, &bytes).map_err(&failed) {
            Err(error) if error.is_full() && quota::make_room(self, entry.kind, bytes.len() as u64) > 0 => {
                self.store(entry, &name, &bytes).map_err(failed)
            }
            other => other,
        }?;
        entry.bytes = bytes.len() as u64;
        Ok(stored)
    }

    fn store(&self, entry: &Entry, name: &str, bytes: &[u8]) -> io::Result<File> {
        let dir = self.dir_of(entry.state);
        let mut random = [0; 16];
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..STORE_ATTEMPTS {
            crate::sys::memory::random(&mut random);
            let hidden = format!(".{}", Id(random));
            let mut file = dir.create(&hidden)?;
            let stored = match file.try_lock() {
                Err(TryLockError::WouldBlock) => Err(io::ErrorKind::NotFound.into()),
                Err(TryLockError::Error(error)) => Err(error),
                Ok(()) => file
                    .write_all(bytes)
                    .and_then(|()| if entry.kind.is_durable() { file.sync_data() } else { Ok(()) })
                    .and_then(|()| self.put(dir, &hidden, entry, name)),
            };
            match stored {
                Ok(()) => return Ok(file),
                Err(error) => {
                    let _ = dir.remove(&hidden);
                    if error.kind() != io::ErrorKind::NotFound {
                        return Err(error);
                    }
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// Gives the file of an entry its name, durably. A directory that has the name already is moved out of the way.
    fn put(&self, from: &Dir, old: &str, entry: &Entry, name: &str) -> io::Result<()> {
        let to = self.dir_of(entry.state);
        if let Err(error) = from.rename(old, to, name) {
            if !matches!(error.raw_os_error(), Some(libc::EISDIR | libc::ENOTEMPTY | libc::EEXIST)) {
                return Err(error);
            }
            to.rename(name, self.dir_of(State::Corrupt), &format!("not-ours-{}-{name}", unix_ms()))?;
            from.rename(old, to, name)?;
        }
        if entry.kind.is_durable() { to.sync() } else { Ok(()) }
    }

    /// Moves an entry to another state. Back to `Pending` it starts anew, with no attempts.
    pub fn mark(&self, entry: &Entry, state: State) -> Result<Entry, SpoolError> {
        let again = state == State::Pending && entry.state.is_settled();
        let attempts = if again { 0 } else { entry.attempts };
        self.rename(entry, Entry { state, attempts, ..entry.clone() })
    }

    /// Back among those that wait, as if it had never been tried.
    pub fn resend(&self, entry: &Entry) -> Result<Entry, SpoolError> {
        self.rename(entry, Entry { state: State::Pending, attempts: 0, ..entry.clone() })
    }

    /// Counts an attempt to deliver it; the file's time is the time of that attempt.
    pub fn attempted(&self, entry: &Entry) -> Result<Entry, SpoolError> {
        self.rename(entry, Entry { attempts: entry.attempts.saturating_add(1), ..entry.clone() })
    }

    fn rename(&self, entry: &Entry, to: Entry) -> Result<Entry, SpoolError> {
        let from = self.dir_of(entry.state);
        let name = entry.file_name();
        let moved = self.put(from, &name, &to, &to.file_name()).and_then(|()| {
            let is_left = to.state != entry.state && to.kind.is_durable();
            if is_left { from.sync() } else { Ok(()) }
        });
        moved.map_err(|source| SpoolError {
            doing: "move",
            path: self.path(entry),
            follows: "it stays where it is",
            source,
        })?;
        if let Ok(file) = self.dir_of(to.state).open_file(&to.file_name(), Access::Write) {
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(Entry { tried_unix_ms: unix_ms(), ..to })
    }

    /// All entries, newest first.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = State::ALL.into_iter().flat_map(|state| self.entries_in(state)).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.at_unix_ms, entry.id.0)));
        entries
    }

    /// Whether there is anything to deliver, or to adopt and deliver.
    pub fn anything_waits(&self) -> bool {
        [State::Pending, State::Open].into_iter().any(|state| !self.entries_in(state).is_empty())
    }

    /// The entries of one state, in no order.
    pub fn entries_in(&self, state: State) -> Vec<Entry> {
        let dir = self.dir_of(state);
        let names = dir.names().into_iter().flatten().take(NAMES_MAX);
        names
            .filter_map(|name| {
                let name = name.to_str()?;
                let mut entry = Entry::from_file_name(state, name)?;
                let status = dir.status_of(name).ok().filter(|status| self.is_ours(status))?;
                entry.bytes = status.bytes;
                entry.tried_unix_ms = status.modified_unix_ms;
                Some(entry)
            })
            .collect()
    }

    fn is_ours(&self, status: &Status) -> bool {
        status.kind == FileKind::Regular && self.uids.contains(&status.uid)
    }

    /// Entries whose id begins with these hex digits, newest first.
    pub fn find(&self, prefix: &str) -> Vec<Entry> {
        let prefix = prefix.to_ascii_lowercase();
        let mut entries = self.entries();
        entries.retain(|entry| entry.id.to_string().starts_with(&prefix));
        entries
    }

    /// The JSON of an entry, once length and checksum fit.
    pub fn read(&self, entry: &Entry) -> Result<Vec<u8>, ReadError> {
        let file = self.dir_of(entry.state).open_file(&entry.file_name(), Access::Read).map_err(ReadError::Io)?;
        self.read_file(&file)
    }

    fn read_file(&self, file: &File) -> Result<Vec<u8>, ReadError> {
        let status = Status::of(file).map_err(ReadError::Io)?;
        if !self.is_ours(&status) {
            return Err(ReadError::Corrupt("it is no file of ours"));
        }
        if status.bytes > limits::ENTRY_BYTES {
            return Err(ReadError::Corrupt("it is larger than any entry can be"));
        }
        let mut bytes = Vec::with_capacity(status.bytes as usize + 1);
        file.take(limits::ENTRY_BYTES + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
        let header_bytes = bytes.len() - format::decode(&bytes)?.len();
        bytes.drain(..header_bytes);
        Ok(bytes)
    }

    /// Entries whose examiner died: what they say is what there is, so they go to `pending/`, or to `corrupt/` if a power
    /// cut left them so. Returns how many wait now that did not.
    pub fn adopt(&self) -> usize {
        self.remove_leftovers();
        let mut adopted = 0;
        for entry in self.entries_in(State::Open) {
            let name = entry.file_name();
            let Some(file) = lock_if_free(self.dir_of(State::Open), &name) else { continue };
            let state = match self.read_file(&file) {
                Err(ReadError::Corrupt(_)) => State::Corrupt,
                _ => State::Pending,
            };
            if self.mark(&entry, state).is_ok() && state == State::Pending {
                adopted += 1;
            }
        }
        adopted
    }

    /// What was being written under a hidden name by somebody who died.
    fn remove_leftovers(&self) {
        let dir = self.dir_of(State::Open);
        for name in dir.names().into_iter().flatten().take(NAMES_MAX) {
            let Some(name) = name.to_str().filter(|name| name.strip_prefix('.').and_then(Id::parse).is_some()) else {
                continue;
            };
            remove_leftover(dir, name);
        }
    }

    /// The right to deliver from this spool; dropped with the value, and by the kernel with the process. `None`: somebody
    /// else has it.
    pub fn sender_lock(&self) -> Result<Option<SenderLock>, SpoolError> {
        const NAME: &str = "sender.lock";
        let opened = self.dir.open_or_create(NAME).and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(SenderLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        });
        opened.map_err(|source| SpoolError {
            doing: "lock",
            path: self.root.join(NAME),
            follows: "nothing is delivered from this state directory",
            source,
        })
    }

    /// Forgets an entry for good.
    pub fn remove(&self, entry: &Entry) -> Result<(), SpoolError> {
        self.dir_of(entry.state).remove(&entry.file_name()).map_err(|source| SpoolError {
            doing: "remove",
            path: self.path(entry),
            follows: "it is still there",
            source,
        })
    }

    fn path(&self, entry: &Entry) -> PathBuf {
        self.root.join(entry.state.dir_name()).join(entry.file_name())
    }
}

/// Opens and locks a file of this name if nobody else has it locked. Between the opening and the locking its owner may have
/// put another file in its place, or another finder may have moved it: then it is not ours to touch.
fn lock_if_free(dir: &Dir, name: &str) -> Option<File> {
    let file = dir.open_file(name, Access::Write).ok()?;
    if Status::of(&file).ok()?.kind != FileKind::Regular {
        return None;
    }
    file.try_lock().ok()?;
    let same = dir.status_of(name).ok()?.is_same_file(&Status::of(&file).ok()?);
    same.then_some(file)
}

/// Removes a hidden file if its maker died: it is not locked, and not so new that the maker may be about to lock it.
fn remove_leftover(dir: &Dir, name: &str) {
    let modified = dir.status_of(name).map_or_else(|_| unix_ms(), |status| status.modified_unix_ms);
    if Duration::from_millis(unix_ms().abs_diff(modified)) > LEFTOVER && lock_if_free(dir, name).is_some() {
        let _ = dir.remove(name);
    }
}

/// See [`Spool::sender_lock`].
#[derive(Debug)]
pub struct SenderLock {
    _file: File,
}

#[cfg(test)]
mod tests;
