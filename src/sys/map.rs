//! Files as memory, for good: mmap(2). For workers that live for seconds and for commands of a person, never for init.

use super::check;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;

/// The bytes of a regular file, read-only and private. They are never unmapped, so whatever is found in them may be kept as it
/// is. Where the file is cut short while it is mapped, the pages behind its new end raise SIGBUS: whoever maps a file that
/// somebody may be writing must be a worker whose death costs nothing but its own findings, or have said what is to be told
/// then ([`end_where_cut`]).
pub fn file(file: &File) -> io::Result<&'static [u8]> {
    let mut status = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the fd is open for the call, and `status` has room for what fstat writes.
    check(unsafe { libc::fstat(file.as_raw_fd(), status.as_mut_ptr()) })?;
    // SAFETY: zeroed, which is a valid `stat`, and filled by the call that succeeded.
    let status = unsafe { status.assume_init() };
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let len = usize::try_from(status.st_size).map_err(|_| io::ErrorKind::InvalidData)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is `len` readable bytes at `start` and stays until the process ends, since nothing unmaps it. Nobody
    // holds a mutable reference into it. Another process that writes to the file may change pages that were not read yet;
    // every reader takes the bytes as foreign and checks what it uses after it has copied it.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), len) })
}

/// The last line of this process, and its status.
static LAST: OnceLock<(String, u8)> = OnceLock::new();

/// From now on this process ends with the line on stderr and with the status, where a file that it mapped was cut short.
pub fn end_where_cut(line: String, status: u8) {
    extern "C" fn handler(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the kernel passes a siginfo that is live for the handler.
        let code = unsafe { (*info).si_code };
        match LAST.get() {
            // SAFETY: write(2) and _exit(2) may be called in a handler, and the line is never changed: signal-safety(7).
            Some((line, status)) if code > 0 => unsafe {
                libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
                libc::_exit(libc::c_int::from(*status));
            },
            // Somebody sent it: SA_RESETHAND has left the default action, which comes when we return.
            // SAFETY: a number only, and raise(3) may be called in a handler.
            _ => unsafe {
                libc::raise(libc::SIGBUS);
            },
        }
    }
    if LAST.set((line, status)).is_ok() {
        // SAFETY: an all-zero sigaction is valid: an empty mask, no flags.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        // SAFETY: `action` is live for the call, and its handler does what a handler may.
        unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{process, wait};
    use std::io::Write as _;

    #[test]
    fn a_file_is_its_bytes_and_what_is_no_file_is_refused() {
        let mut content = tempfile::tempfile().unwrap();
        assert_eq!(file(&content).unwrap(), b"");
        content.write_all(b"as it is").unwrap();
        assert_eq!(file(&content).unwrap(), b"as it is");
        assert_eq!(file(&File::open("/").unwrap()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(file(&File::open("/dev/null").unwrap()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_process_says_why_it_ends_where_a_file_was_cut() {
        let cut = |prepare: fn()| {
            let mut content = tempfile::tempfile().unwrap();
            content.write_all(&[1; 8192]).unwrap();
            let pid = process::fork_worker(c"cut", &[content.as_raw_fd()], || {
                let Ok(bytes) = file(&content) else { return 2 };
                prepare();
                // Behind the new end of a file the page itself is gone.
                if content.set_len(0).is_err() {
                    return 3;
                }
                bytes[4096]
            })
            .unwrap();
            loop {
                if let Some((status, _)) = wait::reap(pid) {
                    return status;
                }
                crate::sys::poll::Waiting::default().wait(Some(std::time::Duration::from_millis(1)));
            }
        };
        let told = cut(|| end_where_cut("obit: the file of this test was cut\n".to_owned(), 7));
        assert_eq!((libc::WIFEXITED(told), libc::WEXITSTATUS(told)), (true, 7));
        let silent = cut(|| ());
        assert_eq!((libc::WIFSIGNALED(silent), libc::WTERMSIG(silent)), (true, libc::SIGBUS));
    }
}
