//! Whether a program looks for leaks when it ends: LeakSanitizer, alone or inside AddressSanitizer.
//!
//! Its check traces the program's own threads, which only one can do; under another tracer it fails and takes the exit
//! code with it. What tells is a name that the sanitizer's run-time library brings or is brought by: in `.dynstr` where it is
//! shared or exported, in `.strtab` where it was linked into the program and the program is not stripped.

#![forbid(unsafe_code)]

use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, ReadCache};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const SECTIONS: [&[u8]; 2] = [b".dynstr", b".strtab"];
const NAMES: [&[u8]; 4] = [b"__asan_init", b"__lsan_init", b"__hwasan_init", b"liblsan.so"];
/// Of each section: names of functions in a large C++ program come to some ten megabytes.
const SECTION_BYTES: u64 = 32 << 20;
/// Read at a time, onto the stack: this runs in init, whose heap stays small.
const WINDOW: usize = 8192;
/// What a window keeps of the one before, so that no name falls between two.
const OVERLAP: usize = 16;

/// By the file of the program; `false` where it cannot be read or is no ELF file of 64 bits.
pub fn is_in(program: &Path) -> bool {
    File::open(program).is_ok_and(|file| sections(&file).into_iter().any(|place| has_a_name(&file, place)))
}

/// By what is loaded before every program.
pub fn is_preloaded(ld_preload: &[u8]) -> bool {
    [b"asan", b"lsan"].iter().any(|name| ld_preload.windows(name.len()).any(|window| window == *name))
}

/// Offset and length of each section that may tell.
fn sections(file: &File) -> Vec<(u64, u64)> {
    let data = &ReadCache::new(file);
    let Ok(header) = FileHeader64::<Endianness>::parse(data) else { return Vec::new() };
    let Ok(endian) = header.endian() else { return Vec::new() };
    let Ok(sections) = header.sections(endian, data) else { return Vec::new() };
    let place = |name: &[u8]| sections.section_by_name(endian, name)?.1.file_range(endian);
    SECTIONS.into_iter().filter_map(place).collect()
}

fn has_a_name(file: &File, (offset, length): (u64, u64)) -> bool {
    let Some(end) = offset.checked_add(length.min(SECTION_BYTES)) else { return false };
    let mut window = [0; WINDOW];
    let (mut at, mut kept) = (offset, 0);
    while at < end {
        let room = (WINDOW - kept).min(usize::try_from(end - at).unwrap_or(WINDOW));
        let Ok(n @ 1..) = file.read_at(&mut window[kept..kept + room], at) else { return false };
        let filled = kept + n;
        if NAMES.iter().any(|name| memchr::memmem::find(&window[..filled], name).is_some()) {
            return true;
        }
        at += n as u64;
        kept = filled.min(OVERLAP);
        window.copy_within(filled - kept..filled, 0);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_wherever_a_window_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for place in [0, 1, WINDOW - 12, WINDOW - 11, WINDOW - 1, WINDOW, 2 * WINDOW - 5, 3 * WINDOW] {
            for name in NAMES {
                let mut bytes = vec![b'x'; place];
                bytes.extend(name);
                bytes.extend([b'y'; 100]);
                std::fs::write(file.path(), &bytes).unwrap();
                let length = bytes.len() as u64;
                assert!(has_a_name(file.as_file(), (0, length)), "{place}");
                assert!(!has_a_name(file.as_file(), (0, place as u64 + name.len() as u64 - 1)), "{place}: cut");
                assert!(!has_a_name(file.as_file(), (place as u64 + 1, length)), "{place}: begun");
            }
        }
        assert!(!has_a_name(file.as_file(), (u64::MAX, 2)));
        assert!(NAMES.iter().all(|name| name.len() <= OVERLAP));
    }

    #[test]
    fn what_is_no_program_looks_for_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_in(file.path()));
        std::fs::write(file.path(), b"#!/bin/sh\n# __asan_init\n").unwrap();
        assert!(!is_in(file.path()));
        assert!(!is_in(Path::new("/nowhere")));
        assert!(!is_in(&std::env::current_exe().unwrap()));
        assert!(is_preloaded(b"/usr/lib/libasan.so.8") && !is_preloaded(b"/usr/lib/libjemalloc.so.2"));
    }
}
