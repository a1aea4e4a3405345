//! A wait that outlives restarts: neither a clock that is set nor a reboot makes it much shorter, and machines that missed its
//! end together do not end it together.
//!
//! Time is counted from an anchor. Within one boot the kernel's own clock counts (CLOCK_BOOTTIME: never set, goes on while
//! the machine sleeps), so a wall clock that jumps changes nothing. Across boots only the wall clock is left: one that has
//! gone back before the anchor is taken as no time at all. One that jumped ahead together with a reboot cannot be told from
//! time that went by. Either way the first look of a boot is the new anchor, so the wall clock counts no longer than it must.

#![forbid(unsafe_code)]

use crate::sys::clock;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Over this the machines that start together are spread, the first time and after an outage alike.
pub const SPREAD: Duration = Duration::from_secs(10 * 60);
/// Over by more than this, nobody was there when it ended: others may have started just now, too.
const MISSED: Duration = Duration::from_secs(15 * 60);

/// A moment by both clocks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Moment {
    pub unix_ms: u64,
    /// Of this boot; empty where the kernel does not say.
    pub boot_id: String,
    /// Since that boot, the machine's sleep included.
    pub boot_ms: u64,
}

impl Moment {
    pub fn now() -> Moment {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot_ms = millis(clock::since_boot());
        Moment { unix_ms: clock::unix_ms(), boot_id: boot_id.trim().to_owned(), boot_ms }
    }

    /// How long ago `then` was; `None`: the wall clock has gone back before it.
    fn since(&self, then: &Moment) -> Option<Duration> {
        let same_boot = !self.boot_id.is_empty() && self.boot_id == then.boot_id;
        let ms = match same_boot {
            true => self.boot_ms.checked_sub(then.boot_ms)?,
            false => self.unix_ms.checked_sub(then.unix_ms)?,
        };
        Some(Duration::from_millis(ms))
    }
}

/// As it is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wait {
    /// What `wait_ms` is counted from.
    anchor: Moment,
    wait_ms: u64,
    /// The wait has been lengthened once to spread the machines, and will not be again.
    spread: bool,
}

impl Wait {
    pub fn begin(now: &Moment, length: Duration) -> Wait {
        Wait { anchor: now.clone(), wait_ms: millis(length), spread: false }
    }

    /// What is left of it; `None`: it is over. A pure rule: `longest` is the longest that is ever begun, `random` is any number,
    /// what is to be kept may change.
    pub fn left(&mut self, now: &Moment, longest: Duration, random: u64) -> Option<Duration> {
        let elapsed = now.since(&self.anchor);
        let by_another_clock = elapsed.is_none() || now.boot_id != self.anchor.boot_id;
        let elapsed = elapsed.unwrap_or_default();
        // A wait longer than any that is begun here was not begun here.
        let wait = Duration::from_millis(self.wait_ms).min(elapsed + longest);
        let Some(over) = elapsed.checked_sub(wait) else {
            let left = wait.saturating_sub(elapsed);
            if by_another_clock || millis(wait) != self.wait_ms {
                *self = Wait { spread: self.spread, ..Wait::begin(now, left) };
            }
            return Some(left);
        };
        if over <= MISSED || self.spread {
            return None;
        }
        let more = portion(SPREAD, random);
        *self = Wait { spread: true, ..Wait::begin(now, more) };
        Some(more)
    }

    /// The latest moment at which it is over, for people, in milliseconds since 1970.
    pub fn ends_unix_ms(&self, now: &Moment, longest: Duration) -> u64 {
        let left = self.clone().left(now, longest, u64::MAX).unwrap_or_default();
        now.unix_ms.saturating_add(millis(left))
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A part of the time, evenly over all numbers.
pub(super) fn portion(time: Duration, random: u64) -> Duration {
    Duration::from_millis(((u128::from(random) * time.as_millis()) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn at(unix_hours: u64, boot: &str, boot_hours: u64) -> Moment {
        Moment { unix_ms: unix_hours * 3_600_000, boot_id: boot.to_owned(), boot_ms: boot_hours * 3_600_000 }
    }

    /// A day's wait begun at hour 1000 of the wall clock and hour 10 of boot `a`, looked at later.
    fn left(now: &Moment) -> Option<Duration> {
        Wait::begin(&at(1000, "a", 10), DAY).left(now, DAY, 0)
    }

    #[test]
    fn within_a_boot_only_the_kernels_own_clock_counts() {
        for wall in [1, 1000 - 72, 1012, 1000 + 72, 9999] {
            assert_eq!(left(&at(wall, "a", 22)), Some(12 * HOUR), "{wall}");
            assert_eq!(left(&at(wall, "a", 34)), None, "{wall}");
        }
        // Where the kernel does not say which boot it is, the wall clock is all there is.
        let mut nameless = Wait::begin(&at(1000, "", 10), DAY);
        assert_eq!(nameless.left(&at(1023, "", 1), DAY, 0), Some(HOUR));
    }

    #[test]
    fn across_boots_a_wall_clock_that_went_back_begins_the_count_anew() {
        assert_eq!(left(&at(1023, "b", 1)), Some(HOUR));
        let mut wait = Wait::begin(&at(1000, "a", 10), DAY);
        assert_eq!(wait.left(&at(900, "b", 1), DAY, 0), Some(DAY));
        assert_eq!(wait.left(&at(901, "b", 2), DAY, 0), Some(23 * HOUR), "from there on by the clock of that boot");
        assert_eq!(wait.left(&at(924, "c", 1), DAY, 0), None);
    }

    #[test]
    fn a_wall_clock_that_jumps_after_a_reboot_changes_nothing_once_somebody_looked() {
        for wall in [1, 1000 - 72, 1000 + 72] {
            let mut wait = Wait::begin(&at(1000, "a", 10), DAY);
            assert_eq!(wait.left(&at(1010, "b", 1), DAY, 0), Some(14 * HOUR));
            assert_eq!(wait.left(&at(wall, "b", 3), DAY, 0), Some(12 * HOUR), "{wall}");
            assert_eq!(wait.left(&at(wall, "b", 15), DAY, 0), None, "{wall}");
        }
    }

    #[test]
    fn an_end_that_was_missed_is_put_off_once_by_up_to_ten_minutes() {
        for (random, more) in [(0, Duration::ZERO), (u64::MAX / 2, SPREAD / 2), (u64::MAX, SPREAD)] {
            let mut wait = Wait::begin(&at(1000, "a", 10), DAY);
            let put_off = wait.left(&at(1072, "b", 1), DAY, random).expect("it was missed by two days");
            assert!(put_off <= more && put_off + Duration::from_millis(1) >= more, "{put_off:?}");
            let later = at(1073, "b", 2);
            assert_eq!(wait.left(&later, DAY, random), None, "once");
        }
    }

    #[test]
    fn a_wait_that_nobody_here_began_is_no_longer_than_the_longest() {
        let mut wait = Wait::begin(&at(1000, "a", 10), DAY * 365);
        assert_eq!(wait.left(&at(1001, "a", 11), DAY, 0), Some(DAY));
        assert_eq!(wait.left(&at(1002, "a", 12), DAY, 0), Some(23 * HOUR));
        assert_eq!(Wait::begin(&at(1000, "a", 10), DAY * 365).ends_unix_ms(&at(2000, "a", 11), DAY), 2024 * 3_600_000);
    }

    #[test]
    fn now_is_a_moment_of_this_boot() {
        let now = Moment::now();
        assert!(now.unix_ms > 0 && now.boot_ms > 0 && !now.boot_id.is_empty());
    }
}
