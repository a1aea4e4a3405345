//! An ELF file as evidence reads it: 64 bits, little-endian, and possibly without the half of its headers.
//!
//! An image that was read out of memory has no section headers, a stripped one no symbols, a hostile one wrong offsets
//! everywhere: each question answers for itself, and a table that cannot be read is one that is not there.

#![forbid(unsafe_code)]

use object::elf::{
    ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD, FileHeader64, NT_GNU_BUILD_ID, PF_W, PF_X, PT_LOAD, PT_NOTE, ProgramHeader64,
    SHF_EXECINSTR, SHT_DYNSYM, SHT_SYMTAB, STT_OBJECT, SectionHeader64, SectionType, Sym64,
};
use object::read::elf::{
    CompressionHeader as _, FileHeader as _, NoteIterator, ProgramHeader as _, SectionHeader as _, SectionTable,
    Sym as _, SymbolTable,
};
use object::read::{CompressedData, CompressionFormat};
use object::{LittleEndian, SectionIndex};

pub type Header = FileHeader64<LittleEndian>;

/// A linked program has some forty sections; one with `-ffunction-sections` kept by the linker has thousands.
const SECTIONS: usize = 65_536;
/// Real programs have about a dozen.
const SEGMENTS: usize = 256;
/// Types of relocation, for symbol 0: elf.h.
const R_X86_64_RELATIVE: u64 = 8;
/// 〃
const R_AARCH64_RELATIVE: u64 = 1027;
/// SHA-1 is 20 bytes, the longest in use is 32.
const ID_BYTES: usize = 64;

/// The headers of one file.
#[derive(Clone, Copy)]
pub struct Elf<'d> {
    pub bytes: &'d [u8],
    segments: &'d [ProgramHeader64<LittleEndian>],
    sections: SectionTable<'d, Header>,
}

impl<'d> Elf<'d> {
    /// `None` for what is no ELF file of this kind.
    pub fn parse(bytes: &'d [u8]) -> Option<Elf<'d>> {
        let header = Header::parse(bytes).ok().filter(|header| header.is_little_endian())?;
        let segments = header.program_headers(LittleEndian, bytes).unwrap_or_default();
        let sections = header.sections(LittleEndian, bytes).unwrap_or_default();
        let sections = if sections.len() > SECTIONS { SectionTable::default() } else { sections };
        Some(Elf { bytes, segments: &segments[..segments.len().min(SEGMENTS)], sections })
    }

    pub fn section(&self, name: &str) -> Option<&'d SectionHeader64<LittleEndian>> {
        self.sections.section_by_name(LittleEndian, name.as_bytes()).map(|(_, section)| section)
    }

