//! Live capture: the program is traced from its start, so that at a signal that will kill it its threads can be held still for a
//! moment and their stacks be read, without a core and without a privilege.
//!
//! The program's own process is traced, all its threads with it, and what it forks where that changes nothing ([`kin`]). Until that
//! signal every stop is over at once. If there are more stops than can be afforded, we let go for good and say so; so we do where
//! another one wants to trace: a leak check at the end, a crash handler that asks for help. What is read is read by a worker; init takes
//! registers and hands over fds, and goes on with its work meanwhile. One process is looked at at a time; another one that crashes
//! meanwhile stands still until then, the program itself before all others. A program that does not end when asked is looked at in
//! the same way before it is killed. Every thread is let go as it ends, so no end is ever collected by us that is not ours.

#![forbid(unsafe_code)]

mod cost;
pub mod decision;
mod entries;
mod handlers;
mod kin;

use super::verdict;
use crate::case::{Capture, Held};
use crate::config::{Capture as How, Settings};
use crate::death::Death;
use crate::evidence::rival;
use crate::limits;
use crate::sys::ptrace::{self, Stop, Whom};
use crate::sys::signal::Signal;
use crate::sys::wait::{self, Stopped};
use crate::sys::{clock, fd, process};
use cost::Cost;
use decision::{Action, Circumstances, Mode, Step};
use entries::{STATUS_BYTES, open_of, process_of, processes, status, threads};
use handlers::Handlers;
pub use kin::UNLOCKED;
use kin::{Kin, Program};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

/// Threads whose registers are taken.
const THREADS: usize = 4096;
/// Processes that may stand still until another one has been looked at.
const WAITING: usize = 16;
/// Processes that were let go, of which some thread did not stop in time.
const LET_GO: usize = 16;

/// A thread at a signal that will kill its process.
#[derive(Debug)]
struct Suspect {
    pid: i32,
    tid: i32,
    signal: i32,
    siginfo: Vec<u8>,
}

/// Threads that stand still, each with its stop.
#[derive(Debug)]
struct Hold {
    pid: i32,
    tid: i32,
    signal: i32,
    /// By that signal it dies, unless it only hangs.
    is_fatal: bool,
    others: Vec<(i32, Stop)>,
    until: Duration,
    capture: Option<Capture>,
}

/// What a stop comes to, beside that it is over.
#[derive(Debug)]
pub enum Outcome {
    Nothing,
    /// To be given to a worker; `released` must be called when it says so.
    Held(Held),
    /// A thread is about to end with this status of wait(2). It is to be let go ([`process::let_go`]); one that SIGKILL ends is
    /// on its way.
    Ends(i32),
}

/// A process that is about to end, and who collects it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    pub pid: i32,
    pub parent: i32,
}

/// The tracer of one process and of what it forks.
#[derive(Debug)]
pub struct Tracer {
    /// 0 where there is none, or none any more.
    pid: i32,
    hold: Option<Hold>,
    waiting: VecDeque<Suspect>,
    /// And by which signal the program was about to die, unless it only hung.
    capture: Option<(Capture, Option<i32>)>,
    handlers: Handlers,
    cost: Cost,
    /// Why the program is not, or no longer, traced.
    why_not: Option<String>,
    /// Whoever of these stops is let go for good: some thread of them did not stop in time.
    gone: VecDeque<i32>,
    kin: Kin,
}

