//! Who may be told what: each channel is open or closed, and somebody decided that. Any "off" wins.
//!
//! Permission is a value: [`Granted`] can be made here alone, and whoever sends must show it.

#![forbid(unsafe_code)]

use std::ffi::OsStr;

/// What can leave the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// Crash reports and release health.
    Errors,
}

/// Permission to send on one channel. There is no way to make one but [`Consent::grant`].
#[derive(Debug)]
pub struct Granted {
    channel: Channel,
}

impl Granted {
    pub fn channel(&self) -> Channel {
        self.channel
    }
}

/// The state of the channels and who decided it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Consent {
    /// The variable that closed the channel, with its value as far as it matters: `DO_NOT_TRACK=1`. `None`: open.
    errors_off_by: Option<String>,
    /// What an operator should know: values that were no boolean, names that nearly match.
    pub warnings: Vec<String>,
}

/// The names that close the crash reports: the page's, its later twin, and ours.
const ERRORS_OFF: [&str; 4] = [
    "DISABLE_ERROR_REPORTING",
    "DISABLE_CRASH_REPORTING",
    "OBIT_DISABLE_ERROR_REPORTING",
    "OBIT_DISABLE_CRASH_REPORTING",
];

impl Consent {
    /// Decides from the environment; `var` is `std::env::var_os`.
    pub fn from_environment(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Consent {
        let mut consent = Consent::default();
        // donottrack.sh: any value but "" and "0".
        if let Some(value) = var("DO_NOT_TRACK").filter(|v| !v.is_empty() && v != "0") {
            consent.close(format!("DO_NOT_TRACK={}", value.to_string_lossy()));
        }
        for name in ERRORS_OFF {
            let Some(value) = var(name) else { continue };
            match parse_bool(&value) {
                Some(false) => {}
                Some(true) => consent.close(format!("{name}={}", value.to_string_lossy())),
                None => {
                    let text = value.to_string_lossy();
                    consent.warnings.push(format!(
                        "{name}={text:?} is neither true nor false; taken as true, so crash reports stay here"
                    ));
                    consent.close(format!("{name}={text}"));
                }
            }
        }
        consent
    }

    fn close(&mut self, by: String) {
        self.errors_off_by.get_or_insert(by);
    }

    /// Permission to send on the channel, or the one who closed it.
    pub fn grant(&self, channel: Channel) -> Result<Granted, &str> {
        match (channel, &self.errors_off_by) {
            (Channel::Errors, Some(by)) => Err(by),
            (Channel::Errors, None) => Ok(Granted { channel }),
        }
    }
}

/// Go's strconv.ParseBool, the rule of the page's product; an empty value counts as unset, that is `false`.
fn parse_bool(value: &OsStr) -> Option<bool> {
    match value.to_str()?.trim() {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(vars: &[(&str, &str)]) -> Consent {
        Consent::from_environment(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn any_off_closes_the_channel_and_is_named() {
        type Row<'a> = (&'a [(&'a str, &'a str)], Result<(), &'a str>);
        let table: &[Row<'_>] = &[
            (&[], Ok(())),
            (&[("DO_NOT_TRACK", "0")], Ok(())),
            (&[("DO_NOT_TRACK", "")], Ok(())),
            (&[("DO_NOT_TRACK", "1")], Err("DO_NOT_TRACK=1")),
            (&[("DO_NOT_TRACK", "false")], Err("DO_NOT_TRACK=false")),
            (&[("DISABLE_ERROR_REPORTING", "true")], Err("DISABLE_ERROR_REPORTING=true")),
            (&[("DISABLE_ERROR_REPORTING", "false")], Ok(())),
            (&[("DISABLE_CRASH_REPORTING", "T")], Err("DISABLE_CRASH_REPORTING=T")),
            (&[("OBIT_DISABLE_ERROR_REPORTING", "1")], Err("OBIT_DISABLE_ERROR_REPORTING=1")),
            (&[("OBIT_DISABLE_CRASH_REPORTING", "1")], Err("OBIT_DISABLE_CRASH_REPORTING=1")),
            (
                &[("DISABLE_ERROR_REPORTING", "false"), ("DISABLE_CRASH_REPORTING", "1")],
                Err("DISABLE_CRASH_REPORTING=1"),
            ),
        ];
        for (vars, expected) in table {
            assert_eq!(decide(vars).grant(Channel::Errors).map(|_| ()), *expected, "{vars:?}");
        }
    }

    #[test]
    fn a_value_that_is_no_boolean_is_off_and_a_warning() {
        let consent = decide(&[("DISABLE_ERROR_REPORTING", "maybe")]);
        assert_eq!(consent.grant(Channel::Errors).map(|_| ()), Err("DISABLE_ERROR_REPORTING=maybe"));
        assert_eq!(
            consent.warnings,
            ["DISABLE_ERROR_REPORTING=\"maybe\" is neither true nor false; taken as true, so crash reports stay here"]
        );
    }
}
