//! A process that stands still to be looked at, as a [`Snapshot`] and its [`Memory`]: what init took of it and what /proc has.

#![forbid(unsafe_code)]

use super::memory::Memory;
use super::snapshot::{Arch, Mapping, Permissions, Registers, SignalInfo, Snapshot, Thread};
use nix::sys::uio;
use procfs::FromBufRead as _;
use procfs::process::{MMPermissions, MMapPath, MemoryMaps};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

/// Of /proc/PID/maps: 65,530 mappings of a hundred bytes.
const MAPS_BYTES: u64 = 16 << 20;
/// Of /proc/PID/auxv.
const AUXV_BYTES: u64 = 4096;
/// How the kernel marks a file that is gone.
const DELETED: &str = " (deleted)";

/// What init took.
pub struct Taken<'a> {
    pub pid: i32,
    pub tid: i32,
    pub siginfo: &'a [u8],
    pub registers: &'a [(i32, Vec<u8>)],
    pub maps: &'a File,
    pub auxv: &'a File,
}

/// Memory by /proc/PID/mem, opened while the process was ours to trace.
pub struct LiveMemory(pub File);

impl Memory for LiveMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let at = address.checked_add(done as u64).and_then(|at| i64::try_from(at).ok());
            let Some(at) = at else { break };
            match uio::pread(&self.0, &mut into[done..], at) {
                Ok(n) if n > 0 => done += n,
                Err(nix::errno::Errno::EINTR) => {}
                _ => break,
            }
        }
        done
    }
}

/// Everything but the memory. An error where no unwinder is for this machine or the mappings cannot be read.
pub fn snapshot(taken: &Taken<'_>) -> Result<Snapshot, String> {
    let arch = Arch::OWN.ok_or("stacks: this architecture is not unwound")?;
    let mut gaps = Vec::new();
    let maps = MemoryMaps::from_buf_read(BufReader::new(taken.maps.take(MAPS_BYTES)));
    let maps = maps.map_err(|error| format!("stacks: the mappings cannot be read ({error})"))?;
    let mut auxv = Vec::new();
    if taken.auxv.take(AUXV_BYTES).read_to_end(&mut auxv).is_err() {
        gaps.push("auxiliary vector: it cannot be read".to_owned());
    }
    let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    let threads = taken.registers.iter().filter_map(|(tid, registers)| {
        Some(Thread {
            tid: *tid,
            name: comm(taken.pid, *tid),
            registers: Registers::from_bytes(arch, registers)?,
            crashed: *tid == taken.tid,
        })
    });
    Ok(Snapshot {
        arch,
        pid: Some(taken.pid),
        comm: comm(taken.pid, taken.pid),
        threads: threads.collect(),
        mappings: maps.0.into_iter().map(mapping).collect(),
        signal: SignalInfo::from_bytes(taken.siginfo),
        auxv: auxv.chunks_exact(16).map(|pair| (word(&pair[..8]), word(&pair[8..]))).collect(),
        gaps,
    })
}

fn comm(pid: i32, tid: i32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

fn mapping(map: procfs::process::MemoryMap) -> Mapping {
    let path = match map.pathname {
        MMapPath::Path(path) => Some(path),
        _ => None,
    };
    let whole = path.as_ref().and_then(|path| path.to_str()).and_then(|path| path.strip_suffix(DELETED));
    let deleted = whole.is_some();
    let has = |permission| map.perms.contains(permission);
    Mapping {
        start: map.address.0,
        end: map.address.1,
        offset: map.offset,
        permissions: Permissions {
            read: has(MMPermissions::READ),
            write: has(MMPermissions::WRITE),
            execute: has(MMPermissions::EXECUTE),
        },
        path: whole.map(Path::new).or(path.as_deref()).map(Arc::from),
        deleted,
        file: (map.inode != 0).then(|| (makedev(map.dev), map.inode)),
    }
}

/// Major and minor number as one, as stat(2) has them.
fn makedev((major, minor): (i32, i32)) -> u64 {
    libc::makedev(major.unsigned_abs(), minor.unsigned_abs())
}