    /// The bytes of a section as they lie in the file.
    pub fn bytes_of(&self, name: &str) -> Option<&'d [u8]> {
        self.section(name)?.data(LittleEndian, self.bytes).ok().filter(|bytes| !bytes.is_empty())
    }

    /// A section of debug information, perhaps compressed: by its flag, or in the older way of GNU, by its name.
    pub fn debug_section(&self, name: &str) -> Option<CompressedData<'d>> {
        let Some(section) = self.section(name) else {
            let bytes = self.bytes_of(&name.replacen(".debug_", ".zdebug_", 1))?;
            let (head, data) = bytes.strip_prefix(b"ZLIB")?.split_first_chunk()?;
            let uncompressed_size = u64::from_be_bytes(*head);
            return Some(CompressedData { format: CompressionFormat::Zlib, data, uncompressed_size });
        };
        let Some((header, offset, size)) = section.compression(LittleEndian, self.bytes).ok()? else {
            return self.bytes_of(name).map(CompressedData::none);
        };
        let format = match header.ch_type(LittleEndian) {
            ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
            ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
            _ => return None,
        };
        let data = self.bytes.get(usize::try_from(offset).ok()?..)?.get(..usize::try_from(size).ok()?)?;
        Some(CompressedData { format, data, uncompressed_size: header.ch_size(LittleEndian) })
    }

    /// The table of this type; an empty one where there is none.
    pub fn symbols(&self, kind: SectionType) -> SymbolTable<'d, Header> {
        self.sections.symbols(LittleEndian, self.bytes, kind).unwrap_or_default()
    }

    /// Where a variable is, by the name that the linker knows.
    pub fn variable(&self, name: &str) -> Option<u64> {
        [SHT_DYNSYM, SHT_SYMTAB].into_iter().find_map(|kind| {
            let table = self.symbols(kind);
            let is_it = |symbol: &&Sym64<LittleEndian>| {
                symbol.st_type() == STT_OBJECT
                    && table.symbol_name(LittleEndian, symbol).is_ok_and(|n| n == name.as_bytes())
            };
            table.iter().find(is_it).map(|symbol| symbol.st_value(LittleEndian))
        })
    }

    /// Where the section of a symbol ends, if it holds code.
    pub fn code_end(&self, index: u16) -> Option<u64> {
        let section = self.sections.section(SectionIndex(index.into())).ok()?;
        let is_code = section.sh_flags(LittleEndian).contains(SHF_EXECINSTR);
        is_code.then(|| section.sh_addr(LittleEndian).saturating_add(section.sh_size(LittleEndian)))
    }

    /// Whether a loaded segment of code holds the address.
    pub fn is_code(&self, address: u64) -> bool {
        self.loads().any(|load| {
            load.p_flags(LittleEndian).contains(PF_X)
                && address.checked_sub(load.p_vaddr(LittleEndian)).is_some_and(|at| at < load.p_memsz(LittleEndian))
        })
    }

    pub fn segments(&self) -> &'d [ProgramHeader64<LittleEndian>] {
        self.segments
    }

    pub fn loads(&self) -> impl Iterator<Item = &'d ProgramHeader64<LittleEndian>> {
        self.segments.iter().filter(|segment| segment.p_type(LittleEndian) == PT_LOAD)
    }

    /// What the file holds from an address to the end of its segment.
    pub fn at(&self, address: u64) -> Option<&'d [u8]> {
        self.loads().find_map(|load| {
            let skip = address.checked_sub(load.p_vaddr(LittleEndian))?;
            let data = load.data(LittleEndian, self.bytes).ok()?;
            data.get(usize::try_from(skip).ok()?..).filter(|rest| !rest.is_empty())
        })
    }

    /// Words from an address on, as the loader will have made them where it only adds the load bias: a position-independent
    /// program keeps such words in its relocations, and often nowhere else.
    pub fn words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let bytes = self.at(address)?.get(..N * 8)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        for (place, value) in self.relative() {
            let at = place.wrapping_sub(address);
            if at % 8 == 0
                && let Some(word) = usize::try_from(at / 8).ok().and_then(|at| words.get_mut(at))
            {
                *word = value;
            }
        }
        Some(words)
    }

    /// Relocations that add the load bias to a value: where, and the value.
    pub fn relative(&self) -> impl Iterator<Item = (u64, u64)> + use<'d> {
        let entries = [".rela.dyn", ".rela"].iter().find_map(|name| self.bytes_of(name)).unwrap_or_default();
        entries.chunks_exact(24).filter_map(|entry| {
            let word = |at: usize| entry[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            let is_relative = matches!(word(8)?, R_X86_64_RELATIVE | R_AARCH64_RELATIVE);
            is_relative.then_some((word(0)?, word(16)?))
        })
    }

    /// Segments that are no code: address and bytes of each.
    pub fn data(&self) -> impl Iterator<Item = (u64, &'d [u8])> {
        self.contents(|load| !load.p_flags(LittleEndian).contains(PF_X))
    }

    /// Segments that the program may write.
    pub fn writable(&self) -> impl Iterator<Item = (u64, &'d [u8])> {
        self.contents(|load| load.p_flags(LittleEndian).contains(PF_W))
    }

    fn contents(&self, which: fn(&ProgramHeader64<LittleEndian>) -> bool) -> impl Iterator<Item = (u64, &'d [u8])> {
        let loads = self.loads().filter(move |load| which(load));
        loads.filter_map(|load| Some((load.p_vaddr(LittleEndian), load.data(LittleEndian, self.bytes).ok()?)))
    }

    /// The address of a section that is loaded.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        self.section(name).map(|section| section.sh_addr(LittleEndian)).filter(|address| *address > 0)
    }

    /// The GNU build id, of the notes.
    pub fn build_id(&self) -> Option<&'d [u8]> {
        let in_segments = self
            .segments
            .iter()
            .filter(|segment| segment.p_type(LittleEndian) == PT_NOTE)
            .filter_map(|segment| segment.notes(LittleEndian, self.bytes).ok().flatten());
        let in_sections = self
            .section(".note.gnu.build-id")
            .and_then(|section| section.notes(LittleEndian, self.bytes).ok().flatten());
        in_segments.chain(in_sections).find_map(id_of)
    }

    /// The GNU build id, of notes that were read by themselves.
    pub fn build_id_in(notes: &'d [u8]) -> Option<&'d [u8]> {
        NoteIterator::<Header>::new(LittleEndian, 4, notes).ok().and_then(id_of)
    }
}

fn id_of<'d>(mut notes: NoteIterator<'d, Header>) -> Option<&'d [u8]> {
    while let Ok(Some(note)) = notes.next() {
        let id = note.desc();
        let is_id = note.name() == b"GNU" && note.n_type(LittleEndian) == NT_GNU_BUILD_ID;
        if is_id && (1..=ID_BYTES).contains(&id.len()) {
            return Some(id);
        }
    }
    None
}
