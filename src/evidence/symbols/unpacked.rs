//! The sections of debug information of one file, each unpacked when it is first asked for, and the two that are made of pieces,
//! `.debug_info` and `.debug_line`, only as far as the pieces that are asked for: a C library's debug file unfolds to eight MiB, of which
//! a crash needs a few KiB.

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
/// Of `.debug_info`, some milliseconds.
const FAR_BYTES: u64 = 1 << 20;
/// As much of a piece as may say how long it is.
const HEAD_BYTES: usize = 12;

pub struct Unpacked {
    elf: Elf<'static>,
    purse: Purse,
    sections: RefCell<HashMap<SectionId, Section>>,
    /// Where the first ones lie.
    line_programs: RefCell<Vec<Range<usize>>>,
}

enum Section {
    Whole(Bounded),
    /// `copied` is as much of its beginning as was asked for.
    Begun {
        stream: Inflating,
        copied: Bounded,
    },
}

impl Unpacked {
    pub fn of(elf: &Elf<'static>, purse: &Purse) -> Unpacked {
        Unpacked { elf: *elf, purse: purse.clone(), sections: RefCell::default(), line_programs: RefCell::default() }
    }

    /// Whether it takes long to have any unit of `.debug_info`.
    pub fn is_far(&self) -> bool {
        let info = self.elf.debug_section(SectionId::DebugInfo.name());
        info.is_some_and(|info| info.format != CompressionFormat::None && info.uncompressed_size > FAR_BYTES)
    }

    /// The whole of a section; an empty one where there is none.
    pub fn section(&self, id: SectionId) -> Bounded {
        self.with(id, |section| {
            if let Section::Begun { stream, .. } = section {
                let whole = stream.whole().map(|whole| &*whole.leak()).unwrap_or_default();
                *section = Section::Whole(Bounded::new(whole));
            }
            match section {
                Section::Whole(whole) | Section::Begun { copied: whole, .. } => *whole,
            }
        })
    }

    /// The beginning of a section: so many bytes or more, fewer if it has no more.
    pub fn beginning(&self, id: SectionId, len: usize) -> Option<Bounded> {
        self.with(id, |section| match section {
            Section::Begun { stream, copied } if copied.bytes().len() < len.min(stream.size) => {
                *copied = self.copied(stream, 0..len.min(stream.size))?;
                Some(*copied)
            }
            Section::Whole(known) | Section::Begun { copied: known, .. } => Some(*known),
        })
    }

    /// The unit of `.debug_info` that begins there.
    pub fn unit(&self, offset: usize) -> Option<Bounded> {
        self.piece(SectionId::DebugInfo, self.place(SectionId::DebugInfo, offset)?)
    }

    /// The program of `.debug_line` that stands behind so many others.
    pub fn line_program(&self, behind: usize) -> Option<Bounded> {
        self.piece(SectionId::DebugLine, self.line_program_place(behind)?)
    }

    /// Where that lies.
    pub fn line_program_place(&self, behind: usize) -> Option<Range<usize>> {
        let mut known = self.line_programs.borrow_mut();
        while known.len() <= behind {
            let begin = known.last().map_or(0, |last| last.end);
            known.push(self.place(SectionId::DebugLine, begin)?);
        }
        known.get(behind).cloned()
    }

    fn place(&self, id: SectionId, offset: usize) -> Option<Range<usize>> {
        let end = offset.checked_add(HEAD_BYTES)?;
        self.with(id, |section| match section {
            Section::Whole(whole) => place(whole.bytes(), offset),
            Section::Begun { stream, .. } => place(stream.to(end)?, offset),
        })
    }

    fn piece(&self, id: SectionId, place: Range<usize>) -> Option<Bounded> {
        self.with(id, |section| match section {
            Section::Whole(whole) => whole.bytes().get(place).map(Bounded::new),
            Section::Begun { stream, .. } => self.copied(stream, place),
        })
    }

    fn copied(&self, stream: &mut Inflating, place: Range<usize>) -> Option<Bounded> {
        let piece = stream.to(place.end)?.get(place)?;
        let has_room = self.purse.take_bytes(piece.len() as u64);
        has_room.then(|| Bounded::new(piece.to_vec().leak()))
    }

    fn with<T>(&self, id: SectionId, look: impl FnOnce(&mut Section) -> T) -> T {
        look(self.sections.borrow_mut().entry(id).or_insert_with(|| self.begin(id)))
    }

    fn begin(&self, id: SectionId) -> Section {
        let packed = self.elf.debug_section(id.name()).filter(|section| section.format == CompressionFormat::Zlib);
        let fits = packed.filter(|packed| sections::fits(packed, &self.purse));
        match (packed, fits.and_then(|packed| Inflating::new(packed.data, packed.uncompressed_size))) {
            (_, Some(stream)) => Section::Begun { stream, copied: Bounded::new(&[]) },
            (Some(_), None) => Section::Whole(Bounded::new(&[])),
            (None, None) => Section::Whole(sections::section(&self.elf, id.name(), &self.purse)),
        }
    }
}

/// Where a unit or a line program lies: DWARF 7.4, its length stands first.
fn place(section: &[u8], offset: usize) -> Option<Range<usize>> {
    let short = u32::from_le_bytes(*section.get(offset..)?.first_chunk()?);
    let len = match short {
        u32::MAX => u64::from_le_bytes(*section.get(offset.checked_add(4)?..)?.first_chunk()?).checked_add(12)?,
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

    /// All of it, of which nothing is left here.
    fn whole(&mut self) -> Option<Vec<u8>> {
        self.to(self.size)?;
        Some(std::mem::take(&mut self.bytes))
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
        let whole = |packed, size: u64| Inflating::new(packed, size).unwrap().whole();
        assert_eq!(whole(packed, content.len() as u64).as_deref(), Some(&*content));
        assert_eq!(whole(packed, content.len() as u64 + 1), None);
        assert_eq!(whole(&packed[..packed.len() / 2], content.len() as u64), None);
        assert_eq!(whole(b"no stream", 9), None);
    }

    #[test]
    fn a_unit_is_as_long_as_it_says() {
        let info = [[0; 4], [5, 0, 0, 0], [0xff; 4], [9, 0, 0, 0], [0; 4]].concat();
        assert_eq!(place(&info, 4), Some(4..13));
        assert_eq!(place(&info, 8), Some(8..29));
        assert_eq!(place(&info, 17), None);
        assert_eq!(place(&info, usize::MAX), None);
        assert_eq!(place(&[0xff; 12], 0), None);
    }
}
