//! Whether a program traces processes itself, which only one can: its own when it ends, to look for leaks (LeakSanitizer, alone or
//! inside AddressSanitizer), or others (debuggers, strace, crash handlers, PHP-FPM with its slow log).
//!
//! A leak check under another tracer fails and takes the exit code with it. What tells is a name that the sanitizer's run-time
//! library brings or is brought by, and that of ptrace(2): in `.dynstr` where it is shared or exported, in `.strtab` where it was
//! linked into the program and the program is not stripped. A stripped static debugger is known by its own name alone.

#![forbid(unsafe_code)]

use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, ReadCache};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// What a program traces by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rival {
    /// Its own threads, when it ends.
    pub looks_for_leaks: bool,
    /// Others, or it wants to be traced by its parent.
    pub traces: bool,
}

const SECTIONS: [&[u8]; 2] = [b".dynstr", b".strtab"];
const LEAK_CHECKS: [&[u8]; 4] = [b"__asan_init", b"__lsan_init", b"__hwasan_init", b"liblsan.so"];
/// A string table may keep it as the end of a longer name.
const CALL: &[u8] = b"ptrace\0";
/// Programs for which others are there to be traced.
const TRACERS: [&str; 13] = [
    "criu",
    "dlv",
    "gdb",
    "gdbserver",
    "lldb",
    "lldb-server",
    "ltrace",
    "obit",
    "proot",
    "py-spy",
    "rr",
    "runsc",
    "strace",
];
/// Of each section: names of functions in a large C++ program come to some ten megabytes.
const SECTION_BYTES: u64 = 32 << 20;
/// Read at a time, onto the stack: this runs in init, whose heap stays small.
const WINDOW: usize = 8192;
/// What a window keeps of the one before, so that no name falls between two.
const OVERLAP: usize = 16;

/// By the file of the program; nothing where it cannot be read or is no ELF file of 64 bits.
pub fn of(program: &File) -> Rival {
    let mut found = Rival::default();
    for place in sections(program) {
        look(program, place, &mut found);
    }
    found
}

/// By its path.
pub fn is_named_so(program: &Path) -> bool {
    program.file_name().and_then(|name| name.to_str()).is_some_and(|name| TRACERS.contains(&name))
}

/// By the environment of a program, in which a leak check is asked for or is loaded before it.
pub fn is_in_environment(environment: &[u8]) -> bool {
    let mut variables = environment.split(|byte| *byte == 0);
    variables.any(|variable| {
        ["ASAN_OPTIONS=", "LSAN_OPTIONS="].iter().any(|name| variable.starts_with(name.as_bytes()))
            || variable.strip_prefix(b"LD_PRELOAD=").is_some_and(is_preloaded)
    })
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

fn look(file: &File, (offset, length): (u64, u64), found: &mut Rival) {
    let Some(end) = offset.checked_add(length.min(SECTION_BYTES)) else { return };
    let mut window = [0; WINDOW];
    let (mut at, mut kept) = (offset, 0);
    while at < end && *found != (Rival { looks_for_leaks: true, traces: true }) {
        let room = (WINDOW - kept).min(usize::try_from(end - at).unwrap_or(WINDOW));
        let Ok(n @ 1..) = file.read_at(&mut window[kept..kept + room], at) else { return };
        let filled = kept + n;
        let has = |name: &[u8]| memchr::memmem::find(&window[..filled], name).is_some();
        found.looks_for_leaks |= LEAK_CHECKS.iter().any(|name| has(name));
        found.traces |= has(CALL);
        at += n as u64;
        kept = filled.min(OVERLAP);
        window.copy_within(filled - kept..filled, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &File, place: (u64, u64)) -> Rival {
        let mut found = Rival::default();
        look(file, place, &mut found);
        found
    }

    #[test]
    fn a_name_is_found_wherever_a_window_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for place in [0, 1, WINDOW - 12, WINDOW - 11, WINDOW - 1, WINDOW, 2 * WINDOW - 5, 3 * WINDOW] {
            for name in LEAK_CHECKS.into_iter().chain([CALL]) {
                let mut bytes = vec![b'x'; place];
                bytes.extend(name);
                bytes.extend([b'y'; 100]);
                std::fs::write(file.path(), &bytes).unwrap();
                let length = bytes.len() as u64;
                let told = Rival { looks_for_leaks: name != CALL, traces: name == CALL };
                assert_eq!(found(file.as_file(), (0, length)), told, "{place}");
                let cut = found(file.as_file(), (0, place as u64 + name.len() as u64 - 1));
                assert_eq!(cut, Rival::default(), "{place}: cut");
                assert_eq!(found(file.as_file(), (place as u64 + 1, length)), Rival::default(), "{place}: begun");
            }
        }
        assert_eq!(found(file.as_file(), (u64::MAX, 2)), Rival::default());
        assert!(LEAK_CHECKS.iter().all(|name| name.len() <= OVERLAP));
    }

    #[test]
    fn what_is_no_program_traces_nobody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(of(file.as_file()), Rival::default());
        std::fs::write(file.path(), b"#!/bin/sh\n# __asan_init\0ptrace\0\n").unwrap();
        assert_eq!(of(file.as_file()), Rival::default());
        let ourselves = File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(of(&ourselves), Rival { looks_for_leaks: false, traces: true });
        assert!(is_preloaded(b"/usr/lib/libasan.so.8") && !is_preloaded(b"/usr/lib/libjemalloc.so.2"));
        assert!(is_named_so(Path::new("/usr/bin/gdb")) && !is_named_so(Path::new("/usr/bin/gdbm")));
    }

    #[test]
    fn a_leak_check_is_told_by_the_environment() {
        let table = [
            (&b"PATH=/bin\0ASAN_OPTIONS=x=1\0"[..], true),
            (b"LD_PRELOAD=/usr/lib/libasan.so.8\0A=b\0", true),
            (b"LD_PRELOAD=/usr/lib/libjemalloc.so.2\0", false),
            (b"NOT_ASAN_OPTIONS=\0PATH=/opt/asan/bin\0", false),
            (b"", false),
        ];
        for (environment, told) in table {
            assert_eq!(is_in_environment(environment), told, "{}", String::from_utf8_lossy(environment));
        }
    }
}
