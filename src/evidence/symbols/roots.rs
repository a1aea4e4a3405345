//! Where debug files are looked for, and what reading them may cost.

#![forbid(unsafe_code)]

use super::bounded::Purse;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where Debian, Fedora and the rest install debug files.
const SYSTEM: &str = "/usr/lib/debug";

/// Directories with debug files: below each one `.build-id/xx/yyyy.debug`, and the paths of programs as they are installed.
///
/// One is made for one death. Its copies share the bound on the work that all files together may make.
#[derive(Clone, Debug)]
pub struct Roots {
    directories: Arc<[PathBuf]>,
    purse: Purse,
}

impl Roots {
    /// The system's own, after those that were given (OBIT_DEBUG_DIRS).
    pub fn new(given: impl IntoIterator<Item = PathBuf>) -> Roots {
        let given = given.into_iter().filter(|path| path.is_absolute());
        Roots { directories: given.chain([PathBuf::from(SYSTEM)]).collect(), purse: Purse::default() }
    }

    /// In the order in which they are searched.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    pub(super) fn purse(&self) -> &Purse {
        &self.purse
    }

    /// Every directory that is read for these ELF files: what a cage has to allow reading, each once.
    pub fn to_read<'p>(&self, elves: impl IntoIterator<Item = &'p Path>) -> Vec<PathBuf> {
        let mut all = self.directories.to_vec();
        all.extend(elves.into_iter().filter_map(Path::parent).filter(|path| path.is_absolute()).map(Path::to_owned));
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Default for Roots {
    fn default() -> Roots {
        Roots::new([])
    }
}
