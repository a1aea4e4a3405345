//! What the program forks: whether it is followed, for how long, and what is kept of each that crashed.
//!
//! A worker that crashes while its master lives on is seen by nobody but the master, so it is traced like the program itself. It must
//! cost next to nothing and be noticed by nobody, so three things differ. Each process is let go as it ends, before it is a
//! zombie: its parent collects it as without us, at the same moment (a traced zombie is hidden from its parent, while a
//! pidfd of it is readable already). That stop must not wait for memory: one that the kernel kills for its memory has it until we
//! let it go, and everybody else in the container waits for it. Measured with the program and us in one full cgroup, from a child's last
//! page to its parent's wait(2): 27 to 160 ms untraced, 2.0 s and once 16.8 s if our own code had to be read from the disk for it,
//! 12 to 81 ms if that was kept in memory. So it is, from the first one that is followed, or nobody is; and only what is forked
//! has that stop: the program itself is let die at once by SIGKILL and by seccomp(2), whose ends no other stop tells of, so
//! of these there is no stack. Who traces others (another obit, too) or looks for leaks is let go when it is executed, and so is
//! who lives in a PID namespace of his own. And a program that forks much is soon not followed any more; it is traced itself as before.

#![forbid(unsafe_code)]

use super::cost::Purse;
use super::decision::{self, Circumstances};
use super::entries::{STATUS_BYTES, open_of, status};
use crate::case::Capture;
use crate::config::{Capture as How, Settings};
use crate::evidence::rival::{self, Rival};
use crate::limits;
use crate::sys::fd::{self, Identity};
use crate::sys::memory;
use crate::sys::ptrace::{self, Forks};
use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

/// Of /proc/PID/environ.
const ENVIRONMENT_BYTES: u64 = 32 * 1024;
/// Of /proc/self/mountinfo.
const MOUNTS_BYTES: u64 = 1 << 20;
/// Programs of which it is remembered what they trace.
const PROGRAMS: usize = 16;
/// Processes of which it is remembered that their death was told, or what was seen at it.
const REMEMBERED: usize = 64;

/// Why nobody is followed where our own memory may have to be read from the disk.
pub const UNLOCKED: &str =
    "obit's own memory cannot be locked; raise the limit to 8 MiB (ulimit -l, docker run --ulimit memlock)";

/// A file as it was when it was looked at.
type Version = (Identity, (i64, u32));

/// What a program that was just executed means for its tracer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    Plain,
    LooksForLeaks,
    Traces,
    /// Its file cannot be read, or not without waiting for one whom we may trace.
    OutOfReach,
}

/// What was seen of one that crashed, until it ends.
#[derive(Debug)]
struct Seen {
    pid: i32,
    found: Result<Capture, String>,
}

/// The tracer's memory of what the program forked.
#[derive(Debug)]
pub struct Kin {
    /// Why nobody is followed, or nobody more.
    why_not: Option<String>,
    /// That will not change for another program.
    for_good: bool,
    /// Whether anybody ever was.
    any: bool,
    depth: Option<usize>,
    /// `None`: as much as it likes.
    forks: Option<Purse>,
    looks: Purse,
    renewals: u32,
    programs: VecDeque<(Version, Rival)>,
    seen: VecDeque<Seen>,
    /// Numbers and starts of those whose death was told before they were zombies.
    told: VecDeque<(i32, u64)>,
}

impl Kin {
    pub fn new(settings: &Settings, so: Circumstances, now: Duration) -> Kin {
        let why_not = decision::may_follow(settings.capture, so).err();
        Kin {
            why_not: why_not.map(str::to_owned),
            for_good: why_not.is_some(),
            any: false,
            depth: None,
            forks: (settings.capture != How::Ptrace).then(|| full(now)),
            looks: Purse::full(limits::TRACE_LOOKS, limits::TRACE_LOOK_AGAIN, now),
            renewals: 0,
            programs: VecDeque::new(),
            seen: VecDeque::new(),
            told: VecDeque::new(),
        }
    }

    /// What becomes of the next one that is forked.
    pub fn forks(&self) -> Forks {
        if self.why_not.is_none() { Forks::Followed } else { Forks::Left }
    }

    /// One more was forked.
    pub fn forked(&mut self, now: Duration) -> Forks {
        if self.why_not.is_none() && self.forks.as_mut().is_some_and(|forks| !forks.pay(now)) {
            self.why_not = Some(format!("it forked more than {} in a second", limits::TRACE_FORKS));
        }
        self.forks()
    }

    /// From now on nobody more.
    pub fn leave(&mut self, why: &str) {
        self.why_not.get_or_insert_with(|| why.to_owned());
        self.for_good = true;
    }

    /// The program has executed another one, which is followed anew: what an entrypoint forked is not held against it.
    pub fn is_another_program(&mut self, traces: bool, now: Duration) -> Forks {
        if traces {
            self.why_not =
                self.why_not.take().or(Some("the program may trace processes itself (it calls ptrace)".to_owned()));
        } else if !self.for_good && self.renewals < limits::TRACE_RENEWALS {
            self.renewals += 1;
            self.forks = self.forks.map(|_| full(now));
            self.why_not = None;
        }
        self.forks()
    }

