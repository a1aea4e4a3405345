//! One entry by its name: everything that listing, sorting and evicting need, without opening the file.

#![forbid(unsafe_code)]

use crate::case::Id;
use crate::consent::Channel;

/// A file of the spool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub state: State,
    pub kind: Kind,
    pub id: Id,
    pub at_unix_ms: u64,
    /// Attempts to deliver it.
    pub attempts: u32,
    /// Size of the file.
    pub bytes: u64,
    /// The last attempt or change of state, or when it was written: the file's time.
    pub tried_unix_ms: u64,
}

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Crash,
    Session,
    /// Of obit itself: a Sentry event as it is.
    Fault,
    Daily,
    CheckIn,
}

/// Where an entry is in its life; each is a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Open,
    Pending,
    Sent,
    Rejected,
    Corrupt,
}

impl State {
    pub const ALL: [State; 5] = [State::Open, State::Pending, State::Sent, State::Rejected, State::Corrupt];

    pub fn dir_name(self) -> &'static str {
        match self {
            State::Open => "open",
            other => other.as_str(),
        }
    }

    /// What people and scripts are told: an entry that is being written waits like the others.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Open | State::Pending => "pending",
            State::Sent => "sent",
            State::Rejected => "rejected",
            State::Corrupt => "corrupt",
        }
    }

    /// Nothing will happen to it any more.
    pub fn is_settled(self) -> bool {
        !matches!(self, State::Open | State::Pending)
    }
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Crash, Kind::Session, Kind::Fault, Kind::Daily, Kind::CheckIn];

    /// For sentences.
    pub fn what(self) -> &'static str {
        match self {
            Kind::Crash => "the report",
            Kind::Session => "the session",
            Kind::Fault => "the fault of obit's own",
            Kind::Daily => "the daily report",
            Kind::CheckIn => "the check-in",
        }
    }

    /// Whether it is for people to read and to send again; the others are only on their way.
    pub fn is_report(self) -> bool {
        matches!(self, Kind::Crash | Kind::Daily)
    }

    /// Sentry's name for what is counted when one is lost.
    pub fn category(self) -> &'static str {
        match self {
            // An event is an event to Sentry's quotas, whatever its level.
            Kind::Crash | Kind::Fault | Kind::Daily => "error",
            Kind::Session => "session",
            Kind::CheckIn => "monitor",
        }
    }

    /// Whose permission it needs to leave.
    pub fn channel(self) -> Channel {
        match self {
            Kind::Crash | Kind::Session | Kind::Fault => Channel::Errors,
            Kind::Daily | Kind::CheckIn => Channel::Daily,
        }
    }

    /// Whether it is worth the disk's time to survive a power cut. How a run ended is known a moment before the container
    /// ends: syncing that costs each good end the disk's slowest moments, and what a power cut takes is one in a statistic.
    pub fn is_durable(self) -> bool {
        self != Kind::Session
    }

    fn suffix(self) -> &'static str {
        match self {
            Kind::Crash => "crash",
            Kind::Session => "session",
            Kind::Fault => "fault",
            Kind::Daily => "daily",
            Kind::CheckIn => "checkin",
        }
    }
}

impl Entry {
    /// `<unix_ms>-<id>-<attempts>.<kind>`.
    pub fn file_name(&self) -> String {
        format!("{}-{}-{}.{}", self.at_unix_ms, self.id, self.attempts, self.kind.suffix())
    }

    /// The inverse, for a file found in a state's directory.
    pub fn from_file_name(state: State, name: &str) -> Option<Entry> {
        let (stem, suffix) = name.rsplit_once('.')?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
        let mut parts = stem.split('-');
        let entry = Entry {
            state,
            kind,
            at_unix_ms: parts.next()?.parse().ok()?,
            id: Id::parse(parts.next()?)?,
            attempts: parts.next()?.parse().ok()?,
            bytes: 0,
            tried_unix_ms: 0,
        };
        (parts.next().is_none() && entry.file_name() == name).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_reads_back_and_only_in_its_one_spelling(at: u64, attempts: u32, id: [u8; 16], which in 0..5usize) {
            let kind = Kind::ALL[which];
            let entry = Entry { state: State::Sent, kind, id: Id(id), at_unix_ms: at, attempts, bytes: 0, tried_unix_ms: 0 };
            let name = entry.file_name();
            prop_assert_eq!(Entry::from_file_name(State::Sent, &name), Some(entry));
            prop_assert_eq!(Entry::from_file_name(State::Sent, &format!("0{name}")), None);
            prop_assert_eq!(Entry::from_file_name(State::Sent, &format!("{name}.tmp")), None);
        }

        #[test]
        fn any_name_is_an_entry_or_none(name in "\\PC{0,80}") {
            if let Some(entry) = Entry::from_file_name(State::Open, &name) {
                prop_assert_eq!(entry.file_name(), name);
            }
        }
    }
}
