//! Deaths that are told before there is a zombie: a traced thread stands still before its end, and with it ends its process.
//!
//! It is let go within microseconds. Of the program itself that is sooner than the kernel gives back its memory, which for a
//! large one takes longer than its report; of something that it forked it is the only time, for its parent alone will collect
//! it, as it would without us. What its /proc entry has is read before. The end itself is the zombie's: nothing of init's own
//! state changes here. What was left to us is buried by us ([`super::reap`]), with the same capture.

#![forbid(unsafe_code)]

use super::Init;
use super::reap::{read_comm, read_zombie};
use crate::case::{Capture, Case, Parent, Subject, Usage};
use crate::death::Death;
use crate::init::trace::{self, Ending};
use crate::init::verdict;
use crate::sys::signal::Signal;
use crate::sys::{clock, process};

impl Init {
    /// A traced thread is about to end.
    pub(super) fn traced_ends(&mut self, tid: i32, status: i32, usage: Option<Usage>) {
        let death = Death::from_wait_status(status).filter(|death| death.signal().is_some());
        let told = death.and_then(|death| match self.tracer.is_own(tid) {
            true => self.case_of_the_program(tid, death),
            false => self.case_of_forked(tid, death),
        });
        process::let_go(tid, 0);
        let Some(case) = told else { return };
        let (is_own, death, at) = (case.subject == Subject::Main, case.death, case.at_unix_ms);
        let mut case = Case { usage, ..case };
        let capture = if is_own { self.capture_of_the_program(&mut case) } else { self.capture_of(&mut case) };
        let now = clock::monotonic();
        self.tell(case, capture, now);
        if is_own {
            self.child.told = death;
            self.run_ended(death, at, now);
        }
    }

    /// If it is news, and all of the process ends so.
    fn case_of_the_program(&mut self, tid: i32, death: Death) -> Option<Case> {
        let (pid, signal) = (self.child.pid, death.signal()?);
        // Whoever was killed was not made to wait ([`super::super::trace`]), and has no more to tell than its zombie.
        let is_crash = signal.dumps_core() && !trace::may_end_alone(pid, tid, signal);
        if !is_crash || self.child.verdict.is_some() || self.child.told.is_some() {
            return None;
        }
        let counted = self.count_oom_kills();
        let reason = self.reason(true, death, counted.moved)?;
        let zombie = read_zombie(pid);
        let case = self.case(Subject::Main, reason, (pid, death), clock::unix_ms(), counted);
        Some(self.of_the_program(Case { zombie, ..case }, death, clock::monotonic()))
    }

    /// If it is news and nobody else's to tell: its case.
    fn case_of_forked(&mut self, tid: i32, death: Death) -> Option<Case> {
        let counted = self.count_oom_kills();
        let reason = verdict::of_descendant(death, counted.moved)?;
        let Ending { pid, parent } = self.tracer.ending(tid, death.signal()?)?;
        let at = clock::unix_ms();
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        // Its core, if there is one, is where it worked itself.
        let last_directory = std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
        let comm = read_comm(pid).unwrap_or_default();
        let parent = Parent { pid: parent, comm: read_comm(parent).unwrap_or_default() };
        let zombie = read_zombie(pid);
        let case = self.case(Subject::Child { comm, exe, parent }, reason, (pid, death), at, counted);
        Some(Case { zombie, last_directory, ..case })
    }

    /// What was seen of the program as it died, or was about to.
    pub(super) fn capture_of_the_program(&mut self, case: &mut Case) -> Option<Capture> {
        let (capture, other) = self.tracer.take_capture(case.death?)?;
        case.gaps.extend(other);
        Some(capture)
    }

    /// What was seen of something that the program forked; why nothing was goes into the case.
    pub(super) fn capture_of(&mut self, case: &mut Case) -> Option<Capture> {
        let found = self.tracer.take_capture_of(case.pid?);
        if let (Err(gap), true) = (&found, case.death.and_then(Death::signal).is_some_and(Signal::dumps_core)) {
            case.gaps.extend(gap.clone());
        }
        found.ok()
    }
}
