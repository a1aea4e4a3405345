//! Reaping: one child after the other off the process table, and what its end means for the run.
//!
//! A zombie is looked at before it is reaped, because its /proc entry goes with it; then its death is news or not, init
//! says its line, and the examiner gets the case.

#![forbid(unsafe_code)]

use super::Init;
use crate::case::{Capture, Case, Held, Reason, Subject, Usage, Zombie};
use crate::death::Death;
use crate::evidence::{oom, panic};
use crate::init::component::State;
use crate::init::last_resort;
use crate::init::manners::{Farewell, Moment};
use crate::init::terminal::{self, Follow};
use crate::init::trace::Outcome;
use crate::init::workers::{self, Ended};
use crate::init::{left, setup, verdict};
use crate::limits;
use crate::report::text;
use crate::say::Level;
use crate::sys::ptrace::{self, Stop};
use crate::sys::signal::Signal;
use crate::sys::wait::{self, Peek, What};
use crate::sys::{clock, fd, process};
use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

/// Files of a zombie's /proc entry, each at most this long.
const ZOMBIE_FILE_BYTES: usize = 4096;

impl Init {
    /// Reaps what has ended, a batch at most: SIGCHLD is told once however many died, and a signal must not wait for a
    /// storm to pass.
    pub(super) fn reap(&mut self) {
        let mut told = false;
        for _ in 0..limits::REAP_BATCH {
            let peek = wait::peek();
            if let Peek::Changed(change) = peek
                && !told
                && !self.workers.pids().contains(&change.pid)
            {
                self.narrate(Moment::Received { signal: Signal::CHLD });
                told = true;
            }
            match peek {
                Peek::Childless => {
                    self.anyone_left = false;
                    return;
                }
                Peek::Quiet => {
                    // Our workers are children too, but nobody that the drain waits for.
                    let others = self.child.state != State::Ended || left::count(&self.workers.pids()) != Some(0);
                    self.anyone_left = others;
                    return;
                }
                Peek::Changed(change) => match change.what {
                    What::Stopped(by) => self.child_stopped(change.pid, by),
                    What::Traced(status, usage) => self.traced_stopped(change.pid, status, usage),
                    What::Ended(status) => self.bury(change.pid, status),
                },
            }
        }
        // More may be waiting, and the kernel will not say so again.
        let _ = process::kill(self.own_pid, Signal::CHLD);
    }

    /// A thread of the program stands still for its tracer.
    fn traced_stopped(&mut self, tid: i32, status: i32, usage: Option<Usage>) {
        let outcome = self.tracer.stopped(tid, status, self.child.stop_passed_on);
        let stop = Stop::from_status(status);
        if stop.event == ptrace::EVENT_STOP && stop.signal != libc::SIGTRAP {
            self.child_stopped(tid, stop.signal);
        }
        match outcome {
            Outcome::Nothing => {}
            Outcome::Held(held) => self.have_looked_at(Some(held)),
            Outcome::Ends(status) => self.traced_ends(tid, status, usage),
        }
        self.next_is_looked_at();
    }

    /// Whoever stood still to be looked at may have ended meanwhile, and then it is the next one's turn.
    pub(super) fn next_is_looked_at(&mut self) {
        let next = self.tracer.look_at_next();
        self.have_looked_at(next);
    }

    /// Who stands still is given to a worker; if there is none for it, it goes on, and whoever waits for its turn is next.
    fn have_looked_at(&mut self, mut held: Option<Held>) {
        while let Some(next) = held {
            let is_own = next.pid == self.child.pid;
            if is_own {
                self.child.whereabouts.look(next.pid);
            }
            let has_room = is_own || self.workers.has_room();
            if has_room && self.workers.capture(next, &self.launch.settings, clock::monotonic()) {
                return;
            }
            self.tracer.give_up("nobody could be found to look at it");
            held = self.tracer.look_at_next();
        }
    }

    fn child_stopped(&mut self, pid: i32, by: i32) {
        if pid != self.child.pid {
            return;
        }
        match terminal::on_child_stopped(Signal::new(by), self.foreground.is_some(), terminal::continuable()) {
            Follow::StopToo => process::stop_self(),
            Follow::Undo => {
                let _ = process::kill_group(pid, Signal::CONT);
            }
            Follow::Leave => {}
        }
    }