    /// Whether a process is followed that stands still before its first step.
    pub fn takes_in(&mut self, pid: i32) -> bool {
        if self.why_not.is_some() {
            return false;
        }
        if self.depth.is_none() {
            self.depth = fd::read_small(c"/proc/self/status", STATUS_BYTES).as_deref().and_then(decision::depth);
        }
        let depth = status(pid).as_deref().and_then(decision::depth);
        if depth.is_none() || depth != self.depth {
            return false;
        }
        if !self.any {
            if memory::stay_resident().is_err() {
                self.leave(UNLOCKED);
                return false;
            }
            ptrace::rehearse_end();
            self.any = true;
        }
        true
    }

    /// What one is that was just executed.
    pub fn program(&mut self, tid: i32) -> Program {
        let mut environment = Vec::new();
        let read = open_of(tid, "environ")
            .map(|file| File::from(file).take(ENVIRONMENT_BYTES).read_to_end(&mut environment).is_ok());
        if read != Some(true) {
            return Program::OutOfReach;
        }
        if rival::is_in_environment(&environment) {
            return Program::LooksForLeaks;
        }
        if is_tracer(tid) {
            return Program::Traces;
        }
        match self.rival(tid) {
            None => Program::OutOfReach,
            Some(Rival { looks_for_leaks: true, .. }) => Program::LooksForLeaks,
            Some(Rival { traces: true, .. }) => Program::Traces,
            Some(_) => Program::Plain,
        }
    }

    /// The same of the program itself, which is traced where nothing speaks against it.
    pub fn program_itself(&mut self, tid: i32) -> Program {
        let file = c_path(tid, "exe").and_then(|path| fd::known_of(&path));
        if file.is_some_and(|(file, _)| self.may_wait_for_us(file)) {
            return Program::OutOfReach;
        }
        let rival = self.rival(tid).unwrap_or_default();
        match rival {
            Rival { looks_for_leaks: true, .. } => Program::LooksForLeaks,
            Rival { traces: true, .. } => Program::Traces,
            _ if is_tracer(tid) => Program::Traces,
            _ => Program::Plain,
        }
    }

    fn rival(&mut self, tid: i32) -> Option<Rival> {
        let version = fd::known_of(&c_path(tid, "exe")?)?;
        if let Some((_, rival)) = self.programs.iter().find(|(known, _)| *known == version) {
            return Some(*rival);
        }
        if self.may_wait_for_us(version.0) {
            return None;
        }
        let rival = rival::of(&File::from(open_of(tid, "exe")?));
        if self.programs.len() == PROGRAMS {
            self.programs.pop_front();
        }
        self.programs.push_back((version, rival));
        Some(rival)
    }

    /// Whether a file is served by a program that may be one of those we follow: then reading it could wait for us.
    fn may_wait_for_us(&self, file: Identity) -> bool {
        let root = fd::known_of(c"/").map(|(root, _)| root.device());
        if !self.any || root == Some(file.device()) {
            return false;
        }
        let mut mounts = Vec::new();
        let read = File::open("/proc/self/mountinfo").and_then(|list| list.take(MOUNTS_BYTES).read_to_end(&mut mounts));
        read.is_err() || decision::is_served_by_a_program(&mounts, file.device())
    }

    /// Whether one that is about to crash is looked at.
    pub fn affords_look(&mut self, pid: i32, now: Duration) -> bool {
        let affords = self.looks.pay(now);
        if !affords {
            self.keep(pid, Err(format!("left out after {} crashes in a short time", limits::TRACE_LOOKS)));
        }
        affords
    }

    /// What was seen of it, or why nothing was.
    pub fn keep(&mut self, pid: i32, found: Result<Capture, String>) {
        self.seen.retain(|seen| seen.pid != pid);
        // A capture is two fds.
        if self.seen.len() == REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(Seen { pid, found });
    }

    /// What was seen of one that ends, and else why nothing was.
    pub fn take(&mut self, pid: i32) -> Result<Capture, Option<String>> {
        match self.seen.iter().position(|seen| seen.pid == pid).and_then(|place| self.seen.remove(place)) {
            Some(seen) => seen.found.map_err(|why| Some(format!("live capture: {why}"))),
            None => {
                Err(self.why_not.as_ref().map(|why| format!("live capture: what is forked is not followed: {why}")))
            }
        }
    }

    /// Takes note that a death is told, which then must not be told again; `false` if it was.
    pub fn note_told(&mut self, pid: i32) -> bool {
        let Some(started) = started(pid) else { return true };
        if self.told.contains(&(pid, started)) {
            return false;
        }
        if self.told.len() == REMEMBERED {
            self.told.pop_front();
        }
        self.told.push_back((pid, started));
        true
    }
}

/// By its name, or because it is obit itself, which then looks after what it runs.
fn is_tracer(tid: i32) -> bool {
    let file = || fd::known_of(&c_path(tid, "exe")?);
    let is_obit = || file().is_some_and(|file| fd::known_of(c"/proc/self/exe") == Some(file));
    std::fs::read_link(format!("/proc/{tid}/exe")).is_ok_and(|path| rival::is_named_so(&path)) || is_obit()
}

fn full(now: Duration) -> Purse {
    Purse::full(limits::TRACE_FORKS_AT_ONCE, Duration::from_secs(1) / limits::TRACE_FORKS, now)
}

fn started(pid: i32) -> Option<u64> {
    decision::started(&fd::read_small(&c_path(pid, "stat")?, STATUS_BYTES)?)
}

fn c_path(pid: i32, name: &str) -> Option<CString> {
    CString::new(format!("/proc/{pid}/{name}")).ok()
}
