//! The environment's names for "no": which there are, what each closes, and what nearly is one.

#![forbid(unsafe_code)]

use super::{Channel, DNS, ERRORS, TELEMETRY, parse_bool};
use crate::config::distance;
use std::ffi::{OsStr, OsString};

/// One name and what a yes in it closes.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    /// As it stands in the environment, with its prefix.
    pub name: String,
    pub closes: &'static [Channel],
    reading: Reading,
}

/// How a value is understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    Boolean,
    /// donottrack.sh: any value but "" and "0".
    Anything,
}

/// The names of the page and their later twins. Each is known with `OBIT_` before it, too.
const NAMES: [(&str, &[Channel], Reading); 5] = [
    ("DO_NOT_TRACK", &Channel::ALL, Reading::Anything),
    ("DISABLE_TELEMETRY", TELEMETRY, Reading::Boolean),
    ("DISABLE_ERROR_REPORTING", ERRORS, Reading::Boolean),
    ("DISABLE_CRASH_REPORTING", ERRORS, Reading::Boolean),
    ("DISABLE_VERSION_CHECK", DNS, Reading::Boolean),
];
/// Twins of the options; only with the prefix, where they are settings as well.
const OPTIONS: [(&str, &[Channel]); 3] =
    [("NO_ERROR_REPORTING", ERRORS), ("NO_TELEMETRY", TELEMETRY), ("NO_VERSION_CHECK", DNS)];
const PREFIX: &str = "OBIT_";
/// Edits that are still a slip.
const SLIPS: usize = 3;

/// Those that are set.
pub(super) fn set(var: impl Fn(&str) -> Option<OsString>) -> Vec<(Variable, OsString)> {
    let plain = NAMES.iter().map(|(name, closes, reading)| ((*name).to_owned(), *closes, *reading));
    let own = NAMES.iter().map(|(name, closes, reading)| (format!("{PREFIX}{name}"), *closes, *reading));
    let options = OPTIONS.iter().map(|(name, closes)| (format!("{PREFIX}{name}"), *closes, Reading::Boolean));
    let all = plain.chain(own).chain(options);
    all.filter_map(|(name, closes, reading)| {
        let value = var(&name)?;
        Some((Variable { name, closes, reading }, value))
    })
    .collect()
}

/// Names that are none of ours and look like a slip of one: `(found, meant)`.
pub(super) fn near_misses(names: impl Iterator<Item = OsString>) -> Vec<(String, &'static str)> {
    let near = |name: OsString| {
        let name = name.into_string().ok()?;
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix(PREFIX).unwrap_or(&upper);
        let ours = |known: &str| name.strip_prefix(PREFIX).unwrap_or(&name) == known;
        if NAMES.iter().any(|(known, ..)| ours(known)) || !(bare.starts_with("DISABLE") || bare.starts_with("DO")) {
            return None;
        }
        let scored = NAMES.iter().map(|(known, ..)| (distance(bare, known), *known));
        scored.filter(|(edits, _)| *edits <= SLIPS).min().map(|(_, known)| (name.clone(), known))
    };
    names.filter_map(near).collect()
}

impl Variable {
    /// Whether it says "off"; `None`: it cannot be read.
    pub fn says(&self, value: &OsStr) -> Option<bool> {
        match self.reading {
            Reading::Anything => Some(!value.is_empty() && value != "0"),
            Reading::Boolean => parse_bool(value.to_str()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_answered_with_the_name_that_was_meant() {
        let table = [
            ("DISABLE_TELEMETERY", Some("DISABLE_TELEMETRY")),
            ("disable_telemetry", Some("DISABLE_TELEMETRY")),
            ("OBIT_DISABLE_TELEMTRY", Some("DISABLE_TELEMETRY")),
            ("DISABLE_ERRORS_REPORTING", Some("DISABLE_ERROR_REPORTING")),
            ("DISABLE_CRASH_REPORTS", Some("DISABLE_CRASH_REPORTING")),
            ("DISABLE_VERSIONCHECK", Some("DISABLE_VERSION_CHECK")),
            ("DONOTTRACK", Some("DO_NOT_TRACK")),
            // The product's own names, and everybody's.
            ("DISABLE_FENCING", None),
            ("DISABLE_TCMU", None),
            ("DISABLE_TELEMETRY", None),
            ("OBIT_DISABLE_TELEMETRY", None),
            ("DOMAIN", None),
            ("PATH", None),
        ];
        for (name, meant) in table {
            let found = near_misses([OsString::from(name)].into_iter());
            assert_eq!(found.first().map(|(_, meant)| *meant), meant, "{name}");
        }
    }
}
