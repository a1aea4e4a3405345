//! Whose turn it is: a pure rule over what waits and how the destination stands.
//!
//! What was tried least comes first, so that an entry which the server chokes on holds nobody up; crashes before all else,
//! new before old. An entry that the server had since we started waits out a backoff of its own.

#![forbid(unsafe_code)]

use super::retry::backoff;
use super::standing::{Standing, after};
use crate::spool::{Entry, Kind};
use std::cmp::Reverse;

/// What to do now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    Deliver(Entry),
    /// Nobody may go before this moment; the reason of whoever goes first then.
    Wait {
        until_unix_ms: u64,
        why: String,
    },
    /// Nobody waits.
    Nothing,
}

/// Decides among the entries that wait.
pub fn next(waiting: &[Entry], standing: &Standing, now_unix_ms: u64) -> Turn {
    let mut order: Vec<&Entry> = waiting.iter().collect();
    order.sort_by_key(|entry| (entry.attempts, entry.kind != Kind::Crash, Reverse(entry.at_unix_ms)));
    let mut soonest: Option<(u64, String)> = None;
    for entry in order {
        let Some((until, why)) = held(entry, standing, now_unix_ms) else { return Turn::Deliver(entry.clone()) };
        if soonest.as_ref().is_none_or(|(other, _)| until < *other) {
            soonest = Some((until, why));
        }
    }
    soonest.map_or(Turn::Nothing, |(until_unix_ms, why)| Turn::Wait { until_unix_ms, why })
}

fn held(entry: &Entry, standing: &Standing, now_unix_ms: u64) -> Option<(u64, String)> {
    let closed = standing.closed(entry.kind.category(), now_unix_ms).map(|(until, why)| (until, why.to_owned()));
    // A time in the future was written before the clock went back.
    let tried = entry.tried_unix_ms.min(now_unix_ms);
    let rested = after(tried, backoff(entry.attempts));
    let own = (entry.attempts > 0 && rested > now_unix_ms)
        .then(|| (rested, format!("attempt {} came to nothing", entry.attempts)));
    closed.into_iter().chain(own).max_by_key(|(until, _)| *until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Id;
    use crate::deliver::rate::Limits;
    use crate::spool::State;
    use std::time::Duration;

    fn entry(kind: Kind, at_unix_ms: u64, attempts: u32, tried_unix_ms: u64) -> Entry {
        Entry { state: State::Pending, kind, id: Id([0; 16]), at_unix_ms, attempts, bytes: 0, tried_unix_ms }
    }

    fn turn(waiting: &[Entry], limits: &[(&str, u64)], now: u64) -> String {
        let mut standing = Standing::default();
        let limits = limits.iter().map(|(name, n)| ((*name).to_owned(), Duration::from_secs(*n)));
        standing.limit(&limits.collect::<Limits>(), 0);
        match next(waiting, &standing, now) {
            Turn::Deliver(entry) => entry.at_unix_ms.to_string(),
            Turn::Wait { until_unix_ms, why } => format!("{until_unix_ms} {why}"),
            Turn::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn new_crashes_go_first_and_what_was_tried_lets_others_pass() {
        use Kind::{Crash, Session};
        let now = 1_000_000;
        assert_eq!(turn(&[], &[], now), "nothing");
        let mut all = vec![entry(Crash, 1, 0, 0), entry(Session, 9, 0, 0), entry(Crash, 2, 0, 0)];
        assert_eq!(turn(&all, &[], now), "2");
        all[2].attempts = 1;
        assert_eq!(turn(&all, &[], now), "1");
        all[0].attempts = 2;
        assert_eq!(turn(&all, &[], now), "9");
        all[1].attempts = 3;
        assert_eq!(turn(&all, &[], now), "2");
    }

    #[test]
    fn a_limit_holds_its_category_and_lets_others_go() {
        let both = [entry(Kind::Crash, 1, 0, 0), entry(Kind::Session, 9, 0, 0)];
        assert_eq!(turn(&both, &[("error", 60)], 0), "9");
        assert_eq!(turn(&both, &[("session", 60)], 0), "1");
        assert_eq!(turn(&both[..1], &[("error", 60)], 0), "60000 the server limits the rate of error");
        let two = [("error", 60), ("session", 50)];
        assert_eq!(turn(&both, &two, 0), "50000 the server limits the rate of session");
    }

    #[test]
    fn an_entry_waits_out_its_own_backoff_across_visits() {
        let tried = [entry(Kind::Crash, 1, 4, 10_000)];
        assert_eq!(turn(&tried, &[], 10_000), "18000 attempt 4 came to nothing");
        assert_eq!(turn(&tried, &[], 18_000), "1");
        assert_eq!(turn(&tried, &[], 0), "8000 attempt 4 came to nothing", "the clock went back");
        assert_eq!(turn(&tried, &[("", 60)], 10_000), "60000 the server limits the rate of everything");
    }
}
