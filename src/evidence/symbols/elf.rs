//! An ELF file as the symbolizer reads it: 64 bits, little-endian, and possibly without the half of its headers.
//!
//! An image that was read out of memory has no section headers, a stripped one no symbols, a hostile one wrong offsets
//! everywhere: each question answers for itself, and a table that cannot be read is one that is not there.

#![forbid(unsafe_code)]

use object::elf::{FileHeader64, SHF_EXECINSTR, SectionType};
use object::read::elf::{FileHeader as _, SectionHeader as _, SectionTable, SymbolTable};
use object::{LittleEndian, SectionIndex};

pub type Header = FileHeader64<LittleEndian>;

/// A linked program has some forty sections; one with `-ffunction-sections` kept by the linker has thousands.
const SECTIONS: usize = 65_536;

pub struct Elf<'d> {
    bytes: &'d [u8],
    sections: SectionTable<'d, Header>,
}

impl<'d> Elf<'d> {
    /// `None` for what is no ELF file of this kind.
    pub fn parse(bytes: &'d [u8]) -> Option<Elf<'d>> {
        let header = Header::parse(bytes).ok().filter(|header| header.is_little_endian())?;
        let sections = header.sections(LittleEndian, bytes).unwrap_or_default();
        let sections = if sections.len() > SECTIONS { SectionTable::default() } else { sections };
        Some(Elf { bytes, sections })
    }

    /// The table of this type; an empty one where there is none.
    pub fn symbols(&self, kind: SectionType) -> SymbolTable<'d, Header> {
        self.sections.symbols(LittleEndian, self.bytes, kind).unwrap_or_default()
    }

    /// Where the section of a symbol ends, if it holds code.
    pub fn code_end(&self, index: u16) -> Option<u64> {
        let section = self.sections.section(SectionIndex(index.into())).ok()?;
        let is_code = section.sh_flags(LittleEndian).contains(SHF_EXECINSTR);
        is_code.then(|| section.sh_addr(LittleEndian).saturating_add(section.sh_size(LittleEndian)))
    }
}
