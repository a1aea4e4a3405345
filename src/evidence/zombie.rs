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
    /// 64 hex digits, when the cgroup's path has them: it is the engine's name of the container.
    pub container_id: Option<String>,
}

/// Never fails: what the text does not say is missing.
pub fn facts(zombie: &Zombie) -> Facts {
    let status = procfs::process::Status::from_read(zombie.status.as_slice()).ok();
    let cgroup = String::from_utf8_lossy(&zombie.cgroup);
    let longest = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).max_by_key(|path| path.len());
    let longest = longest.filter(|path| path.len() > 1 && path.starts_with('/'));
    Facts {
        uid: status.as_ref().map(|status| status.euid),
        gid: status.as_ref().map(|status| status.egid),
        ns_pids: status.and_then(|status| status.nspid).filter(|pids| pids.len() > 1).unwrap_or_default(),
        container_id: longest.and_then(container_id),
        cgroup: longest.map(str::to_owned),
    }
}

/// The last run of exactly 64 hex digits: `/docker/ID`, `cri-containerd-ID.scope`, `libpod-ID`.
pub(super) fn container_id(path: &str) -> Option<String> {
    let mut runs = path.rsplit(|c: char| !c.is_ascii_hexdigit());
    runs.find(|run| run.len() == 64).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_says_nothing_and_harms_nobody() {
        let noise = Zombie { status: vec![0xff; 300], cgroup: b"::\n\xff:a".to_vec(), io: Vec::new() };
        assert_eq!(facts(&noise), Facts::default());
        assert_eq!(facts(&Zombie::default()), Facts::default());
    }

    /// What Linux 6.18 shows of a zombie in a container: no Vm lines.
    #[test]
    fn a_zombie_still_tells_who_it_was() {
        let id = "0123456789abcdef".repeat(4);
        let zombie = Zombie {
            status: include_bytes!("../../fixtures/evidence/zombie-status").to_vec(),
            cgroup: format!("4:memory:/docker/{id}\n1:cpu:/\n0::/\n").into_bytes(),
            io: Vec::new(),
        };
        let facts = facts(&zombie);
        assert_eq!((facts.uid, facts.gid), (Some(65_534), Some(65_534)));
        assert_eq!(facts.ns_pids, [30046, 42]);
        assert_eq!(facts.cgroup, Some(format!("/docker/{id}")));
        assert_eq!(facts.container_id, Some(id));
    }

    #[test]
    fn engines_put_the_id_of_a_container_in_many_places() {
        let id = "fedcba9876543210".repeat(4);
        let paths = [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod12345678.slice/cri-containerd-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
        ];
        for path in paths {
            assert_eq!(container_id(&path).as_ref(), Some(&id), "{path}");
        }
        assert_eq!(container_id("/user.slice/user-1000.slice"), None);
        assert_eq!(container_id(&format!("/x/{id}0")), None);
    }
}
