//! Where the state directory is: the one asked for, else the first of the usual places that takes us.
//!
//! | order | place | made with |
//! |---|---|---|
//! | 1 | `--state-dir` | its parents, 0755 |
//! | 2 | `/var/lib/obit` | its parents, 0755 |
//! | 3 | `$XDG_STATE_HOME/obit`, else `~/.local/state/obit` | its parents, 0700 |
//! | 4 | `/dev/shm/obit-<uid>` | nothing else |
//!
//! What the place refuses later, because its disk has filled up, goes into a directory of this state directory alone in the
//! next place that takes it ([`refuges`]).
//!
//! A place is a directory of our own. A volume that belongs to somebody else and lets us write (a fresh mount with an
//! `fsGroup`, a shared one) takes us in a directory `obit-<uid>` of our own in it; root uses what an operator prepared for
//! somebody else as it is. PID 1 goes through here at its start: a few system calls when the first place is the one.

#![forbid(unsafe_code)]

use crate::config::Settings;
use crate::sys::file::{Dir, FileKind, Medium, Status};
use crate::sys::process::effective_uid;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where reports are kept, and why not in a better place.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Absolute. `None`: no directory takes us, so reports live in memory until they are delivered.
    pub dir: Option<PathBuf>,
    /// What the operator asked for and cannot have: worth a warning.
    pub refused: Vec<String>,
    /// Why usual places before this one were passed over: worth a line of `obit doctor`.
    pub passed_over: Vec<String>,
}

/// Made for root, or prepared in an image for its user.
const SYSTEM: &str = "/var/lib/obit";

/// Finds the place and makes its directory.
pub fn resolve(settings: &Settings) -> Place {
    choose(settings, |candidate| candidate.prepare(effective_uid()))
}

/// The place that [`resolve`] would find, and nothing is made.
pub fn foresee(settings: &Settings) -> Place {
    choose(settings, |candidate| candidate.foresee(effective_uid()))
}

fn choose(settings: &Settings, take: impl Fn(&Candidate) -> io::Result<PathBuf>) -> Place {
    let mut place = Place::default();
    let mut refused = None;
    for candidate in candidates(settings) {
        match take(&candidate) {
            Ok(dir) => {
                place.dir = Some(dir);
                break;
            }
            Err(error) if candidate.kind == Kind::Asked => {
                refused = Some(format!("state directory {} cannot be used ({error})", candidate.path.display()));
            }
            Err(error) => place.passed_over.push(format!("{}: {error}", candidate.path.display())),
        }
    }
    match (&place.dir, refused) {
        (Some(dir), Some(refused)) => place.refused.push(format!("{refused}, so reports go to {}", dir.display())),
        (Some(_), None) => {}
        (None, refused) => {
            place.refused.extend(refused);
            place.refused.push(
                "no state directory is writable; reports live in memory and are lost if they cannot be delivered \
                 before the end: mount a volume and name it with --state-dir"
                    .to_owned(),
            );
        }
    }
    place
}

/// The place that is in use already, for commands that look at it and make nothing; with the places that were looked at.
pub fn existing(settings: &Settings) -> Result<PathBuf, Vec<PathBuf>> {
    let mut candidates = candidates(settings);
    candidates.retain(|candidate| settings.state_dir.is_none() || candidate.kind == Kind::Asked);
    let uid = effective_uid();
    let in_use = candidates.iter().find_map(|candidate| candidate.existing(uid, "spool"));
    // A run without incident leaves a directory of ours with nothing in it.
    let found = in_use.or_else(|| candidates.iter().find_map(|candidate| candidate.existing(uid, ".")));
    found.ok_or_else(|| candidates.into_iter().map(|candidate| candidate.path).collect())
}

/// Directories for what `state_dir` refuses, best first, made as they are asked for.
pub fn refuges(settings: &Settings, state_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let name = refuge_name(state_dir);
    let others = candidates(settings).into_iter().filter(other_than(state_dir));
    others.filter_map(move |candidate| {
        let place = candidate.prepare(effective_uid()).ok()?;
        Dir::open(&place).and_then(|dir| dir.make_dir(&name)).ok()?;
        Some(place.join(&name))
    })
}

/// The refuges that something was put into.
pub fn refuges_in_use(settings: &Settings, state_dir: &Path) -> Vec<PathBuf> {
    let inside = format!("{}/spool", refuge_name(state_dir));
    let others = candidates(settings).into_iter().filter(other_than(state_dir));
    let places = others.filter_map(|candidate| candidate.existing(effective_uid(), &inside));
    places.map(|place| place.join(refuge_name(state_dir))).collect()
}

fn other_than(state_dir: &Path) -> impl Fn(&Candidate) -> bool {
    move |candidate| !state_dir.starts_with(&candidate.path)
}