    /// Takes one zombie off the table: ours, a worker, or somebody else's orphan. Of an orphan whose end is no news nothing is
    /// looked at: there may be twenty thousand.
    fn bury(&mut self, pid: i32, status: i32) {
        let main = pid == self.child.pid && self.child.state != State::Ended;
        if !main && self.tracer.is_thread(pid) {
            let _ = wait::reap(pid);
            return;
        }
        if main && self.child.verdict.is_some() {
            self.read_verdict();
        }
        let Some(death) = Death::from_wait_status(status) else { return };
        if self.workers.pids().contains(&pid) {
            let _ = wait::reap(pid);
            if let Some(ended) = self.workers.ended(pid, death, &self.launch.settings, clock::monotonic()) {
                self.worker_ended(ended);
            }
            return;
        }
        let at = clock::unix_ms();
        // Of two threads that crash at once one dumps the core and the other may be told of first, without it.
        let is_told = main && self.child.told.is_some_and(|told| told.signal() == death.signal());
        let counted = if main || death.signal().is_some() { self.count_oom_kills() } else { Counted::default() };
        let reason = if is_told { None } else { self.reason(main, death, counted.moved) };
        let reason = reason.filter(|_| main || self.tracer.tells_first(pid));
        // What only a zombie's /proc entry can tell is read before it goes.
        let zombie = if main && reason.is_some() { read_zombie(pid) } else { Zombie::default() };
        let comm = if main || reason.is_none() { None } else { read_comm(pid) };
        // As long as it is a zombie its group cannot be anybody else's.
        let farewell = if main { self.say_farewell() } else { None };
        let Some((_, usage)) = wait::reap(pid) else { return };
        let now = clock::monotonic();
        if main {
            self.tracer.is_gone();
            self.next_is_looked_at();
            last_resort::main_ended(self.launch.settings.map_exit[usize::from(death.exit_status())]);
            self.main_ended(death, now);
        }
        self.narrate(Moment::Reaped { pid, death, main });
        if let Some(signal) = farewell {
            self.narrate(Moment::Forwarded { signal });
        }
        let Some(reason) = reason else {
            if is_told {
                self.reporting_until = Some(now + self.launch.settings.report_wait);
            } else if main {
                self.marker_settled = true;
                self.run_went_well(death, at, now);
            }
            return;
        };
        let subject = if main { Subject::Main } else { Subject::Descendant { comm: comm.unwrap_or_default() } };
        let known = Case { usage: Some(usage), zombie, ..self.case(subject, reason, (pid, death), at, counted) };
        let mut case = if main { self.of_the_program(known, death, now) } else { known };
        let capture = if main { self.capture_of_the_program(&mut case) } else { self.capture_of(&mut case) };
        let exec_error = self.child.exec_error.filter(|_| main);
        if let Some(error) = exec_error {
            case.death = None;
            case.usage = None;
            case.spawn_error = Some(setup::exec_failure(&self.launch.command[0], &self.child.run, error.errno));
        }
        // Whether a good end is news is for the examiner to find out; the end itself is told.
        self.marker_settled |= main && death == Death::Exited(0);
        self.tell(case, capture, now);
        if main {
            self.run_ended(Some(death), at, now);
        }
    }

    /// The case of the program itself, of whose run more is known.
    pub(super) fn of_the_program(&self, case: Case, death: Death, now: Duration) -> Case {
        let is_seen = death.signal().is_some_and(Signal::dumps_core) || case.reason == Reason::StopTimeout;
        let gap = self.tracer.gap().filter(|_| is_seen);
        let (status, by) = self.leaving(death);
        Case {
            told_code: by.is_none().then_some(status),
            uptime_ms: Some((now - self.child.started).as_millis() as u64),
            stop: self.stop.or(self.child.last_passed_on.filter(|sent| death.signal() == Some(sent.signal))),
            gaps: case.gaps.into_iter().chain(gap).collect(),
            ..case
        }
    }

