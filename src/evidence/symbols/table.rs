//! The symbol tables of a file as one: which symbol an address lies in.

#![forbid(unsafe_code)]

use super::dynamic;
use super::elf::Elf;
use object::LittleEndian;
use object::elf::{
    SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, Sym64,
};
use object::read::elf::Sym as _;

/// The largest program at hand, a browser, has 1.2 million.
const SYMBOLS: usize = 2 << 20;
/// How far back a symbol is looked for that covers the address though others begin behind it.
const NESTED: usize = 32;

/// Function symbols by address, one for each.
#[derive(Default)]
pub struct Table {
    symbols: Vec<Symbol>,
}

#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    pub address: u64,
    /// The first address that is not in it.
    end: u64,
    /// It has no size, so it ends with its section or where the next one begins.
    is_open: bool,
    name: &'static [u8],
    rank: u8,
}

impl Symbol {
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.name).into_owned()
    }
}

impl Table {
    /// Of all these files, which are of one program: its own, its debug file, the one in `.gnu_debugdata`. `bias` is where the
    /// first is loaded, if it was read out of memory.
    pub fn of(elves: &[&Elf<'static>], bias: u64) -> Table {
        let mut symbols = Vec::new();
        for elf in elves {
            for kind in [SHT_SYMTAB, SHT_DYNSYM] {
                let table = elf.symbols(kind);
                let room = SYMBOLS - symbols.len().min(SYMBOLS);
                let functions = table.iter().filter_map(|symbol| {
                    let name = table.symbol_name(LittleEndian, symbol).ok()?;
                    function(elf, symbol, name)
                });
                // Once, and not by doubling: each page that is touched costs as much as fifty symbols.
                symbols.reserve(table.len().min(room));
                symbols.extend(functions.take(room));
            }
        }
        if let (true, Some(elf)) = (symbols.is_empty(), elves.first()) {
            let found = dynamic::symbols(elf, bias);
            symbols.extend(found.iter().filter_map(|(symbol, name)| function(elf, symbol, name)).take(SYMBOLS));
        }
        symbols.sort_unstable_by_key(|symbol| (symbol.address, symbol.rank, symbol.name.len()));
        symbols.dedup_by_key(|symbol| symbol.address);
        let mut next = u64::MAX;
        for symbol in symbols.iter_mut().rev() {
            if symbol.is_open {
                symbol.end = symbol.end.min(next);
            }
            next = symbol.address;
        }
        Table { symbols }
    }

    /// The symbol that covers the address.
    pub fn at(&self, address: u64) -> Option<&Symbol> {
        let after = self.symbols.partition_point(|symbol| symbol.address <= address);
        self.symbols[..after].iter().rev().take(NESTED).find(|symbol| address < symbol.end)
    }
}

fn function(elf: &Elf<'static>, symbol: &Sym64<LittleEndian>, name: &'static [u8]) -> Option<Symbol> {
    let kind = symbol.st_type();
    let section = symbol.st_shndx(LittleEndian);
    let address = symbol.st_value(LittleEndian);
    if section == SHN_UNDEF || address == 0 || name.is_empty() {
        return None;
    }
    let code_end = elf.code_end(section.0);
    match kind {
        STT_FUNC | STT_GNU_IFUNC => {}
        // Code written in assembler, often without a type; not the marks of the assembler itself (`$x`, `.L`).
        STT_NOTYPE if code_end.is_some() && !name.starts_with(b"$") && !name.starts_with(b".L") => {}
        _ => return None,
    }
    let size = symbol.st_size(LittleEndian);
    let end = if size == 0 { code_end.unwrap_or(address.saturating_add(1)) } else { address.saturating_add(size) };
    Some(Symbol { address, end, is_open: size == 0, name: unversioned(name), rank: rank(symbol, name) })
}

/// Of several names for one address the one that a person would use stands: `write` before `__write`, `raise` before its weak
/// alias `gsignal`, any function before a label.
fn rank(symbol: &Sym64<LittleEndian>, name: &[u8]) -> u8 {
    let underscores = name.iter().take(3).take_while(|byte| **byte == b'_').count() as u8;
    let binding = match symbol.st_bind() {
        STB_GLOBAL => 0,
        STB_WEAK => 1,
        _ => 2,
    };
    let label = u8::from(symbol.st_type() == STT_NOTYPE || symbol.st_size(LittleEndian) == 0);
    // Mangled names begin with one underscore and have no other form.
    let underscores = if name.starts_with(b"_Z") || name.starts_with(b"_R") { 0 } else { underscores };
    label << 4 | underscores << 2 | binding
}

/// `memcpy@@GLIBC_2.14` is memcpy.
fn unversioned(name: &'static [u8]) -> &'static [u8] {
    match name.iter().position(|byte| *byte == b'@') {
        Some(at) if at > 0 => &name[..at],
        _ => name,
    }
}
