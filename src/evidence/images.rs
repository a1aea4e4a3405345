//! The ELF files of a process as they are loaded: which file is where, by what its addresses are shifted, which build it is.
//!
//! A file counts if it is still the one that was mapped. If it was deleted or replaced, or there is none (the vdso), its image is
//! put together out of the process's own memory: code and unwind tables are there, symbols mostly not.

#![forbid(unsafe_code)]

use super::memory::Memory;
use super::snapshot::{Mapping, Snapshot};
use super::symbols::elf::Elf;
use crate::sys::map;
use crate::sys::regular::{self, Link};
use object::LittleEndian;
use object::elf::{PT_LOAD, ProgramHeader64};
use object::read::elf::ProgramHeader as _;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// getauxval(3).
const AT_PHDR: u64 = 3;
const AT_ENTRY: u64 = 9;
const AT_SYSINFO_EHDR: u64 = 33;
/// The code that the kernel lends to every process: vdso(7).
const VDSO: &str = "linux-vdso.so.1";
const PAGE: u64 = 4096;
/// An ELF header and the program headers behind it.
const HEAD_BYTES: usize = 4096;
/// Of an image out of memory; code and unwind tables of the largest libraries.
const IMAGE_BYTES: usize = 64 << 20;
/// Of all of them together.
const ALL_IMAGE_BYTES: usize = 256 << 20;
/// Files that one process maps.
const IMAGES: usize = 4096;

/// One loaded ELF file.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// `None` for what has no file.
    pub path: Option<PathBuf>,
    /// The path, or `linux-vdso.so.1`.
    pub name: String,
    pub range: Range<u64>,
    /// What an address of the file's own is less than the same in the process.
    pub bias: u64,
    /// The ELF file, or what of it was in memory; `None` where there was neither.
    pub bytes: Option<&'static [u8]>,
    pub build_id: Option<Vec<u8>>,
    /// It holds the entry point of the program.
    pub is_program: bool,
}

impl LoadedImage {
    /// An address of the process in the file's own terms.
    pub fn svma(&self, address: u64) -> u64 {
        address.wrapping_sub(self.bias)
    }
}

/// The image that holds the address, of images by address.
pub fn at(images: &[LoadedImage], address: u64) -> Option<&LoadedImage> {
    let after = images.partition_point(|image| image.range.start <= address);
    images[..after].last().filter(|image| address < image.range.end)
}

/// How files are had: opened before a cage closed, or by their paths.
#[derive(Debug, Default)]
pub struct Files {
    by_path: bool,
    /// In place of the program's own file.
    program: Option<PathBuf>,
    /// Bytes and inode of each that was looked for.
    mapped: RefCell<HashMap<PathBuf, Option<Mapped>>>,
}

type Mapped = (&'static [u8], u64);

impl Files {
    /// Maps each file that code of the process came from.
    pub fn opened(mappings: &[Mapping]) -> Files {
        let mut mapped = HashMap::new();
        let code = mappings.iter().filter(|mapping| mapping.permissions.execute && !mapping.deleted);
        for path in code.filter_map(|mapping| mapping.path.as_deref()) {
            if mapped.len() < IMAGES && !mapped.contains_key(path) {
                mapped.insert(path.to_owned(), map_file(path, Link::Refused));
            }
        }
        Files { mapped: RefCell::new(mapped), ..Files::default() }
    }

    /// For a person's command: whatever lies at the paths, `program` in place of the program's own.
    pub fn by_path(program: Option<PathBuf>) -> Files {
        Files { by_path: true, program, ..Files::default() }
    }

    /// The files that were mapped.
    pub fn paths(&self) -> Vec<PathBuf> {
        let mapped = self.mapped.borrow();
        mapped.iter().filter(|(_, found)| found.is_some()).map(|(path, _)| path.clone()).collect()
    }

    /// What they take, in bytes.
    pub fn bytes(&self) -> u64 {
        self.mapped.borrow().values().flatten().map(|(bytes, _)| bytes.len() as u64).sum()
    }

    fn file(&self, path: &Path) -> Option<Mapped> {
        if let Some(known) = self.mapped.borrow().get(path) {
            return *known;
        }
        let link = if self.program.as_deref() == Some(path) { Link::Followed } else { Link::Refused };
        let found = if self.by_path { map_file(path, link) } else { None };
        self.mapped.borrow_mut().insert(path.to_owned(), found);
        found
    }
}

fn map_file(path: &Path, link: Link) -> Option<Mapped> {
    let file = regular::open(path, link).ok()?;
    Some((map::file(&file).ok()?, file.metadata().ok()?.ino()))
}

/// The memory of a process with what a core leaves out of it: the pages of files that nobody wrote to, which are in the files.
pub struct WithFiles<'a, M> {
    pub memory: &'a M,
    pub mappings: &'a [Mapping],
    pub images: &'a [LoadedImage],
}

