//! Sections of debug information, unpacked.

#![forbid(unsafe_code)]

use super::bounded::{Bounded, Purse};
use super::elf::Elf;
use gimli::SectionId;
use object::read::CompressionFormat;
use std::borrow::Cow;

/// What zlib can make of a byte at most: RFC 1951, a block of the same byte.
const DEFLATE_RATIO: u64 = 1032;

/// A section by its name; an empty one where there is none. It is kept for as long as the process lives, as the file is.
pub fn section(elf: &Elf<'static>, name: &str, purse: &Purse) -> Bounded {
    Bounded::new(unpacked(elf, name, purse).unwrap_or_default())
}

fn unpacked(elf: &Elf<'static>, name: &str, purse: &Purse) -> Option<&'static [u8]> {
    let section = elf.debug_section(name)?;
    let size = section.uncompressed_size;
    let fits = match section.format {
        CompressionFormat::None => true,
        CompressionFormat::Zlib => size <= (section.data.len() as u64 + 1) * DEFLATE_RATIO && purse.take_bytes(size),
        _ => purse.take_bytes(size),
    };
    match section.decompress().ok().filter(|_| fits)? {
        Cow::Borrowed(bytes) => Some(bytes),
        Cow::Owned(bytes) => Some(bytes.leak()),
    }
}

/// Whether names and lines are made from it: locations of variables and macros are not, and are large.
pub fn is_read(id: SectionId) -> bool {
    use SectionId::*;
    !matches!(id, DebugLoc | DebugLocLists | DebugMacinfo | DebugMacro | DebugNames | DebugTypes)
}

/// Whether the file says where functions and lines are.
pub fn has_dwarf(elf: &Elf<'static>) -> bool {
    elf.debug_section(".debug_info").is_some()
}

/// Up to a NUL.
pub fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
