//! The choice that somebody made by CLI or API: it survives restarts, and says who made it and when.

#![forbid(unsafe_code)]

use super::Channel;
use crate::sys::clock::unix_ms;
use crate::sys::file::Dir;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

/// In the state directory.
pub const FILE: &str = "consent.json";
/// Two that choose at once take turns.
const LOCK: &str = "consent.lock";
/// Three lines of JSON; a larger file is not ours.
const FILE_BYTES: usize = 64 * 1024;
/// A higher one is from a later obit, which may mean something else by it.
const FORMAT: u32 = 1;
/// Of a name of somebody who chose.
const BY_CHARS: usize = 200;

/// What was chosen. A channel that nobody chose about is not in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stored {
    format: u32,
    channels: BTreeMap<String, Choice>,
}

/// One choice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Choice {
    pub on: bool,
    /// `obit telemetry, uid 0`, `the API, user admin`.
    pub by: String,
    pub at_unix_ms: u64,
}

impl Default for Stored {
    fn default() -> Stored {
        Stored { format: FORMAT, channels: BTreeMap::new() }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = i64::try_from(self.at_unix_ms / 1000).ok();
        let at = at.and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
        let at = at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
        write!(f, "{} at {}", self.by, at.as_deref().unwrap_or("an unknown time"))
    }
}

impl Stored {
    pub fn choices(&self) -> impl Iterator<Item = (Channel, &Choice)> {
        self.channels.iter().filter_map(|(name, choice)| Some((Channel::parse(name)?, choice)))
    }

    pub fn choice(&self, channel: Channel) -> Option<&Choice> {
        self.channels.get(channel.as_str())
    }
}

/// What is stored; nothing is an empty choice. An error says why it cannot be read.
pub fn read(state_dir: &Path) -> Result<Stored, String> {
    match Dir::open(state_dir).and_then(|dir| dir.read_small(FILE, FILE_BYTES)) {
        Ok(bytes) => {
            let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
            match stored.format {
                FORMAT => Ok(stored),
                other => Err(format!("its format is {other}, of a later obit; this one reads {FORMAT}")),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stored::default()),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes choices, durably, and returns all that are stored then. An unreadable file is replaced: this is the choosing anew
/// that it waits for, and the channels that are not among `choices` stay closed by name.
pub fn choose(state_dir: &Path, choices: &[(Channel, bool)], by: &str) -> io::Result<Stored> {
    let dir = Dir::open(state_dir)?;
    let lock = dir.open_or_create(LOCK)?;
    lock.lock()?;
    let by: String = by.chars().filter(|c| !c.is_control()).take(BY_CHARS).collect();
    let choice = |on| Choice { on, by: by.clone(), at_unix_ms: unix_ms() };
    let mut stored = read(state_dir).unwrap_or_else(|_| Stored {
        format: FORMAT,
        channels: Channel::ALL.map(|channel| (channel.as_str().to_owned(), choice(false))).into(),
    });
    for (channel, on) in choices {
        stored.channels.insert(channel.as_str().to_owned(), choice(*on));
    }
    dir.replace(FILE, serde_json::json!(stored).to_string().as_bytes())?;
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_there_again_with_who_and_when() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(read(temp.path()), Ok(Stored::default()));
        choose(temp.path(), &[(Channel::Daily, false)], "somebody\n").unwrap();
        choose(temp.path(), &[(Channel::Errors, true)], "the API").unwrap();
        let stored = read(temp.path()).unwrap();
        let daily = stored.choice(Channel::Daily).unwrap();
        assert_eq!((daily.on, daily.by.as_str()), (false, "somebody"));
        assert!(unix_ms().abs_diff(daily.at_unix_ms) < 60_000);
        assert_eq!(stored.choice(Channel::Errors).map(|choice| choice.on), Some(true));
        assert_eq!(stored.choice(Channel::Dns), None);
        let choice = Choice { at_unix_ms: 1_700_000_000_000, ..daily.clone() };
        assert_eq!(choice.to_string(), "somebody at 2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_replaced_by_a_choice_and_opens_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        for content in ["", "{", "[]", "{\"format\":2,\"channels\":{}}", "{\"format\":1,\"channels\":{\"dns\":1}}"] {
            std::fs::write(temp.path().join(FILE), content).unwrap();
            assert!(read(temp.path()).is_err(), "{content}");
        }
        let stored = choose(temp.path(), &[(Channel::Dns, true)], "me").unwrap();
        let on = |channel| stored.choice(channel).map(|choice| choice.on);
        assert_eq!(Channel::ALL.map(on), [Some(false), Some(false), Some(true)]);
    }
}
