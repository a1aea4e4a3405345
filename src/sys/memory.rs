//! Memory that costs nothing until it is written: anonymous pages outside of the heap. See mmap(2).

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Zeroed pages of their own mapping; the kernel makes each when it is first touched.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// `len` bytes, at least one.
    pub fn new(len: usize) -> io::Result<Pages> {
        let len = len.max(1);
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Pages { start, len }).ok_or_else(|| io::Error::other("mmap gave page 0"))
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is `len` readable bytes, zeroed by the kernel, and ours until drop.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, writable, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Keeps every page of this process in memory that it has touched or will touch: mlockall(2) with MCL_ONFAULT (Linux 4.4). Where
/// memory is short nothing of ours has to be read again from the disk then. Children do not inherit it.
pub fn stay_resident() -> io::Result<()> {
    // SAFETY: the call takes flags only.
    super::check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_ONFAULT) }).map(drop)
}

/// Fills the bytes from the kernel's random source: getrandom(2). Before that source is ready (early boot, never in a
/// container) the clock and the pid have to do: ids must differ, they need not be secret.
pub fn random(bytes: &mut [u8; 16]) {
    // SAFETY: the buffer is live and as long as said.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    if n != 16 {
        let seed = super::clock::monotonic().as_nanos() ^ (u128::from(super::process::own_pid().unsigned_abs()) << 96);
        *bytes = seed.to_le_bytes();
    }
}
