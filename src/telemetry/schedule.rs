//! When the daily report is due: once in 24 hours whatever restarts, clocks and suspensions do; late rather than twice.
//!
//! ```text
//!           first look                  24 h + up to 30 min             overdue by more than 15 min at a look
//! (nothing) ──────────▶ due in 0..10 min ─────▶ report ─────▶ due ─────▶ ... ─▶ due in 0..10 min, once
//! ```
//!
//! A new report is noted here before it is written to the spool, under the id it will have, and that it is there is noted
//! afterwards. Whoever dies in between leaves a note that the next one makes good, under the same id.
//!
//! How time is counted, and how many machines that start together are spread, is [`wait`](super::wait)'s.

#![forbid(unsafe_code)]

pub use super::wait::Moment;
use super::wait::{SPREAD, Wait, portion};
use crate::case::Id;
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
/// No wait is begun that is longer.
const LONGEST: Duration = DAY.saturating_add(DRIFT);

/// What is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schedule {
    format: u32,
    #[serde(flatten)]
    wait: Wait,
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
    /// Of a machine that never made a report.
    pub fn first(now: &Moment, random: u64) -> Schedule {
        Schedule::after(now, portion(SPREAD, random))
    }

    fn after(now: &Moment, wait: Duration) -> Schedule {
        Schedule { format: FORMAT, wait: Wait::begin(now, wait), making: None, last_unix_ms: None }
    }

    /// Decides: a pure rule. `random` is any number; what is to be kept may change.
    pub fn due(&mut self, now: &Moment, random: u64) -> Due {
        if let Some(id) = self.making.as_deref().and_then(Id::parse) {
            return Due::Unfinished(id);
        }
        self.wait.left(now, LONGEST, random).map_or(Due::Now, Due::In)
    }

    /// A report is being made under this id: from here on the next one is a day away.
    pub fn begin(&mut self, now: &Moment, id: Id, random: u64) {
        let next = Schedule::after(now, DAY + portion(DRIFT, random));
        *self = Schedule { making: Some(id.to_string()), last_unix_ms: Some(now.unix_ms), ..next };
    }

    /// It is in the spool.
    pub fn finish(&mut self) {
        self.making = None;
    }
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
        let held = Held { dir, schedule: Schedule::first(now, random), _lock: lock };
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
