//! What a program was built with and from, as its file tells: Go's build information, else what compilers left in `.comment`.

#![forbid(unsafe_code)]

use super::gobuild::{self, GoBuild, printable};
use super::symbols::elf::Elf;

/// Of `.comment`. Linkers keep each line once, so it is short.
const COMMENT_BYTES: usize = 16 * 1024;

/// One program.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Built {
    /// `go1.25.5`, `rustc version 1.95.0 (59807616e 2026-04-14)`, `GCC: (Debian 12.2.0-14+deb12u1) 12.2.0`.
    pub by: Option<String>,
    pub go: Option<GoBuild>,
}

/// Of the bytes of a file, whatever it is.
pub fn read(file: &[u8]) -> Built {
    let go = gobuild::read(file);
    let by = go.as_ref().map(|go| go.version.clone()).or_else(|| compiler(Elf::parse(file)?.bytes_of(".comment")?));
    Built { by, go }
}

/// The compiler of the program's own code. What it is linked with (the C start files, libraries) leaves lines too.
fn compiler(comment: &[u8]) -> Option<String> {
    let lines = comment[..comment.len().min(COMMENT_BYTES)].split(|byte| *byte == 0);
    let lines: Vec<String> = lines.filter_map(printable).collect();
    let kinds: [fn(&str) -> bool; 3] = [
        |line| line.starts_with("rustc version "),
        |line| line.contains("clang version "),
        |line| line.starts_with("GCC: "),
    ];
    kinds.iter().find_map(|is_kind| lines.iter().find(|line| is_kind(line))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_of_the_program_goes_before_those_of_what_it_is_linked_with() {
        let table: [(&[u8], Option<&str>); 6] = [
            (b"GCC: (Debian 12.2.0-14) 12.2.0\0", Some("GCC: (Debian 12.2.0-14) 12.2.0")),
            (
                b"GCC: (Debian 12.2.0-14) 12.2.0\0rustc version 1.95.0 (59807616e)\0Linker: LLD 22\0",
                Some("rustc version 1.95.0 (59807616e)"),
            ),
            (b"GCC: (Debian 12.2.0-14) 12.2.0\0Debian clang version 14.0.6\0", Some("Debian clang version 14.0.6")),
            (b"Linker: LLD 22\0", None),
            (b"GCC: \x1b[31m12\0", Some("GCC: [31m12")),
            (b"", None),
        ];
        for (comment, expected) in table {
            assert_eq!(compiler(comment).as_deref(), expected);
        }
    }

    #[test]
    fn this_very_program_was_built_by_rustc() {
        let own = crate::sys::map::file(&std::fs::File::open("/proc/self/exe").unwrap()).unwrap();
        let built = read(own);
        assert!(built.by.is_some_and(|by| by.starts_with("rustc version 1.")));
        assert_eq!(built.go, None);
        assert_eq!(read(b"#!/bin/sh"), Built::default());
    }
}
