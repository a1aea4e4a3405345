//! The machine as the container sees it: uname(2), /proc, os-release(5).

#![forbid(unsafe_code)]

use crate::report::Host;
use procfs::{Current, CurrentSI};

/// Whatever can be had; what cannot stays `None`.
pub fn facts() -> Host {
    let uname = nix::sys::utsname::uname().ok();
    let text = |field: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uname.as_ref().map(|uname| field(uname).to_string_lossy().into_owned()).unwrap_or_default()
    };
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let memory = procfs::Meminfo::current().ok();
    let one_line = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    Host {
        name: text(|uname| uname.nodename()),
        arch: text(|uname| uname.machine()),
        kernel: text(|uname| uname.release()),
        os_name: os_release(&release, "NAME"),
        os_version: os_release(&release, "VERSION_ID"),
        memory_bytes: memory.as_ref().map(|memory| memory.mem_total),
        memory_available_bytes: memory.as_ref().and_then(|memory| memory.mem_available),
        cpus: std::thread::available_parallelism().ok().map(|n| n.get() as u32),
        boot_unix_ms: procfs::KernelStats::current().ok().map(|stats| stats.btime * 1000),
        boot_id: one_line("/proc/sys/kernel/random/boot_id"),
        container_id: std::fs::read_to_string("/proc/self/mountinfo").ok().and_then(|text| container_id(&text)),
        core_pattern: one_line("/proc/sys/kernel/core_pattern"),
    }
}

/// `KEY=value` or `KEY="value"`.
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
}

/// The first run of 64 hex digits: engines mount their files from a directory of that name.
fn container_id(mountinfo: &str) -> Option<String> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines = mountinfo.lines().filter(|line| line.contains("/containers/") || line.contains("/sandboxes/"));
    lines.flat_map(|line| line.split(['/', ' '])).find(is_id).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_and_container_id_are_found() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n";
        assert_eq!(os_release(text, "NAME").as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(os_release(text, "ID"), None);
        let id = "ab".repeat(32);
        let mountinfo =
            format!("1 2 0:1 / / rw - x\n3 4 8:1 /var/lib/docker/containers/{id}/hosts /etc/hosts rw - ext4\n");
        assert_eq!(container_id(&mountinfo), Some(id));
        assert_eq!(container_id("1 2 0:1 / / rw - overlay"), None);
    }

    #[test]
    fn this_machine_has_a_kernel_and_an_architecture() {
        let host = facts();
        assert!(!host.kernel.is_empty() && !host.arch.is_empty());
    }
}
