//! Live capture: the program is traced from its start, so that at a signal that will kill it its threads can be held still for a
//! moment and their stacks be read, without a core and without a privilege.
//!
//! Only the program's own process is traced, all its threads with it: its children and theirs never know of us. Until that signal
//! every stop is over at once. If there are more stops than can be afforded, we let go for good and say so; so we do where another
//! one wants to trace: a leak check at the end, a crash handler that asks for help. What is read is read by a worker; init takes
//! registers and hands over fds, and goes on with its work meanwhile. A program that does not end when asked is looked at in the same
//! way before it is killed.

#![forbid(unsafe_code)]

pub mod decision;

use crate::case::{Capture, Held};
use crate::config::Settings;
use crate::evidence::leak_check;
use crate::limits;
use crate::sys::ptrace::{self, Stop};
use crate::sys::signal::Signal;
use crate::sys::wait::{self, Stopped};
use crate::sys::{clock, fd, process};
use decision::{Action, Circumstances, Mode, Purse, Step};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// A file of /proc/PID that is read in init: status.
const STATUS_BYTES: usize = 4096;
/// Threads whose registers are taken.
const THREADS: usize = 4096;
/// Threads that are in a handler of a fatal signal at one time; the calls of more are not looked at.
const HANDLERS: usize = 64;

/// Threads that stand still, each with the signal that it is owed.
#[derive(Debug)]
struct Hold {
    tid: i32,
    signal: i32,
    others: Vec<(i32, i32)>,
    until: Duration,
}

/// The tracer of one process.
#[derive(Debug)]
pub struct Tracer {
    pid: i32,
    mode: Mode,
    hold: Option<Hold>,
    capture: Option<Capture>,
    /// Threads in a handler of a fatal signal, and how many more of their calls are looked at.
    in_handler: Vec<(i32, u32)>,
    purse: Purse,
    /// Why the program is not, or no longer, traced.
    why_not: Option<String>,
}

/// Whether and why not: the circumstances of this process and the program.
pub fn circumstances(program: Option<&std::path::Path>, stands_in: bool) -> Circumstances {
    use std::os::unix::fs::MetadataExt as _;
    const SET_ID: u32 = 0o6000;
    Circumstances {
        is_root: process::effective_uid() == 0,
        no_new_privileges: ptrace::has_no_new_privileges(),
        program_gains: program.and_then(|path| path.metadata().ok()).is_some_and(|found| found.mode() & SET_ID != 0),
        leak_check: ["ASAN_OPTIONS", "LSAN_OPTIONS"].iter().any(|name| std::env::var_os(name).is_some())
            || std::env::var_os("LD_PRELOAD").is_some_and(|paths| leak_check::is_preloaded(paths.as_bytes())),
        has_proc: fd::read_small(c"/proc/self/status", STATUS_BYTES).is_some(),
        stands_in,
    }
}

impl Tracer {
    /// Whether anybody will be traced is clear before there is anybody.
    pub fn new(settings: &Settings, so: Circumstances) -> Tracer {
        Tracer {
            pid: 0,
            mode: Mode::Watching,
            hold: None,
            capture: None,
            in_handler: Vec::new(),
            purse: Purse::full(clock::monotonic()),
            why_not: decision::may_trace(settings.capture, so).err().map(str::to_owned),
        }
    }

    /// Whether the child is to wait for [`Tracer::begin`] before it executes anything.
    pub fn wants_to_begin(&self) -> bool {
        self.why_not.is_none()
    }

    /// Begins to trace the child, which has not executed anything yet.
    pub fn begin(&mut self, pid: i32) {
        self.pid = pid;
        self.why_not = ptrace::seize(pid).err().map(|error| format!("the kernel refuses it ({error})"));
    }

    /// Whether what has ended is but a thread of the program; one that was not let go in time is told to us, too.
    pub fn is_thread(&self, pid: i32) -> bool {
        pid != self.pid && self.pid != 0 && process::is_thread_of(self.pid, pid)
    }

    /// Why there is nothing of a death, for its report.
    pub fn gap(&self) -> Option<String> {
        self.why_not.as_ref().map(|why| format!("live capture: {why}"))
    }