/// Whether and why not: the circumstances of this process and the program, where they matter.
pub fn circumstances(capture: How, program: Option<&std::path::Path>, stands_in: bool) -> Circumstances {
    use std::os::unix::fs::MetadataExt as _;
    const SET_ID: u32 = 0o6000;
    if capture == How::Off {
        return Circumstances { stands_in, ..Circumstances::default() };
    }
    let own = fd::read_small(c"/proc/self/status", STATUS_BYTES);
    Circumstances {
        is_root: process::effective_uid() == 0,
        no_new_privileges: ptrace::has_no_new_privileges(),
        program_gains: program.and_then(|path| path.metadata().ok()).is_some_and(|found| found.mode() & SET_ID != 0),
        leak_check: ["ASAN_OPTIONS", "LSAN_OPTIONS"].iter().any(|name| std::env::var_os(name).is_some())
            || std::env::var_os("LD_PRELOAD").is_some_and(|paths| rival::is_preloaded(paths.as_bytes())),
        has_proc: own.is_some(),
        stands_in,
        may_trace_all: own.is_some_and(|own| decision::may_trace_all(&own)),
        at_terminal: false,
    }
}

impl Tracer {
    /// Whether anybody will be traced is clear before there is anybody.
    pub fn new(settings: &Settings, so: Circumstances) -> Tracer {
        let now = clock::monotonic();
        Tracer {
            pid: 0,
            hold: None,
            waiting: VecDeque::new(),
            capture: None,
            handlers: Handlers::default(),
            cost: Cost::new(settings.capture, now),
            why_not: decision::may_trace(settings.capture, so).err().map(str::to_owned),
            gone: VecDeque::new(),
            kin: Kin::new(settings, so, now),
        }
    }

    /// Whether the child is to wait for [`Tracer::begin`] before it executes anything.
    pub fn wants_to_begin(&self) -> bool {
        self.why_not.is_none()
    }

    /// Begins to trace the child, which has not executed anything yet.
    pub fn begin(&mut self, pid: i32) {
        self.pid = pid;
        self.why_not =
            ptrace::seize(pid, self.kin.forks()).err().map(|error| format!("the kernel refuses it ({error})"));
        if let Some(why_not) = &self.why_not {
            self.kin.leave(why_not);
        }
    }

    /// Whether what has ended is but a thread of somebody; one that was not let go in time is told to us, too.
    pub fn is_thread(&self, pid: i32) -> bool {
        self.pid != 0 && pid != self.pid && !process::is_process(pid)
    }

    /// Why there is nothing of the program's death, for its report.
    pub fn gap(&self) -> Option<String> {
        self.why_not.as_ref().map(|why| format!("live capture: {why}"))
    }

    /// Whether it is a thread of the program itself.
    pub fn is_own(&self, tid: i32) -> bool {
        self.pid != 0 && (tid == self.pid || process::is_thread_of(self.pid, tid))
    }

    fn mode(&self, tid: i32) -> Mode {
        match &self.hold {
            Some(hold) if process::is_thread_of(hold.pid, tid) => Mode::Holding,
            _ if self.gone.iter().any(|pid| process::is_thread_of(*pid, tid)) => Mode::LettingGo,
            _ if self.why_not.is_some() && self.is_own(tid) => Mode::LettingGo,
            _ => Mode::Watching,
        }
    }

