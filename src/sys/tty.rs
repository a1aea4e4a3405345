//! The controlling terminal: who is in its foreground, and giving it to somebody else. See tcsetpgrp(3), tty_ioctl(4).

use super::{check, fd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// isatty(3).
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: a number in, a number out.
    unsafe { libc::isatty(fd.as_raw_fd()) == 1 }
}

/// Our controlling terminal, found among stdin, stdout and stderr: the calls below fail on any other terminal.
#[derive(Debug)]
pub struct Terminal(OwnedFd);

impl Terminal {
    /// `None` when none of the three is our controlling terminal.
    pub fn find() -> Option<Terminal> {
        (0..=2).map(fd::stdio).find(|fd| foreground(*fd).is_ok()).and_then(|fd| fd::duplicate(fd).ok()).map(Terminal)
    }

    /// The process group in the foreground.
    pub fn foreground(&self) -> io::Result<i32> {
        foreground(self.0.as_fd())
    }

    /// Puts a process group into the foreground. SIGTTOU must be blocked or ignored, or a background caller is stopped.
    pub fn give_to(&self, group: i32) -> io::Result<()> {
        give(self.0.as_fd(), group)
    }

    /// Gives the terminal up for good: TIOCNOTTY. A session leader that does so gets SIGHUP and SIGCONT from the kernel.
    pub fn detach(&self) -> io::Result<()> {
        // SAFETY: the request takes no argument.
        check(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCNOTTY) }).map(drop)
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn foreground(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: a number in, a number out.
    check(unsafe { libc::tcgetpgrp(fd.as_raw_fd()) })
}

pub(super) fn give(fd: BorrowedFd<'_>, group: i32) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::tcsetpgrp(fd.as_raw_fd(), group) }).map(drop)
}
