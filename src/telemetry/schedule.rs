//! When the daily report is due: once in 24 hours whatever restarts, clocks and suspensions do; late rather than twice.
//!
//! ```text
//!           first look                  24 h + up to 30 min             overdue by more than 15 min at a look
//! (nothing) ──────────▶ due in 0..10 min ─────▶ report ─────▶ due ─────▶ ... ─▶ due in 0..10 min, once
//! ```
//!
//! Time is counted from an anchor. Within one boot the kernel's own clock counts (CLOCK_BOOTTIME: never set, goes on while
//! the machine sleeps), so a wall clock that jumps changes nothing. Across boots only the wall clock is left: one that has
//! gone back before the anchor is taken as no time at all, and the count begins anew. One that jumped ahead together with a
//! reboot cannot be told from time that went by.
//!
//! A new report is noted here before it is written to the spool, under the id it will have, and that it is there is noted
//! afterwards. Whoever dies in between leaves a note that the next one makes good, under the same id.
//!
//! Many machines that start together spread over ten minutes, the first time and after an outage alike.

#![forbid(unsafe_code)]

use crate::case::Id;
use crate::sys::clock;
use crate::sys::file::Dir;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// In the state directory.
const FILE: &str = "daily.json";
/// Whoever decides about the schedule holds it.
const LOCK: &str = "daily.lock";
const FILE_BYTES: usize = 16 * 1024;
const FORMAT: u32 = 1;
/// Between two reports, at least.
pub const DAY: Duration = Duration::from_secs(86_400);
/// Added to a day, so that machines which once fell into step drift apart.
const DRIFT: Duration = Duration::from_secs(30 * 60);
/// Over this the machines that start together are spread.
const SPREAD: Duration = Duration::from_secs(10 * 60);
/// Overdue by more than this, nobody was there when it was due: others may have started just now, too.
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
        let boot_ms = u64::try_from(clock::since_boot().as_millis()).unwrap_or(0);
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

/// What is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    format: u32,
    /// What `wait_ms` is counted from.
    anchor: Moment,
    wait_ms: u64,
    /// The wait has been lengthened once to spread the machines, and will not be again.
    spread: bool,
    /// A report that may not have reached the spool yet: 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    making: Option<String>,
    /// When the last report was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_unix_ms: Option<u64>,
}

/// What to do about it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// Not before so long.
    In(Duration),
    Now,
    /// A report of this id was begun, and may be unfinished.
    Unfinished(Id),
}

impl Schedule {
    fn from(now: &Moment, wait: Duration) -> Schedule {
        let wait_ms = millis(wait);
        Schedule { format: FORMAT, anchor: now.clone(), wait_ms, spread: false, making: None, last_unix_ms: None }
    }

    /// Decides: a pure rule. `random` is any number; what is to be kept may change.
    pub fn due(&mut self, now: &Moment, random: u64) -> Due {
        if let Some(id) = self.making.as_deref().and_then(Id::parse) {
            return Due::Unfinished(id);
        }
        // A wait longer than any that is made here was not made here.
        self.wait_ms = self.wait_ms.min(millis(DAY + DRIFT) * 2 + self.elapsed_ms(now));
        let Some(elapsed) = now.since(&self.anchor) else {
            self.anchor = now.clone();
            return Due::In(Duration::from_millis(self.wait_ms));
        };
        let wait = Duration::from_millis(self.wait_ms);
        match elapsed.checked_sub(wait) {
            None => Due::In(wait.saturating_sub(elapsed)),
            Some(over) if over > MISSED && !self.spread => {
                self.spread = true;
                let more = portion(SPREAD, random);
                self.wait_ms = millis(elapsed + more);
                Due::In(more)
            }
            Some(_) => Due::Now,
        }
    }

    fn elapsed_ms(&self, now: &Moment) -> u64 {
        now.since(&self.anchor).map_or(0, millis)
    }

    /// A report is being made under this id: from here on the next one is a day away.
    pub fn begin(&mut self, now: &Moment, id: Id, random: u64) {
        let next = Schedule::from(now, DAY + portion(DRIFT, random));
        *self = Schedule { making: Some(id.to_string()), last_unix_ms: Some(now.unix_ms), ..next };
    }

    /// It is in the spool.
    pub fn finish(&mut self) {
        self.making = None;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A part of the time, evenly over all numbers.
fn portion(time: Duration, random: u64) -> Duration {
    Duration::from_millis(((u128::from(random) * time.as_millis()) >> 64) as u64)
}

/// The schedule of a state directory, held by one at a time.
#[derive(Debug)]
pub struct Held {
    dir: Dir,
    pub schedule: Schedule,
    _lock: File,
}

impl Held {
    /// Takes it, made if there is none. `None`: somebody else holds it, and sees to it.
    pub fn take(state_dir: &Path, now: &Moment, random: u64) -> io::Result<Option<Held>> {
        let dir = Dir::open(state_dir)?;
        let lock = dir.open_or_create(LOCK)?;
        match lock.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        if let Some(schedule) = read(&dir)? {
            return Ok(Some(Held { dir, schedule, _lock: lock }));
        }
        let held = Held { dir, schedule: Schedule::from(now, portion(SPREAD, random)), _lock: lock };
        held.keep()?;
        Ok(Some(held))
    }

    pub fn keep(&self) -> io::Result<()> {
        self.dir.replace(FILE, serde_json::json!(self.schedule).to_string().as_bytes())
    }
}

/// For a look at it: nothing is made.
pub fn peek(state_dir: &Path) -> Option<Schedule> {
    Dir::open(state_dir).and_then(|dir| read(&dir)).ok().flatten()
}

/// One that cannot be read is as good as none: the next report is then up to ten minutes away, and whoever broke the file
/// knows why there are two.
fn read(dir: &Dir) -> io::Result<Option<Schedule>> {
    match dir.read_small(FILE, FILE_BYTES) {
        Ok(bytes) => {
            let schedule = serde_json::from_slice::<Schedule>(&bytes).ok();
            Ok(schedule.filter(|schedule| schedule.format == FORMAT))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
