//! The entries of /proc that the tracer reads: of threads that stand still for it, and of who else is there.

#![forbid(unsafe_code)]

use super::decision;
use crate::sys::{fd, process};
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// A file of /proc/PID that is read in init: status, stat.
pub const STATUS_BYTES: usize = 4096;

/// What is known of it: proc(5).
pub fn status(pid: i32) -> Option<Vec<u8>> {
    fd::read_small(&CString::new(format!("/proc/{pid}/status")).ok()?, STATUS_BYTES)
}

/// A file of /proc/TID. Of a process that became another user it may be refused to us and not to that user.
pub fn open_of(tid: i32, name: &str) -> Option<OwnedFd> {
    let path = CString::new(format!("/proc/{tid}/{name}")).ok()?;
    fd::open_to_read(&path).or_else(|| {
        let (uid, gid) = status(tid).as_deref().and_then(decision::owner)?;
        process::on_behalf_of(uid, gid, || fd::open_to_read(&path))
    })
}

/// The process that a thread is of.
pub fn process_of(tid: i32) -> Option<i32> {
    status(tid).as_deref().and_then(decision::process_and_parent).map(|(pid, _)| pid)
}

/// The threads of a process now.
pub fn threads(pid: i32) -> Vec<i32> {
    numbers(&format!("/proc/{pid}/task"))
}

/// All processes now.
pub fn processes() -> Vec<i32> {
    numbers("/proc")
}

fn numbers(directory: &str) -> Vec<i32> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
