//! Signals as something to read: signalfd(2), with all 64 of them, and who sent each.

use super::check;
use super::fd::keep;
use super::signal::{Set, Signal};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One signal as it arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    pub signal: Signal,
    /// `si_code`: SI_USER, SI_QUEUE, SI_KERNEL … See sigaction(2).
    pub code: i32,
    /// 0 when the kernel sent it, or somebody outside of our PID namespace.
    pub sender_pid: i32,
    pub sender_uid: u32,
    /// The payload of sigqueue(3).
    pub value: u64,
}

/// How many signals one read takes.
const BATCH: usize = 8;

/// The queue of all signals that were sent to this process; every one must be blocked. Made once and never closed.
#[derive(Clone, Copy, Debug)]
pub struct SignalFd(BorrowedFd<'static>);

impl SignalFd {
    /// The raw call: glibc's wrapper and its sets leave out 32 and 33.
    pub fn new(signals: Set) -> io::Result<SignalFd> {
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is 8 live bytes, and 8 is the size the kernel asks for.
        let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const signals.0, 8usize, flags) };
        let fd = check(fd as libc::c_int)?;
        // SAFETY: the number was just made by the kernel and belongs to nobody else.
        Ok(SignalFd(keep(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Takes what has arrived, a batch at most, real-time signals in the order they were queued.
    pub fn read(&self) -> impl Iterator<Item = Arrival> + use<> {
        // SAFETY: an all-zero signalfd_siginfo is a valid value of that plain C struct.
        let mut infos: [libc::signalfd_siginfo; BATCH] = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is live and as long as said.
        let n = unsafe { libc::read(self.0.as_raw_fd(), infos.as_mut_ptr().cast(), size * BATCH) };
        let count = usize::try_from(n).unwrap_or(0) / size;
        infos.into_iter().take(count).filter_map(|info| {
            Some(Arrival {
                signal: Signal::new(info.ssi_signo as i32)?,
                code: info.ssi_code,
                sender_pid: info.ssi_pid as i32,
                sender_uid: info.ssi_uid,
                value: info.ssi_ptr,
            })
        })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0
    }
}
