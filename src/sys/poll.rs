//! Waiting for the first of several fds, or for a moment in time: ppoll(2).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Which readiness is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    Readable,
    Writable,
}

/// A set of fds to wait for, made anew for each wait: there are never more than a handful.
#[derive(Default)]
pub struct Waiting<'a> {
    fds: [Option<(BorrowedFd<'a>, Want)>; SLOTS],
    used: usize,
}

const SLOTS: usize = 6;

/// Names one of the fds that were added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(usize);

/// What is ready; a hang-up or an error counts as ready, since the next call will tell.
#[derive(Clone, Copy, Debug)]
pub struct Ready([bool; SLOTS]);

impl Ready {
    pub fn has(&self, slot: Option<Slot>) -> bool {
        slot.is_some_and(|slot| self.0[slot.0])
    }
}

impl<'a> Waiting<'a> {
    pub fn add(&mut self, fd: BorrowedFd<'a>, want: Want) -> Slot {
        assert!(self.used < SLOTS, "the loop waits for at most {SLOTS} fds");
        self.fds[self.used] = Some((fd, want));
        self.used += 1;
        Slot(self.used - 1)
    }

    /// Sleeps until something is ready or the time is over; `None` sleeps for ever. An interruption reads as nothing ready.
    pub fn wait(&self, timeout: Option<Duration>) -> Ready {
        let mut entries = self.fds.map(|entry| match entry {
            Some((fd, Want::Readable)) => libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 },
            Some((fd, Want::Writable)) => libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 },
            None => libc::pollfd { fd: -1, events: 0, revents: 0 },
        });
        let limit = timeout.map(|t| libc::timespec {
            tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(t.subsec_nanos() as i32),
        });
        let limit_ptr = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `entries` has `used` initialised pollfds; `limit`, if any, outlives the call; no signal mask is given.
        let n = unsafe { libc::ppoll(entries.as_mut_ptr(), self.used as libc::nfds_t, limit_ptr, std::ptr::null()) };
        let mut ready = Ready([false; SLOTS]);
        if n > 0 {
            for (flag, entry) in ready.0.iter_mut().zip(&entries) {
                *flag = entry.revents != 0;
            }
        }
        ready
    }
}

/// Whether the fd would take a write now, without waiting.
pub fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut waiting = Waiting::default();
    let slot = waiting.add(fd, Want::Writable);
    waiting.wait(Some(Duration::ZERO)).has(Some(slot))
}
