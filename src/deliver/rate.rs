//! How long a server asks us to stay away, by category: X-Sentry-Rate-Limits and Retry-After, read leniently.
//!
//! The first may come with any status, 200 too. What of it is not understood is passed over, as Sentry's rules for SDKs want.

#![forbid(unsafe_code)]

use crate::limits;
use std::collections::BTreeMap;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Of everything.
pub const ALL: &str = "";

/// The categories of what obit sends, now or in another channel; limits of other things are none of ours.
const CATEGORIES: [&str; 7] = ["error", "default", "attachment", "session", "monitor", "log_item", "internal"];

/// Category, or [`ALL`], to pause; the longest counts.
pub type Limits = BTreeMap<String, Duration>;

/// The limits of X-Sentry-Rate-Limits: `seconds:category;category:scope:reason:namespaces, …`.
pub fn limits(header: &str) -> Limits {
    let mut limits = Limits::new();
    for group in header.split(',') {
        let mut parts = group.trim().split(':').map(str::trim);
        let Some(pause) = parts.next().and_then(seconds) else { continue };
        let categories = parts.next().unwrap_or_default();
        let known = |name: &&str| categories.is_empty() || CATEGORIES.contains(name);
        for category in categories.split(';').map(str::trim).filter(known) {
            let longest = limits.entry(category.to_owned()).or_default();
            *longest = pause.max(*longest);
        }
    }
    limits
}

/// Retry-After: seconds, or a date.
pub fn retry_after(header: &str, now_unix_ms: u64) -> Option<Duration> {
    let header = header.trim();
    seconds(header).or_else(|| {
        let at_ms = OffsetDateTime::parse(header, &Rfc2822).ok()?.unix_timestamp().checked_mul(1000)?;
        Some(bounded(Duration::from_millis(u64::try_from(at_ms).unwrap_or(0).saturating_sub(now_unix_ms))))
    })
}

/// Relay writes whole numbers, others have written fractions; negative ones are none.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok().filter(|seconds: &f64| *seconds >= 0.0)?;
    Some(bounded(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))
}

/// A hostile answer cannot silence us for longer than a day.
fn bounded(pause: Duration) -> Duration {
    pause.min(limits::RETRY_AFTER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_by_category_and_what_is_not_understood_is_passed_over() {
        let table: &[(&str, &[(&str, u64)])] = &[
            ("60:error;default:key, 2700:session:organization", &[("default", 60), ("error", 60), ("session", 2700)]),
            ("60::key, 86400:transaction;span:organization", &[("", 60)]),
            ("86400:transaction:organization", &[]),
            ("10:error:key:reason:ns, 30:error, 20:error", &[("error", 30)]),
            ("7", &[("", 7)]),
            ("1.5:attachment", &[("attachment", 1)]),
            (" 5 : error ; session : key ", &[("error", 5), ("session", 5)]),
            ("noise, 3:error, -1:session, :error, x:error", &[("error", 3)]),
            ("99999999999999999999:error", &[("error", 86_400)]),
            ("inf:error, nan:session", &[("error", 86_400)]),
            ("", &[]),
        ];
        for (header, expected) in table {
            let limits = limits(header);
            let read: Vec<_> = limits.iter().map(|(category, pause)| (&**category, pause.as_secs())).collect();
            assert_eq!(read, *expected, "{header}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 1_445_412_400_000;
        let table = [
            ("7", Some(7)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(80)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("Wed, 21 Oct 2150 07:28:00 GMT", Some(86_400)),
            ("soon", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(retry_after(header, now).map(|pause| pause.as_secs()), expected, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(header in "[0-9.:;, a-zA-Z+-]{0,40}") {
            let _ = (limits(&header), retry_after(&header, 0));
        }
    }
}