impl<M: Memory> WithFiles<'_, M> {
    /// What the file has from there to the end of the mapping.
    fn in_file(&self, address: u64) -> Option<&'static [u8]> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings[..after].last().filter(|mapping| address < mapping.end)?;
        if mapping.permissions.write || mapping.path.is_none() {
            return None;
        }
        let image = at(self.images, address).filter(|image| image.path.is_some())?;
        let offset = usize::try_from(mapping.offset.checked_add(address - mapping.start)?).ok()?;
        let rest = image.bytes?.get(offset..)?;
        Some(&rest[..rest.len().min(usize::try_from(mapping.end - address).unwrap_or(usize::MAX))])
    }
}

impl<M: Memory> Memory for WithFiles<'_, M> {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let mut n = self.memory.read(at, &mut into[done..]);
            if n == 0 {
                let bytes = self.in_file(at).unwrap_or_default();
                n = bytes.len().min(into.len() - done);
                into[done..done + n].copy_from_slice(&bytes[..n]);
            }
            if n == 0 {
                break;
            }
            done += n;
        }
        done
    }

    fn is_at_hand(&self) -> bool {
        self.memory.is_at_hand()
    }
}

/// The images of a process, by address, and what could not be had of them, `what: why`.
pub fn loaded(snapshot: &Snapshot, memory: &impl Memory, files: &Files) -> (Vec<LoadedImage>, Vec<String>) {
    let entry = snapshot.aux(AT_PHDR).or(snapshot.aux(AT_ENTRY));
    let mut gaps = Vec::new();
    let mut left = ALL_IMAGE_BYTES;
    let mut images: Vec<LoadedImage> = runs(&snapshot.mappings)
        .filter(|run| run.iter().any(|mapping| mapping.permissions.execute))
        .take(IMAGES)
        .filter_map(|run| image(run, entry, memory, files, &mut left, &mut gaps))
        .collect();
    if let Some(start) = snapshot.aux(AT_SYSINFO_EHDR)
        && let Some(vdso) = vdso(start, snapshot, memory, &mut left)
    {
        images.push(vdso);
    }
    images.sort_by_key(|image| image.range.start);
    (images, gaps)
}

/// Mappings of one file that follow each other, each run beginning where the file does. One file may be loaded twice, and
/// others may lie between the two.
fn runs(mappings: &[Mapping]) -> impl Iterator<Item = &[Mapping]> {
    let mut rest = mappings;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|mapping| mapping.path.is_some())?;
        rest = &rest[start..];
        let path = rest[0].path.as_deref().map(Path::as_os_str);
        // The zeroed end of a data segment is anonymous memory behind the run; no code is there.
        let belongs = |(i, mapping): (usize, &Mapping)| match &mapping.path {
            Some(found) => Some(found.as_os_str()) == path && (i == 0 || mapping.offset > 0),
            None => false,
        };
        let len = rest.iter().enumerate().take_while(|next| belongs(*next)).count();
        let (run, behind) = rest.split_at(len.max(1));
        rest = behind;
        Some(run)
    })
}

