//! The sections of debug information of one file, each unpacked when it is first asked for, and `.debug_info`, the largest by far,
//! only as far as the units that are asked for: a C library's debug file unfolds to eight MiB, of which a crash needs the
//! beginning and a few KiB.

#![forbid(unsafe_code)]

use super::bounded::{Bounded, Purse};
use super::elf::Elf;
use super::sections;
use flate2::{Decompress, FlushDecompress};
use gimli::SectionId;
use object::read::CompressionFormat;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

/// Unpacked at a time.
const STEP_BYTES: usize = 64 << 10;

pub struct Unpacked {
    elf: Elf<'static>,
    purse: Purse,
    kept: RefCell<HashMap<SectionId, Bounded>>,
    /// `.debug_info`, while it is not yet unpacked to its end.
    info: RefCell<Option<Inflating>>,
}

impl Unpacked {
    pub fn of(elf: &Elf<'static>, purse: &Purse) -> Unpacked {
        let info = elf.debug_section(SectionId::DebugInfo.name());
        let zlib = info.filter(|info| info.format == CompressionFormat::Zlib && sections::fits(info, purse));
        let info = zlib.and_then(|info| Inflating::new(info.data, info.uncompressed_size));
        Unpacked { elf: *elf, purse: purse.clone(), kept: RefCell::default(), info: RefCell::new(info) }
    }

    /// The whole of a section; an empty one where there is none.
    pub fn section(&self, id: SectionId) -> Bounded {
        if let Some(kept) = self.kept.borrow().get(&id) {
            return *kept;
        }
        let begun = if id == SectionId::DebugInfo { self.info.take() } else { None };
        let section = match begun {
            Some(begun) => Bounded::new(begun.whole().map(|whole| &*whole.leak()).unwrap_or_default()),
            None => sections::section(&self.elf, id.name(), &self.purse),
        };
        self.kept.borrow_mut().insert(id, section);
        section
    }

    /// The unit of `.debug_info` that begins there.
    pub fn unit(&self, offset: usize) -> Option<Bounded> {
        if let Some(info) = &mut *self.info.borrow_mut() {
            let head = info.to(offset.checked_add(12)?)?;
            let unit = unit(head, offset)?;
            let bytes = info.to(unit.end)?.get(unit)?;
            return Some(Bounded::new(bytes.to_vec().leak()));
        }
        let whole = self.section(SectionId::DebugInfo);
        Some(Bounded::new(whole.bytes().get(unit(whole.bytes(), offset)?)?))
    }
}

/// Where a unit lies: DWARF 7.4, its length stands first.
fn unit(info: &[u8], offset: usize) -> Option<Range<usize>> {
    let short = u32::from_le_bytes(*info.get(offset..)?.first_chunk()?);
    let len = match short {
        u32::MAX => u64::from_le_bytes(*info.get(offset.checked_add(4)?..)?.first_chunk()?).checked_add(12)?,
        short => u64::from(short) + 4,
    };
    Some(offset..offset.checked_add(usize::try_from(len).ok()?)?)
}

/// A zlib stream that is unpacked as far as it was asked for.
struct Inflating {
    stream: Decompress,
    packed: &'static [u8],
    /// With room for all of them.
    bytes: Vec<u8>,
    size: usize,
}

impl Inflating {
    fn new(packed: &'static [u8], size: u64) -> Option<Inflating> {
        let size = usize::try_from(size).ok()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).ok()?;
        Some(Inflating { stream: Decompress::new(true), packed, bytes, size })
    }

    /// What there is, at least to `end`; `None` if it ends before or is damaged.
    fn to(&mut self, end: usize) -> Option<&[u8]> {
        while self.bytes.len() < end {
            let filled = self.bytes.len();
            let packed = usize::try_from(self.stream.total_in()).ok().and_then(|at| self.packed.get(at..))?;
            self.bytes.resize(end.max(filled + STEP_BYTES).min(self.size), 0);
            let result = self.stream.decompress(packed, &mut self.bytes[filled..], FlushDecompress::None);
            self.bytes.truncate(usize::try_from(self.stream.total_out()).ok()?);
            // A damaged stream, or its end.
            if result.is_err() || self.bytes.len() == filled {
                return None;
            }
        }
        Some(&self.bytes)
    }

    fn whole(mut self) -> Option<Vec<u8>> {
        self.to(self.size)?;
        Some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn packed(bytes: &[u8]) -> &'static [u8] {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().leak()
    }

    #[test]
    fn a_stream_is_unpacked_as_far_as_it_is_asked_for() {
        let content: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let mut begun = Inflating::new(packed(&content), content.len() as u64).unwrap();
        assert_eq!(begun.to(10), Some(&content[..STEP_BYTES]));
        assert_eq!(begun.to(STEP_BYTES), Some(&content[..STEP_BYTES]));
        assert_eq!(begun.to(900_000), Some(&content[..900_000]));
        assert_eq!(begun.to(content.len() + 1), None);
        assert_eq!(begun.whole(), Some(content));
    }

    #[test]
    fn a_stream_that_is_cut_or_says_too_much_is_none() {
        let content = b"what a compiler knows ".repeat(20_000);
        let packed = packed(&content);
        let whole = |packed, size| Inflating::new(packed, size).unwrap().whole();
        assert_eq!(whole(packed, content.len() as u64).as_deref(), Some(&*content));
        assert_eq!(whole(packed, content.len() as u64 + 1), None);
        assert_eq!(whole(&packed[..packed.len() / 2], content.len() as u64), None);
        assert_eq!(whole(b"no stream", 9), None);
    }

    #[test]
    fn a_unit_is_as_long_as_it_says() {
        let info = [[0; 4], [5, 0, 0, 0], [0xff; 4], [9, 0, 0, 0], [0; 4]].concat();
        assert_eq!(unit(&info, 4), Some(4..13));
        assert_eq!(unit(&info, 8), Some(8..29));
        assert_eq!(unit(&info, 17), None);
        assert_eq!(unit(&info, usize::MAX), None);
        assert_eq!(unit(&[0xff; 12], 0), None);
    }
}
