//! Files below a directory that is held open: every name is looked up in that directory, whatever happens to its path.
//!
//! Nothing here follows a symbolic link in the last place, waits at a FIFO or becomes the controlling terminal's owner, and
//! every fd is close-on-exec. What is made is for its owner alone, whatever the umask. See openat(2).

#![forbid(unsafe_code)]

use nix::dir;
use nix::fcntl::{self, AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{self, FileStat, Mode};
use nix::sys::statfs;
use nix::unistd::{self, AccessFlags, UnlinkatFlags};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// A directory, held open.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Who gets what we make in it: its owner, if we are root and it is somebody else's.
    heir: Option<u32>,
}

/// What fstat(2) says, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    pub device: u64,
    pub inode: u64,
    pub kind: FileKind,
    pub mode: u32,
    pub uid: u32,
    pub bytes: u64,
    pub modified_unix_ms: u64,
}

/// The type of a file; only two matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    Regular,
    Directory,
    /// Symbolic link, FIFO, socket, device.
    Other,
}

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    /// Reading and writing, which an exclusive lock needs on NFS: flock(2).
    Write,
}

/// Added to every open.
const ALWAYS: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NOFOLLOW).union(OFlag::O_NOCTTY).union(OFlag::O_NONBLOCK);
const OWNER_FILE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

impl Dir {
    /// Opens a directory by path. A symbolic link in the last place is refused, with a slash behind it too.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let path: std::path::PathBuf = path.components().collect();
        Dir::from_fd(fcntl::openat(AT_FDCWD, &path, ALWAYS | OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?)
    }

    /// Opens a directory in this one, if it is ours; root takes one of anybody.
    pub fn open_dir(&self, name: &str) -> io::Result<Dir> {
        let flags = ALWAYS | OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let dir = Dir::from_fd(fcntl::openat(self, name, flags, Mode::empty())?)?;
        let (owner, us) = (dir.status()?.uid, unistd::geteuid().as_raw());
        if owner != us && us != 0 {
            return Err(io::Error::other(format!("{name} in it belongs to uid {owner}, we are {us}")));
        }
        Ok(dir)
    }

    fn from_fd(fd: OwnedFd) -> io::Result<Dir> {
        let heir = match unistd::geteuid() {
            root if root.is_root() => Some(stat::fstat(&fd)?.st_uid).filter(|owner| *owner != 0),
            _ => None,
        };
        Ok(Dir { fd, heir })
    }

    /// Opens a directory in this one, made if it is missing, for its owner alone.
    pub fn make_dir(&self, name: &str) -> io::Result<Dir> {
        match self.open_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match stat::mkdirat(self, name, Mode::S_IRWXU) {
            Err(nix::Error::EEXIST) => self.open_dir(name),
            Err(error) => Err(error.into()),
            Ok(()) => {
                let mut made = self.open_dir(name)?;
                self.hand_over(&made.fd, Mode::S_IRWXU)?;
                made.heir = self.heir;
                Ok(made)
            }
        }
    }

