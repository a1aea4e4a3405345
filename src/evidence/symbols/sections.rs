//! Sections of debug information, unpacked.

#![forbid(unsafe_code)]

use super::bounded::{Bounded, Purse};
use super::elf::Elf;
use gimli::SectionId;
use object::read::{CompressedData, CompressionFormat};
use std::borrow::Cow;

/// What zlib can make of a byte at most: RFC 1951, a block of the same byte.
const DEFLATE_RATIO: u64 = 1032;

/// A section by its name; an empty one where there is none. It is kept for as long as the process lives, as the file is.
pub fn section(elf: &Elf<'static>, name: &str, purse: &Purse) -> Bounded {
    Bounded::new(unpacked(elf, name, purse).unwrap_or_default())
}

fn unpacked(elf: &Elf<'static>, name: &str, purse: &Purse) -> Option<&'static [u8]> {
    let section = elf.debug_section(name)?;
    if !fits(&section, purse) {
        return None;
    }
    match section.decompress().ok()? {
        Cow::Borrowed(bytes) => Some(bytes),
        Cow::Owned(bytes) => Some(bytes.leak()),
    }
}

/// Whether there is room for what it unfolds to; then it is taken.
pub fn fits(section: &CompressedData<'_>, purse: &Purse) -> bool {
    let size = section.uncompressed_size;
    match section.format {
        CompressionFormat::None => true,
        CompressionFormat::Zlib => size <= (section.data.len() as u64 + 1) * DEFLATE_RATIO && purse.take_bytes(size),
        _ => purse.take_bytes(size),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::symbols::Roots;
    use std::io::Write as _;

    /// An ELF file that is one section, compressed in the older way of GNU, which says that it unfolds to `size` bytes.
    fn elf(packed: &[u8], size: u64) -> Elf<'static> {
        const NAMES: &[u8] = b"\0.zdebug_info\0.shstrtab\0";
        let section = [&b"ZLIB"[..], &size.to_be_bytes(), packed].concat();
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        elf.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        elf.extend([0u64, 0, 64].iter().flat_map(|n| n.to_le_bytes()));
        elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        elf.extend([0; 64]);
        let at = 64 + 3 * 64;
        for (name, kind, offset, len) in [(1u32, 1u32, at, section.len()), (14, 3, at + section.len(), NAMES.len())] {
            elf.extend([name, kind].iter().flat_map(|n| n.to_le_bytes()));
            elf.extend([0, 0, offset as u64, len as u64, 0, 1, 0].iter().flat_map(|n| n.to_le_bytes()));
        }
        elf.extend(section);
        elf.extend(NAMES);
        Elf::parse(elf.leak()).unwrap()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_section_is_unpacked_to_its_size_and_not_to_one_that_cannot_be() {
        let content = b"what a compiler knows ".repeat(50);
        let unpacked = |said: u64| {
            let roots = Roots::default();
            unpacked(&elf(&packed(&content), said), ".debug_info", roots.purse()).map(<[u8]>::len)
        };
        assert_eq!(unpacked(content.len() as u64), Some(content.len()));
        assert_eq!(unpacked(10), Some(10), "no more than it said");
        for wrong in [content.len() as u64 + 1, 1 << 22, 1 << 40, u64::MAX] {
            assert_eq!(unpacked(wrong), None, "{wrong}");
        }
    }
}
