//! Regular files by names that others chose: in a core file, in an ELF file, on a command line. Such a name may be that of a FIFO,
//! which waits for a writer, or of a device, which may do something by being opened alone. So a file is found first, which opens
//! nothing (`O_PATH` of open(2)), looked at, and only then opened, as the one that was looked at.

use super::check;
use super::file::{FileKind, Status};
use nix::fcntl::{self, AT_FDCWD, OFlag};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

/// What a symbolic link in the last place means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    Followed,
    /// The kernel names files by where they are, so a link lies there since.
    Refused,
}

/// Opens a regular file for reading, and nothing else.
pub fn open(path: &Path, link: Link) -> io::Result<File> {
    let flags = match link {
        Link::Followed => OFlag::O_CLOEXEC,
        Link::Refused => OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
    };
    let found = fcntl::openat(AT_FDCWD, path, flags | OFlag::O_PATH, Mode::empty())?;
    let status = Status::of(&found)?;
    if status.kind != FileKind::Regular {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    if is_made_up(&found)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file that the kernel makes up"));
    }
    // Nobody waits for a lease either: fcntl(2), F_SETLEASE.
    let flags = flags | OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    let opened = match fcntl::openat(AT_FDCWD, Path::new(&same), flags - OFlag::O_NOFOLLOW, Mode::empty()) {
        Ok(opened) => opened,
        // No /proc, or that of another PID namespace, or one that is closed to us. Whoever changes what lies there in this
        // moment can have something else opened, but not read.
        Err(_) => fcntl::openat(AT_FDCWD, path, flags, Mode::empty())?,
    };
    if !Status::of(&opened)?.is_same_file(&status) {
        return Err(io::Error::other("it was replaced while it was opened"));
    }
    Ok(File::from(opened))
}

/// The whole text of one that may not be larger than `limit_bytes`.
pub fn read_text(path: &Path, limit_bytes: u64) -> io::Result<String> {
    let mut text = String::new();
    open(path, Link::Followed)?.take(limit_bytes + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit_bytes {
        let what = format!("it is larger than {} KiB", limit_bytes / 1024);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

/// Whether it lies in a file system that has no files of anybody's (proc(5), sysfs(5) and their kin), where reading may wait
/// and mapping may reach a device.
fn is_made_up(file: &OwnedFd) -> io::Result<bool> {
    /// linux/magic.h: proc, sysfs, debugfs, tracefs, securityfs, configfs, cgroup, cgroup2, bpf, pstore, efivarfs.
    const KERNELS: [u32; 11] = [
        0x9fa0,
        0x6265_6572,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0x6265_6570,
        0x0027_e0eb,
        0x6367_7270,
        0xcafe_4a11,
        0x6165_676c,
        0xde5e_81e4,
    ];
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the fd is open for the call, and `found` has room for what fstatfs writes.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) })?;
    // SAFETY: zeroed, which is a valid `statfs`, and filled by the call that succeeded.
    let kind = unsafe { found.assume_init() }.f_type;
    // A word whose upper half is of no meaning: statfs(2).
    Ok(KERNELS.contains(&(kind as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::os::fd::FromRawFd as _;
    use std::os::unix::ffi::OsStrExt as _;

    /// Runs `task`; whether something in the directory was opened meanwhile: inotify(7), which does not tell of O_PATH.
    fn opens(directory: &Path, task: impl FnOnce()) -> bool {
        // SAFETY: numbers only.
        let fd = check(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) }).unwrap();
        // SAFETY: the fd is new and ours alone.
        let mut events = unsafe { File::from_raw_fd(fd) };
        let path = CString::new(directory.as_os_str().as_bytes()).unwrap();
        // SAFETY: the fd is open and the path a C string, live for the call.
        check(unsafe { libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_OPEN) }).unwrap();
        task();
        events.read(&mut [0; 4096]).is_ok_and(|n| n > 0)
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let temp = tempfile::tempdir().unwrap();
        let (fifo, file) = (temp.path().join("fifo"), temp.path().join("file"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        std::fs::write(&file, "content").unwrap();
        assert!(opens(temp.path(), || assert!(open(&file, Link::Refused).is_ok())));
        let refused = || assert_eq!(open(&fifo, Link::Refused).unwrap_err().to_string(), "not a regular file");
        assert!(!opens(temp.path(), refused));
        for path in ["/dev/null", "/"] {
            assert_eq!(open(Path::new(path), Link::Followed).unwrap_err().to_string(), "not a regular file", "{path}");
        }
        let made_up = open(Path::new("/proc/self/maps"), Link::Followed).unwrap_err();
        assert_eq!(made_up.to_string(), "a file that the kernel makes up");
    }

    #[test]
    fn a_link_is_followed_where_a_person_gave_it() {
        let temp = tempfile::tempdir().unwrap();
        let (file, link) = (temp.path().join("file"), temp.path().join("link"));
        std::fs::write(&file, "content").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open(&link, Link::Refused).is_err());
        let mut text = String::new();
        open(&link, Link::Followed).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "content");
    }
}
