//! What goes wrong with files of the state directory: what happened, to what, what follows, what to do.

#![forbid(unsafe_code)]

use super::format::Unreadable;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A step that failed.
#[derive(Debug)]
pub struct SpoolError {
    /// `write`, `move`: completes "cannot …".
    pub(super) doing: &'static str,
    pub(super) path: PathBuf,
    /// What is not so now: completes "so …".
    pub(super) follows: &'static str,
    pub(super) source: io::Error,
}

impl SpoolError {
    /// The disk or the quota is full.
    pub fn is_full(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
    }

    /// Somebody else has moved or removed it meanwhile.
    pub fn is_gone(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => ": free some space, or run obit crashes purge",
            Some(libc::EROFS) => ": mount a volume there, or name another place with --state-dir",
            Some(libc::EACCES | libc::EPERM) => {
                ": run as the user that owns it, or name another place with --state-dir"
            }
            Some(libc::EISDIR | libc::ELOOP | libc::ENXIO) => ": remove it",
            Some(libc::EIO) => ": look at the disk",
            _ => "",
        };
        let (doing, path, source, follows) = (self.doing, self.path.display(), &self.source, self.follows);
        write!(f, "cannot {doing} {path} ({source}), so {follows}{advice}")
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
    /// It was cut short, overwritten, or never ours: it belongs into `corrupt/`.
    Corrupt(&'static str),
    /// It is whole and from a later obit: it stays where it is.
    Newer(u32),
    Io(io::Error),
}

impl From<Unreadable> for ReadError {
    fn from(why: Unreadable) -> ReadError {
        match why {
            Unreadable::Corrupt(why) => ReadError::Corrupt(why),
            Unreadable::Newer(format) => ReadError::Newer(format),
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Corrupt(why) => Unreadable::Corrupt(why).fmt(f),
            ReadError::Newer(format) => Unreadable::Newer(*format).fmt(f),
            ReadError::Io(error) => write!(f, "the entry cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadError::Io(error) => Some(error),
            ReadError::Corrupt(_) | ReadError::Newer(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_what_happened_what_follows_and_what_to_do() {
        let say = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            let path = PathBuf::from("/s/spool/open/x");
            SpoolError { doing: "write", path, follows: "the report is not on disk", source }.to_string()
        };
        assert_eq!(
            say(libc::ENOSPC),
            "cannot write /s/spool/open/x (No space left on device (os error 28)), so the report is not on disk: \
             free some space, or run obit crashes purge"
        );
        assert!(say(libc::EDQUOT).ends_with("free some space, or run obit crashes purge"));
        assert!(say(libc::EROFS).ends_with("mount a volume there, or name another place with --state-dir"));
        assert!(say(libc::EACCES).ends_with("run as the user that owns it, or name another place with --state-dir"));
        assert!(say(libc::EINVAL).ends_with("so the report is not on disk"));
    }
}
