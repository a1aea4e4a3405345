//! When a crash's entry comes into obit's spool, seen from outside.
//!
//! Entries are seen by inotify when they get their name; the fsync of the folder that follows is not seen. The folders are made
//! beforehand, so that they can be watched.

use crate::clock::{Deadline, now_ns};
use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// inotify(7) on the folders through which an entry goes.
pub struct Watch {
    inotify: File,
    open: i32,
    pending: i32,
}

impl Watch {
    /// `spool` is where obit will find it, in its state directory.
    pub fn on(spool: &Path) -> io::Result<Watch> {
        // SAFETY: takes flags only; a descriptor it gives is ours alone.
        let inotify = unsafe {
            match libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) {
                -1 => return Err(io::Error::last_os_error()),
                fd => File::from_raw_fd(fd),
            }
        };
        let watch = |folder: &str| {
            let path = spool.join(folder);
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            let path = CString::new(path.as_os_str().as_bytes())?;
            // SAFETY: the path is a C string that outlives the call.
            match unsafe {
                libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), libc::IN_CREATE | libc::IN_MOVED_TO)
            } {
                -1 => Err(io::Error::last_os_error()),
                id => Ok(id),
            }
        };
        let (open, pending) = (watch("open")?, watch("pending")?);
        Ok(Watch { inotify, open, pending })
    }

    /// When an entry first had its name, and when it went to `pending`.
    pub fn minimal_and_complete(&self, deadline: Deadline) -> Option<(u64, u64)> {
        let mut minimal_ns = None;
        let mut events = [0; 4096];
        while !deadline.passed() {
            let mut news = libc::pollfd { fd: self.inotify.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, ours, for the length of the call.
            unsafe { libc::poll(&mut news, 1, deadline.left_ms()) };
            let seen_ns = now_ns();
            let Ok(n) = (&self.inotify).read(&mut events) else { continue };
            for folder in crashes(&events[..n]) {
                if folder == self.open || folder == self.pending {
                    minimal_ns.get_or_insert(seen_ns);
                }
                if folder == self.pending {
                    return Some((minimal_ns?, seen_ns));
                }
            }
        }
        None
    }
}

/// The folder of each event whose file is a crash's entry: `struct inotify_event` is folder, mask, cookie, length of the
/// name, four bytes each, and the name, padded with NUL.
fn crashes(mut events: &[u8]) -> Vec<i32> {
    const HEAD: usize = size_of::<libc::inotify_event>();
    let mut folders = Vec::new();
    while events.len() >= HEAD {
        let word = |at: usize| [events[at], events[at + 1], events[at + 2], events[at + 3]];
        let end = HEAD + u32::from_ne_bytes(word(12)) as usize;
        let name = events[HEAD..end].split(|byte| *byte == 0).next().unwrap_or_default();
        if name.ends_with(b".crash") && !name.starts_with(b".") {
            folders.push(i32::from_ne_bytes(word(0)));
        }
        events = &events[end..];
    }
    folders
}
