//! Threads that run the program's own handler of a signal that would have killed it: their system calls are looked at, so that we
//! are out of the way when a handler asks another process to look at its own.

#![forbid(unsafe_code)]

use super::decision::{self, Step};
use crate::limits;
use crate::sys::ptrace;

/// Threads that are in a handler at one time; the calls of more are not looked at.
const HANDLERS: usize = 64;

/// Each thread, and how many more of its calls are looked at.
#[derive(Debug, Default)]
pub struct Handlers(Vec<(i32, u32)>);

impl Handlers {
    /// The signal is about to be delivered to a handler.
    pub fn enters(&mut self, tid: i32) {
        if self.0.len() < HANDLERS {
            self.forget(|other| other == tid);
            self.0.push((tid, limits::TRACE_CALLS));
        }
    }

    pub fn has(&self, tid: i32) -> bool {
        self.0.iter().any(|(other, _)| *other == tid)
    }

    /// They have ended, or are traced no more.
    pub fn forget(&mut self, gone: impl Fn(i32) -> bool) {
        self.0.retain(|(tid, _)| !gone(*tid));
    }

    /// A thread is about to make a system call: whether its next one is looked at, too.
    pub fn call(&mut self, tid: i32) -> Step {
        let Some(place) = self.0.iter().position(|(other, _)| *other == tid) else { return Step::Returns };
        let left = &mut self.0[place].1;
        *left = left.saturating_sub(1);
        let step = match decision::step(ptrace::call(tid)) {
            Step::On if *left == 0 => Step::Returns,
            step => step,
        };
        if step == Step::Returns {
            self.0.swap_remove(place);
        }
        step
    }
}
