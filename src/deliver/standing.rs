//! What a destination has asked of us, kept between visits: how long to stay away, by category and as a whole.
//!
//! Times are of the wall clock, for they outlive a process. A pause that was noted in the future, or that is longer than any
//! may be, was made by a clock that has jumped, and is over.

#![forbid(unsafe_code)]

use super::rate::{ALL, Limits};
use super::retry::backoff;
use crate::limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Failures in a row are remembered for so long after the last one.
const DAY_MS: u64 = 86_400_000;

/// One destination's pauses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// What the server said, by category or for [`ALL`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    limits: BTreeMap<String, Pause>,
    /// Attempts in a row, of whatever, that came to nothing.
    #[serde(default)]
    failures: u32,
    /// What we decided ourselves after the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Pause>,
    /// The server asked for that pause, or would answer the same again.
    #[serde(default)]
    said: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Pause {
    since_unix_ms: u64,
    until_unix_ms: u64,
    why: String,
}

impl Pause {
    fn new(now_unix_ms: u64, length: Duration, why: String) -> Pause {
        let length = length.min(limits::RETRY_AFTER_MAX);
        Pause { since_unix_ms: now_unix_ms, until_unix_ms: after(now_unix_ms, length), why }
    }

    fn is_over(&self, now_unix_ms: u64) -> bool {
        let is_now = self.since_unix_ms <= now_unix_ms && now_unix_ms < self.until_unix_ms;
        let is_sound = self.until_unix_ms <= after(self.since_unix_ms, limits::RETRY_AFTER_MAX);
        !(is_now && is_sound)
    }
}

/// A moment later, in milliseconds since 1970.
pub fn after(unix_ms: u64, length: Duration) -> u64 {
    unix_ms.saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

impl Standing {
    /// Whether what is of this category has to wait: until when, and why.
    pub fn closed(&self, category: &str, now_unix_ms: u64) -> Option<(u64, &str)> {
        let said = [ALL, category].into_iter().filter_map(|category| self.limits.get(category));
        let pauses = said.chain(&self.failed).filter(|pause| !pause.is_over(now_unix_ms));
        pauses.max_by_key(|pause| pause.until_unix_ms).map(|pause| (pause.until_unix_ms, &*pause.why))
    }

    /// The server limits our rate. A shorter limit never shortens a longer one.
    pub fn limit(&mut self, limits: &Limits, now_unix_ms: u64) {
        for (category, length) in limits {
            let what = if category == ALL { "everything" } else { category };
            let pause = Pause::new(now_unix_ms, *length, format!("the server limits the rate of {what}"));
            let known = self.limits.get(category).filter(|known| !known.is_over(now_unix_ms));
            if known.is_none_or(|known| known.until_unix_ms < pause.until_unix_ms) {
                self.limits.insert(category.clone(), pause);
            }
        }
        self.limits.retain(|_, pause| !pause.is_over(now_unix_ms));
    }

    /// An attempt came to nothing: longer after each, and no shorter than the server asks.
    pub fn failed(&mut self, failure: Failure, random: u64, now_unix_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.said = failure.said;
        let length = jittered(backoff(self.failures), random).max(failure.at_least);
        self.failed = Some(Pause::new(now_unix_ms, length, failure.why));
    }

    /// Something was answered as it should be.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.failed = None;
    }

    /// A new start is a new chance: what we decided ourselves before it is over, what the server said is not.
    pub fn started(&mut self, started_unix_ms: u64) {
        if !self.said && self.failed.as_ref().is_some_and(|pause| pause.since_unix_ms < started_unix_ms) {
            self.failed = None;
        }
    }

    /// Nothing in it matters any more.
    pub fn is_clear(&self, now_unix_ms: u64) -> bool {
        let is_recent = |pause: &Pause| now_unix_ms.abs_diff(pause.since_unix_ms) < DAY_MS;
        !self.failed.as_ref().is_some_and(is_recent) && self.limits.values().all(|pause| pause.is_over(now_unix_ms))
    }
}

