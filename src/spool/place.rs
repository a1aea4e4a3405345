//! Where the state directory is: the one asked for, else the first of the usual places that takes us.

#![forbid(unsafe_code)]

use crate::config::Settings;
use crate::sys::process::effective_uid;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where reports are kept, and why not in a better place.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// `None`: no directory takes us, so reports live in memory until they are delivered.
    pub dir: Option<PathBuf>,
    /// What the operator asked for and cannot have.
    pub refused: Vec<String>,
}

/// Made for root, or prepared in an image for its user.
const SYSTEM: &str = "/var/lib/obit";

/// Finds the place and makes its directories. A few system calls when the first candidate takes us.
pub fn resolve(settings: &Settings) -> Place {
    let mut place = Place::default();
    if let Some(asked) = &settings.state_dir {
        match prepare(asked) {
            Ok(()) => {
                place.dir = Some(std::path::absolute(asked).unwrap_or_else(|_| asked.clone()));
                return place;
            }
            Err(error) => place.refused.push(format!(
                "state directory {} cannot be used ({error}); reports go elsewhere, see obit doctor",
                asked.display()
            )),
        }
    }
    place.dir = candidates().into_iter().find(|dir| prepare(dir).is_ok());
    if place.dir.is_none() {
        place.refused.push(
            "no state directory is writable; reports live in memory and are lost if they cannot be delivered before the \
             end: mount a volume and name it with --state-dir"
                .to_owned(),
        );
    }
    place
}

/// The places that are tried when none is asked for.
pub fn candidates() -> Vec<PathBuf> {
    let user = match std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()) {
        Some(dir) => Some(PathBuf::from(dir).join("obit")),
        None => std::env::var_os("HOME")
            .filter(|home| home.len() > 1)
            .map(|home| PathBuf::from(home).join(".local/state/obit")),
    };
    let shared_memory = PathBuf::from(format!("/dev/shm/obit-{}", effective_uid()));
    [Some(PathBuf::from(SYSTEM)), user, Some(shared_memory)].into_iter().flatten().collect()
}

/// The directories of the layout, for our eyes only.
fn prepare(root: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700);
    match std::fs::symlink_metadata(root) {
        Ok(found) if found.is_dir() && found.uid() == effective_uid() => {}
        // Root may use what an operator prepared for somebody else.
        Ok(found) if found.is_dir() && effective_uid() == 0 => {}
        Ok(found) if found.is_dir() => {
            return Err(io::Error::other(format!("it belongs to uid {}, we are {}", found.uid(), effective_uid())));
        }
        Ok(_) => return Err(io::Error::other("it is no directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            builder.recursive(true).create(root)?;
            builder.recursive(false);
        }
        Err(error) => return Err(error),
    }
    for name in ["runs", "spool", "spool/open", "spool/pending", "spool/sent", "spool/rejected", "spool/corrupt"] {
        match builder.create(root.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // A full or read-only file system shows only when something is written.
    let probe = root.join("runs").join(format!(".probe-{}", crate::sys::process::own_pid()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(&probe)
}

/// Whether what is kept in `dir` is likely to outlive the container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasting {
    /// On a mount of its own: a volume, or a host's disk.
    Yes,
    /// On the container's own layer: it outlives a restart of the container, not the container.
    ContainerLayer,
    /// In memory.
    No,
}

/// Judges by the file system and its mount, for `obit doctor`.
pub fn lasting(dir: &Path) -> Lasting {
    let Ok(stat) = nix::sys::statfs::statfs(dir) else { return Lasting::No };
    let kind = stat.filesystem_type();
    if kind == nix::sys::statfs::TMPFS_MAGIC {
        return Lasting::No;
    }
    let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
    if kind == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC && device(dir) == device(Path::new("/")) {
        return Lasting::ContainerLayer;
    }
    Lasting::Yes
}