    /// Takes in a stop.
    pub fn stopped(&mut self, tid: i32, status: i32, spares: Option<Signal>) -> Outcome {
        let stop = Stop::from_status(status);
        if stop.event == libc::PTRACE_EVENT_EXIT && ptrace::end_status(tid) == Some(libc::SIGKILL) {
            // It may have been killed for its memory, which all others of the container wait for, and we too as soon as we need a
            // page. What its /proc entry has is read behind it.
            process::let_go(tid, 0);
            self.handlers.forget(|other| other == tid);
            return Outcome::Ends(libc::SIGKILL);
        }
        let is_own = self.is_own(tid);
        let mut mode = self.mode(tid);
        if mode == Mode::Watching && !self.cost.affords(is_own, stop, clock::monotonic()) {
            self.let_go_of(is_own, tid);
            mode = Mode::LettingGo;
        }
        match decision::about(stop, mode) {
            Action::GoOn(signal) => self.go_on(tid, signal),
            Action::Listen => ptrace::listen(tid),
            Action::LetGo(signal) => {
                // Its number may be another's soon.
                if stop.event == libc::PTRACE_EVENT_EXIT {
                    self.gone.retain(|pid| *pid != tid);
                }
                process::let_go(tid, signal);
            }
            Action::Hold(_) => match &mut self.hold {
                Some(hold) => hold.others.push((tid, stop)),
                None => self.go_on(tid, 0),
            },
            Action::Newcomer if is_own || !process::is_process(tid) => self.go_on(tid, 0),
            // A process before its first step, or one that goes on after job control had stopped it.
            Action::Newcomer if self.kin.takes_in(tid) => {
                ptrace::choose(tid, Whom::Others(self.kin.forks()));
                self.go_on(tid, 0);
            }
            Action::Newcomer => process::let_go(tid, 0),
            Action::Forked => {
                let forks = self.kin.forked(clock::monotonic());
                ptrace::choose(tid, if is_own { Whom::Child(forks) } else { Whom::Others(forks) });
                self.go_on(tid, 0);
            }
            Action::Executed => self.executed(tid, is_own),
            Action::Call => self.called(tid, is_own),
            Action::Suspect(signal) => return self.suspected(tid, signal, is_own, spares),
            Action::Ends => {
                self.handlers.forget(|other| other == tid);
                // Killed while it stood still, it need not stand still any more.
                if mode == Mode::Holding {
                    self.release_but(tid);
                }
                return match ptrace::end_status(tid) {
                    Some(status) => Outcome::Ends(status),
                    None => {
                        process::let_go(tid, 0);
                        Outcome::Nothing
                    }
                };
            }
        }
        Outcome::Nothing
    }

    fn let_go_of(&mut self, is_own: bool, tid: i32) {
        let why = "let go, for its signals and its threads that come and go would have held it up for more than a \
                   hundredth of its time (--capture ptrace affords it)"
            .to_owned();
        match is_own {
            true => self.let_go(tid, why),
            false => {
                self.kin.leave(&why);
                self.let_process_go(process_of(tid).unwrap_or(tid), tid);
            }
        }
    }

    fn executed(&mut self, tid: i32, is_own: bool) {
        // The threads beside it are gone, and so are their numbers.
        self.handlers.forget(|other| process_of(other).is_none_or(|pid| pid == tid));
        let program = if is_own { self.kin.program_itself(tid) } else { self.kin.program(tid) };
        match (is_own, program) {
            (true, Program::Plain | Program::Traces) => {
                let now = clock::monotonic();
                self.cost.begin_anew(now);
                let forks = self.kin.is_another_program(program == Program::Traces, now);
                ptrace::choose(tid, Whom::Child(forks));
                ptrace::go_on(tid, 0);
            }
            (true, Program::LooksForLeaks) => {
                self.let_go(tid, decision::LEAK_CHECK.to_owned());
                process::let_go(tid, 0);
            }
            (true, Program::OutOfReach) => {
                self.let_go(
                    tid,
                    "the program is on a file system that another one serves, which may wait for us".to_owned(),
                );
                process::let_go(tid, 0);
            }
            (false, Program::Plain) => ptrace::go_on(tid, 0),
            (false, _) => process::let_go(tid, 0),
        }
    }

    fn suspected(&mut self, tid: i32, signal: i32, is_own: bool, spares: Option<Signal>) -> Outcome {
        // What was asked for is no crash, and not every death of what is forked is news.
        let is_asked_for = spares.is_some_and(|spared| spared.number() == signal);
        let death = Signal::new(signal).map(|signal| Death::Killed { signal, core: false });
        let is_news = is_own || death.is_some_and(|death| verdict::of_descendant(death, false).is_some());
        let status = if is_asked_for || !is_news { None } else { self::status(tid) };
        if status.as_deref().is_some_and(|status| decision::is_default(status, signal)) {
            let of = |status: &[u8]| decision::process_and_parent(status).map(|(pid, _)| pid);
            let pid = if is_own { Some(self.pid) } else { status.as_deref().and_then(of) };
            let siginfo = ptrace::siginfo(tid).unwrap_or_default();
            return match pid {
                Some(pid) => self.suspect(Suspect { pid, tid, signal, siginfo }),
                None => {
                    self.go_on(tid, signal);
                    Outcome::Nothing
                }
            };
        }
        if status.is_some_and(|status| decision::is_caught(&status, signal)) {
            self.handlers.enters(tid);
        }
        self.go_on(tid, signal);
        Outcome::Nothing
    }

