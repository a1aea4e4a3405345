//! Addresses as functions, files and lines, out of what an ELF file and its debug files say.
//!
//! The files belong to whoever made the image. Whatever is wrong in them costs a name, never more: sizes, counts and steps
//! are bounded, and what cannot be read is as if it were not there.

#![forbid(unsafe_code)]

mod demangle;
mod elf;
mod roots;
mod table;

pub use demangle::demangle;
pub use roots::Roots;

use super::stack::Frame;
use elf::Elf;
use std::cell::OnceCell;
use std::path::Path;
use table::{Symbol, Table};

/// The symbols of one ELF file. Making one is cheap; each source is read when an address is first asked for.
pub struct Symbols {
    elf: Option<Elf<'static>>,
    table: OnceCell<Table>,
}

impl Symbols {
    /// Of a file's bytes, or of an image that was read out of memory (then without a path).
    pub fn of(elf: &'static [u8], _path: Option<&Path>, _roots: &Roots) -> Symbols {
        Symbols { elf: Elf::parse(elf), table: OnceCell::new() }
    }

    /// What stands at an address of the file's own (the program counter less the load bias): innermost first, functions
    /// that were inlined there as frames of their own. Empty if nothing is known.
    ///
    /// A return address points behind its call: the caller asks for the byte before it. `address`, `package`,
    /// `image_address` and `trust` are the caller's to fill, and `symbol_address` is without the bias.
    pub fn frames(&self, address: u64) -> Vec<Frame> {
        self.symbol(address).map(named).into_iter().collect()
    }

    fn symbol(&self, address: u64) -> Option<&Symbol> {
        self.table.get_or_init(|| Table::of(&self.elf.iter().collect::<Vec<_>>())).at(address)
    }
}

/// The frame that a symbol alone makes.
fn named(symbol: &Symbol) -> Frame {
    let raw = String::from_utf8_lossy(symbol.name);
    let demangled = demangle(&raw);
    Frame {
        symbol: demangled.is_some().then(|| raw.clone().into_owned()),
        function: Some(demangled.unwrap_or_else(|| raw.into_owned())),
        symbol_address: Some(symbol.address),
        in_app: true,
        ..Frame::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> &'static [u8] {
        crate::sys::map::file(&std::fs::File::open("/proc/self/exe").unwrap()).unwrap()
    }

    #[test]
    fn a_program_begins_at_start() {
        let entry = u64::from_le_bytes(own()[24..32].try_into().unwrap());
        let symbols = Symbols::of(own(), None, &Roots::default());
        let frames = symbols.frames(entry);
        assert_eq!(frames.first().and_then(|frame| frame.function.as_deref()), Some("_start"));
        assert_eq!(frames[0].symbol_address, Some(entry));
        assert!(symbols.frames(u64::MAX).is_empty() && symbols.frames(0).is_empty());
    }

    #[test]
    fn what_is_no_elf_file_has_no_symbols() {
        for bytes in [&b""[..], b"#!/bin/sh", b"\x7fELF", &own()[..64], &own()[..4096]] {
            assert!(Symbols::of(bytes.to_vec().leak(), None, &Roots::default()).frames(4096).is_empty());
        }
    }
}