/// What became of an attempt that was to be repeated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub why: String,
    /// The server said how long, or would say the same again: a new start does not ask before.
    pub said: bool,
    /// The server may have the entry, or have choked on it: it is an attempt of that entry.
    pub counts: bool,
    pub at_least: Duration,
}

/// Between half of it and all: after an outage not everybody comes at once.
fn jittered(length: Duration, random: u64) -> Duration {
    let half = length / 2;
    half + half.mul_f64((random % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn limits(rows: &[(&str, u64)]) -> Limits {
        rows.iter().map(|(category, seconds)| ((*category).to_owned(), Duration::from_secs(*seconds))).collect()
    }

    fn failure(said: bool, at_least: u64) -> Failure {
        Failure { why: "x".to_owned(), said, counts: true, at_least: Duration::from_secs(at_least) }
    }

    #[test]
    fn a_limit_closes_its_category_until_it_is_over_and_all_closes_all() {
        let mut standing = Standing::default();
        standing.limit(&limits(&[("error", 10)]), 0);
        assert_eq!(standing.closed("error", 9_999), Some((10_000, "the server limits the rate of error")));
        assert_eq!(standing.closed("error", 10_000), None);
        assert_eq!(standing.closed("session", 0), None);
        standing.limit(&limits(&[("", 5)]), 0);
        assert_eq!(standing.closed("session", 0).map(|(until, _)| until), Some(5_000));
        assert_eq!(standing.closed("error", 0).map(|(until, _)| until), Some(10_000), "the longer one counts");
    }

    #[test]
    fn a_shorter_limit_does_not_shorten_a_longer_one() {
        let mut standing = Standing::default();
        standing.limit(&limits(&[("error", 100)]), 0);
        standing.limit(&limits(&[("error", 1)]), 50_000);
        assert_eq!(standing.closed("error", 60_000).map(|(until, _)| until), Some(100_000));
        standing.limit(&limits(&[("error", 1)]), 100_000);
        assert_eq!(standing.closed("error", 100_500).map(|(until, _)| until), Some(101_000));
    }

    #[test]
    fn failures_in_a_row_wait_longer_and_an_answer_ends_that() {
        let mut standing = Standing::default();
        let mut last = 0;
        for _ in 0..10 {
            standing.failed(failure(false, 0), 999, 0);
            let until = standing.closed("error", 0).unwrap().0;
            assert!(until > last, "{until}");
            last = until;
        }
        standing.succeeded();
        assert!(standing.is_clear(0));
        standing.failed(failure(true, 0), 0, 0);
        assert_eq!(standing.closed("session", 0).map(|(until, _)| until), Some(500));
        standing.failed(failure(true, 3600), 0, 0);
        assert_eq!(standing.closed("session", 0).map(|(until, _)| until), Some(HOUR_MS));
    }

    #[test]
    fn a_new_start_tries_again_unless_the_server_said_when() {
        for (said, closed) in [(false, false), (true, true)] {
            let mut standing = Standing::default();
            standing.failed(failure(said, 3600), 0, 10);
            standing.started(10);
            assert!(standing.closed("error", 20).is_some(), "the same start");
            standing.started(20);
            assert_eq!(standing.closed("error", 20).is_some(), closed);
        }
    }

    #[test]
    fn a_clock_that_jumps_does_not_silence_us() {
        let mut standing = Standing::default();
        standing.limit(&limits(&[("error", u64::MAX / 4)]), 365 * 24 * HOUR_MS);
        assert_eq!(standing.closed("error", 0), None, "the clock went back");
        let text = r#"{"limits":{"":{"since_unix_ms":0,"until_unix_ms":18446744073709551615,"why":""}},"failures":4294967295}"#;
        let mut standing: Standing = serde_json::from_str(text).unwrap();
        assert_eq!(standing.closed("error", 1), None, "no pause is that long");
        standing.failed(failure(false, 0), 0, 0);
        assert!(standing.closed("error", 1).unwrap().0 <= 15 * 60_000);
    }
}
