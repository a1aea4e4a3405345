//! The death of something that the program forked and that is traced: told as it ends, for its parent alone will collect it.
//!
//! It stands still before its end and is let go within microseconds, so that its parent finds it as it would without us; what its
//! /proc entry has is read before. Nothing of init's own state changes for it: the container's program lives on. What was
//! left to us is buried by us ([`super::reap`]), with the same capture.

#![forbid(unsafe_code)]

use super::Init;
use super::reap::{read_comm, read_zombie};
use crate::case::{Capture, Case, Parent, Subject};
use crate::death::Death;
use crate::init::trace::Ending;
use crate::init::verdict;
use crate::limits;
use crate::sys::signal::Signal;
use crate::sys::{clock, process};

impl Init {
    /// A traced thread is about to end.
    pub(super) fn traced_ends(&mut self, tid: i32, status: i32) {
        let told = self.tell_of_forked(tid, status);
        process::let_go(tid, 0);
        let Some(mut case) = told else { return };
        let capture = self.capture_of(&mut case);
        if let Some(marker) = &self.marker {
            marker.note_death(&case);
        }
        self.announce(&case, false);
        let now = clock::monotonic();
        self.reporting_until = Some(now + self.launch.settings.report_wait);
        self.writing_until = now + limits::EXAMINE_LEAST;
        self.workers.examine(case, capture, false, &self.launch.settings, now);
    }

    /// If it is news and nobody else's to tell: its case.
    fn tell_of_forked(&mut self, tid: i32, status: i32) -> Option<Case> {
        let death = Death::from_wait_status(status).filter(|death| death.signal().is_some())?;
        if self.tracer.is_own(tid) {
            return None;
        }
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

    /// What was seen of something that the program forked; why nothing was goes into the case.
    pub(super) fn capture_of(&mut self, case: &mut Case) -> Option<Capture> {
        let found = self.tracer.take_capture_of(case.pid?);
        if let (Err(gap), true) = (&found, case.death.and_then(Death::signal).is_some_and(Signal::dumps_core)) {
            case.gaps.extend(gap.clone());
        }
        found.ok()
    }
}
