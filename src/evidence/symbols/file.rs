//! Debug files: found by build id, by `.gnu_debuglink`, by the name that split DWARF gives, or inside the program itself.
//!
//! Names come out of foreign files, so whatever they lead to is looked at before it is opened: only a regular file is, and
//! only one that proves to belong to the program (build id, CRC, DWO id) is used.

#![forbid(unsafe_code)]

use super::Roots;
use super::elf::Elf;
use super::sections::text;
use crate::sys::map;
use crate::sys::regular::{self, Link};
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What a debug file may have at most: a browser's has 5 GiB, and a CRC over more takes seconds.
const FILE_BYTES: u64 = 8 << 30;
/// A checksum is computed over no more; above it only a build id proves a file.
const CRC_BYTES: usize = 1 << 30;
/// Of `.gnu_debugdata`, unpacked: a symbol table. Python's has 1 MiB.
const MINI_BYTES: u64 = 64 << 20;
/// What xz may take for its dictionary. The default of xz(1) takes 8 MiB, `-9` 64 MiB.
const XZ_KIB: u32 = 80 << 10;

/// A file with debug information of another.
pub struct DebugFile {
    pub elf: Elf<'static>,
    pub path: PathBuf,
}

/// The separate debug file of a program. The error is the gap: one was found that is not of this build.
pub fn separate(elf: &Elf<'static>, path: Option<&Path>, roots: &Roots) -> Result<Option<DebugFile>, String> {
    if let Some(found) = elf.build_id().and_then(|id| by_build_id(id, roots)) {
        return Ok(Some(found));
    }
    let Some((name, crc)) = elf.bytes_of(".gnu_debuglink").and_then(debuglink) else { return Ok(None) };
    let Some(directory) = path.and_then(Path::parent) else { return Ok(None) };
    let mut other = None;
    let below = roots.directories().iter().map(|root| root.join(directory.strip_prefix("/").unwrap_or(directory)));
    for place in [directory.to_owned(), directory.join(".debug")].into_iter().chain(below) {
        let path = place.join(name);
        let Some(found) = open(&path) else { continue };
        let same_id = elf.build_id().is_some() && elf.build_id() == found.elf.build_id();
        if same_id || found.elf.bytes.len() <= CRC_BYTES && crc32fast::hash(found.elf.bytes) == crc {
            return Ok(Some(found));
        }
        other = Some(path);
    }
    let gap = |path: PathBuf| format!("debug file: {} is of another build", path.display());
    other.map(gap).map_or(Ok(None), Err)
}

/// `<root>/.build-id/xx/yyyy.debug`
fn by_build_id(id: &[u8], roots: &Roots) -> Option<DebugFile> {
    let (first, rest) = id.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!(".build-id/{first:02x}/{rest}.debug");
    let is_same = |file: &DebugFile| file.elf.build_id().is_none_or(|found| found == id);
    roots.directories().iter().filter_map(|root| open(&root.join(&name))).find(is_same)
}

/// A bare file name, zeros up to a word, and the CRC of the file: see objcopy(1), `--add-gnu-debuglink`.
fn debuglink(section: &[u8]) -> Option<(&OsStr, u32)> {
    let end = section.iter().position(|byte| *byte == 0)?;
    let crc = section.get((end + 4) & !3..)?.first_chunk()?;
    let is_bare = end > 0 && !section[..end].contains(&b'/') && &section[..end] != b"..";
    is_bare.then(|| (OsStr::from_bytes(&section[..end]), u32::from_le_bytes(*crc)))
}

/// What dwz(1) moved out of several files into one: `.gnu_debugaltlink` is a name and a build id.
pub fn shared(of: &Elf<'static>, path: Option<&Path>, roots: &Roots) -> Option<DebugFile> {
    let section = of.bytes_of(".gnu_debugaltlink")?;
    let end = section.iter().position(|byte| *byte == 0)?;
    let (name, id) = (OsStr::from_bytes(&section[..end]), &section[end + 1..]);
    let by_name = || {
        let beside = path?.parent()?.join(name);
        open(&beside).filter(|found| found.elf.build_id() == Some(id))
    };
    by_build_id(id, roots).or_else(by_name)
}

/// The symbol table that Fedora and its kin leave in a stripped program, an ELF file in an xz stream.
pub fn mini(elf: &Elf<'static>, roots: &Roots) -> Option<Elf<'static>> {
    let packed = elf.bytes_of(".gnu_debugdata")?;
    let mut unpacked = Vec::new();
    let reader = lzma_rust2::XzReader::new_mem_limit(packed, false, XZ_KIB);
    reader.take(MINI_BYTES + 1).read_to_end(&mut unpacked).ok()?;
    if unpacked.len() as u64 > MINI_BYTES || !roots.purse().take_bytes(unpacked.len() as u64) {
        return None;
    }
    Elf::parse(unpacked.leak())
}

/// The package of split DWARF, beside the file that refers to it.
pub fn package(of: &Path) -> Option<DebugFile> {
    let mut name = of.as_os_str().to_owned();
    name.push(".dwp");
    open(Path::new(&name))
}

/// One unit of split DWARF by its name: where the compiler put it, beside the program, below a root.
pub fn split_unit(name: &[u8], comp_dir: &[u8], program: Option<&Path>, roots: &Roots) -> Vec<PathBuf> {
    let name = Path::new(OsStr::from_bytes(text(name)));
    let built = Path::new(OsStr::from_bytes(text(comp_dir))).join(name);
    let mut places = Vec::new();
    if built.is_absolute() {
        places.push(built.clone());
        let relative = built.strip_prefix("/").unwrap_or(&built);
        places.extend(roots.directories().iter().map(|root| root.join(relative)));
    }
    if let (Some(directory), Some(bare)) = (program.and_then(Path::parent), name.file_name()) {
        places.extend((name.is_relative()).then(|| directory.join(name)));
        places.push(directory.join(bare));
    }
    places
}

/// Maps an ELF file, if there is a regular file of that name.
pub fn open(path: &Path) -> Option<DebugFile> {
    // Fedora and its kin have links in `.build-id`.
    let file = regular::open(path, Link::Followed).ok()?;
    file.metadata().ok().filter(|found| found.len() <= FILE_BYTES)?;
    let elf = Elf::parse(map::file(&file).ok()?)?;
    Some(DebugFile { elf, path: path.to_owned() })
}