    /// It is looked at now, in its turn, or not at all.
    fn suspect(&mut self, suspect: Suspect) -> Outcome {
        let is_own = suspect.pid == self.pid;
        if !is_own && !self.kin.affords_look(suspect.pid, clock::monotonic()) {
            self.go_on(suspect.tid, suspect.signal);
            return Outcome::Nothing;
        }
        match self.hold {
            None => return self.hold(suspect).map_or(Outcome::Nothing, Outcome::Held),
            Some(_) if is_own => self.waiting.push_front(suspect),
            Some(_) if self.waiting.len() < WAITING => self.waiting.push_back(suspect),
            Some(_) => {
                self.kin.keep(suspect.pid, Err("too many others crashed at the same time".to_owned()));
                self.go_on(suspect.tid, suspect.signal);
            }
        }
        Outcome::Nothing
    }

    /// Who is looked at next, when nobody stands still any more.
    pub fn look_at_next(&mut self) -> Option<Held> {
        while self.hold.is_none() {
            let suspect = self.waiting.pop_front()?;
            // It may have been killed meanwhile, or be about to end.
            if ptrace::siginfo(suspect.tid).is_ok_and(|siginfo| siginfo == suspect.siginfo)
                && let Some(held) = self.hold(suspect)
            {
                return Some(held);
            }
        }
        None
    }

    fn go_on(&self, tid: i32, signal: i32) {
        if self.handlers.has(tid) {
            ptrace::go_on_to_call(tid, signal);
        } else {
            ptrace::go_on(tid, signal);
        }
    }

    /// A thread makes a system call in a handler of a fatal signal.
    fn called(&mut self, tid: i32, is_own: bool) {
        match self.handlers.call(tid) {
            Step::On => ptrace::go_on_to_call(tid, 0),
            Step::Returns => ptrace::go_on(tid, 0),
            Step::AsksForHelp => {
                let why = "let go for the program's own crash handler, which asked another process to look".to_owned();
                match is_own {
                    true => self.let_go(tid, why),
                    false => self.let_process_go(process_of(tid).unwrap_or(tid), tid),
                }
                process::let_go(tid, 0);
            }
        }
    }

    /// Ends the tracing of the program.
    fn let_go(&mut self, tid: i32, why: String) {
        self.why_not = Some(why);
        self.let_process_go(self.pid, tid);
    }

    /// Ends the tracing of a process: of its other threads before this returns, as far as they can be stopped; of this one, which
    /// stands still, with whatever it stands at.
    fn let_process_go(&mut self, pid: i32, tid: i32) {
        let until = clock::monotonic() + limits::TRACE_HOLD;
        let others: Vec<i32> = threads(pid).into_iter().filter(|other| *other != tid).collect();
        self.handlers.forget(|other| other == tid || others.contains(&other));
        let asked: Vec<i32> = others.into_iter().filter(|other| ptrace::interrupt(*other).is_ok()).collect();
        let mut missing = false;
        for other in asked {
            match wait::stopped_within(other, until) {
                Stopped::At(status) => process::let_go(other, decision::held_back(Stop::from_status(status))),
                Stopped::Gone => {}
                Stopped::Running => missing = true,
            }
        }
        if missing && !self.gone.contains(&pid) {
            self.gone.truncate(LET_GO - 1);
            self.gone.push_front(pid);
        }
    }

