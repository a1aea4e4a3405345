//! The cgroup's count of OOM kills: the only word the kernel leaves of why a SIGKILL came.
//!
//! cgroup v2 keeps it in `memory.events`, v1 in `memory.oom_control` (Linux 4.13). Inside a cgroup namespace the file is
//! at the root of the mount; without one the path is in /proc/self/cgroup.

#![forbid(unsafe_code)]

use crate::sys::fd;
use std::fs::File;

/// Where cgroups are mounted: v2 alone, or beside the v1 controllers.
const ROOTS: [(&str, Version); 3] =
    [("/sys/fs/cgroup", Version::V2), ("/sys/fs/cgroup/memory", Version::V1), ("/sys/fs/cgroup/unified", Version::V2)];
/// A line for each hierarchy; under Kubernetes some hundred bytes each.
const MEMBERSHIP_BYTES: usize = 8 * 1024;
/// Enough for either file.
pub const COUNTER_BYTES: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V1,
    V2,
}

/// The open counter file of our own cgroup.
#[derive(Debug)]
pub struct Counter {
    pub file: File,
    pub version: Version,
    /// The directory it is in: limit and peak are beside it.
    pub dir: String,
}

/// Opens the counter, a few system calls; `None` where there is none, as in the root cgroup of a host.
pub fn counter() -> Option<Counter> {
    let membership = fd::read_small(c"/proc/self/cgroup", MEMBERSHIP_BYTES).unwrap_or_default();
    let membership = String::from_utf8(membership).unwrap_or_default();
    ROOTS.into_iter().find_map(|(root, version)| {
        let own = path_in(&membership, version).filter(|path| *path != "/");
        [own, Some("/")].into_iter().flatten().find_map(|path| {
            let dir = format!("{root}{}", path.trim_end_matches('/'));
            let file = File::open(format!("{dir}/{}", version.counter_file())).ok()?;
            Some(Counter { file, version, dir })
        })
    })
}

/// What a cgroup may use and has used at most, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The file of the count.
    pub source: &'static str,
    pub limit: Option<u64>,
    pub peak: Option<u64>,
}

impl Counter {
    /// Reads the files beside the counter.
    pub fn limits(&self) -> Limits {
        let (limit, peak) = self.version.limit_files();
        let read = |name: &str| {
            let text = std::fs::read_to_string(format!("{}/{name}", self.dir)).ok()?;
            bytes(&text)
        };
        Limits { source: self.version.counter_file(), limit: read(limit), peak: read(peak) }
    }
}

impl Version {
    /// Name of the file with the count.
    pub fn counter_file(self) -> &'static str {
        match self {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        }
    }

    /// Names of the files with the limit and the peak, in bytes.
    pub fn limit_files(self) -> (&'static str, &'static str) {
        match self {
            Version::V1 => ("memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            Version::V2 => ("memory.max", "memory.peak"),
        }
    }
}

/// Our path in the hierarchy, from the lines `N:controllers:path` of /proc/self/cgroup (cgroups(7)).
fn path_in(membership: &str, version: Version) -> Option<&str> {
    membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = match version {
            Version::V1 => controllers.split(',').any(|name| name == "memory"),
            Version::V2 => controllers.is_empty(),
        };
        (ours && !path.split('/').any(|part| part == "..")).then_some(path)
    })
}

/// The count in either file's text: the line `oom_kill N`.
pub fn kills(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Whether kills were counted between two readings; never when either is missing or unreadable.
pub fn moved(before: Option<&[u8]>, after: Option<&[u8]>) -> bool {
    match (before.and_then(kills), after.and_then(kills)) {
        (Some(before), Some(after)) => after > before,
        _ => false,
    }
}

/// A limit or a peak; v2 says `max` and v1 a number near 2^63 when there is none.
pub fn bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_both_versions() {
        assert_eq!(kills(b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(kills(b"low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(kills(b"oom_kill_disable 0\nunder_oom 0\n"), None);
        assert_eq!(kills(b"oom_kill x\n"), None);
        assert_eq!(kills(b"\xff"), None);
    }

    #[test]
    fn only_a_count_that_grew_has_moved() {
        let count = |n: u32| Some(format!("oom_kill {n}\n").into_bytes());
        let moved = |a: Option<Vec<u8>>, b: Option<Vec<u8>>| moved(a.as_deref(), b.as_deref());
        assert!(moved(count(1), count(2)));
        assert!(!moved(count(2), count(2)));
        assert!(!moved(None, count(2)));
        assert!(!moved(count(2), None));
    }

    #[test]
    fn the_path_is_that_of_the_version_asked_for() {
        let text = "5:cpu,memory:/docker/abc\n0::/system.slice/x\n";
        assert_eq!(path_in(text, Version::V1), Some("/docker/abc"));
        assert_eq!(path_in(text, Version::V2), Some("/system.slice/x"));
        assert_eq!(path_in("0::/../other\n", Version::V2), None);
        assert_eq!(path_in("nonsense", Version::V2), None);
    }

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(bytes("max\n"), None);
        assert_eq!(bytes("9223372036854771712\n"), None);
        assert_eq!(bytes("33554432\n"), Some(33_554_432));
    }
}
