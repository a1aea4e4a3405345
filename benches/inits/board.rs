//! What the program under init saw, and when: a file that both have mapped. See probe.c, which writes it.

use crate::clock::Deadline;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// The same in probe.c.
#[repr(C)]
pub struct Facts {
    /// Counts what has happened; a futex.
    bell: AtomicU32,
    /// Orphans made so far.
    pub orphans: AtomicU32,
    /// Just before the exec of init.
    pub exec_ns: AtomicU64,
    /// The program's first act.
    pub main_ns: AtomicU64,
    /// The last signal handled.
    pub signal_ns: AtomicU64,
    /// The last orphan made, or the crash.
    pub done_ns: AtomicU64,
}

pub struct Board {
    path: PathBuf,
    facts: *mut Facts,
}

impl Board {
    /// `path` should be on a tmpfs, so that the first touch of the page costs the program no disk.
    pub fn create(path: &Path) -> io::Result<Board> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(size_of::<Facts>() as u64)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at a place the kernel chooses; the file is as long as the mapping.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Facts>(), protection, flags, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Board { path: path.to_owned(), facts: at.cast() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn facts(&self) -> &Facts {
        // SAFETY: mapped until drop, aligned to a page, and all-atomic, so another process may write it meanwhile.
        unsafe { &*self.facts }
    }

    /// Sleeps until the program has made `so` true; false when the deadline came first.
    pub fn until(&self, deadline: Deadline, so: impl Fn(&Facts) -> bool) -> bool {
        loop {
            let seen = self.facts().bell.load(SeqCst);
            if so(self.facts()) {
                return true;
            }
            if deadline.passed() {
                return false;
            }
            self.sleep(seen, deadline.left());
        }
    }

    /// The program has run its first lines and set its handlers.
    pub fn until_ready(&self, deadline: Deadline) -> bool {
        self.until(deadline, |facts| facts.bell.load(SeqCst) > 0)
    }

    /// futex(2): until the bell is no longer `seen`, or that long.
    fn sleep(&self, seen: u32, most: Duration) {
        let most = libc::timespec { tv_sec: most.as_secs() as _, tv_nsec: most.subsec_nanos() as _ };
        let bell = self.facts().bell.as_ptr();
        // SAFETY: the word is mapped while `self` lives, and the kernel only reads it; whatever the answer, the caller looks again.
        unsafe { libc::syscall(libc::SYS_futex, bell, libc::FUTEX_WAIT, seen, &most, 0, 0) };
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: mapped in `create` with this size; `facts()` borrows from `self`, so nobody holds a reference.
        unsafe { libc::munmap(self.facts.cast(), size_of::<Facts>()) };
        let _ = std::fs::remove_file(&self.path);
    }
}