/// Of one state directory, so that nothing meets in it that has another destination.
fn refuge_name(state_dir: &Path) -> String {
    format!("instead-of-{:08x}", crc32fast::hash(state_dir.as_os_str().as_bytes()))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Asked,
    System,
    User,
    SharedMemory,
}

#[derive(Debug)]
struct Candidate {
    kind: Kind,
    path: PathBuf,
}

fn candidates(settings: &Settings) -> Vec<Candidate> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let user = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let asked = settings.state_dir.as_ref().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
    let all = [
        (Kind::Asked, asked),
        (Kind::System, Some(PathBuf::from(SYSTEM))),
        (Kind::User, user.map(|dir| dir.join("obit"))),
        (Kind::SharedMemory, Some(PathBuf::from(format!("/dev/shm/obit-{}", effective_uid())))),
    ];
    all.into_iter().filter_map(|(kind, path)| Some(Candidate { kind, path: path? })).collect()
}

impl Candidate {
    /// Opens or makes the directory and sees whether we may write there: the path to use.
    fn prepare(&self, uid: u32) -> io::Result<PathBuf> {
        let dir = match Dir::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make()?,
            other => other.map_err(told)?,
        };
        let status = dir.status()?;
        if is_ours(&status, uid) {
            dir.writable()?;
            return Ok(self.path.clone());
        }
        let foreign = || io::Error::other(format!("it belongs to uid {}, we are {uid}", status.uid));
        if !self.may_be_shared() {
            return Err(foreign());
        }
        let own = dir.make_dir(&own_name(uid)).map_err(|_| foreign())?;
        if !is_ours(&own.status()?, uid) {
            return Err(foreign());
        }
        own.writable()?;
        Ok(self.path.join(own_name(uid)))
    }

    /// What [`prepare`](Self::prepare) would answer.
    fn foresee(&self, uid: u32) -> io::Result<PathBuf> {
        let dir = match Dir::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let above = self.path.ancestors().skip(1).find(|above| above.exists());
                Dir::open(above.unwrap_or(Path::new("/"))).map_err(told)?.writable()?;
                return Ok(self.path.clone());
            }
            other => other.map_err(told)?,
        };
        let status = dir.status()?;
        if is_ours(&status, uid) {
            return dir.writable().map(|()| self.path.clone());
        }
        let foreign = || io::Error::other(format!("it belongs to uid {}, we are {uid}", status.uid));
        if !self.may_be_shared() {
            return Err(foreign());
        }
        match dir.open_dir(&own_name(uid)) {
            Ok(own) if is_ours(&own.status()?, uid) => own.writable()?,
            Ok(_) => return Err(foreign()),
            Err(_) => dir.writable().map_err(|_| foreign())?,
        }
        Ok(self.path.join(own_name(uid)))
    }

    fn make(&self) -> io::Result<Dir> {
        if let Some(parent) = self.path.parent() {
            let mode = if self.kind == Kind::User { 0o700 } else { 0o755 };
            std::fs::DirBuilder::new().recursive(true).mode(mode).create(parent)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Dir::open(&self.path).map_err(told),
        }
    }

    /// Ours, and with this in it.
    fn existing(&self, uid: u32, inside: &str) -> Option<PathBuf> {
        let own = self.path.join(own_name(uid));
        let dirs = if self.may_be_shared() { vec![own, self.path.clone()] } else { vec![self.path.clone()] };
        dirs.into_iter().find(|dir| {
            let inside = Dir::open(dir).and_then(|dir| dir.open_dir(inside));
            inside.and_then(|inside| inside.status()).is_ok_and(|status| is_ours(&status, uid))
        })
    }

    fn may_be_shared(&self) -> bool {
        matches!(self.kind, Kind::Asked | Kind::System)
    }
}

fn own_name(uid: u32) -> String {
    format!("obit-{uid}")
}

fn is_ours(status: &Status, uid: u32) -> bool {
    status.kind == FileKind::Directory && (status.uid == uid || uid == 0)
}

/// open(2) says ENOTDIR or ELOOP for a symbolic link where a directory is asked for.
fn told(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOTDIR | libc::ELOOP) => io::Error::other("it is a symbolic link or no directory"),
        _ => error,
    }
}

/// Whether what is kept in a directory is likely to outlive the container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasting {
    /// On a mount of its own, such as a volume.
    Volume,
    /// On the root file system, which is no container's layer.
    Disk,
    /// On the container's own layer: it outlives a restart of the container, not the container.
    ContainerLayer,
    /// In memory.
    No,
}

/// Bytes that we may still write in a directory; `None` before it is made.
pub fn room(dir: &Path) -> Option<u64> {
    Dir::open(dir).and_then(|dir| dir.room()).ok()
}

