//! The notes of a core file: threads, siginfo, auxiliary vector, mapped files. Layouts: linux/elfcore.h, of 64-bit machines.

#![forbid(unsafe_code)]

use crate::evidence::snapshot::{Arch, Registers, SignalInfo};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;

/// kernel.threads-max of a machine with terabytes.
const THREADS: usize = 1 << 17;
/// An auxiliary vector has about twenty entries.
const AUXV: usize = 256;
/// vm.max_map_count, raised generously.
const FILES: usize = 1 << 18;
/// PATH_MAX of limits.h: nothing is opened by a longer one.
const PATH_BYTES: usize = 4096;
/// How the kernel ends the path of a file that was unlinked while it was mapped.
const DELETED: &[u8] = b" (deleted)";

/// A line of NT_FILE.
#[derive(Debug)]
pub struct MappedFile {
    pub start: u64,
    pub end: u64,
    /// In bytes.
    pub offset: u64,
    pub path: Arc<Path>,
    pub deleted: bool,
}

/// What the notes say.
#[derive(Debug, Default)]
pub struct Notes {
    pub pid: Option<i32>,
    pub comm: Option<String>,
    /// In the order of the file.
    pub threads: Vec<(i32, Registers)>,
    pub signal: Option<SignalInfo>,
    pub auxv: Vec<(u64, u64)>,
    /// By address, as the kernel writes them.
    pub files: Vec<MappedFile>,
    /// What could not be read, `what: why`.
    pub gap: Option<String>,
    /// `pr_cursig` of the first thread.
    cursig: Option<i32>,
}

impl Notes {
    /// Takes in the notes of one segment, as far as they can be read.
    pub fn read(&mut self, arch: Arch, mut bytes: &[u8]) {
        while let Some((kind, desc, rest)) = note(bytes) {
            match kind {
                NT_PRSTATUS => self.thread(arch, desc),
                NT_PRPSINFO => self.process(desc),
                NT_AUXV => self.auxv = auxv(desc),
                // The first one is that of the thread that died.
                NT_SIGINFO if self.signal.is_none() => {
                    self.signal = SignalInfo::from_bytes(desc).filter(|signal| signal.number > 0);
                }
                NT_FILE => match files(desc) {
                    Some(files) => self.files = files,
                    None => self.gap = Some("mapped files: the note of the core cannot be read".to_owned()),
                },
                _ => {}
            }
            bytes = rest;
        }
    }

    /// `struct elf_prstatus`: `pr_cursig` at 12, `pr_pid` at 32, `pr_reg` at 112.
    fn thread(&mut self, arch: Arch, desc: &[u8]) {
        if self.threads.len() >= THREADS {
            return;
        }
        let registers = desc.get(112..).and_then(|bytes| Registers::from_bytes(arch, bytes));
        if let (Some(tid), Some(registers)) = (int(desc, 32), registers) {
            if self.threads.is_empty() {
                self.cursig = desc.get(12..14).map(|two| i32::from(i16::from_le_bytes([two[0], two[1]])));
            }
            self.threads.push((tid, registers));
        }
    }

    /// `struct elf_prpsinfo`: `pr_pid` at 24, `pr_fname` at 40.
    fn process(&mut self, desc: &[u8]) {
        self.pid = int(desc, 24);
        let name = desc.get(40..56).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        self.comm = Some(String::from_utf8_lossy(name).into_owned()).filter(|name| !name.is_empty());
    }

    /// The signal without its siginfo, which older kernels and other writers of cores leave out.
    pub fn bare_signal(&self) -> Option<SignalInfo> {
        let number = self.cursig.filter(|number| *number > 0)?;
        Some(SignalInfo { number, code: 0, fault_address: None, sender_pid: None, sender_uid: None })
    }
}

/// Type and content of the next note, and what follows it.
fn note(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let word = |at: usize| int(bytes, at).map(|word| word as u32);
    let (name_size, desc_size, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
    // Both are padded to 4 bytes.
    let desc_start = 12usize.checked_add(name_size)?.checked_next_multiple_of(4)?;
    let desc_end = desc_start.checked_add(desc_size)?;
    let desc = bytes.get(desc_start..desc_end)?;
    let rest = bytes.get(desc_end.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some((kind, desc, rest))
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn auxv(desc: &[u8]) -> Vec<(u64, u64)> {
    let entries = (0..AUXV).map_while(|i| Some((long(desc, i * 16)?, long(desc, i * 16 + 8)?)));
    entries.take_while(|(kind, _)| *kind != 0).collect()
}

/// `count`, `page_size`, then start, end and offset in pages of each, then their names, each ended by a NUL.
fn files(desc: &[u8]) -> Option<Vec<MappedFile>> {
    let (count, page) = (usize::try_from(long(desc, 0)?).ok()?, long(desc, 8)?);
    if count > FILES {
        return None;
    }
    let names = desc.get(count.checked_mul(24)?.checked_add(16)?..)?;
    let mut names = names.split(|byte| *byte == 0);
    let mut files = Vec::new();
    for i in 0..count {
        let at = 16 + i * 24;
        let name = names.next()?;
        let (path, deleted) = match name.strip_suffix(DELETED) {
            Some(path) => (path, true),
            None => (name, false),
        };
        if path.len() > PATH_BYTES {
            continue;
        }
        files.push(MappedFile {
            start: long(desc, at)?,
            end: long(desc, at + 8)?,
            offset: long(desc, at + 16)?.saturating_mul(page),
            path: Path::new(OsStr::from_bytes(path)).into(),
            deleted,
        });
    }
    Some(files)
}
