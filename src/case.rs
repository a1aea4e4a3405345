//! What init hands to the examiner when somebody died: bare facts, nothing parsed, nothing interpreted.
//!
//! A zombie has lost almost everything worth knowing (proc(5): exe, maps, cmdline and memory are gone), so what init can
//! still take without parsing goes in here as raw bytes, and what only exists before a death is in [`Run`].

#![forbid(unsafe_code)]

use crate::death::Death;
use crate::sys::clock;
use crate::sys::signal::Signal;
use crate::sys::signalfd::Arrival;
pub use crate::sys::wait::Usage;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// 128 random bits in lower-case hex: a Sentry `event_id`, the id of a run. Fixed once, never derived.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// From 32 hex digits of either case.
    pub fn parse(text: &str) -> Option<Id> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        Some(Id(bytes))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a death is worth a report: the value of the tag `exit.reason`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A signal that our own stop did not send.
    Signal,
    /// An exit code that is not expected.
    Code,
    /// The kernel killed it for memory.
    Oom,
    /// It could not be started.
    SpawnFailed,
    /// It did not end when asked and had to be killed.
    StopTimeout,
    /// The last run left no word of its end: obit was killed, alone or with its container or node.
    Unclean,
}

impl Reason {
    pub const ALL: [Reason; 6] =
        [Reason::Signal, Reason::Code, Reason::Oom, Reason::SpawnFailed, Reason::StopTimeout, Reason::Unclean];

    /// The spelling of the tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Signal => "signal",
            Reason::Code => "code",
            Reason::Oom => "oom",
            Reason::SpawnFailed => "spawn_failed",
            Reason::StopTimeout => "stop_timeout",
            Reason::Unclean => "unclean",
        }
    }
}

/// One run of the program: what is fixed when it is started, and written into the run marker.
#[derive(Clone, Debug)]
pub struct Run {
    pub id: Id,
    /// Name of the program among its like: `--component`, else the file name of the command.
    pub component: String,
    pub argv: Vec<OsString>,
    /// The file that PATH led to; `None` when nothing was found.
    pub exe: Option<PathBuf>,
    pub cwd: Option<PathBuf>,
    pub started_unix_ms: u64,
    pub release: Option<String>,
    pub environment: Option<String>,
}

/// Whose death it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The program that was asked for.
    Main,
    /// Something it started and left to us, by its comm (proc(5): at most 15 bytes).
    Descendant { comm: String },
    /// Something that it, or what it started, is the parent of and lives on.
    Child { comm: String, exe: Option<PathBuf>, parent: Parent },
}

impl Subject {
    /// Of whoever is not the program that was asked for.
    pub fn comm(&self) -> Option<&str> {
        match self {
            Subject::Main => None,
            Subject::Descendant { comm } | Subject::Child { comm, .. } => Some(comm),
        }
    }
}

/// Who collects the end of one of its children.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parent {
    pub pid: i32,
    /// proc(5): at most 15 bytes.
    pub comm: String,
}

/// The first stop signal that init was sent, or another that it passed on and that the program died of, and by whom (siginfo
/// of signalfd(2)); pid 0 means the kernel or another namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    pub signal: Signal,
    pub sender_pid: i32,
    pub sender_uid: u32,
    pub at_unix_ms: u64,
    /// Another one came and ended the grace.
    pub hurried: bool,
}

impl Stop {
    /// By a signal that has just arrived.
    pub fn asked_by(arrival: &Arrival) -> Stop {
        Stop {
            signal: arrival.signal,
            sender_pid: arrival.sender_pid,
            sender_uid: arrival.sender_uid,
            at_unix_ms: clock::unix_ms(),
            hurried: false,
        }
    }
}

/// Files of /proc/PID that a zombie still has, as the kernel wrote them; empty where /proc is missing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Zombie {
    pub status: Vec<u8>,
    pub cgroup: Vec<u8>,
    pub io: Vec<u8>,
}

/// The end of what the program wrote to stderr.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tail {
    /// The last bytes, oldest first.
    pub bytes: Vec<u8>,
    /// How many were written in all.
    pub total_bytes: u64,
}

/// What was taken of a process that stands still, for a worker to read.
#[derive(Debug)]
pub struct Held {
    pub pid: i32,
    /// The thread that the signal is for.
    pub tid: i32,
    /// siginfo_t.
    pub siginfo: Vec<u8>,
    /// Each thread's general registers.
    pub registers: Vec<(i32, Vec<u8>)>,
    /// /proc/PID/mem, maps, auxv.
    pub mem: OwnedFd,
    pub maps: OwnedFd,
    pub auxv: OwnedFd,
    /// Gets what was found.
    pub found: OwnedFd,
    /// A byte says that the process need not stand still any more, the end that all is done.
    pub done: OwnedFd,
    /// `what: why`.
    pub gaps: Vec<String>,
}

/// What a worker makes of it, once it has: for the examiner.
#[derive(Debug)]
pub struct Capture {
    pub found: OwnedFd,
    pub done: OwnedFd,
}

/// Everything init knows of one death.
#[derive(Clone, Debug)]
pub struct Case {
    pub event_id: Id,
    pub reason: Reason,
    pub at_unix_ms: u64,
    pub run: Run,
    pub subject: Subject,
    pub pid: Option<i32>,
    /// `None` when nothing was ever started, or nobody saw the end.
    pub death: Option<Death>,
    /// The status that init ends with for it; `None` when it ends by the signal itself, or not for this death.
    pub told_code: Option<u8>,
    pub uptime_ms: Option<u64>,
    /// The sentence of a failed spawn.
    pub spawn_error: Option<String>,
    pub usage: Option<Usage>,
    pub zombie: Zombie,
    /// The cgroup's OOM counter file as it was at the start of the run, raw; `None` when there is none.
    pub oom_before: Option<Vec<u8>>,
    /// The same file after the death.
    pub oom_after: Option<Vec<u8>>,
    pub stop: Option<Stop>,
    /// Where the program was last seen to work; `None` if it was seen nowhere.
    pub last_directory: Option<PathBuf>,
    /// `None` when the tail is switched off or stderr is a terminal.
    pub stderr_tail: Option<Tail>,
    /// Why something above is missing, in words.
    pub gaps: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_lower_case_hex_digits_and_reads_back() {
        let id = Id([0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
        assert_eq!(id.to_string(), "ab0102030405060708090a0b0c0d0eff");
        assert_eq!(Id::parse(&id.to_string().to_uppercase()), Some(id));
        assert_eq!(Id::parse("ab"), None);
        assert_eq!(Id::parse(&"g".repeat(32)), None);
        assert_eq!(Id::parse(&"é".repeat(16)), None);
    }
}
