//! Who has to go when the spool is over its bounds: settled before waiting, daily reports before sessions, those before
//! crashes, old before new, and the first report of each kind of crash last.
//!
//! What waits is never removed for its age alone: a clock that jumps would take everything with it. An entry that is too
//! old is rejected after an attempt to deliver it ([`Spool::expire`]), and can be resent.

#![forbid(unsafe_code)]

use super::{Entry, Kind, Spool, State};
use crate::limits;
use serde::Deserialize;
use std::collections::HashSet;
use std::time::Duration;

/// Why Sentry is told that something was lost here.
const REASON: &str = "cache_overflow";

/// Removes what is over the bounds; waiting entries among it are counted as discards. Returns how many of those there were.
pub fn enforce(spool: &Spool, now_unix_ms: u64) -> usize {
    let entries = spool.entries();
    if over(&entries, |_| false, now_unix_ms).is_empty() {
        return 0;
    }
    let firsts = firsts(spool, &entries);
    let victims = over(&entries, |entry| firsts.contains(&entry.file_name()), now_unix_ms);
    evict(spool, victims.iter()).1
}

/// On a full disk: removes what is settled, oldest first, and for a crash the sessions too, until `wanted` bytes are gone.
/// Returns how many entries went.
pub fn make_room(spool: &Spool, for_whom: Kind, wanted: u64) -> usize {
    let mut entries = spool.entries();
    entries.retain(|entry| match (entry.state, entry.kind) {
        (State::Open, _) | (State::Pending, Kind::Crash) => false,
        (State::Pending, _) => for_whom == Kind::Crash,
        _ => true,
    });
    entries.sort_by_key(|entry| (!entry.state.is_settled(), entry.at_unix_ms));
    let mut freed = 0;
    let enough = entries.iter().take_while(|entry| {
        let still = freed < wanted;
        freed += entry.bytes;
        still
    });
    evict(spool, enough).0
}

/// How many went, and how many of them were still waiting.
fn evict<'a>(spool: &Spool, victims: impl Iterator<Item = &'a Entry>) -> (usize, usize) {
    let mut gone = 0;
    let mut lost = 0;
    // Two processes may evict at once: only the one whose unlink succeeds counts.
    for entry in victims.filter(|entry| spool.remove(entry).is_ok()) {
        gone += 1;
        if !entry.state.is_settled() {
            lost += 1;
            spool.note_discard(REASON, entry.kind.category(), 1);
        }
    }
    (gone, lost)
}

impl Spool {
    /// Rejects what has been tried and is older than Sentry takes. To be called after a failed attempt. Returns how many.
    pub fn expire(&self, now_unix_ms: u64) -> usize {
        let waiting = self.entries_in(State::Pending).into_iter();
        let expired =
            waiting.filter(|entry| entry.attempts > 0 && is_older(entry.at_unix_ms, max_age(entry), now_unix_ms));
        let rejected = expired.filter(|entry| self.mark(entry, State::Rejected).is_ok());
        rejected.map(|entry| self.note_discard(REASON, entry.kind.category(), 1)).count()
    }
}

fn max_age(entry: &Entry) -> Duration {
    match entry.kind {
        Kind::Crash | Kind::Fault | Kind::Daily => limits::EVENT_AGE,
        Kind::Session => limits::SESSION_AGE,
        Kind::CheckIn => limits::CHECK_IN_AGE,
    }
}

fn is_older(at_unix_ms: u64, age: Duration, now_unix_ms: u64) -> bool {
    u128::from(now_unix_ms.saturating_sub(at_unix_ms)) > age.as_millis()
}

/// File names of the oldest waiting crash of each fingerprint. One that cannot be read is no first of anything.
fn firsts(spool: &Spool, entries: &[Entry]) -> HashSet<String> {
    #[derive(Deserialize)]
    struct Grouped {
        fingerprint: Vec<String>,
    }
    let mut seen = HashSet::new();
    let oldest_first = entries.iter().rev().filter(|entry| (entry.state, entry.kind) == (State::Pending, Kind::Crash));
    oldest_first
        .filter(|entry| {
            let grouped = spool.read(entry).ok().and_then(|json| serde_json::from_slice::<Grouped>(&json).ok());
            grouped.is_some_and(|grouped| seen.insert(grouped.fingerprint))
        })
        .map(Entry::file_name)
        .collect()
}

