//! An entry of the spool, read, and its envelope: the one way to the bytes that are sent, and to those that are shown.

#![forbid(unsafe_code)]

use super::sender::Sender;
use super::{daily, envelope};
use crate::deliver::envelope::Size;
use crate::report::daily::{CheckIn, Daily};
use crate::report::{Report, Session};
use crate::spool::{Entry, Kind};

/// What an entry holds.
pub enum Content {
    Crash(Box<Report>),
    Session(Session),
    /// Of obit itself: id and event.
    Fault(String, Vec<u8>),
    Daily(Daily),
    CheckIn(CheckIn),
}

impl Content {
    /// `None`: it is no such thing.
    pub fn parse(entry: &Entry, content: &[u8]) -> Option<Content> {
        match entry.kind {
            Kind::Crash => serde_json::from_slice(content).ok().map(Content::Crash),
            Kind::Session => serde_json::from_slice(content).ok().map(Content::Session),
            Kind::Fault => Some(Content::Fault(entry.id.to_string(), content.to_vec())),
            Kind::Daily => serde_json::from_slice(content).ok().map(Content::Daily),
            Kind::CheckIn => serde_json::from_slice(content).ok().map(Content::CheckIn),
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Content::Crash(_) => Kind::Crash,
            Content::Session(_) => Kind::Session,
            Content::Fault(..) => Kind::Fault,
            Content::Daily(_) => Kind::Daily,
            Content::CheckIn(_) => Kind::CheckIn,
        }
    }

    /// For a log: `crash 0123…`.
    pub fn label(&self) -> String {
        match self {
            Content::Crash(report) => format!("crash {}", report.event_id),
            Content::Session(session) => format!("session {}", session.sid),
            Content::Fault(id, _) => format!("fault {id}"),
            Content::Daily(daily) => format!("daily {}", daily.event_id),
            Content::CheckIn(check_in) => format!("check-in {}", check_in.check_in_id),
        }
    }

    /// The host that a crash report tells of.
    pub fn host(&self) -> &str {
        match self {
            Content::Crash(report) => &report.host.name,
            _ => "",
        }
    }

    /// The bytes; `None` if Sentry takes no such thing, whenever it comes.
    pub fn envelope(&self, sender: &Sender, size: Size, attempts: u32, sent_at_unix_ms: u64) -> Option<Vec<u8>> {
        match self {
            Content::Crash(report) => Some(envelope::crash(report, sender, size, sent_at_unix_ms)),
            Content::Session(session) => envelope::session(session, attempts > 0, sent_at_unix_ms),
            Content::Fault(id, event) => Some(envelope::fault(id, event, sent_at_unix_ms)),
            Content::Daily(day) => Some(daily::daily(day, sent_at_unix_ms)),
            Content::CheckIn(check_in) => Some(daily::check_in(check_in, sent_at_unix_ms)),
        }
    }
}
