//! What becomes of an entry after an attempt: a pure rule.
//!
//! It departs from the letter of Sentry's SDK rules on purpose: an entry is kept on 429 and 5xx, so that a crash in a
//! minute of outage is not lost, and made harmless by one request at a time, backoff and a bound on attempts.
//!
//! | answer | the entry | everything else |
//! |---|---|---|
//! | 2xx | sent | goes on |
//! | none | waits | waits, longer each time |
//! | 429 | waits as long as is said, else a minute | of its category, too |
//! | 408, 421, 425, 5xx | waits; after a day and 12 attempts it is given up | waits, longer each time, and as long as is said |
//! | 407, 3xx | waits | waits, longer each time: the way is wrong |
//! | 401, 403, 404 | waits | waits an hour: the key is wrong |
//! | 413 | goes without its attachment, then trimmed, then is given up | goes on |
//! | other 4xx | given up | goes on |

#![forbid(unsafe_code)]

use super::rate::Limits;
use super::standing::Failure;
use crate::limits;
use std::time::Duration;

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Status {
        code: u16,
        /// X-Sentry-Rate-Limits.
        limits: Limits,
        retry_after: Option<Duration>,
        /// What the server says for itself, to people.
        detail: Option<String>,
    },
    /// It never reached the server: no name, no connection, no TLS; the sentence says which.
    Unsent(String),
    /// It may have reached the server, which did not answer in time or at all.
    Unanswered(String),
}

/// What becomes of the entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Sent,
    /// It waits, and so does everything for this destination.
    Keep(Failure),
    /// It waits, and so does what is of these categories.
    Limited(Limits),
    /// Less of it may be taken.
    TooLarge {
        why: String,
    },
    /// It is never taken; told to the operator.
    Reject {
        why: String,
    },
}

/// What counts of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tried {
    pub category: &'static str,
    /// Attempts before this one that counted.
    pub attempts: u32,
    pub age: Duration,
}

/// Decides about an entry after an attempt.
pub fn fate(answer: Answer, tried: Tried) -> Fate {
    let keep = |why, said, counts, at_least| Fate::Keep(Failure { why, said, counts, at_least });
    let (code, limits, retry_after, detail) = match answer {
        Answer::Unsent(why) => return keep(why, false, false, Duration::ZERO),
        Answer::Unanswered(why) => return keep(why, false, true, Duration::ZERO),
        Answer::Status { code, limits, retry_after, detail } => (code, limits, retry_after, detail),
    };
    let said = detail.map(|detail| format!(", saying {detail:?}")).unwrap_or_default();
    let given_up = tried.attempts + 1 >= limits::ATTEMPTS_MAX && tried.age >= limits::GIVE_UP_AGE;
    match code {
        200..=299 => Fate::Sent,
        429 => Fate::Limited(limit(limits, retry_after, tried.category)),
        413 => Fate::TooLarge { why: format!("the server takes nothing of this size (413{said})") },
        401 | 403 | 404 => {
            let why = format!("the server does not know the DSN's key or project ({code}{said})");
            keep(why, true, false, limits::WRONG_KEY_PAUSE)
        }
        407 => keep("the proxy wants other credentials (407)".to_owned(), false, false, Duration::ZERO),
        300..=399 => {
            keep(format!("the server sends us elsewhere ({code}); check the DSN"), false, false, Duration::ZERO)
        }
        408 | 421 | 425 | 500..=599 if !given_up => {
            let asked = retry_after.is_some();
            keep(format!("the server answered {code}{said}"), asked, true, retry_after.unwrap_or_default())
        }
        _ => Fate::Reject { why: format!("the server answered {code}{said}") },
    }
}

/// The pauses of a 429: what the server says of our category, else for all, else a minute.
fn limit(mut limits: Limits, retry_after: Option<Duration>, category: &str) -> Limits {
    if !limits.keys().any(|limited| limited == category || limited.is_empty()) {
        let whom = if limits.is_empty() { "" } else { category };
        limits.insert(whom.to_owned(), retry_after.unwrap_or(limits::RATE_LIMIT_DEFAULT));
    }
    // An answer that says "now" would be asked for ever.
    limits.values_mut().for_each(|pause| *pause = (*pause).max(limits::RETRY_FIRST));
    limits
}

