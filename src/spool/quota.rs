//! Who has to go when the spool is over its bounds: settled before waiting, sessions before crashes, old before new.

#![forbid(unsafe_code)]

use super::{Entry, Kind, Spool, State};
use crate::limits;
use std::time::Duration;

/// Removes what is over the bounds. Returns the waiting entries that were lost by it: Sentry is told of those.
pub fn enforce(spool: &Spool, now_unix_ms: u64) -> Vec<Entry> {
    let victims = over(spool.entries(), now_unix_ms);
    victims.into_iter().filter(|entry| spool.remove(entry).is_ok() && !entry.state.is_settled()).collect()
}

/// On a full disk: removes all that is settled. Returns how many went.
pub fn make_room(spool: &Spool) -> usize {
    spool.entries().iter().filter(|entry| entry.state.is_settled() && spool.remove(entry).is_ok()).count()
}

/// The entries that are over the bounds, a pure rule.
pub fn over(mut entries: Vec<Entry>, now_unix_ms: u64) -> Vec<Entry> {
    // The first are kept longest.
    entries.sort_by_key(|entry| {
        let class = match (entry.state, entry.kind) {
            (State::Open, _) => 0,
            (State::Pending, Kind::Crash) => 1,
            (State::Pending, Kind::Session) => 2,
            _ => 3,
        };
        (class, std::cmp::Reverse(entry.at_unix_ms))
    });
    let mut bytes = 0;
    let mut waiting = 0;
    let mut settled = [0usize; 5];
    entries.retain(|entry| {
        let age = match entry.kind {
            Kind::Crash => limits::EVENT_AGE,
            Kind::Session => limits::SESSION_AGE,
        };
        let too_old = Duration::from_millis(now_unix_ms.saturating_sub(entry.at_unix_ms)) > age;
        bytes += entry.bytes;
        let count = if entry.state.is_settled() { &mut settled[entry.state as usize] } else { &mut waiting };
        *count += 1;
        entry.state != State::Open && (too_old || bytes > limits::SPOOL_BYTES || *count > limits::SPOOL_ENTRIES)
    });
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Id;

    fn entry(state: State, kind: Kind, at_unix_ms: u64, bytes: u64) -> Entry {
        Entry { state, kind, id: Id([0; 16]), at_unix_ms, attempts: 0, bytes, tried_unix_ms: 0 }
    }

    #[test]
    fn settled_entries_go_before_waiting_ones_and_old_before_new() {
        let half = limits::SPOOL_BYTES / 2;
        let entries = vec![
            entry(State::Sent, Kind::Crash, 9, half),
            entry(State::Pending, Kind::Crash, 1, half),
            entry(State::Pending, Kind::Session, 5, half),
            entry(State::Pending, Kind::Crash, 2, half),
        ];
        let gone: Vec<_> = over(entries, 10).into_iter().map(|entry| (entry.state, entry.at_unix_ms)).collect();
        assert_eq!(gone, [(State::Pending, 5), (State::Sent, 9)]);
    }

    #[test]
    fn age_and_count_are_bounded_too() {
        let old = limits::SESSION_AGE.as_millis() as u64 + 1;
        assert_eq!(over(vec![entry(State::Pending, Kind::Session, 0, 1)], old).len(), 1);
        assert_eq!(over(vec![entry(State::Pending, Kind::Crash, 0, 1)], old).len(), 0);
        let many = (0..150).map(|n| entry(State::Pending, Kind::Crash, n, 1)).collect();
        let gone = over(many, 200);
        assert_eq!((gone.len(), gone[0].at_unix_ms), (50, 49));
        assert_eq!(over(vec![entry(State::Open, Kind::Crash, 0, 1)], u64::MAX).len(), 0);
    }
}
