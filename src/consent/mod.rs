//! Who may be told what: each channel is open or closed, and somebody decided that. Any "off" wins.
//!
//! | source | closes | named as |
//! |---|---|---|
//! | `DO_NOT_TRACK`, any value but "" and "0" | all | the variable |
//! | `DISABLE_TELEMETRY`, `--no-telemetry` | daily, dns | the variable, the option |
//! | `DISABLE_ERROR_REPORTING`, `DISABLE_CRASH_REPORTING`, `--no-error-reporting` | errors | the variable, the option |
//! | `DISABLE_VERSION_CHECK`, `--no-version-check` | dns | the variable, the option |
//! | the cluster spec: `disableTelemetry`; `disableErrorReporting`, `disableVersionCheck` | all; one | the file and its field |
//! | the stored choice of `obit telemetry` or of the API | each | who chose, and when |
//!
//! Every variable has a twin that begins with `OBIT_`. What cannot be read as a yes or a no (a boolean, the spec's file, the
//! stored choice) is a no and a warning: whoever wrote it wanted something.
//!
//! Permission is a value: [`Granted`] can be made here alone, and whoever sends must show it.

#![forbid(unsafe_code)]

pub mod gate;
pub mod stored;
mod variables;

use crate::config::Settings;
use crate::config::cluster_spec::{ClusterSpec, Field};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use stored::Stored;

/// What can leave the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Channel {
    /// Crash reports and release health, to Sentry.
    Errors,
    /// The report once a day, to Sentry.
    Daily,
    /// The version query, by DNS.
    Dns,
}

impl Channel {
    pub const ALL: [Channel; 3] = [Channel::Errors, Channel::Daily, Channel::Dns];

    /// As people and scripts name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Errors => "errors",
            Channel::Daily => "daily",
            Channel::Dns => "dns",
        }
    }

    pub fn parse(name: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.as_str() == name)
    }

    /// What goes through it.
    pub fn what(self) -> &'static str {
        match self {
            Channel::Errors => "crash reports",
            Channel::Daily => "the daily report",
            Channel::Dns => "the version query",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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

/// Where a decision stands, in the order in which it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Variable,
    Option,
    ClusterSpec,
    Stored,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Variable => "environment",
            Source::Option => "option",
            Source::ClusterSpec => "cluster-spec",
            Source::Stored => "stored",
        }
    }
}

/// Somebody closed a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    pub channel: Channel,
    pub source: Source,
    /// `DO_NOT_TRACK=1`, `disableTelemetry in /etc/spec.yaml`.
    pub by: String,
}

impl Block {
    /// It may be taken back while we run.
    pub fn may_change(&self) -> bool {
        matches!(self.source, Source::ClusterSpec | Source::Stored)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by)
    }
}

/// The state of the channels and who decided it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Consent {
    blocks: Vec<Block>,
    /// What was chosen by CLI or API, in force or not.
    pub stored: Stored,
    /// What an operator should know: values that were no boolean, names that nearly match.
    pub warnings: Vec<String>,
}

/// What a decision is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `(channels, option)` of the options that are set.
    options: Vec<(&'static [Channel], &'static str)>,
    /// Variables of the table that are set.
    variables: Vec<(variables::Variable, OsString)>,
    /// Names that nearly are one of the table.
    near_misses: Vec<(String, &'static str)>,
    /// The file, and what is in it.
    spec: Option<(PathBuf, Result<ClusterSpec, String>)>,
    stored: Option<(PathBuf, Result<Stored, String>)>,
}

const TELEMETRY: &[Channel] = &[Channel::Daily, Channel::Dns];
const ERRORS: &[Channel] = &[Channel::Errors];
const DNS: &[Channel] = &[Channel::Dns];

impl Sources {
    /// Options and environment: no file is read and next to nothing allocated, so that PID 1 may ask.
    pub fn at_hand(settings: &Settings, var: impl Fn(&str) -> Option<OsString>) -> Sources {
        let options = [
            (settings.no_error_reporting, ERRORS, "no-error-reporting"),
            (settings.no_telemetry, TELEMETRY, "no-telemetry"),
            (settings.no_version_check, DNS, "no-version-check"),
        ];
        Sources {
            options: options.into_iter().filter(|row| row.0).map(|(_, channels, name)| (channels, name)).collect(),
            variables: variables::set(var),
            ..Sources::default()
        }
    }

    /// With the names of the environment, for what may be a slip among them.
    pub fn with_names(mut self, names: impl Iterator<Item = OsString>) -> Sources {
        self.near_misses = variables::near_misses(names);
        self
    }