/// 1 s, 2 s, 4 s … 15 min after so many attempts.
pub fn backoff(attempts: u32) -> Duration {
    limits::RETRY_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(limits::RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Tried = Tried { category: "error", attempts: 0, age: Duration::ZERO };

    fn status(code: u16) -> Answer {
        Answer::Status { code, limits: Limits::new(), retry_after: None, detail: None }
    }

    fn limited(rows: &[(&str, u64)], retry_after: Option<u64>) -> Vec<(String, u64)> {
        let limits = rows.iter().map(|(name, n)| ((*name).to_owned(), Duration::from_secs(*n))).collect();
        let retry_after = retry_after.map(Duration::from_secs);
        match fate(Answer::Status { code: 429, limits, retry_after, detail: None }, FIRST) {
            Fate::Limited(limits) => limits.into_iter().map(|(name, pause)| (name, pause.as_secs())).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_can_never_be_taken_is_rejected() {
        assert_eq!(fate(status(200), FIRST), Fate::Sent);
        for code in [400, 405, 422] {
            assert_eq!(fate(status(code), FIRST), Fate::Reject { why: format!("the server answered {code}") });
        }
        for code in [301, 302, 308, 401, 403, 404, 407, 408, 421, 425, 500, 502, 503, 511] {
            assert!(matches!(fate(status(code), FIRST), Fate::Keep(_)), "{code}");
        }
        assert!(matches!(fate(status(413), FIRST), Fate::TooLarge { .. }));
        assert!(matches!(fate(status(429), FIRST), Fate::Limited(_)));
    }

    #[test]
    fn an_outage_of_hours_gives_nothing_up_and_one_of_days_does() {
        let day = limits::GIVE_UP_AGE;
        let tired = |attempts, age| fate(status(503), Tried { category: "error", attempts, age });
        assert!(matches!(tired(limits::ATTEMPTS_MAX, day / 2), Fate::Keep(_)));
        assert!(matches!(tired(2, day * 2), Fate::Keep(_)), "a report of an old crash has its attempts, too");
        assert!(matches!(tired(limits::ATTEMPTS_MAX, day), Fate::Reject { .. }));
        let nothing = Answer::Unanswered(String::new());
        let kept = fate(nothing, Tried { category: "error", attempts: u32::MAX - 1, age: Duration::MAX });
        assert!(matches!(kept, Fate::Keep(_)), "{kept:?}");
    }

    #[test]
    fn a_429_limits_what_it_names_and_what_it_was_the_answer_to() {
        let own = |rows: &[(&str, u64)]| rows.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect::<Vec<_>>();
        assert_eq!(limited(&[], None), own(&[("", 60)]));
        assert_eq!(limited(&[], Some(7)), own(&[("", 7)]));
        assert_eq!(limited(&[("error", 9)], Some(7)), own(&[("error", 9)]));
        assert_eq!(limited(&[("", 9)], Some(7)), own(&[("", 9)]));
        assert_eq!(limited(&[("error", 0)], None), own(&[("error", 1)]));
        assert_eq!(limited(&[("session", 9)], None), own(&[("error", 60), ("session", 9)]));
    }

    #[test]
    fn the_reason_tells_what_the_server_says() {
        let detail = Some("invalid json".to_owned());
        let answer = Answer::Status { code: 400, limits: Limits::new(), retry_after: None, detail };
        let why = "the server answered 400, saying \"invalid json\"".to_owned();
        assert_eq!(fate(answer, FIRST), Fate::Reject { why });
    }

    #[test]
    fn attempts_are_further_apart_each_time_up_to_a_quarter_of_an_hour() {
        let seconds: Vec<_> = [0, 1, 2, 3, 10, 11, u32::MAX].map(|n| backoff(n).as_secs()).into();
        assert_eq!(seconds, [1, 1, 2, 4, 512, 900, 900]);
    }
}
