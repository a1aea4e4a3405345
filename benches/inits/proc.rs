//! /proc of an init, from outside: memory, threads, context switches, children, blocked signals.

#![forbid(unsafe_code)]

use std::fs::read_to_string;
use std::io;

/// proc_pid_status(5).
pub struct Status {
    pub asleep: bool,
    pub threads: u64,
    /// Voluntary and not; each one is a wake-up.
    pub context_switches: u64,
    /// One bit a signal, signal 1 the lowest.
    pub blocked: u64,
}

pub fn status(pid: i32) -> io::Result<Status> {
    let text = read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {name}")))
    };
    let number = |name: &str| Ok::<u64, io::Error>(field(name)?.parse().unwrap_or(0));
    Ok(Status {
        asleep: field("State")?.starts_with('S'),
        threads: number("Threads")?,
        context_switches: number("voluntary_ctxt_switches")? + number("nonvoluntary_ctxt_switches")?,
        blocked: u64::from_str_radix(field("SigBlk")?, 16).unwrap_or(0),
    })
}

impl Status {
    pub fn blocks(&self, signal: i32) -> bool {
        self.blocked & (1 << (signal - 1)) != 0
    }
}

/// proc_pid_smaps(5), the rollup, in kB.
pub struct Memory {
    pub resident: u64,
    pub proportional: u64,
    pub private_dirty: u64,
}

pub fn memory(pid: i32) -> io::Result<Memory> {
    let text = read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kb = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        line.and_then(|kb| kb.parse().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/smaps_rollup has no {name}")))
    };
    Ok(Memory { resident: kb("Rss:")?, proportional: kb("Pss:")?, private_dirty: kb("Private_Dirty:")? })
}

/// How many children it has, zombies among them.
pub fn children(pid: i32) -> io::Result<usize> {
    let list = read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(list.split_ascii_whitespace().count())
}
