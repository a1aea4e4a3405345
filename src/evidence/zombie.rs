//! What the files of a zombie's /proc entry say: proc(5), read by init before it reaped, parsed here.

#![forbid(unsafe_code)]

use crate::case::Zombie;
use procfs::FromRead;

/// Who the dead process was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Its pid in each namespace, outermost first, when there is more than one.
    pub ns_pids: Vec<i32>,
    pub cgroup: Option<String>,
}

/// Never fails: what the text does not say is missing.
pub fn facts(zombie: &Zombie) -> Facts {
    let status = procfs::process::Status::from_read(zombie.status.as_slice()).ok();
    let cgroup = String::from_utf8_lossy(&zombie.cgroup);
    let longest = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).max_by_key(|path| path.len());
    Facts {
        uid: status.as_ref().map(|status| status.euid),
        gid: status.as_ref().map(|status| status.egid),
        ns_pids: status.and_then(|status| status.nspid).filter(|pids| pids.len() > 1).unwrap_or_default(),
        cgroup: longest.filter(|path| *path != "/").map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_says_nothing_and_harms_nobody() {
        let noise = Zombie { status: vec![0xff; 300], cgroup: b"::\n\xff:a".to_vec(), io: Vec::new() };
        assert_eq!(facts(&noise).uid, None);
        assert_eq!(facts(&Zombie::default()), Facts::default());
    }
}
