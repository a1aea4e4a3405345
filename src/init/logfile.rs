//! stderr that is a regular file: the program keeps the file itself, and its end is read there at a death.
//!
//! A pipe in its place would be seen: by who writes to pipes in another way than to files, and by whom RLIMIT_FSIZE is for.
//! What lay in the file before this run is none of its words; a file that was cut meanwhile counts from its beginning.

#![forbid(unsafe_code)]

use crate::case::Tail;
use crate::sys::fd;
use crate::sys::regular::{self, Link};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Whence, lseek};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes of own lines that are known again in the file; older ones stay in the tail.
const OWN_LINES: usize = 4 * 1024;

/// The file, open for reading, and which part of it is of interest.
#[derive(Debug)]
pub struct LogFile {
    out: BorrowedFd<'static>,
    reader: File,
    /// Every write goes to the end of the file: O_APPEND of open(2). Else it goes to the offset, which all that inherited it share.
    appends: bool,
    began_at: u64,
    remembered: usize,
    own: VecDeque<Vec<u8>>,
}

impl LogFile {
    /// `out` leads to a regular file, of which at most `remembered` bytes will be asked for. An error where it cannot be read:
    /// its owner forbade it, or there is no /proc to open it by.
    pub fn new(out: BorrowedFd<'static>, remembered: usize) -> io::Result<LogFile> {
        let flags = OFlag::from_bits_retain(fcntl(out, FcntlArg::F_GETFL)?);
        let reader = match flags & OFlag::O_ACCMODE {
            OFlag::O_RDWR => File::from(fd::duplicate(out)?),
            _ => regular::open(Path::new(&format!("/proc/self/fd/{}", out.as_raw_fd())), Link::Followed)?,
        };
        let appends = flags.contains(OFlag::O_APPEND);
        let mut file = LogFile { out, reader, appends, began_at: 0, remembered, own: VecDeque::new() };
        file.began_at = file.end()?;
        Ok(file)
    }

    /// Where the next byte goes.
    fn end(&self) -> io::Result<u64> {
        if self.appends {
            return Ok(self.reader.metadata()?.len());
        }
        Ok(u64::try_from(lseek(self.out, 0, Whence::SeekCur)?).unwrap_or(0))
    }

    /// The last thing that was written is no whole line.
    pub fn ends_mid_line(&self) -> bool {
        let mut last = [b'\n'];
        let last_at = self.end().ok().and_then(|end| end.checked_sub(1)).filter(|at| *at >= self.began_at);
        last_at.is_some_and(|at| self.reader.read_at(&mut last, at).is_ok() && last != [b'\n'])
    }

    /// A line of ours goes there; it is none of the program's words.
    pub fn note_own(&mut self, line: &[u8]) {
        self.own.push_back(line.to_vec());
        while self.own.iter().map(Vec::len).sum::<usize>() > OWN_LINES {
            self.own.pop_front();
        }
    }

    /// The end of what was written since the beginning, without our lines; `None` if it cannot be read any more.
    pub fn tail(&self) -> Option<Tail> {
        let end = self.end().ok()?;
        let from = if end < self.began_at { 0 } else { self.began_at };
        let start = from.max(end.saturating_sub(self.remembered as u64));
        let mut bytes = vec![0; usize::try_from(end - start).ok()?];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.reader.read_at(&mut bytes[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        bytes.truncate(filled);
        // Where a file was cut under a writer that does not append, nothing lies before its next words.
        let hole = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.drain(..hole);
        let before = bytes.len();
        for line in self.own.iter().rev() {
            if let Some(at) = memchr::memmem::rfind(&bytes, line) {
                bytes.drain(at..at + line.len());
            }
        }
        let missing = (hole + before - bytes.len()) as u64;
        Some(Tail { total_bytes: (end - from).saturating_sub(missing), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    fn opened(path: &Path, options: &mut OpenOptions) -> (File, LogFile) {
        let writer = options.open(path).unwrap();
        let out = fd::keep(OwnedFd::from(writer.try_clone().unwrap()));
        (writer, LogFile::new(out, 8).unwrap())
    }

    fn told(file: &LogFile) -> (String, u64) {
        let tail = file.tail().unwrap();
        (String::from_utf8(tail.bytes).unwrap(), tail.total_bytes)
    }

    #[test]
    fn the_end_of_what_was_written_since_is_told() {
        for append in [true, false] {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join("log");
            std::fs::write(&path, if append { "older\n" } else { "" }).unwrap();
            let (mut writer, file) = opened(&path, OpenOptions::new().write(true).append(append));
            assert_eq!(told(&file), (String::new(), 0));
            assert!(!file.ends_mid_line());
            writer.write_all(b"ab\ncd").unwrap();
            assert_eq!(told(&file), ("ab\ncd".to_owned(), 5));
            assert!(file.ends_mid_line());
            writer.write_all(b"efg\nhij\n").unwrap();
            assert_eq!(told(&file), ("efg\nhij\n".to_owned(), 13));
            assert!(!file.ends_mid_line());
        }
    }

    #[test]
    fn a_file_that_was_cut_counts_from_its_beginning() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        std::fs::write(&path, "a long line of another run\n").unwrap();
        let (mut writer, file) = opened(&path, OpenOptions::new().append(true));
        writer.set_len(0).unwrap();
        writer.write_all(b"new\n").unwrap();
        assert_eq!(told(&file), ("new\n".to_owned(), 4));
        // A writer that does not append leaves a hole.
        let (mut writer, file) = opened(&path, OpenOptions::new().read(true).write(true).truncate(true));
        writer.write_all(b"gone\n").unwrap();
        writer.set_len(0).unwrap();
        writer.write_all(b"kept\n").unwrap();
        assert_eq!(told(&file).0, "kept\n");
    }

    #[test]
    fn our_own_lines_are_not_in_it() {
        let temp = tempfile::tempdir().unwrap();
        let (mut writer, mut file) = opened(&temp.path().join("log"), OpenOptions::new().create(true).append(true));
        writer.write_all(b"a\n").unwrap();
        file.note_own(b"o1\n");
        writer.write_all(b"o1\nb\n").unwrap();
        assert_eq!(told(&file), ("a\nb\n".to_owned(), 4));
    }
}
