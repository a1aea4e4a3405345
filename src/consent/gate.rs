//! Consent as it is at this moment: asked again before each send, and while one is under way.
//!
//! The files behind it are looked at by path each time, so a ConfigMap whose symbolic link is swapped, a file that is
//! replaced and one that is written in place are all noticed.

#![forbid(unsafe_code)]

use super::{Block, Channel, Consent, Granted, current, stored};
use crate::config::Settings;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The consent of one courier, or of one API.
#[derive(Debug)]
pub struct Gate {
    settings: Settings,
    state_dir: Option<PathBuf>,
    stamps: [Stamp; 2],
    consent: Consent,
}

/// What changes when a file does: device, inode, size, and the time of its change in nanoseconds.
type Stamp = Option<(u64, u64, u64, i128)>;

impl Gate {
    pub fn new(settings: &Settings, state_dir: Option<&Path>) -> Gate {
        // The stamps first: what changes after them is read twice, never missed.
        let stamps = stamps(settings, state_dir);
        let consent = current(settings, state_dir);
        Gate { settings: settings.clone(), state_dir: state_dir.map(Path::to_owned), stamps, consent }
    }

    /// What holds now.
    pub fn consent(&mut self) -> &Consent {
        let stamps = stamps(&self.settings, self.state_dir.as_deref());
        if stamps != self.stamps {
            self.stamps = stamps;
            self.consent = current(&self.settings, self.state_dir.as_deref());
        }
        &self.consent
    }

    /// Permission as it is now.
    pub fn grant(&mut self, channel: Channel) -> Result<Granted, Block> {
        self.consent().grant(channel).map_err(Block::clone)
    }
}

fn stamps(settings: &Settings, state_dir: Option<&Path>) -> [Stamp; 2] {
    [settings.cluster_spec.clone(), state_dir.map(|dir| dir.join(stored::FILE))].map(|path| stamp(&path?))
}

fn stamp(path: &Path) -> Stamp {
    let status = std::fs::metadata(path).ok()?;
    let changed = i128::from(status.ctime()) * 1_000_000_000 + i128::from(status.ctime_nsec());
    Some((status.dev(), status.ino(), status.len(), changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_link_and_a_choice_are_seen_by_the_next_question() {
        let temp = tempfile::tempdir().unwrap();
        // As the kubelet does it: spec.yaml -> ..data/spec.yaml, ..data -> a directory of a version.
        let write = |version: &str, text: &str| {
            std::fs::create_dir(temp.path().join(version)).unwrap();
            std::fs::write(temp.path().join(version).join("spec.yaml"), text).unwrap();
            std::os::unix::fs::symlink(version, temp.path().join("..tmp")).unwrap();
            std::fs::rename(temp.path().join("..tmp"), temp.path().join("..data")).unwrap();
        };
        write("..1", "disableTelemetry: false\n");
        std::os::unix::fs::symlink("..data/spec.yaml", temp.path().join("spec.yaml")).unwrap();
        let settings = Settings { cluster_spec: Some(temp.path().join("spec.yaml")), ..Settings::default() };
        let mut gate = Gate::new(&settings, Some(temp.path()));
        assert!(gate.grant(Channel::Errors).is_ok());
        write("..2", "disableTelemetry: true\n");
        assert!(gate.grant(Channel::Errors).unwrap_err().by.starts_with("disableTelemetry in "));
        write("..3", "disableTelemetry: false\n");
        assert!(gate.grant(Channel::Errors).is_ok());
        stored::choose(temp.path(), &[(Channel::Errors, false)], "me").unwrap();
        assert!(gate.grant(Channel::Errors).is_err());
        assert!(gate.grant(Channel::Daily).is_ok());
        std::fs::remove_file(temp.path().join("..data")).unwrap();
        assert!(gate.grant(Channel::Daily).unwrap_err().by.ends_with("which cannot be read"));
    }
}