    /// Takes in a stop. What is returned is to be given to a worker; `released` must be called when it says so.
    pub fn stopped(&mut self, tid: i32, status: i32, spares: Option<Signal>) -> Option<Held> {
        let stop = Stop::from_status(status);
        if self.mode == Mode::Watching && !self.purse.pay(clock::monotonic()) {
            let why = format!(
                "let go after more than {} stops in a second (signals, or threads that come and go)",
                limits::TRACE_STOPS
            );
            self.let_go(tid, why);
        }
        match decision::about(stop, self.mode) {
            Action::GoOn(signal) => self.go_on(tid, signal),
            Action::Listen => ptrace::listen(tid),
            Action::LetGo(signal) => process::let_go(tid, signal),
            Action::Hold(signal) => match &mut self.hold {
                Some(hold) => hold.others.push((tid, signal)),
                None => self.go_on(tid, signal),
            },
            // By clone(2) a thread makes processes, too, that are none of ours.
            Action::Newcomer if !process::is_thread_of(self.pid, tid) => process::let_go(tid, 0),
            Action::Newcomer => self.go_on(tid, 0),
            Action::Executed => {
                self.in_handler.clear();
                match leak_check::is_in(format!("/proc/{tid}/exe").as_ref()) {
                    true => {
                        self.let_go(tid, decision::LEAK_CHECK.to_owned());
                        process::let_go(tid, 0);
                    }
                    false => ptrace::go_on(tid, 0),
                }
            }
            Action::Call => self.called(tid),
            Action::Suspect(signal) => {
                // What was asked for is no crash.
                let is_asked_for = spares.is_some_and(|spared| spared.number() == signal);
                let status = if is_asked_for { None } else { self::status(tid) };
                if status.as_deref().is_some_and(|status| decision::is_default(status, signal)) {
                    return self.hold(tid, signal, ptrace::siginfo(tid).unwrap_or_default());
                }
                if status.is_some_and(|status| decision::is_caught(&status, signal)) && self.in_handler.len() < HANDLERS
                {
                    self.in_handler.retain(|(other, _)| *other != tid);
                    self.in_handler.push((tid, limits::TRACE_CALLS));
                }
                self.go_on(tid, signal);
            }
        }
        None
    }

    fn go_on(&self, tid: i32, signal: i32) {
        if self.in_handler.iter().any(|(other, _)| *other == tid) {
            ptrace::go_on_to_call(tid, signal);
        } else {
            ptrace::go_on(tid, signal);
        }
    }

    /// A thread makes a system call in a handler of a fatal signal.
    fn called(&mut self, tid: i32) {
        let Some(place) = self.in_handler.iter().position(|(other, _)| *other == tid) else {
            return ptrace::go_on(tid, 0);
        };
        let left = &mut self.in_handler[place].1;
        *left = left.saturating_sub(1);
        match decision::step(ptrace::call(tid)) {
            Step::On if *left > 0 => ptrace::go_on_to_call(tid, 0),
            Step::On | Step::Returns => {
                self.in_handler.swap_remove(place);
                ptrace::go_on(tid, 0);
            }
            Step::AsksForHelp => {
                self.let_go(
                    tid,
                    "let go for the program's own crash handler, which asked another process to look".to_owned(),
                );
                process::let_go(tid, 0);
            }
        }
    }

    /// Ends the tracing: of the others before this returns, as far as they can be stopped; of this one, which stands still, with
    /// whatever it stands at.
    fn let_go(&mut self, tid: i32, why: String) {
        self.why_not = Some(why);
        self.mode = Mode::LettingGo;
        self.in_handler.clear();
        let until = clock::monotonic() + limits::TRACE_HOLD;
        let others: Vec<i32> = threads(self.pid).into_iter().filter(|other| *other != tid).collect();
        let asked: Vec<i32> = others.into_iter().filter(|other| ptrace::interrupt(*other).is_ok()).collect();
        for other in asked {
            if let Stopped::At(status) = wait::stopped_within(other, until)
                && let Action::LetGo(signal) = decision::about(Stop::from_status(status), self.mode)
            {
                process::let_go(other, signal);
            }
        }
    }

    /// Lets go because somebody else is to trace the program.
    pub fn let_go_on_request(&mut self) {
        if self.why_not.is_none() && self.mode == Mode::Watching && self.pid != 0 {
            self.let_go(0, "let go on request (obit detach)".to_owned());
        }
    }

    /// Before we kill it ourselves: where it hangs. `released` must be called as for a stop; `None` where nobody is traced.
    pub fn look(&mut self) -> Option<Held> {
        if self.why_not.is_some() || self.mode != Mode::Watching || self.pid == 0 {
            return None;
        }
        let until = clock::monotonic() + limits::TRACE_HOLD;
        let mut asked = threads(self.pid).into_iter().filter(|tid| ptrace::interrupt(*tid).is_ok());
        let (tid, status) = asked.find_map(|tid| match wait::stopped_within(tid, until) {
            Stopped::At(status) => Some((tid, status)),
            Stopped::Gone | Stopped::Running => None,
        })?;
        let signal = held_back(status);
        self.hold(tid, signal, Vec::new())
    }

