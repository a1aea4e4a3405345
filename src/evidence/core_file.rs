//! The core of a death that has just been, where core_pattern says that it is.
//!
//! A relative pattern means the directory that the process worked in at its end, which nobody knows of a zombie: it is looked for
//! wherever the process is likely to have been. Anybody may write into such a directory, and a name may be somebody else's: what is
//! taken is a regular file of the dead process's own user, or of root, whom the kernel makes the owner where it distrusts the process;
//! written since the start of the run and not behind a symbolic link. Whether it is of this process its own notes must say.

#![forbid(unsafe_code)]

use super::core_pattern::{self, Dead, Pattern};
use crate::case::Case;
use crate::sys::regular::{self, Link};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Files of a directory that are looked at.
const NAMES: usize = 10_000;
/// Files that are asked whose they are.
const CANDIDATES: usize = 4;

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

/// What may be the core of this death, the newest first; the error says why there is none, for the gap.
pub fn find(case: &Case, dead: &Dead) -> Result<Vec<Found>, String> {
    let template = match pattern() {
        Some(Pattern::File(template)) => template,
        Some(other) => return Err(other.in_words()),
        None => return Err("core_pattern cannot be read here".to_owned()),
    };
    let (directory, is_its_name) = core_pattern::place(&template, Some(dead))
        .ok_or_else(|| format!("core_pattern {template} has a directory of its own each time"))?;
    let (directories, hint) = match directory.starts_with('/') {
        true => (vec![PathBuf::from(directory)], ""),
        false => {
            let directories = likely(case).into_iter().map(|likely| likely.join(&directory)).collect();
            (directories, "; the program may have changed its directory")
        }
    };
    let mut candidates = Vec::new();
    let mut why_not = None;
    for directory in &directories {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                why_not.get_or_insert(format!("{}: {error}", directory.display()));
                continue;
            }
        };
        let names = entries.flatten().take(NAMES).map(|entry| entry.file_name());
        let cores = names
            .filter(|name| name.to_str().is_some_and(&is_its_name))
            .filter_map(|name| open(&directory.join(name), case.run.started_unix_ms, dead.uid));
        candidates.extend(cores);
    }
    if candidates.is_empty() {
        let named: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
        let none = format!("the kernel says that it dumped, but {} has no core of it{hint}", named.join(" or "));
        return Err(why_not.filter(|_| directories.len() == 1).unwrap_or(none));
    }
    candidates.sort_by_key(|found: &Found| {
        std::cmp::Reverse(found.file.metadata().map(|found| (found.mtime(), found.mtime_nsec())).ok())
    });
    candidates.truncate(CANDIDATES);
    Ok(candidates)
}

/// Where the program may have worked at its end: where it was last seen, where it was started, where daemon(3) goes, where it lies.
fn likely(case: &Case) -> Vec<PathBuf> {
    let run = &case.run;
    let beside = run.exe.as_deref().and_then(Path::parent).filter(|beside| beside.is_absolute());
    let mut likely: Vec<PathBuf> = Vec::new();
    for path in [case.last_directory.as_deref(), run.cwd.as_deref(), Some(Path::new("/")), beside].into_iter().flatten()
    {
        if !likely.iter().any(|known| known == path) {
            likely.push(path.to_owned());
        }
    }
    likely
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
