//! Where the program works: the directory that a relative core_pattern means. A zombie has none any more, and the program may have
//! changed it since its start, so it is looked at while there is one: when the program has written to stderr, as it does who gives
//! up, when it is sent a signal that dumps core, and when it stands still to be looked at.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks for stderr's sake, however much is written.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Whereabouts {
    seen: Option<PathBuf>,
    next: Duration,
}

impl Whereabouts {
    pub fn look(&mut self, pid: i32) {
        // Of one that is dying there may be nothing to see, and then the last look holds.
        if let Ok(seen) = std::fs::read_link(format!("/proc/{pid}/cwd")) {
            self.seen = Some(seen);
        }
    }

    /// The same, but not too often.
    pub fn glance(&mut self, pid: i32, now: Duration) {
        if now >= self.next {
            self.next = now + PAUSE;
            self.look(pid);
        }
    }

    /// Where it was last seen.
    pub fn seen(&self) -> Option<&Path> {
        self.seen.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_directory_that_was_seen_stands() {
        let own = std::process::id() as i32;
        let mut whereabouts = Whereabouts::default();
        whereabouts.glance(own, Duration::from_secs(7));
        assert_eq!(whereabouts.seen(), std::env::current_dir().ok().as_deref());
        // Nobody has this number.
        whereabouts.look(i32::MAX);
        assert!(whereabouts.seen().is_some());
        let seen = whereabouts.seen.take();
        whereabouts.glance(own, Duration::from_secs(7) + PAUSE / 2);
        assert_eq!(whereabouts.seen(), None, "too soon");
        whereabouts.glance(own, Duration::from_secs(7) + PAUSE);
        assert_eq!(whereabouts.seen, seen);
    }
}
