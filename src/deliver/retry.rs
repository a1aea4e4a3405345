//! What becomes of an entry after an attempt: a pure rule.
//!
//! It departs from the letter of Sentry's SDK rules on purpose: an entry is kept on 429 and 5xx, so that a crash in a
//! minute of outage is not lost, and made harmless by one request at a time, backoff and a bound on attempts.

#![forbid(unsafe_code)]

use crate::limits;
use std::time::Duration;

/// How an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The server's status, and how long it asks us to stay away.
    Status { code: u16, stay_away: Option<Duration> },
    /// No answer: network, TLS, proxy or time-out; the sentence says which.
    Nothing(String),
}

/// What becomes of the entry, and of the courier's visit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    Sent,
    /// It waits; nobody is asked again before `pause` is over.
    Keep {
        pause: Duration,
        why: String,
    },
    /// It is never taken; told to the operator.
    Reject {
        why: String,
    },
}

/// Decides, after `attempts` attempts including this one.
pub fn fate(answer: Answer, attempts: u32) -> Fate {
    let keep = |pause: Duration, why: String| Fate::Keep { pause: pause.min(limits::RETRY_AFTER_MAX), why };
    match answer {
        Answer::Nothing(why) => keep(backoff(attempts), why),
        Answer::Status { code: 200..=299, .. } => Fate::Sent,
        Answer::Status { code: 429, stay_away } => {
            keep(stay_away.unwrap_or(limits::RATE_LIMIT_DEFAULT), "the server limits our rate (429)".to_owned())
        }
        Answer::Status { code: 407, .. } => {
            keep(backoff(attempts), "the proxy wants other credentials (407)".to_owned())
        }
        Answer::Status { code: code @ (401 | 403 | 404), .. } => {
            keep(limits::WRONG_KEY_PAUSE, format!("the server does not know the DSN's key or project ({code})"))
        }
        Answer::Status { code: code @ (408 | 500..=599), stay_away } if attempts < limits::ATTEMPTS_MAX => {
            keep(stay_away.unwrap_or_else(|| backoff(attempts)), format!("the server answered {code}"))
        }
        Answer::Status { code, .. } => Fate::Reject { why: format!("the server answered {code}") },
    }
}

/// 1 s, 2 s, 4 s … 15 min.
fn backoff(attempts: u32) -> Duration {
    limits::RETRY_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(limits::RETRY_MAX)
}

/// The longest wait that concerns us in X-Sentry-Rate-Limits (`seconds:categories:scope…, …`), else Retry-After.
pub fn stay_away(rate_limits: Option<&str>, retry_after: Option<&str>, category: &str) -> Option<Duration> {
    let concerns = |categories: &str| categories.is_empty() || categories.split(';').any(|name| name == category);
    let limit = |group: &str| {
        let mut parts = group.trim().split(':');
        let seconds: u64 = parts.next()?.trim().parse().ok()?;
        concerns(parts.next().unwrap_or_default().trim()).then_some(Duration::from_secs(seconds))
    };
    let longest = rate_limits.and_then(|header| header.split(',').filter_map(limit).max());
    longest.or_else(|| retry_after?.trim().parse().ok().map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Answer {
        Answer::Status { code, stay_away: None }
    }

    #[test]
    fn only_what_can_never_be_taken_is_rejected() {
        assert_eq!(fate(status(200), 1), Fate::Sent);
        for code in [400, 413, 422] {
            assert_eq!(fate(status(code), 1), Fate::Reject { why: format!("the server answered {code}") });
        }
        for code in [401, 403, 404, 407, 408, 429, 500, 503] {
            assert!(matches!(fate(status(code), 1), Fate::Keep { .. }), "{code}");
        }
        assert!(matches!(fate(status(503), limits::ATTEMPTS_MAX), Fate::Reject { .. }));
        assert!(matches!(fate(Answer::Nothing(String::new()), 99), Fate::Keep { pause: limits::RETRY_MAX, .. }));
    }

    #[test]
    fn a_hostile_server_cannot_silence_us_for_more_than_a_day() {
        let answer = Answer::Status { code: 429, stay_away: Some(Duration::from_secs(u64::MAX / 2)) };
        assert!(matches!(fate(answer, 1), Fate::Keep { pause: limits::RETRY_AFTER_MAX, .. }));
    }

    #[test]
    fn a_limit_counts_for_its_categories() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(stay_away(Some("60:error;default:key, 2700:session:org"), None, "error"), seconds(60));
        assert_eq!(stay_away(Some("60::key, 86400:transaction;span:organization"), None, "error"), seconds(60));
        assert_eq!(stay_away(Some("86400:transaction:x"), None, "error"), None);
        assert_eq!(stay_away(Some("noise"), Some("7"), "error"), seconds(7));
    }
}
