//! A core file (core(5)) as a [`Snapshot`] and its [`Memory`].
//!
//! The kernel writes it in address order and may stop anywhere, somebody else may have written it altogether: whatever it
//! says is bounded and believed no further than it can be checked, and what it lacks is a gap.

#![forbid(unsafe_code)]

mod memory;
mod notes;

pub use memory::CoreMemory;

use super::snapshot::{Arch, Mapping, Permissions, Snapshot, Thread};
use notes::{MappedFile, Notes};
use object::LittleEndian;
use object::elf::{
    EM_AARCH64, EM_X86_64, ET_CORE, FileHeader64, PF_R, PF_W, PF_X, PN_XNUM, PT_LOAD, PT_NOTE, ProgramHeader64,
};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// Mappings of one process: vm.max_map_count is 65530 unless an administrator raised it.
const SEGMENTS: usize = 1 << 18;
/// The kernel and gdb write one.
const NOTE_SEGMENTS: usize = 16;

/// What a core file holds.
#[derive(Debug)]
pub struct Core {
    pub snapshot: Snapshot,
    pub memory: CoreMemory,
}

/// Reads the headers and notes of a core file; memory is read where it is asked for. The error says why it is none.
pub fn read(bytes: &'static [u8]) -> Result<Core, String> {
    let header = FileHeader64::<LittleEndian>::parse(bytes)
        .ok()
        .filter(|header| header.is_little_endian())
        .ok_or("it is no 64-bit little-endian ELF file")?;
    if header.e_type(LittleEndian) != ET_CORE {
        return Err("it is an ELF file, but no core".to_owned());
    }
    let arch = match header.e_machine(LittleEndian) {
        EM_X86_64 => Arch::X86_64,
        EM_AARCH64 => Arch::Aarch64,
        other => return Err(format!("it is of a machine that is not unwound here (e_machine {})", other.0)),
    };
    let (segments, missing) = segments(header, bytes)?;
    let mut gaps: Vec<String> = missing.into_iter().collect();
    let mut notes = Notes::default();
    let (parts, not_read) = note_segments(segments);
    gaps.extend(not_read);
    if parts.iter().any(|part| (available(part, bytes).len() as u64) < part.p_filesz(LittleEndian)) {
        gaps.push("notes of the core: the file ends in the midst of them".to_owned());
    }
    parts.iter().for_each(|part| notes.read(arch, available(part, bytes)));
    gaps.extend(notes.gap.take());
    let loads: Vec<_> = segments.iter().filter(|segment| segment.p_type(LittleEndian) == PT_LOAD).collect();
    let cut = loads.iter().filter(|load| (available(load, bytes).len() as u64) < load.p_filesz(LittleEndian)).count();
    if cut > 0 {
        gaps.push(format!(
            "memory: the core was cut short, {cut} of {} segments are missing or incomplete",
            loads.len()
        ));
    }
    let memory = CoreMemory::new(loads.iter().map(|load| (load.p_vaddr(LittleEndian), available(load, bytes))));
    notes.files.sort_by_key(|file| file.start);
    let mut mappings: Vec<Mapping> =
        loads.iter().map(|load| mapping(load, &notes.files)).filter(|mapping| mapping.start < mapping.end).collect();
    mappings.sort_by_key(|mapping| mapping.start);
    let signal = notes.signal.or(notes.bare_signal());
    // The kernel writes the thread that died first.
    let threads = notes.threads.into_iter().enumerate();
    let threads = threads
        .map(|(i, (tid, registers))| Thread {
            tid,
            name: notes.comm.clone().filter(|_| i == 0),
            registers,
            crashed: i == 0 && signal.is_some(),
        })
        .collect();
    let snapshot =
        Snapshot { arch, pid: notes.pid, comm: notes.comm, threads, mappings, signal, auxv: notes.auxv, gaps };
    Ok(Core { snapshot, memory })
}

type Segments<'d> = (&'d [ProgramHeader64<LittleEndian>], Option<String>);

/// The program headers, as many as there are; the gap says if some are missing.
fn segments<'d>(header: &FileHeader64<LittleEndian>, bytes: &'d [u8]) -> Result<Segments<'d>, String> {
    // With 65535 segments or more the count is in the first section header: elf(5), PN_XNUM.
    let count = match header.e_phnum.get(LittleEndian) {
        PN_XNUM => header.phnum(LittleEndian, bytes).map_or(usize::from(PN_XNUM), |count| count as usize),
        count => usize::from(count),
    };
    let size = size_of::<ProgramHeader64<LittleEndian>>();
    let start = usize::try_from(header.e_phoff(LittleEndian)).ok().filter(|start| *start >= size_of_val(header));
    let table = start.and_then(|start| bytes.get(start..)).ok_or("it ends before its program headers")?;
    if usize::from(header.e_phentsize(LittleEndian)) != size {
        return Err("its program headers have an unknown size".to_owned());
    }
    let readable = count.min(table.len() / size).min(SEGMENTS);
    let (segments, _) = object::pod::slice_from_bytes(table, readable).map_err(|()| "its headers are not aligned")?;
    let missing = (readable < count).then(|| format!("memory: {} program headers are missing", count - readable));
    Ok((segments, missing))
}

/// The headers of notes that are read; the gap says if others are not. Each byte is read once, whatever the headers say: a
/// hundred thousand of them that name the same megabytes would take hours.
fn note_segments(segments: &[ProgramHeader64<LittleEndian>]) -> (Vec<&ProgramHeader64<LittleEndian>>, Option<String>) {
    let all = || segments.iter().filter(|segment| segment.p_type(LittleEndian) == PT_NOTE);
    let mut read: Vec<&ProgramHeader64<LittleEndian>> = Vec::new();
    for segment in all() {
        let (start, size) = segment.file_range(LittleEndian);
        let is_apart = |other: &&ProgramHeader64<LittleEndian>| {
            let (other, others) = other.file_range(LittleEndian);
            start.saturating_add(size) <= other || other.saturating_add(others) <= start
        };
        if read.len() < NOTE_SEGMENTS && read.iter().all(is_apart) {
            read.push(segment);
        }
    }
    let left = all().count() - read.len();
    let gap = || format!("notes of the core: {left} headers name bytes that others name, or are too many");
    let gap = (left > 0).then(gap);
    (read, gap)
}

/// What the file really has of a segment.
fn available(segment: &ProgramHeader64<LittleEndian>, bytes: &'static [u8]) -> &'static [u8] {
    let (offset, size) = segment.file_range(LittleEndian);
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
    &rest[..rest.len().min(usize::try_from(size).unwrap_or(usize::MAX))]
}

/// `files` by address.
fn mapping(load: &ProgramHeader64<LittleEndian>, files: &[MappedFile]) -> Mapping {
    let start = load.p_vaddr(LittleEndian);
    let end = start.saturating_add(load.p_memsz(LittleEndian));
    let flags = load.p_flags(LittleEndian);
    let after = files.partition_point(|file| file.start <= start);
    let file = files[..after].last().filter(|file| start < file.end);
    Mapping {
        start,
        end,
        offset: file.map_or(0, |file| file.offset.saturating_add(start - file.start)),
        permissions: Permissions {
            read: flags.contains(PF_R),
            write: flags.contains(PF_W),
            execute: flags.contains(PF_X),
        },
        path: file.map(|file| file.path.clone()),
        deleted: file.is_some_and(|file| file.deleted),
        file: None,
    }
}

#[cfg(test)]
mod tests;
