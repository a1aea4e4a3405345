//! The GNU build id of an ELF file: what tells one build of a program from another.
//!
//! Only the ELF header, the program headers and the note segments are read, each bounded: the file belongs to whoever made
//! the image, and its debug information may be gigabytes.

#![forbid(unsafe_code)]

use object::elf::{FileHeader32, FileHeader64, NT_GNU_BUILD_ID, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader as _};
use object::{Endianness, FileKind, ReadCache};
use std::fs::File;

/// Notes are a few hundred bytes; a core's, which this is not for, are megabytes.
const NOTES_BYTES: u64 = 64 * 1024;
/// Real programs have about a dozen.
const SEGMENTS: usize = 256;
/// SHA-1 is 20 bytes, the longest in use is 32.
const ID_BYTES: usize = 64;

/// In hex. The error says why there is none, for the gap.
pub fn of(file: &File) -> Result<String, String> {
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err("the program is no regular file".to_owned());
    }
    let cache = ReadCache::new(file);
    let id = match FileKind::parse(&cache) {
        Ok(FileKind::Elf64) => in_notes::<FileHeader64<Endianness>>(&cache),
        Ok(FileKind::Elf32) => in_notes::<FileHeader32<Endianness>>(&cache),
        _ => return Err("the program is a script, or no ELF file".to_owned()),
    };
    match id {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err("the program was linked without one (ld --build-id)".to_owned()),
        Err(error) => Err(format!("the program's notes cannot be read: {error}")),
    }
}

fn in_notes<Elf: FileHeader<Endian = Endianness>>(cache: &ReadCache<&File>) -> object::Result<Option<String>> {
    let header = Elf::parse(cache)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, cache)?.iter().take(SEGMENTS) {
        if segment.p_type(endian) != PT_NOTE || segment.p_filesz(endian).into() > NOTES_BYTES {
            continue;
        }
        let Some(mut notes) = segment.notes(endian, cache)? else { continue };
        while let Some(note) = notes.next()? {
            let id = note.desc();
            if note.name() == b"GNU" && note.n_type(endian) == NT_GNU_BUILD_ID && (1..=ID_BYTES).contains(&id.len()) {
                return Ok(Some(id.iter().map(|byte| format!("{byte:02x}")).collect()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Seek as _, Write as _};

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    /// An ELF header, one PT_NOTE and a note: what `ld --build-id` leaves, without the program.
    fn elf(note: &[u8]) -> Vec<u8> {
        let mut elf = Vec::new();
        elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        elf.extend([3, 0, 62, 0, 1, 0, 0, 0]);
        elf.extend([0u64, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
        elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
        elf.extend([4, 0, 0, 0, 4, 0, 0, 0]);
        let size = note.len() as u64;
        elf.extend([120u64, 120, 120, size, size, 4].iter().flat_map(|n| n.to_le_bytes()));
        elf.extend(note);
        elf
    }

    fn gnu_note(id: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend([4, id.len() as u32, 3].iter().flat_map(|n| n.to_le_bytes()));
        note.extend(b"GNU\0");
        note.extend(id);
        note
    }

    #[test]
    fn the_id_is_that_of_the_note() {
        assert_eq!(of(&file(&elf(&gnu_note(&[0xab, 0xcd, 0, 0x12])))).as_deref(), Ok("abcd0012"));
    }

    #[test]
    fn a_file_without_one_says_why() {
        let table: [(&[u8], &str); 4] = [
            (b"#!/bin/sh\n", "the program is a script, or no ELF file"),
            (b"", "the program is a script, or no ELF file"),
            (&elf(b""), "the program was linked without one (ld --build-id)"),
            (&elf(&gnu_note(&[7; 200])), "the program was linked without one (ld --build-id)"),
        ];
        for (content, why) in table {
            assert_eq!(of(&file(content)), Err(why.to_owned()));
        }
        assert_eq!(of(&File::open("/").unwrap()), Err("the program is no regular file".to_owned()));
    }

    #[test]
    fn a_file_cut_at_any_byte_has_its_whole_id_or_none() {
        let whole = elf(&gnu_note(&[0xab; 20]));
        for cut in 0..whole.len() {
            assert!(of(&file(&whole[..cut])).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_file_with_wrong_bytes_does_no_harm(at in proptest::collection::vec((0usize..200, any::<u8>()), 1..12)) {
            let mut content = elf(&gnu_note(&[0xab; 20]));
            for (at, byte) in at {
                if let Some(place) = content.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = of(&file(&content));
        }
    }
}
