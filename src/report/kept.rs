//! Reports as readers find them in a spool: newest first, each with its way and what it says. For people and for programs.

#![forbid(unsafe_code)]

use super::{Report, text};
use crate::spool::{Entry, Kind, ReadError, Spool, State};
use serde_json::{Value, json};

/// One crash that is kept.
#[derive(Debug)]
pub struct Kept {
    pub entry: Entry,
    /// `None` when the file cannot be read as a report.
    pub report: Option<Report>,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
}

/// All of them, newest first.
pub fn all(spool: &Spool) -> impl Iterator<Item = Kept> {
    entries(spool).map(|entry| Kept {
        report: spool.read(&entry).ok().and_then(|json| parse(&json)),
        refused: spool.why_refused(&entry),
        entry,
    })
}

fn entries(spool: &Spool) -> impl Iterator<Item = Entry> {
    spool.entries().into_iter().filter(|entry| entry.kind == Kind::Crash)
}

fn parse(json: &[u8]) -> Option<Report> {
    serde_json::from_slice(json).ok()
}

/// The one whose id begins with these hex digits, or the newest; else the sentence that says why there is none.
pub fn find(spool: &Spool, prefix: Option<&str>) -> Result<Entry, String> {
    let Some(prefix) = prefix else {
        return entries(spool).next().ok_or_else(|| "no deaths to tell of".to_owned());
    };
    let mut found = entries(spool).filter(|entry| entry.id.to_string().starts_with(&prefix.to_lowercase()));
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(format!("{prefix:?} is the beginning of several ids; give more digits")),
        (None, _) => Err(format!("there is no report {prefix:?}; see obit crashes list")),
    }
}

/// One in full, with the JSON it was read from.
pub fn read(spool: &Spool, entry: Entry) -> Result<(Kept, Vec<u8>), String> {
    let json = spool.read(&entry).map_err(|error: ReadError| format!("{}: {error}", entry.id))?;
    match serde_json::from_slice(&json) {
        Ok(report) => Ok((Kept { refused: spool.why_refused(&entry), report: Some(report), entry }, json)),
        Err(error) => Err(format!("{}: the report cannot be read ({error})", entry.id)),
    }
}

impl Kept {
    /// The contract with scripts, of `crashes list --json` and of the API; see the README.
    pub fn row(&self) -> Value {
        let report = self.report.as_ref();
        json!({
            "event_id": self.entry.id.to_string(),
            "state": self.state().as_str(),
            "component": report.map(|report| report.component.as_str()),
            "time": text::utc(self.entry.at_unix_ms),
            "reason": report.map(|report| report.reason.as_str()),
            "kind": report.map(|report| report.kind.as_str()),
            "summary": report.map(|report| report.summary.as_str()),
            "refused": self.refused,
        })
    }

    pub fn state(&self) -> State {
        if self.report.is_some() { self.entry.state } else { State::Corrupt }
    }

    /// Where the report is on its way, for a sentence.
    pub fn whereabouts(&self) -> String {
        let place = match self.state() {
            State::Pending if self.entry.attempts > 0 => "kept here after a failed delivery",
            State::Open | State::Pending => "kept here, not delivered yet",
            State::Sent => "delivered",
            State::Rejected => match &self.refused {
                Some(why) => return format!("refused: {why}"),
                None => "refused by the server",
            },
            State::Corrupt => "corrupt",
        };
        place.to_owned()
    }
}
