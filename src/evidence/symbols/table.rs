//! The symbol tables of a file as one: which symbol an address lies in.

#![forbid(unsafe_code)]

use super::dynamic;
use super::elf::Elf;
use object::LittleEndian;
use object::elf::{
    SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, Sym64,
};
use object::read::StringTable;
use object::read::elf::Sym as _;
use std::cell::RefCell;
use std::collections::HashMap;

/// The largest program at hand, a browser, has 1.2 million.
const SYMBOLS: usize = 2 << 20;
/// How far back a symbol is looked for that covers the address though others begin behind it.
const NESTED: usize = 32;

/// Function symbols by address. Names are looked at where one is asked for: a C library has ten thousand, and a crash a handful.
#[derive(Default)]
pub struct Table {
    sources: Vec<Source>,
    symbols: Vec<Entry>,
    /// Which of several symbols stands for an address, by the place of the first one.
    chosen: RefCell<HashMap<usize, Option<Entry>>>,
}

/// One symbol table.
#[derive(Clone, Copy)]
struct Source {
    symbols: &'static [Sym64<LittleEndian>],
    names: StringTable<'static>,
}

#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    /// The first address that is not in it.
    end: u64,
    index: u32,
    source: u8,
    /// It has no size, so it ends with its section or where the next one begins.
    is_open: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    pub address: u64,
    name: &'static [u8],
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
        let mut table = Table::default();
        for elf in elves {
            for kind in [SHT_SYMTAB, SHT_DYNSYM] {
                let found = elf.symbols(kind);
                table.add(elf, Source { symbols: found.symbols(), names: found.strings() });
            }
        }
        if let (true, Some(elf)) = (table.symbols.is_empty(), elves.first())
            && let Some((symbols, names)) = dynamic::symbols(elf, bias)
        {
            table.add(elf, Source { symbols, names });
        }
        table.symbols.sort_unstable_by_key(|symbol| symbol.address);
        let (mut next, mut behind) = (u64::MAX, u64::MAX);
        for symbol in table.symbols.iter_mut().rev() {
            if symbol.address != next {
                (next, behind) = (symbol.address, next);
            }
            if symbol.is_open {
                symbol.end = symbol.end.min(behind);
            }
        }
        table
    }

    fn add(&mut self, elf: &Elf<'static>, source: Source) {
        let Ok(number) = u8::try_from(self.sources.len()) else { return };
        let room = SYMBOLS - self.symbols.len().min(SYMBOLS);
        let all = source.symbols.iter().zip(0..);
        let functions = all.filter_map(|(symbol, index)| source.function(elf, symbol, index, number)).take(room);
        // Once, and not by doubling: each page that is touched costs as much as fifty symbols.
        self.symbols.reserve(source.symbols.len().min(room));
        self.symbols.extend(functions);
        self.sources.push(source);
    }

    /// The symbol that covers the address.
    pub fn at(&self, address: u64) -> Option<Symbol> {
        let mut after = self.symbols.partition_point(|symbol| symbol.address <= address);
        for _ in 0..NESTED {
            let begin = self.symbols[..after].last()?.address;
            let first = self.symbols.partition_point(|symbol| symbol.address < begin);
            let mut chosen = self.chosen.borrow_mut();
            let chosen = chosen.entry(first).or_insert_with(|| self.chosen(&self.symbols[first..after]));
            if let Some(entry) = chosen.filter(|entry| address < entry.end) {
                return Some(Symbol { address: begin, name: unversioned(self.name(entry)) });
            }
            after = first;
        }
        None
    }

    fn chosen(&self, alike: &[Entry]) -> Option<Entry> {
        alike.iter().copied().min_by_key(|entry| {
            let name = self.name(*entry);
            let rank = self.symbol(*entry).map_or(u8::MAX, |symbol| rank(symbol, name));
            (rank, unversioned(name).len())
        })
    }

    fn symbol(&self, entry: Entry) -> Option<&'static Sym64<LittleEndian>> {
        self.sources.get(usize::from(entry.source))?.symbols.get(entry.index as usize)
    }

    fn name(&self, entry: Entry) -> &'static [u8] {
        let names = self.sources.get(usize::from(entry.source)).map(|source| source.names);
        let name = names.zip(self.symbol(entry)).and_then(|(names, symbol)| symbol.name(LittleEndian, names).ok());
        name.unwrap_or_default()
    }
}

impl Source {
    fn function(&self, elf: &Elf<'static>, symbol: &Sym64<LittleEndian>, index: u32, source: u8) -> Option<Entry> {
        let section = symbol.st_shndx(LittleEndian);
        let address = symbol.st_value(LittleEndian);
        if section == SHN_UNDEF || address == 0 || symbol.st_name(LittleEndian) == 0 {
            return None;
        }
        let code_end = elf.code_end(section.0);
        match symbol.st_type() {
            STT_FUNC | STT_GNU_IFUNC => {}
            // Code written in assembler, often without a type; not the marks of the assembler itself (`$x`, `.L`).
            STT_NOTYPE if code_end.is_some() => {
                let name = symbol.name(LittleEndian, self.names).ok()?;
                if name.is_empty() || name.starts_with(b"$") || name.starts_with(b".L") {
                    return None;
                }
            }
            _ => return None,
        }
        let size = symbol.st_size(LittleEndian);
        let end = if size == 0 { code_end.unwrap_or(address.saturating_add(1)) } else { address.saturating_add(size) };
        Some(Entry { address, end, index, source, is_open: size == 0 })
    }
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