    /// Lets go because somebody else is to trace the program, or what it forked.
    pub fn let_go_on_request(&mut self) {
        const WHY: &str = "let go on request (obit detach)";
        self.release();
        while let Some(Suspect { tid, signal, .. }) = self.waiting.pop_front() {
            self.go_on(tid, signal);
        }
        if self.why_not.is_none() && self.pid != 0 {
            self.let_go(0, WHY.to_owned());
        }
        self.kin.leave(WHY);
        let own_pid = process::own_pid();
        for pid in processes() {
            if status(pid).as_deref().and_then(decision::tracer) == Some(own_pid) {
                self.let_process_go(pid, 0);
            }
        }
    }

    /// Before we kill it ourselves: where it hangs. `released` must be called as for a stop; `None` where nobody is traced.
    pub fn look(&mut self) -> Option<Held> {
        if self.why_not.is_some() || self.pid == 0 {
            return None;
        }
        if self.hold.as_ref().is_some_and(|hold| hold.pid == self.pid) {
            return None;
        }
        self.release();
        let until = clock::monotonic() + limits::TRACE_HOLD;
        let mut asked = threads(self.pid).into_iter().filter(|tid| ptrace::interrupt(*tid).is_ok());
        let (tid, status) = asked.find_map(|tid| match wait::stopped_within(tid, until) {
            Stopped::At(status) => Some((tid, status)),
            Stopped::Gone | Stopped::Running => None,
        })?;
        let signal = decision::held_back(Stop::from_status(status));
        self.hold(Suspect { pid: self.pid, tid, signal, siginfo: Vec::new() })
    }