    /// Stops all threads and takes what a worker needs; with anything missing the death goes on as it would.
    fn hold(&mut self, tid: i32, signal: i32, siginfo: Vec<u8>) -> Option<Held> {
        let until = clock::monotonic() + limits::TRACE_HOLD;
        let mut others = Vec::new();
        let mut missing = 0;
        // A leader that has ended stays in the list as long as its threads live.
        let has_no_leader =
            tid != self.pid && self::status(self.pid).is_some_and(|status| decision::is_zombie(&status));
        let is_asked = |other: &i32| *other != tid && !(has_no_leader && *other == self.pid);
        let wanted: Vec<i32> = threads(self.pid).into_iter().filter(is_asked).take(THREADS).collect();
        let asked: Vec<i32> = wanted.into_iter().filter(|other| ptrace::interrupt(*other).is_ok()).collect();
        for other in asked {
            match wait::stopped_within(other, until) {
                Stopped::At(status) => others.push((other, held_back(status))),
                Stopped::Gone => {}
                Stopped::Running => missing += 1,
            }
        }
        let mut gaps = Vec::new();
        if missing > 0 {
            gaps.push(format!("stacks: {missing} threads did not stand still in time"));
        }
        let everyone = std::iter::once(tid).chain(others.iter().map(|(other, _)| *other));
        let registers = everyone.filter_map(|tid| Some((tid, ptrace::registers(tid).ok()?))).collect();
        self.hold = Some(Hold { tid, signal, others, until: clock::monotonic() + limits::CAPTURE_STILL });
        self.mode = Mode::Holding;
        let held = self.held(tid, siginfo, registers, gaps);
        if held.is_none() {
            self.why_not = Some("the memory of the process cannot be read".to_owned());
            self.release();
        }
        held
    }

    /// By the thread's own number: its leader may have ended before it.
    fn held(&mut self, tid: i32, siginfo: Vec<u8>, registers: Vec<(i32, Vec<u8>)>, gaps: Vec<String>) -> Option<Held> {
        let open = |name: &str| open_of(tid, name);
        let (theirs, done) = fd::pipe(true).ok()?;
        let found = fd::memory_file(c"obit-capture").ok()?;
        let held = Held {
            pid: self.pid,
            tid,
            siginfo,
            registers,
            mem: open("mem")?,
            maps: open("maps")?,
            auxv: open("auxv")?,
            found: fd::duplicate(found.as_fd()).ok()?,
            done,
            gaps,
        };
        self.capture = Some(Capture { found, done: theirs });
        Some(held)
    }

    /// To be waited for while threads stand still: readable when they need not any more.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        let _ = self.hold.as_ref()?;
        self.capture.as_ref().map(|capture| capture.done.as_fd())
    }

    /// When they are let on whatever became of the worker.
    pub fn due(&self) -> Option<Duration> {
        self.hold.as_ref().map(|hold| hold.until)
    }

    /// The worker has what it needs, or there is none.
    pub fn release(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        self.mode = Mode::Watching;
        for (tid, signal) in hold.others {
            self.go_on(tid, signal);
        }
        ptrace::go_on(hold.tid, hold.signal);
    }

    /// What a worker finds; taken when the process has died.
    pub fn take_capture(&mut self) -> Option<Capture> {
        self.capture.take()
    }
}

/// The signal that a thread is owed which stands still now.
fn held_back(status: i32) -> i32 {
    match decision::about(Stop::from_status(status), Mode::Holding) {
        Action::Hold(signal) => signal,
        _ => 0,
    }
}

fn status(pid: i32) -> Option<Vec<u8>> {
    fd::read_small(&CString::new(format!("/proc/{pid}/status")).ok()?, STATUS_BYTES)
}

/// A file of /proc/TID. Of a process that became another user it may be refused to us and not to that user.
fn open_of(tid: i32, name: &str) -> Option<OwnedFd> {
    let path = CString::new(format!("/proc/{tid}/{name}")).ok()?;
    fd::open_to_read(&path).or_else(|| {
        let (uid, gid) = status(tid).as_deref().and_then(decision::owner)?;
        process::on_behalf_of(uid, gid, || fd::open_to_read(&path))
    })
}

/// The threads of a process now.
fn threads(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