    /// Says what happened and has it examined. First it is noted: what init has said, a later start knows.
    pub(super) fn tell(&mut self, case: Case, capture: Option<Capture>, now: Duration) {
        let main = case.subject == Subject::Main;
        let went_well = case.death == Some(Death::Exited(0));
        if let Some(marker) = self.marker.as_ref().filter(|_| !went_well) {
            marker.note_death(&case);
        }
        if let (Some(error), Some(sentence)) = (self.child.exec_error, &case.spawn_error) {
            let command = self.launch.command[0].to_string_lossy().into_owned();
            let narrator = self.launch.manners.narrator;
            match narrator.and_then(|narrate| narrate(Moment::ExecFailed { errno: error.errno, command: &command })) {
                Some(line) => self.stderr.write_line(&line),
                None => self.stderr.say(Level::Error, sentence),
            }
        } else if !went_well {
            self.announce(&case, main);
        }
        self.reporting_until = Some(now + self.launch.settings.report_wait);
        self.writing_until = now + limits::EXAMINE_LEAST;
        self.workers.examine(case, capture, main, &self.launch.settings, now);
    }

    /// Whether the kernel killed for memory since somebody looked last.
    pub(super) fn count_oom_kills(&self) -> Counted {
        let after = self.oom.as_ref().and_then(|counter| fd::reread(&counter.file, oom::COUNTER_BYTES));
        Counted { moved: oom::moved(self.oom_before.as_deref(), after.as_deref()), after }
    }

    /// The case of a death, with what is at hand of any. The last words are in the pipe by now; they belong to the report.
    pub(super) fn case(
        &mut self,
        subject: Subject,
        reason: Reason,
        (pid, death): (i32, Death),
        at_unix_ms: u64,
        counted: Counted,
    ) -> Case {
        let oom_before = self.oom_before.clone();
        if counted.moved {
            self.oom_before.clone_from(&counted.after);
        }
        self.stderr.pump();
        Case {
            event_id: setup::random_id(),
            reason,
            at_unix_ms,
            run: self.child.run.clone(),
            subject,
            pid: Some(pid),
            death: Some(death),
            told_code: None,
            uptime_ms: None,
            spawn_error: None,
            usage: None,
            zombie: Zombie::default(),
            oom_before,
            oom_after: counted.after,
            stop: self.stop,
            last_directory: self.child.whereabouts.seen().map(Path::to_owned),
            stderr_tail: self.stderr.tail(),
            gaps: self.tail_gap.iter().cloned().collect(),
        }
    }

    /// Why the end of a process that is not a worker is news, if it is.
    pub(super) fn reason(&mut self, main: bool, death: Death, oom_counter_moved: bool) -> Option<Reason> {
        if !main {
            return verdict::of_descendant(death, oom_counter_moved);
        }
        match self.child.exec_error {
            Some(_) => Some(Reason::SpawnFailed),
            None => verdict::of_main(death, self.circumstances(oom_counter_moved))
                .or_else(|| self.may_hide_a_dead_thread(death).then_some(Reason::Code)),
        }
    }

    /// TERM, as rewritten, for those whom the signals went to; if these are our manners.
    fn say_farewell(&self) -> Option<Signal> {
        let settings = &self.launch.settings;
        let rewritten = i32::from(settings.rewrite[Signal::TERM.number() as usize]);
        let signal = Signal::new(rewritten).filter(|_| self.launch.manners.farewell == Farewell::Term)?;
        if settings.group {
            let _ = process::kill_group(self.child.pid, signal);
        }
        Some(signal)
    }