    /// All of them, as they are now.
    pub fn gather(settings: &Settings, state_dir: Option<&Path>) -> Sources {
        let names = std::env::vars_os().map(|(name, _)| name);
        let mut sources = Sources::at_hand(settings, |name| std::env::var_os(name)).with_names(names);
        sources.spec = settings.cluster_spec.as_ref().map(|path| (path.clone(), ClusterSpec::read(path)));
        sources.stored = state_dir.map(|dir| (dir.join(stored::FILE), stored::read(dir)));
        sources
    }
}

/// Decides: a pure rule.
pub fn decide(sources: &Sources) -> Consent {
    let mut consent = Consent::default();
    for (variable, value) in &sources.variables {
        consent.variable(variable, value);
    }
    for (name, meant) in &sources.near_misses {
        consent
            .warnings
            .push(format!("{name} is not a name that obit knows; did you mean {meant}? It switches nothing off"));
    }
    for (channels, option) in &sources.options {
        // The option's own variable has been told already, by its name.
        let own = format!("OBIT_{}=", option.replace('-', "_").to_uppercase());
        if !consent.blocks.iter().any(|block| block.by.starts_with(&own)) {
            consent.close(channels, Source::Option, &format!("the option {option}"));
        }
    }
    match &sources.spec {
        None => {}
        Some((path, Ok(spec))) => {
            let file = path.display();
            for switch in &spec.switches {
                let by = format!("{} in {file}", switch.field.as_str());
                if switch.on.is_none() {
                    let text = &switch.text;
                    consent.warnings.push(format!("{by} is {text:?}, neither true nor false; taken as true"));
                }
                if switch.on != Some(false) {
                    consent.close(closed_by(switch.field), Source::ClusterSpec, &by);
                }
            }
        }
        Some((path, Err(why))) => {
            let by = format!("the cluster spec {}, which cannot be read", path.display());
            consent.warnings.push(format!(
                "the cluster spec {} cannot be read ({why}); until it can, nothing is sent",
                path.display()
            ));
            consent.close(&Channel::ALL, Source::ClusterSpec, &by);
        }
    }
    match &sources.stored {
        None => {}
        Some((_, Ok(stored))) => {
            for (channel, choice) in stored.choices().filter(|(_, choice)| !choice.on) {
                consent.close(&[channel], Source::Stored, &format!("the choice of {choice}"));
            }
            consent.stored = stored.clone();
        }
        Some((path, Err(why))) => {
            let by = format!("the stored choice {}, which cannot be read", path.display());
            consent.warnings.push(format!(
                "{} cannot be read ({why}); until somebody chooses anew with obit telemetry, nothing is sent",
                path.display()
            ));
            consent.close(&Channel::ALL, Source::Stored, &by);
        }
    }
    consent
}

/// `disableTelemetry` closes everything: a resource that had it true and still let crash reports out was a defect of the
/// page's product.
fn closed_by(field: Field) -> &'static [Channel] {
    match field {
        Field::DisableTelemetry => &Channel::ALL,
        Field::DisableErrorReporting | Field::DisableCrashReporting => ERRORS,
        Field::DisableVersionCheck => DNS,
    }
}

/// What holds now, for whoever has the time to read files.
pub fn current(settings: &Settings, state_dir: Option<&Path>) -> Consent {
    decide(&Sources::gather(settings, state_dir))
}

impl Consent {
    /// Permission to send on the channel, or the first of those who closed it.
    pub fn grant(&self, channel: Channel) -> Result<Granted, &Block> {
        self.blocks_of(channel).next().map_or(Ok(Granted { channel }), Err)
    }

    /// Everybody who closed it.
    pub fn blocks_of(&self, channel: Channel) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.channel == channel)
    }

    fn close(&mut self, channels: &[Channel], source: Source, by: &str) {
        self.blocks.extend(channels.iter().map(|channel| Block { channel: *channel, source, by: by.to_owned() }));
    }

    fn variable(&mut self, variable: &variables::Variable, value: &OsString) {
        let text = value.to_string_lossy();
        let says = variable.says(value);
        if says.is_none() {
            let channels = variable.closes.iter().map(|channel| channel.what()).collect::<Vec<_>>().join(" and ");
            self.warnings.push(format!(
                "{}={text:?} is neither true nor false; taken as true, so {channels} {} not sent",
                variable.name,
                if variable.closes == DNS || variable.closes == [Channel::Daily] { "is" } else { "are" },
            ));
        }
        if says != Some(false) {
            self.close(variable.closes, Source::Variable, &format!("{}={text}", variable.name));
        }
    }
}

/// Go's strconv.ParseBool, the rule of the page's product; an empty value counts as unset, that is `false`.
pub(crate) use crate::config::cluster_spec::parse_bool;

#[cfg(test)]
mod tests;