fn image(
    run: &[Mapping],
    entry: Option<u64>,
    memory: &impl Memory,
    files: &Files,
    left: &mut usize,
    gaps: &mut Vec<String>,
) -> Option<LoadedImage> {
    let (first, last) = (run.first()?, run.last()?);
    let mapped = first.path.as_deref()?;
    let range = first.start..last.end;
    let is_program = entry.is_some_and(|entry| range.contains(&entry));
    let path = files.program.as_deref().filter(|_| is_program).unwrap_or(mapped);
    let name = mapped.display().to_string();
    let in_memory = head(first.start, memory).filter(|_| first.offset == 0);
    let remembered = in_memory.as_deref().and_then(|head| build_id_in_memory(head, first.start, memory));
    let found = files.file(path).filter(|_| !first.deleted || path != mapped);
    let file = found.and_then(|(bytes, inode)| {
        let elf = Elf::parse(bytes)?;
        let same = match (&remembered, elf.build_id()) {
            (Some(mapped), Some(found)) => mapped == found,
            // Not the device: an overlay's files are mapped under another than stat(2) tells.
            _ => first.file.is_none_or(|(_, mapped)| mapped == inode),
        };
        if same && first.file.is_none() && remembered.is_none() && elf.build_id().is_some() {
            gaps.push(format!("build of {name}: nothing in memory says whether the file is the one that was loaded"));
        }
        if !same {
            gaps.push(format!("symbols of {name}: the file was replaced while it was loaded"));
        }
        same.then_some((elf, bytes))
    });
    let code = run.iter().find(|mapping| mapping.permissions.execute)?;
    if let Some((elf, bytes)) = file {
        let bias = bias(elf.segments(), code)?;
        let build_id = elf.build_id().map(<[u8]>::to_vec);
        return Some(LoadedImage {
            path: Some(path.to_owned()),
            name,
            range,
            bias,
            bytes: Some(bytes),
            build_id,
            is_program,
        });
    }
    let rebuilt = match in_memory.and_then(|head| rebuilt(&head, &range, memory, left)) {
        Some(Rebuilt { bytes, is_whole: true }) => Some(bytes),
        Some(Rebuilt { bytes, is_whole: false }) => {
            gaps.push(format!("unwind tables of {name}: the file is not there, and not all of its memory can be read"));
            Some(bytes)
        }
        None => {
            gaps.push(format!("unwind tables of {name}: neither the file nor its memory can be read"));
            None
        }
    };
    let bias = rebuilt.and_then(Elf::parse).and_then(|elf| bias(elf.segments(), code)).unwrap_or(first.start);
    Some(LoadedImage {
        path: Some(path.to_owned()),
        name,
        range,
        bias,
        bytes: rebuilt,
        build_id: remembered,
        is_program,
    })
}

/// By what the segment that this mapping is of was shifted.
fn bias(segments: &[ProgramHeader64<LittleEndian>], mapping: &Mapping) -> Option<u64> {
    let page = |n: u64| n & !(PAGE - 1);
    let loads = segments.iter().filter(|segment| segment.p_type(LittleEndian) == PT_LOAD);
    loads
        .filter(|load| {
            let (offset, size) = load.file_range(LittleEndian);
            page(offset) <= mapping.offset && mapping.offset < offset.saturating_add(size.max(1))
        })
        .max_by_key(|load| load.p_flags(LittleEndian).contains(object::elf::PF_X) == mapping.permissions.execute)
        .map(|load| {
            let in_segment = mapping.offset.wrapping_sub(load.p_offset(LittleEndian));
            mapping.start.wrapping_sub(load.p_vaddr(LittleEndian).wrapping_add(in_segment))
        })
}

fn vdso(start: u64, snapshot: &Snapshot, memory: &impl Memory, left: &mut usize) -> Option<LoadedImage> {
    let mapping = snapshot.mapping(start)?;
    let Rebuilt { bytes, .. } = rebuilt(&head(start, memory)?, &(start..mapping.end), memory, left)?;
    let build_id = Elf::parse(bytes)?.build_id().map(<[u8]>::to_vec);
    Some(LoadedImage {
        path: None,
        name: VDSO.to_owned(),
        range: start..mapping.end,
        bias: start,
        bytes: Some(bytes),
        build_id,
        is_program: false,
    })
}

/// The beginning of an ELF image in memory.
fn head(start: u64, memory: &impl Memory) -> Option<Vec<u8>> {
    let head = memory.some(start, HEAD_BYTES);
    head.starts_with(b"\x7fELF").then_some(head)
}

fn build_id_in_memory(head: &[u8], start: u64, memory: &impl Memory) -> Option<Vec<u8>> {
    let elf = Elf::parse(head)?;
    if let Some(id) = elf.build_id() {
        return Some(id.to_vec());
    }
    // Behind the head: the notes stand where their segment is loaded.
    elf.segments().iter().filter(|segment| segment.p_type(LittleEndian) == object::elf::PT_NOTE).find_map(|segment| {
        let (offset, size) = segment.file_range(LittleEndian);
        let size = usize::try_from(size).ok().filter(|size| *size <= HEAD_BYTES)?;
        let notes = memory.some(start.checked_add(offset)?, size);
        Elf::build_id_in(&notes).map(<[u8]>::to_vec)
    })
}

