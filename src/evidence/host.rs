//! The machine as the container sees it: uname(2), /proc, os-release(5).
//!
//! Reading and parsing are two steps, so that the parsing happens where it can do no harm.

#![forbid(unsafe_code)]

use procfs::FromRead;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// The machine as the container sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub arch: String,
    pub kernel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_available_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_unix_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// 64 hex digits, when the cgroup path or mountinfo names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// What core(5) would do here: the text of /proc/sys/kernel/core_pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core_pattern: Option<String>,
}

/// The texts that [`Sources::facts`] is made of; empty where there is none.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    name: String,
    arch: String,
    kernel: String,
    cpus: Option<u32>,
    os_release: Vec<u8>,
    meminfo: Vec<u8>,
    stat: Vec<u8>,
    boot_id: Vec<u8>,
    mountinfo: Vec<u8>,
    core_pattern: Vec<u8>,
}

/// /proc/stat has a line for each CPU and mountinfo one for each mount; what is larger is not looked at.
const TEXT_BYTES: u64 = 256 * 1024;

impl Sources {
    /// A dozen system calls.
    pub fn read() -> Sources {
        let uname = nix::sys::utsname::uname().ok();
        let text = |field: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            uname.as_ref().map(|uname| field(uname).to_string_lossy().into_owned()).unwrap_or_default()
        };
        Sources {
            name: text(|uname| uname.nodename()),
            arch: text(|uname| uname.machine()),
            kernel: text(|uname| uname.release()),
            cpus: std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok()),
            os_release: bounded("/etc/os-release"),
            meminfo: bounded("/proc/meminfo"),
            stat: bounded("/proc/stat"),
            boot_id: bounded("/proc/sys/kernel/random/boot_id"),
            mountinfo: bounded("/proc/self/mountinfo"),
            core_pattern: bounded("/proc/sys/kernel/core_pattern"),
        }
    }

    /// Whatever can be had; what cannot stays `None`.
    pub fn facts(self) -> Host {
        let memory = procfs::Meminfo::from_read(self.meminfo.as_slice()).ok();
        let line = |text: &[u8]| Some(String::from_utf8_lossy(text).trim().to_owned()).filter(|text| !text.is_empty());
        let release = String::from_utf8_lossy(&self.os_release);
        Host {
            name: self.name,
            arch: self.arch,
            kernel: self.kernel,
            os_name: os_release(&release, "NAME"),
            os_version: os_release(&release, "VERSION_ID"),
            memory_bytes: memory.as_ref().map(|memory| memory.mem_total),
            memory_available_bytes: memory.as_ref().and_then(|memory| memory.mem_available),
            cpus: self.cpus,
            boot_unix_ms: boot_unix_ms(&self.stat),
            boot_id: line(&self.boot_id),
            container_id: container_id(&String::from_utf8_lossy(&self.mountinfo)),
            core_pattern: line(&self.core_pattern),
        }
    }
}

/// The file's beginning; nothing when it cannot be read. A FIFO in an image's /etc does not hold us.
fn bounded(path: &str) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path) {
        let _ = file.take(TEXT_BYTES).read_to_end(&mut text);
    }
    text
}

/// The line `btime SECONDS` of /proc/stat.
fn boot_unix_ms(stat: &[u8]) -> Option<u64> {
    let seconds = stat.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"btime "))?;
    std::str::from_utf8(seconds).ok()?.trim().parse::<u64>().ok()?.checked_mul(1000)
}

/// `KEY=value` or `KEY="value"`.
fn os_release(text: &str, key: &str) -> Option<String> {
    const VALUE_CHARS: usize = 100;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let value: String = value.trim().trim_matches(['"', '\'']).chars().take(VALUE_CHARS).collect();
    Some(value).filter(|value| !value.is_empty())
}

/// Docker and podman mount the container's files from a directory with its name. containerd's sandboxes are of the pod.
fn container_id(mountinfo: &str) -> Option<String> {
    let after = mountinfo.split("containers/").skip(1);
    after.filter_map(|rest| super::zombie::container_id(rest.split(['/', ' ']).next()?)).next()
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
        for dir in ["/var/lib/docker/containers", "/var/lib/containers/storage/overlay-containers"] {
            let mountinfo = format!("1 2 0:1 / / rw - x\n3 4 8:1 {dir}/{id}/hosts /etc/hosts rw - ext4\n");
            assert_eq!(container_id(&mountinfo).as_ref(), Some(&id));
        }
        assert_eq!(container_id("1 2 0:1 / / rw - overlay"), None);
    }

    #[test]
    fn this_machine_has_a_kernel_and_an_architecture() {
        let host = Sources::read().facts();
        assert!(!host.kernel.is_empty() && !host.arch.is_empty());
        assert!(host.memory_bytes > Some(1 << 20) && host.boot_unix_ms > Some(1_500_000_000_000), "{host:?}");
    }

    #[test]
    fn a_machine_that_shows_nothing_and_one_that_shows_noise_leave_gaps_and_no_zeros() {
        let nothing = Sources::default().facts();
        assert_eq!(nothing, Host::default());
        let noise = vec![0xff; 4096];
        let sources = Sources { meminfo: noise.clone(), stat: noise.clone(), os_release: noise, ..Sources::default() };
        assert_eq!(sources.facts(), Host::default());
    }
}
