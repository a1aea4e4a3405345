//! Files as memory, for good: mmap(2). For workers that live for seconds and for commands of a person, never for init.

use super::check;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;

/// The bytes of a regular file, read-only and private. They are never unmapped, so whatever is found in them may be kept as it
/// is. Where the file is cut short while it is mapped, the pages behind its new end raise SIGBUS: whoever maps a file that
/// somebody may be writing must be a worker whose death costs nothing but its own findings.
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

#[cfg(test)]
mod tests {
    use super::*;
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
}