/// Judges by the file system and its mount, for `obit doctor`; a directory to be made by what it is to be made in.
pub fn lasting(dir: &Path) -> Lasting {
    let judged = || -> io::Result<Lasting> {
        let opened = Dir::open(dir.ancestors().find(|above| above.exists()).unwrap_or(dir))?;
        let on_root = opened.status()?.device == Dir::open(Path::new("/"))?.status()?.device;
        Ok(match opened.medium()? {
            Medium::Memory => Lasting::No,
            Medium::Overlay if on_root => Lasting::ContainerLayer,
            Medium::Disk if on_root => Lasting::Disk,
            Medium::Overlay | Medium::Disk => Lasting::Volume,
        })
    };
    judged().unwrap_or(Lasting::No)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    fn asked(path: &Path) -> Candidate {
        Candidate { kind: Kind::Asked, path: path.to_owned() }
    }

    #[test]
    fn the_place_asked_for_is_made_for_its_owner_alone_with_its_parents() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b/state");
        let settings = Settings { state_dir: Some(dir.clone()), ..Settings::default() };
        assert_eq!(foresee(&settings).dir.as_deref(), Some(&*dir));
        assert_eq!(existing(&settings), Err(vec![dir.clone()]), "looking makes nothing");
        let place = resolve(&settings);
        assert_eq!((place.dir.as_deref(), &place.refused[..]), (Some(&*dir), &[][..]));
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(temp.path().join("a")).unwrap().mode() & 0o777, 0o755);
        assert_eq!(existing(&settings), Ok(dir.clone()), "nothing to tell of is no mistake");
        super::super::Spool::open(&dir).unwrap();
        assert_eq!(existing(&settings), Ok(dir));
    }

    #[test]
    fn what_cannot_be_used_is_said_and_another_place_is_taken() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let settings = Settings { state_dir: Some(file.clone()), ..Settings::default() };
        let place = resolve(&settings);
        assert_ne!(place.dir.as_deref(), Some(&*file));
        assert_eq!(
            place.refused[0],
            format!(
                "state directory {} cannot be used (it is a symbolic link or no directory), so reports go to {}",
                file.display(),
                place.dir.unwrap().display()
            )
        );
    }

    #[test]
    fn a_link_is_refused_whatever_it_leads_to() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("real")).unwrap();
        std::os::unix::fs::symlink(temp.path().join("real"), temp.path().join("link")).unwrap();
        for path in ["link", "link/"] {
            let error = asked(&temp.path().join(path)).prepare(effective_uid()).unwrap_err();
            assert_eq!(error.to_string(), "it is a symbolic link or no directory");
        }
    }

    #[test]
    fn a_writable_volume_of_somebody_else_takes_us_in_a_directory_of_our_own() {
        let temp = tempfile::tempdir().unwrap();
        let us = effective_uid();
        let candidate = asked(temp.path());
        // As somebody who is not us, what we make is not theirs.
        let error = candidate.prepare(us + 1).unwrap_err().to_string();
        assert_eq!(error, format!("it belongs to uid {us}, we are {}", us + 1));
        if us != 0 {
            return;
        }
        std::fs::remove_dir(temp.path().join("obit-1")).unwrap();
        // Seen by uid 1, prepared by root for it.
        std::fs::create_dir(temp.path().join("obit-1")).unwrap();
        std::os::unix::fs::chown(temp.path().join("obit-1"), Some(1), None).unwrap();
        assert_eq!(candidate.prepare(1).unwrap(), temp.path().join("obit-1"));
        let shm = Candidate { kind: Kind::SharedMemory, path: temp.path().to_owned() };
        assert!(shm.prepare(1).is_err(), "the place in shared memory is never shared");
    }

    #[test]
    fn root_leaves_what_it_makes_in_a_users_place_to_that_user() {
        if effective_uid() != 0 {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(temp.path(), Some(1), None).unwrap();
        assert_eq!(asked(temp.path()).prepare(0).unwrap(), temp.path());
        let spool = super::super::Spool::open(temp.path()).unwrap();
        assert!(spool.sender_lock().unwrap().is_some());
        for name in ["spool", "spool/open", "spool/sender.lock"] {
            assert_eq!(std::fs::metadata(temp.path().join(name)).unwrap().uid(), 1, "{name}");
        }
    }

    #[test]
    fn a_directory_that_takes_nothing_is_refused() {
        if effective_uid() == 0 {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
        let error = asked(temp.path()).prepare(effective_uid()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_is_in_memory_does_not_last() {
        if Path::new("/dev/shm").is_dir() && !matches!(lasting(Path::new("/dev/shm")), Lasting::Volume | Lasting::Disk)
        {
            assert_eq!(lasting(Path::new("/dev/shm")), Lasting::No);
        }
    }
}
