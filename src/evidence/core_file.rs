//! The core of a death that has just been, where core_pattern says that it is.
//!
//! Anybody may write into such a directory, and a name may be somebody else's: what is taken is a regular file of the dead
//! process's own user, or of root, whom the kernel makes the owner where it distrusts the process; written since the start of
//! the run and not behind a symbolic link. Whether it is of this process its own notes must say.

#![forbid(unsafe_code)]

use super::core_pattern::{self, Dead, Pattern};
use crate::case::Case;
use crate::sys::regular::{self, Link};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Files of a directory that are looked at.
const NAMES: usize = 10_000;

/// An open core file.
#[derive(Debug)]
pub struct Found {
    pub path: PathBuf,
    pub file: File,
    /// Bytes.
    pub size: u64,
}

/// The pattern in force; `None` where /proc cannot be read.
pub fn pattern() -> Option<Pattern> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let uses_pid = read("core_uses_pid").is_some_and(|text| text.trim() == "1");
    read("core_pattern").map(|text| Pattern::parse(&text, uses_pid))
}

/// Looks for the core of this death; the error says why there is none, for the gap.
pub fn find(case: &Case, dead: &Dead) -> Result<Found, String> {
    let template = match pattern() {
        Some(Pattern::File(template)) => template,
        Some(other) => return Err(other.in_words()),
        None => return Err("core_pattern cannot be read here".to_owned()),
    };
    let (directory, is_its_name) = core_pattern::place(&template, dead)
        .ok_or_else(|| format!("core_pattern {template} has a directory of its own each time"))?;
    let directory = match (directory.starts_with('/'), &case.run.cwd) {
        (true, _) => PathBuf::from(directory),
        (false, Some(cwd)) => cwd.join(directory),
        (false, None) => return Err("the program's directory is not known".to_owned()),
    };
    let entries = std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let names = entries.flatten().take(NAMES).map(|entry| entry.file_name());
    let mut candidates: Vec<Found> = names
        .filter(|name| name.to_str().is_some_and(&is_its_name))
        .filter_map(|name| open(&directory.join(name), case.run.started_unix_ms, dead.uid))
        .collect();
    candidates.sort_by_key(|found| found.file.metadata().map(|found| (found.mtime(), found.mtime_nsec())).ok());
    candidates.pop().ok_or_else(|| {
        format!(
            "the kernel says that it dumped, but {} has no core of it; the program may have changed its directory",
            directory.display()
        )
    })
}

fn open(path: &Path, since_unix_ms: u64, uid: Option<u32>) -> Option<Found> {
    let file = regular::open(path, Link::Refused).ok()?;
    let found = file.metadata().ok()?;
    let is_new = found.mtime() >= i64::try_from(since_unix_ms / 1000).ok()?;
    let is_its_own = found.uid() == 0 || Some(found.uid()) == uid;
    (is_new && is_its_own).then(|| Found { path: path.to_owned(), size: found.len(), file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_new_regular_file_of_the_same_user_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("core");
        std::fs::write(&path, b"\x7fELF").unwrap();
        let owner = std::fs::metadata(&path).unwrap().uid();
        assert_eq!(open(&path, 0, Some(owner)).unwrap().size, 4);
        assert!(open(&path, u64::MAX, Some(owner)).is_none());
        assert_eq!(open(&path, 0, Some(owner + 1)).is_some(), owner == 0);
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(open(&link, 0, Some(owner)).is_none());
        assert!(open(directory.path(), 0, Some(owner)).is_none());
        assert!(open(Path::new("/dev/zero"), 0, Some(0)).is_none());
    }
}
