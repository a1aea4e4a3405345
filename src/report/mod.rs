//! The report of one death as it is kept on disk: what the obituary shows and what the envelope is made of.
//!
//! It is plain data. Everything secret is already masked in it; what could not be learnt is a named [`Gap`], never a
//! silent zero.

#![forbid(unsafe_code)]

pub mod build;
pub mod built;
pub mod daily;
pub mod group;
pub mod kept;
pub mod names;
pub mod native;
pub mod said;
pub mod scrub;
pub mod text;

pub use crate::evidence::host::Host;
pub use built::BuildFacts;

use crate::case::Reason;
use crate::evidence::stack::{Exception, Image, ThreadStack};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format written today; a higher one is from a later obit and is left alone.
pub const FORMAT: u32 = 1;

/// One death, told in full (`complete`) or as the minimum that was made durable first.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    pub format: u32,
    /// 32 hex digits, fixed at the death; Sentry's `event_id`.
    pub event_id: String,
    /// The moment of death, milliseconds since 1970 UTC.
    pub at_unix_ms: u64,
    /// `false` while this is the minimal entry; if it stays so, the examiner did not get further.
    pub complete: bool,
    #[serde(with = "reason")]
    pub reason: Reason,
    pub level: Level,
    pub component: String,
    /// `SIGSEGV`, `exit code 3`, `OOM kill`: what a list shows and Sentry's exception type.
    pub kind: String,
    /// The human line: `segmentation fault, core dumped, 3.2 s after the start`.
    pub summary: String,
    pub exit: Exit,
    pub run: RunFacts,
    #[serde(default)]
    pub process: Process,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<Oom>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopFacts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_tail: Option<StderrTail>,
    /// What the program threw, printed or was killed by, with its stack; the one that ended it last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Exception>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<ThreadStack>,
    /// The ELF files that their frames are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Raw memory, in base64; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minidump: Option<String>,
    #[serde(default)]
    pub host: Host,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kubernetes: BTreeMap<String, String>,
    /// Sentry's grouping key; no pid, address, time or host name in it.
    pub fingerprint: Vec<String>,
    /// Deaths of the same fingerprint that were only counted since the last report of it.
    #[serde(default)]
    pub suppressed: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Version of the obit that wrote it.
    pub obit_version: String,
}

/// By the spelling of its tag.
mod reason {
    use super::Reason;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(reason.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = Reason::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| D::Error::custom(format!("{text:?} is no reason")))
    }
}

impl Report {
    /// What its [`crashed`](ThreadStack::crashed) thread is shown under.
    pub fn last_moment(&self) -> &'static str {
        if self.reason == Reason::StopTimeout { "when it was killed" } else { "crashed" }
    }
}

/// Sentry's two levels for deaths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Fatal,
    Error,
}

/// The exit facts behind the tags `exit.signal`, `exit.code`, `exit.core_dumped`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Exit {
    /// `SIGSEGV`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_number: Option<i32>,
    /// The exit code; for a signal 128+n; absent when nobody saw the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The status obit ended with for it; absent when it ended by the signal itself, for another death, or it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_code: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_dumped: Option<bool>,
}

/// The run that ended.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RunFacts {
    /// 32 hex digits.
    pub id: String,
    pub started_unix_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// The process that died.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Not the program that was asked for, but something it started.
    #[serde(default)]
    pub descendant: bool,
    /// Whose child it was, where that one lived on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentFacts>,
    /// Scrubbed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// GNU build id in hex, of the file at `exe` as it was after the death.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// Of the same file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<BuildFacts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Names of all environment variables with the values that are safe to show; the others are empty strings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageFacts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Pid in each namespace, outermost first, where they differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ns_pids: Vec<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads_at_death: Option<u32>,
    /// Where its core is; it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spawn_error: Option<String>,
}

/// Who collected the end; its comm is at most 15 bytes (proc(5)).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParentFacts {
    pub pid: i32,
    pub comm: String,
}

/// getrusage(2) of the dead; times in microseconds, memory in KiB.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UsageFacts {
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
    pub major_faults: u64,
    pub minor_faults: u64,
}

/// The cgroup's OOM counters over the run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Oom {
    /// `memory.events` (v2) or `memory.oom_control` (v1).
    pub source: String,
    pub kills_before: u64,
    pub kills_after: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

/// The stop that was asked for before the death, or the signal of another kind that was passed on to the program and ended it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StopFacts {
    pub signal: String,
    pub sender_pid: i32,
    pub sender_uid: u32,
    pub before_death_ms: u64,
    /// It was asked for again, which ended the grace.
    #[serde(default)]
    pub hurried: bool,
}

/// The end of stderr, scrubbed, as text; bytes that are no UTF-8 are shown as U+FFFD.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StderrTail {
    pub text: String,
    /// Bytes the program wrote in all.
    pub total_bytes: u64,
    /// Bytes of it that were remembered.
    pub kept_bytes: u64,
    /// How many secrets were masked.
    pub masked: u32,
}

/// Something that could not be learnt, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// `oom counter`, `build id`, `stderr tail`.
    pub what: String,
    pub why: String,
}

/// How one run of the program ended, for Sentry's release health; only made when a release is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    pub format: u32,
    /// The run's id: 32 hex digits.
    pub sid: String,
    pub started_unix_ms: u64,
    pub ended_unix_ms: u64,
    pub status: SessionStatus,
    pub errors: u32,
    pub release: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// Terminal states of a Sentry session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionStatus {
    Exited,
    Crashed,
    Abnormal,
}
