//! The fatal error log of a JVM, `hs_err_pid7.log`: its stderr holds nothing of it, so it is looked for where the JVM
//! leaves it, in its working directory and, where that is not writable, in /tmp.
//!
//! Anybody may write into such a directory. What is taken is a regular file of the dead process's own user, made since
//! the start of the run, which names the pid in its head; it is opened before the cage closes and read inside.

#![forbid(unsafe_code)]

use crate::case::Run;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The head and the stacks stand at its beginning; memory maps and flags follow.
const BYTES: u64 = 256 * 1024;

/// An open log, not yet read.
#[derive(Debug)]
pub struct Log {
    file: File,
    owner: u32,
}

/// The log of that pid, if there is one that may be this run's.
pub fn find(run: &Run, pid: i32) -> Option<Log> {
    let name = format!("hs_err_pid{pid}.log");
    let directories = [run.cwd.as_deref(), Some(Path::new("/tmp"))];
    directories.into_iter().flatten().find_map(|directory| open(&directory.join(&name), run.started_unix_ms))
}

fn open(path: &Path, since_unix_ms: u64) -> Option<Log> {
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).ok()?;
    let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let is_new = found.mtime() >= i64::try_from(since_unix_ms / 1000).ok()?;
    is_new.then(|| Log { file, owner: found.uid() })
}

impl Log {
    /// Its beginning, if it is the user's whose process died.
    pub fn read(self, uid: Option<u32>) -> Option<Vec<u8>> {
        if uid != Some(self.owner) {
            return None;
        }
        let mut bytes = Vec::new();
        self.file.take(BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_new_file_of_the_same_user_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hs_err_pid7.log");
        std::fs::write(&path, "# A fatal error").unwrap();
        let owner = std::fs::metadata(&path).unwrap().uid();
        assert_eq!(open(&path, 0).unwrap().read(Some(owner)).as_deref(), Some(&b"# A fatal error"[..]));
        assert_eq!(open(&path, 0).unwrap().read(Some(owner + 1)), None);
        assert_eq!(open(&path, 0).unwrap().read(None), None);
        assert!(open(&path, u64::MAX).is_none());
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(open(&link, 0).is_none());
        assert!(open(directory.path(), 0).is_none());
        assert!(open(Path::new("/dev/zero"), 0).is_none());
    }
}
