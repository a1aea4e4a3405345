//! File descriptors that init hands about: pipes, copies, and the kernel's ways to move bytes without reading them.
//!
//! Every fd made here is close-on-exec and above 2, so none reaches the child and none can be taken for stdio.

use super::{check, check_len};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// The standard streams, borrowed. They may be closed: every call on them can fail with EBADF.
pub fn stdio(number: RawFd) -> BorrowedFd<'static> {
    assert!((0..=2).contains(&number));
    // SAFETY: 0, 1 and 2 are never owned, so never closed, by anything in this program; a stream that the caller left
    // closed was filled by `occupy_closed_stdio` before any fd was made.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Puts an fd that can do nothing on every closed one of 0, 1 and 2, so that nothing of ours lands there. It is
/// close-on-exec: the child finds the stream closed, as the caller left it. Returns which were closed.
pub fn occupy_closed_stdio() -> [bool; 3] {
    let mut closed = [false; 3];
    for number in 0..=2 {
        // SAFETY: F_GETFD reads a flag of a number; it fails with EBADF when the number is not open.
        closed[number as usize] = unsafe { libc::fcntl(number, libc::F_GETFD) } == -1;
        if closed[number as usize] {
            // An epoll instance needs no file system, and reads and writes on it fail. The lowest free number is taken.
            // SAFETY: the call takes no pointer; the new fd is meant to stay open for the life of the process.
            unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        }
    }
    closed
}

/// A pipe, read end first: pipe2(2) with O_CLOEXEC. The read end does not block if `nonblocking_read`.
pub fn pipe(nonblocking_read: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: `ends` is an array of two ints, as pipe2 wants.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: both numbers were just made by the kernel and belong to nobody else.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    if nonblocking_read {
        // SAFETY: F_SETFL on an fd we own; the write end is another file description and keeps blocking.
        check(unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    }
    Ok((read, write))
}

/// Which file a path leads to, and when it was last written (seconds, nanoseconds): statx(2). Only what the kernel knows already is
/// told, so nobody who serves a file system is waited for.
pub fn known_of(path: &std::ffi::CStr) -> Option<(Identity, (i64, u32))> {
    // SAFETY: an all-zero statx is a valid value of that plain C struct.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, wanted) = (libc::AT_STATX_DONT_SYNC, libc::STATX_INO | libc::STATX_MTIME);
    // SAFETY: `path` is a C string and `found` is live for the call.
    check(unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), flags, wanted, &raw mut found) }).ok()?;
    let device = libc::makedev(found.stx_dev_major, found.stx_dev_minor);
    Some((Identity(device, found.stx_ino), (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec)))
}

/// An fd that is never closed in this process.
pub fn keep(fd: OwnedFd) -> BorrowedFd<'static> {
    // SAFETY: nobody owns the number any more, so nobody closes it.
    unsafe { BorrowedFd::borrow_raw(fd.into_raw_fd()) }
}

/// Puts another file under the number of one that is kept, which closes what was there: dup3(2).
pub fn replace(kept: BorrowedFd<'static>, by: &OwnedFd) {
    // SAFETY: numbers only; whoever holds `kept` may go on using it.
    unsafe { libc::dup3(by.as_raw_fd(), kept.as_raw_fd(), libc::O_CLOEXEC) };
}

/// A memory file: memfd_create(2).
pub fn memory_file(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a C string that outlives the call.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the number was just made by the kernel and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Another fd for the same open file description, above 2 and close-on-exec: F_DUPFD_CLOEXEC.
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes a lower bound for the new number.
    let new = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the number was just made by the kernel and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// What an fd leads to, as far as it matters for passing bytes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Pipe,
    Socket,
    Terminal,
    /// A regular file.
    File,
    /// Other devices, `/dev/null` among them.
    Device,
}

/// Device and inode: two fds with equal identity lead to the same file. See fstat(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity(u64, u64);

impl Identity {
    /// Of the file system, as major and minor number.
    pub fn device(self) -> (u32, u32) {
        (libc::major(self.0), libc::minor(self.0))
    }
}

/// fstat(2) and isatty(3).
pub fn identify(fd: BorrowedFd<'_>) -> io::Result<(Kind, Identity)> {
    // SAFETY: an all-zero stat is a valid value of that plain C struct.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is live for the call.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &mut stat) })?;
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFIFO => Kind::Pipe,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFREG => Kind::File,
        _ if super::tty::is_terminal(fd) => Kind::Terminal,
        _ => Kind::Device,
    };
    Ok((kind, Identity(stat.st_dev, stat.st_ino)))
}

/// Copies up to `len` bytes from one pipe into another without consuming them and without blocking: tee(2).
pub fn tee(from: BorrowedFd<'_>, to: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    // SAFETY: no pointers; both fds are borrowed for the call.
    check_len(unsafe { libc::tee(from.as_raw_fd(), to.as_raw_fd(), len, libc::SPLICE_F_NONBLOCK) })
}

/// How many bytes wait in a pipe: FIONREAD of pipe(7).
pub fn unread_bytes(pipe: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int through the pointer, which is live.
    check(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// What waits in a pipe, without taking it: tee(2) into a pipe of our own, so at most what such a pipe holds (pipe(7): 64 KiB).
pub fn peek(from: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(unread_bytes(from)?).unwrap_or(0)];
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let (read_end, write_end) = pipe(true)?;
    let copied = tee(from, write_end.as_fd(), bytes.len())?;
    bytes.truncate(copied);
    let mut filled = 0;
    while filled < copied {
        filled += read(read_end.as_fd(), &mut bytes[filled..])?;
    }
    Ok(bytes)
}

/// read(2).
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is live and as long as said.
    check_len(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// write(2).
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are live and as many as said.
    check_len(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// send(2) that neither blocks nor raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the bytes are live and as many as said.
    check_len(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

/// Reads a small file of /proc or a cgroup whole, at most `limit` bytes; `None` when it cannot be read.
pub fn read_small(path: &std::ffi::CStr, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(limit);
    File::from(open_to_read(path)?).take(limit as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Opens a file of /proc, which may be read later than it could be opened.
pub fn open_to_read(path: &std::ffi::CStr) -> Option<OwnedFd> {
    // SAFETY: `path` is a C string that outlives the call.
    let fd = check(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY) }).ok()?;
    // SAFETY: the number was just made by the kernel and belongs to nobody else.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads a counter file anew from its beginning, at most `limit` bytes: pread(2), so the offset never matters.
pub fn reread(file: &File, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; limit];
    // SAFETY: the buffer is live and as long as said.
    let n = unsafe { libc::pread(file.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    bytes.truncate(check_len(n).ok()?);
    Some(bytes)
}