    /// Stops all threads and takes what a worker needs; with anything missing the death goes on as it would.
    fn hold(&mut self, suspect: Suspect) -> Option<Held> {
        let Suspect { pid, tid, signal, siginfo } = suspect;
        let until = clock::monotonic() + limits::TRACE_HOLD;
        let mut others = Vec::new();
        let mut missing = 0;
        // A leader that has ended stays in the list as long as its threads live.
        let has_no_leader = tid != pid && self::status(pid).is_some_and(|status| decision::is_zombie(&status));
        let is_asked = |other: &i32| *other != tid && !(has_no_leader && *other == pid);
        let wanted: Vec<i32> = threads(pid).into_iter().filter(is_asked).take(THREADS).collect();
        let asked: Vec<i32> = wanted.into_iter().filter(|other| ptrace::interrupt(*other).is_ok()).collect();
        for other in asked {
            match wait::stopped_within(other, until) {
                Stopped::At(status) => others.push((other, Stop::from_status(status))),
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
        let until = clock::monotonic() + limits::CAPTURE_STILL;
        let is_fatal = !siginfo.is_empty();
        self.hold = Some(Hold { pid, tid, signal, is_fatal, others, until, capture: None });
        let held = self.held(pid, tid, siginfo, registers, gaps);
        if held.is_none() {
            const WHY: &str = "the memory of the process cannot be read";
            match pid == self.pid {
                // One of another thread's may be there, of a moment before.
                true if self.capture.is_some() => {}
                true => self.why_not = Some(WHY.to_owned()),
                false => self.kin.keep(pid, Err(WHY.to_owned())),
            }
            self.release();
        }
        held
    }

    /// By the thread's own number: its leader may have ended before it.
    fn held(
        &mut self,
        pid: i32,
        tid: i32,
        siginfo: Vec<u8>,
        registers: Vec<(i32, Vec<u8>)>,
        gaps: Vec<String>,
    ) -> Option<Held> {
        let open = |name: &str| open_of(tid, name);
        let (theirs, done) = fd::pipe(true).ok()?;
        let found = fd::memory_file(c"obit-capture").ok()?;
        let held = Held {
            pid,
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
        self.hold.as_mut()?.capture = Some(Capture { found, done: theirs });
        Some(held)
    }

    /// To be waited for while threads stand still: readable when they need not any more.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.hold.as_ref()?.capture.as_ref().map(|capture| capture.done.as_fd())
    }

    /// When they are let on whatever became of the worker.
    pub fn due(&self) -> Option<Duration> {
        self.hold.as_ref().map(|hold| hold.until)
    }

    /// The worker has what it needs, or there is none.
    pub fn release(&mut self) {
        self.release_but(0);
    }

    /// Nobody looks at it.
    pub fn give_up(&mut self, why: &str) {
        let forked = self.hold.as_ref().map(|hold| hold.pid).filter(|pid| *pid != self.pid);
        self.release();
        if let Some(pid) = forked {
            self.kin.keep(pid, Err(why.to_owned()));
        }
    }

    /// All but one, which stands at its end.
    fn release_but(&mut self, ends: i32) {
        let Some(hold) = self.hold.take() else { return };
        // Where another one crashes as well, only the zombie says whether there is a core.
        let is_alone = !hold.others.iter().any(|(_, stop)| decision::dumps_core(*stop));
        for (tid, stop) in hold.others.into_iter().filter(|(tid, _)| *tid != ends) {
            match stop.event == libc::PTRACE_EVENT_EXIT {
                true => process::let_go(tid, 0),
                false => self.go_on(tid, decision::held_back(stop)),
            }
        }
        if hold.tid != ends {
            // That end is told before all memory is given back, which may take longer than the report.
            if hold.is_fatal && is_alone && hold.pid == self.pid {
                ptrace::choose(hold.tid, Whom::Dying(self.kin.forks()));
            }
            self.go_on(hold.tid, hold.signal);
        }
        match (hold.capture, hold.pid == self.pid) {
            (Some(capture), true) => self.capture = Some((capture, hold.is_fatal.then_some(hold.signal))),
            (Some(capture), false) => self.kin.keep(hold.pid, Ok(capture)),
            (None, _) => {}
        }
    }

    /// The program has ended.
    pub fn is_gone(&mut self) {
        if self.hold.as_ref().is_some_and(|hold| hold.pid == self.pid) {
            self.release();
        }
        self.gone.retain(|pid| *pid != self.pid);
        self.pid = 0;
    }

    /// What a worker finds, taken when the process has died; with a sentence if that was another death than the one it was about
    /// to die.
    pub fn take_capture(&mut self, death: Death) -> Option<(Capture, Option<String>)> {
        let (capture, signal) = self.capture.take()?;
        let other = signal.and_then(Signal::new).filter(|signal| death.signal() != Some(*signal));
        Some((capture, other.map(decision::overtaken)))
    }

    /// The same of something that the program forked, or why there is nothing.
    pub fn take_capture_of(&mut self, pid: i32) -> Result<Capture, Option<String>> {
        self.kin.take(pid)
    }

    /// Of a process that ends with this thread, at its end. `None` where its death was told already, where we are its parent and
    /// bury it, or where the thread may end alone.
    pub fn ending(&mut self, tid: i32, signal: Signal) -> Option<Ending> {
        let (pid, parent) = status(tid).as_deref().and_then(decision::process_and_parent)?;
        let is_ours_to_bury = parent == process::own_pid();
        (!is_ours_to_bury && !may_end_alone(pid, tid, signal) && self.kin.note_told(pid))
            .then_some(Ending { pid, parent })
    }

    /// Whether the death of something that the program forked is told for the first time, while its /proc entry is still there.
    pub fn tells_first(&mut self, pid: i32) -> bool {
        self.kin.note_told(pid)
    }
}

/// Whether a thread's end by that signal need not be its process's: by seccomp(2) a thread can be killed by itself.
pub fn may_end_alone(pid: i32, tid: i32, signal: Signal) -> bool {
    let lives = |other: &i32| *other != tid && status(*other).is_some_and(|status| !decision::is_zombie(&status));
    signal.number() == libc::SIGSYS && threads(pid).iter().any(lives)
}
