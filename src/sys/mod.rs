//! All the `unsafe` there is: system calls as functions with types, owned fds and the manual page named.

pub mod clock;
pub mod confine;
pub mod fd;
pub mod file;
pub mod map;
pub mod memory;
pub mod poll;
pub mod process;
pub mod ptrace;
pub mod regular;
pub mod signal;
pub mod signalfd;
pub mod spawn;
pub mod tty;
pub mod wait;

use std::io;

/// The convention of almost every system call: -1 means that errno says why.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a length.
fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