    /// A new file; fails if the name is taken.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let fd = fcntl::openat(self, name, ALWAYS | OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL, OWNER_FILE)?;
        self.hand_over(&fd, OWNER_FILE)?;
        Ok(File::from(fd))
    }

    /// What was made is its owner's, and for its owner alone whatever the umask is. Where that is refused (a file system
    /// without owners) it is used as it is: whoever opens it later looks at the owner again.
    fn hand_over(&self, fd: &OwnedFd, mode: Mode) -> io::Result<()> {
        if Status::of(fd)?.mode != mode.bits() {
            let _ = stat::fchmod(fd, mode);
        }
        if let Some(owner) = self.heir {
            let _ = unistd::fchown(fd, Some(owner.into()), None);
        }
        Ok(())
    }

    /// A file that is there. It may be anything but a symbolic link: look at its [`Status`] before reading it.
    pub fn open_file(&self, name: &str, access: Access) -> io::Result<File> {
        let access = if access == Access::Read { OFlag::O_RDONLY } else { OFlag::O_RDWR };
        Ok(File::from(fcntl::openat(self, name, ALWAYS | access, Mode::empty())?))
    }

    /// A file for writing, made if it is missing.
    pub fn open_or_create(&self, name: &str) -> io::Result<File> {
        match self.open_file(name, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.create(name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.open_file(name, Access::Write),
                other => other,
            },
            other => other,
        }
    }

    /// The content of a small regular file. A larger one is an error: it is not what was written there.
    pub fn read_small(&self, name: &str, most_bytes: usize) -> io::Result<Vec<u8>> {
        let file = self.open_file(name, Access::Read)?;
        if Status::of(&file)?.kind != FileKind::Regular {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file"));
        }
        let mut bytes = Vec::new();
        file.take(most_bytes as u64 + 1).read_to_end(&mut bytes)?;
        match bytes.len() <= most_bytes {
            true => Ok(bytes),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {most_bytes} bytes"))),
        }
    }

    /// Puts a small file in the place of another, durably: at any instant there is the old content or the new.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut random = [0; 16];
        super::memory::random(&mut random);
        let hidden = format!(".{name}.{:032x}", u128::from_ne_bytes(random));
        let mut file = self.create(&hidden)?;
        let written =
            file.write_all(bytes).and_then(|()| file.sync_data()).and_then(|()| self.rename(&hidden, self, name));
        if written.is_err() {
            let _ = self.remove(&hidden);
        }
        written.and_then(|()| self.sync())
    }

    /// renameat(2): what had the new name before is replaced at once.
    pub fn rename(&self, name: &str, to: &Dir, new_name: &str) -> io::Result<()> {
        Ok(fcntl::renameat(self, name, to, new_name)?)
    }

    /// linkat(2): a second name for a file, which must not be taken yet.
    pub fn link(&self, name: &str, new_name: &str) -> io::Result<()> {
        Ok(unistd::linkat(self, name, self, new_name, AtFlags::empty())?)
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unistd::unlinkat(self, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// The status of a name in this directory; of a symbolic link, its own.
    pub fn status_of(&self, name: &str) -> io::Result<Status> {
        Ok(Status::from(&stat::fstatat(self, name, AtFlags::AT_SYMLINK_NOFOLLOW)?))
    }

    pub fn status(&self) -> io::Result<Status> {
        Ok(Status::from(&stat::fstat(self)?))
    }

    /// Whether we may make files in it: access(2), which knows of read-only file systems too. It asks for the real user:
    /// asking for the effective one is a later system call that older seccomp profiles answer with EPERM.
    pub fn writable(&self) -> io::Result<()> {
        Ok(unistd::faccessat(self, ".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::empty())?)
    }

    /// The names in it without `.` and `..`, in no order. What cannot be read ends the list.
    pub fn names(&self) -> io::Result<impl Iterator<Item = OsString> + use<>> {
        // A fresh open file description: the position of a shared one would be shared too.
        let dir = dir::Dir::openat(self, ".", ALWAYS | OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        let names = dir.into_iter().map_while(Result::ok);
        Ok(names
            .map(|entry| OsString::from_vec(entry.file_name().to_bytes().to_vec()))
            .filter(|name| name != OsStr::new(".") && name != OsStr::new("..")))
    }

    /// Names made, changed and removed so far survive a power cut: fsync(2). A file system that cannot do that for
    /// directories says EINVAL, and there is nothing else to be done.
    pub fn sync(&self) -> io::Result<()> {
        match unistd::fsync(self) {
            Ok(()) | Err(nix::Error::EINVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Bytes that are free for us: statfs(2).
    pub fn room(&self) -> io::Result<u64> {
        let status = statfs::fstatfs(self)?;
        Ok(status.blocks_available().saturating_mul(u64::try_from(status.block_size()).unwrap_or(0)))
    }

    /// Where its bytes are.
    pub fn medium(&self) -> io::Result<Medium> {
        Ok(match statfs::fstatfs(self)?.filesystem_type() {
            statfs::TMPFS_MAGIC => Medium::Memory,
            statfs::OVERLAYFS_SUPER_MAGIC => Medium::Overlay,
            _ => Medium::Disk,
        })
    }
}

/// What kind of file system it is: statfs(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    Memory,
    /// The writable layer of a container, as a rule.
    Overlay,
    Disk,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Status {
    /// fstat(2).
    pub fn of(file: impl AsFd) -> io::Result<Status> {
        Ok(Status::from(&stat::fstat(file)?))
    }

    /// Both tell of one file.
    pub fn is_same_file(&self, other: &Status) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<&FileStat> for Status {
    fn from(stat: &FileStat) -> Status {
        let ms = stat.st_mtime.saturating_mul(1000).saturating_add(stat.st_mtime_nsec / 1_000_000);
        Status {
            device: stat.st_dev,
            inode: stat.st_ino,
            kind: match stat.st_mode & libc::S_IFMT {
                libc::S_IFREG => FileKind::Regular,
                libc::S_IFDIR => FileKind::Directory,
                _ => FileKind::Other,
            },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified_unix_ms: u64::try_from(ms).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_link_is_never_followed_and_a_fifo_never_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        std::os::unix::fs::symlink(temp.path(), temp.path().join("link")).unwrap();
        assert!(Dir::open(&temp.path().join("link")).is_err());
        assert!(Dir::open(&temp.path().join("link/")).is_err());
        assert!(dir.open_dir("link").is_err());
        assert!(dir.open_file("link", Access::Read).is_err());
        assert!(dir.open_or_create("link").is_err());
        assert!(dir.create("link").is_err());
        nix::unistd::mkfifo(&temp.path().join("fifo"), Mode::S_IRWXU).unwrap();
        let fifo = dir.open_file("fifo", Access::Read).unwrap();
        assert_eq!(Status::of(&fifo).unwrap().kind, FileKind::Other);
    }

    #[test]
    fn a_small_file_is_replaced_whole_and_a_larger_one_is_not_read() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        dir.replace("file", b"old").unwrap();
        dir.replace("file", b"new one").unwrap();
        assert_eq!(dir.read_small("file", 7).unwrap(), b"new one");
        assert_eq!(dir.read_small("file", 6).unwrap_err().to_string(), "it is larger than 6 bytes");
        assert_eq!(dir.names().unwrap().count(), 1, "nothing is left beside it");
        std::fs::create_dir(temp.path().join("dir")).unwrap();
        assert!(dir.replace("dir", b"x").is_err());
        assert_eq!(dir.names().unwrap().count(), 2);
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        dir.make_dir("dir").unwrap();
        dir.make_dir("dir").unwrap();
        dir.create("file").unwrap();
        assert!(dir.create("file").is_err());
        let mode = |name| std::fs::metadata(temp.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("dir"), mode("file")), (0o700, 0o600));
        let mut names: Vec<_> = dir.names().unwrap().collect();
        names.sort();
        assert_eq!(names, ["dir", "file"]);
        assert_eq!(dir.names().unwrap().count(), 2, "listing twice gives the same");
    }
}