/// The entries that are over the bounds, a pure rule.
fn over(entries: &[Entry], is_first: impl Fn(&Entry) -> bool, now_unix_ms: u64) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    // The first in this order are kept longest.
    entries.sort_by_cached_key(|entry| {
        let class = match (entry.state, entry.kind) {
            (State::Open, _) => 0,
            (State::Pending, Kind::Crash) if is_first(entry) => 1,
            (State::Pending, Kind::Crash) => 2,
            (State::Pending, Kind::Session | Kind::Fault) => 3,
            (State::Pending, Kind::Daily | Kind::CheckIn) => 4,
            _ => 5,
        };
        (class, std::cmp::Reverse(entry.at_unix_ms))
    });
    let mut bytes = 0u64;
    let mut waiting = 0;
    let mut settled = [0usize; 5];
    entries.retain(|entry| {
        let too_old = entry.state.is_settled() && is_older(entry.tried_unix_ms, limits::EVENT_AGE, now_unix_ms);
        let count = if entry.state.is_settled() { &mut settled[entry.state as usize] } else { &mut waiting };
        let goes =
            too_old || entry.bytes.saturating_add(bytes) > limits::SPOOL_BYTES || *count >= limits::SPOOL_ENTRIES;
        if goes && entry.state != State::Open {
            return true;
        }
        bytes = entry.bytes.saturating_add(bytes);
        *count += 1;
        false
    });
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Id;

    fn entry(state: State, kind: Kind, at_unix_ms: u64, bytes: u64) -> Entry {
        Entry { state, kind, id: Id([0; 16]), at_unix_ms, attempts: 0, bytes, tried_unix_ms: at_unix_ms }
    }

    fn gone(entries: &[Entry], is_first: impl Fn(&Entry) -> bool) -> Vec<(State, u64)> {
        over(entries, is_first, 1000).iter().map(|entry| (entry.state, entry.at_unix_ms)).collect()
    }

    #[test]
    fn settled_entries_go_before_waiting_ones_and_sessions_before_crashes() {
        let half = limits::SPOOL_BYTES / 2;
        let entries = [
            entry(State::Sent, Kind::Crash, 9, half),
            entry(State::Pending, Kind::Crash, 1, half),
            entry(State::Pending, Kind::Session, 5, half),
            entry(State::Pending, Kind::Crash, 2, half),
        ];
        assert_eq!(gone(&entries, |_| false), [(State::Pending, 5), (State::Sent, 9)]);
    }

    #[test]
    fn the_first_of_a_kind_stays_when_newer_ones_of_that_kind_go() {
        let half = limits::SPOOL_BYTES / 2;
        let entries = [1, 2, 3].map(|at| entry(State::Pending, Kind::Crash, at, half));
        assert_eq!(gone(&entries, |_| false), [(State::Pending, 1)]);
        assert_eq!(gone(&entries, |entry| entry.at_unix_ms == 1), [(State::Pending, 2)]);
    }

    #[test]
    fn counts_are_bounded_for_what_waits_and_for_each_settled_state() {
        let many: Vec<_> = (0..150).map(|n| entry(State::Pending, Kind::Crash, n, 1)).collect();
        let lost = gone(&many, |_| false);
        assert_eq!((lost.len(), lost[0].1), (50, 49));
        let mut settled: Vec<_> = (0..100).map(|n| entry(State::Sent, Kind::Crash, n, 1)).collect();
        settled.extend((0..100).map(|n| entry(State::Rejected, Kind::Crash, n, 1)));
        assert_eq!(gone(&settled, |_| false), []);
    }

    #[test]
    fn a_clock_that_jumps_takes_nothing_that_waits() {
        let year = 365 * 86_400_000;
        for kind in Kind::ALL {
            assert_eq!(over(&[entry(State::Pending, kind, 0, 1)], |_| false, year), []);
            assert_eq!(over(&[entry(State::Sent, kind, 0, 1)], |_| false, year).len(), 1);
            assert_eq!(over(&[entry(State::Open, kind, 0, u64::MAX)], |_| false, year), []);
        }
    }
}