/// A file out of memory.
struct Rebuilt {
    bytes: &'static [u8],
    /// A core leaves out what nobody wrote to, and then those pages are zeros.
    is_whole: bool,
}

/// The file as far as its loaded segments go. It stays for as long as the process, as a mapped one does, and is no larger than what
/// it was loaded to; `left` is what may still be taken for all of them. Nothing is read before it is known that all fits.
fn rebuilt(head: &[u8], range: &Range<u64>, memory: &impl Memory, left: &mut usize) -> Option<Rebuilt> {
    let start = range.start;
    let most = usize::try_from(range.end - start).unwrap_or(usize::MAX).min(IMAGE_BYTES).min(*left);
    let elf = Elf::parse(head)?;
    let first = elf.loads().map(|load| load.p_vaddr(LittleEndian)).min()?;
    let part = |load: &ProgramHeader64<LittleEndian>| {
        let (offset, size) = load.file_range(LittleEndian);
        let end = usize::try_from(offset.checked_add(size)?).ok().filter(|end| *end <= most)?;
        let address = start.wrapping_add(load.p_vaddr(LittleEndian).wrapping_sub(first & !(PAGE - 1)));
        Some((address, usize::try_from(offset).ok()?..end))
    };
    let parts: Vec<(u64, Range<usize>)> = elf.loads().map(part).collect::<Option<_>>()?;
    // Segments may lie on each other, and each is read.
    let size = parts.iter().map(|(_, part)| part.end).max()?;
    let work = parts.iter().map(|(_, part)| part.len()).sum::<usize>().max(size);
    *left = left.checked_sub(work)?;
    let mut image = vec![0; size];
    let mut is_whole = true;
    for (address, part) in parts {
        is_whole &= memory.read(address, &mut image[part.clone()]) == part.len();
    }
    image.starts_with(b"\x7fELF").then(|| Rebuilt { bytes: image.leak(), is_whole })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Everything reads as zeros, but for the head.
    struct Counting {
        head: Vec<u8>,
        bytes: Cell<usize>,
    }

    impl Memory for Counting {
        fn read(&self, address: u64, into: &mut [u8]) -> usize {
            self.bytes.set(self.bytes.get() + into.len());
            into.fill(0);
            let n = into.len().min(self.head.len());
            if address == 0x1000 {
                into[..n].copy_from_slice(&self.head[..n]);
            }
            into.len()
        }
    }

    /// An ELF header and segments, by their offset and size in the file.
    fn head(loads: &[(u64, u64)]) -> Vec<u8> {
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        head.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        head.extend([0u64, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
        head.extend([0, 0, 0, 0, 64, 0, 56, 0, loads.len() as u8, 0, 64, 0, 0, 0, 0, 0]);
        for (offset, size) in loads {
            head.extend([1u32, 5].iter().flat_map(|n| n.to_le_bytes()));
            head.extend([*offset, *offset, *offset, *size, *size, 4096].iter().flat_map(|n| n.to_le_bytes()));
        }
        head
    }

    #[test]
    fn an_image_costs_what_was_set_aside_for_it_whether_it_comes_to_be_or_not() {
        const MIB: u64 = 1 << 20;
        let all = 10 * MIB as usize;
        type Row = (&'static [(u64, u64)], Option<u64>, u64);
        let table: [Row; 5] = [
            (&[(0, MIB), (MIB, MIB)], Some(2 * MIB), 2 * MIB),
            // A later segment that cannot be: nothing is read for those before it.
            (&[(0, 8 * MIB), (MIB, 99 * MIB)], None, 0),
            (&[(0, 8 * MIB), (u64::MAX, 2)], None, 0),
            // Segments that lie on each other cost what they are read for.
            (&[(0, 4 * MIB), (0, 4 * MIB), (0, 4 * MIB)], None, 0),
            (&[], None, 0),
        ];
        for (loads, size, cost) in table {
            let memory = Counting { head: head(loads), bytes: Cell::new(0) };
            let mut left = all;
            let image = rebuilt(&memory.head, &(0x1000..0x1000 + 32 * MIB), &memory, &mut left);
            assert_eq!(image.map(|image| image.bytes.len() as u64), size, "{loads:x?}");
            assert_eq!((memory.bytes.get() as u64, (all - left) as u64), (cost, cost), "{loads:x?}");
        }
    }
}