    fn circumstances(&self, oom_counter_moved: bool) -> verdict::Circumstances<'_> {
        verdict::Circumstances {
            stop_passed_on: self.child.stop_passed_on,
            passed_on: self.child.passed_on,
            killed_by_us: self.child.state == State::Killed,
            has_terminal: self.foreground.is_some(),
            oom_counter_moved,
            expected_exit: &self.launch.settings.expected_exit,
        }
    }

    /// A thread can die of an exception and leave the process to end with 0. A stop that was asked for and went well is
    /// not held up for it.
    fn may_hide_a_dead_thread(&mut self, death: Death) -> bool {
        if death != Death::Exited(0) || self.stop.is_some() {
            return false;
        }
        self.stderr.pump();
        self.stderr.tail().is_some_and(|tail| panic::may_hold_a_thread(&tail.bytes))
    }

    fn main_ended(&mut self, death: Death, now: Duration) {
        self.child.state = State::Ended;
        self.child.death = Some(death);
        self.child.pidfd = None;
        self.flushing_until = Some(now + limits::STDERR_FLUSH);
        if let Some(foreground) = &self.foreground {
            foreground.take_back();
        }
        // A stop that was asked for and goes well does not wait for what earlier runs left.
        if self.stop.is_some() {
            self.reporting_until = None;
        }
    }

    fn is_of_release_health(&self) -> bool {
        self.workers.wants_sessions() && self.child.run.release.is_some()
    }

    /// Release health wants to know how every run of a release ended, good ones too; of these the next start tells it.
    fn run_went_well(&mut self, death: Death, at: u64, now: Duration) {
        if self.is_of_release_health() && !self.marker.as_ref().is_some_and(|marker| marker.note_end(death, at)) {
            self.run_ended(Some(death), at, now);
        }
    }

    pub(super) fn run_ended(&mut self, death: Option<Death>, at: u64, now: Duration) {
        if self.is_of_release_health() {
            let run = self.child.run.clone();
            self.workers.session(run, death, at, &self.launch.settings, now);
            let until = now + limits::SESSION_WAIT;
            self.reporting_until = Some(self.reporting_until.map_or(until, |other| other.max(until)));
        }
    }

    fn announce(&mut self, case: &Case, main: bool) {
        let Some(death) = case.death else { return };
        let pid = case.pid.unwrap_or_default();
        let component = &case.run.component;
        let who = match &case.subject {
            Subject::Main => format!("{component} (pid {pid})"),
            Subject::Descendant { comm } => format!("{comm}, left by {component} (pid {pid})"),
            Subject::Child { comm, parent, .. } => {
                format!("{comm} (pid {pid}), a child of {} (pid {}) in {component},", parent.comm, parent.pid)
            }
        };
        let after = case.uptime_ms.map(|ms| format!(" after {}", text::duration(ms))).unwrap_or_default();
        let why = match case.reason {
            Reason::Oom => ": the kernel's OOM killer",
            Reason::StopTimeout if case.stop.is_some_and(|stop| stop.hurried) => {
                ": a second stop signal ended the grace"
            }
            Reason::StopTimeout => ": it did not end within the grace",
            _ => "",
        };
        let level = if main { Level::Error } else { Level::Warning };
        self.stderr.say(level, &format!("{who} {death}{after}{why}; report {}", case.event_id));
    }

    fn worker_ended(&mut self, ended: Ended) {
        if let Ended::Examined {
            event_id,
            about_main: false,
            outcome: workers::Outcome::Durable | workers::Outcome::Counted,
        } = ended
            && let Some(marker) = &self.marker
        {
            marker.note_kept(event_id);
        }
        if let Ended::Examined { about_main: true, outcome, .. } = ended {
            match outcome {
                workers::Outcome::Durable | workers::Outcome::Counted => self.marker_settled = true,
                workers::Outcome::InMemory => {}
                workers::Outcome::Failed => {
                    let told = match self.marker {
                        Some(_) => "the next start on this state directory tells of it",
                        None => "what is said here is all that is known of this death",
                    };
                    self.stderr.say(Level::Error, &format!("the report could not be written; {told}"));
                }
            }
        }
        // A child of ours less: whoever is left may only be workers now.
        self.reap_quietly();
    }

    fn reap_quietly(&mut self) {
        if self.child.state == State::Ended {
            self.anyone_left = left::count(&self.workers.pids()) != Some(0);
        }
    }
}

/// What the cgroup's counter says.
#[derive(Debug, Default)]
pub(super) struct Counted {
    after: Option<Vec<u8>>,
    pub(super) moved: bool,
}

/// Of one that is about to end, too.
pub(super) fn read_zombie(pid: i32) -> Zombie {
    let read = |name: &str| {
        let path = CString::new(format!("/proc/{pid}/{name}")).ok()?;
        fd::read_small(&path, ZOMBIE_FILE_BYTES)
    };
    Zombie {
        status: read("status").unwrap_or_default(),
        cgroup: read("cgroup").unwrap_or_default(),
        io: read("io").unwrap_or_default(),
    }
}

pub(super) fn read_comm(pid: i32) -> Option<String> {
    let path = CString::new(format!("/proc/{pid}/comm")).ok()?;
    let bytes = fd::read_small(&path, 64)?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
