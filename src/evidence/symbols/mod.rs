//! Addresses as functions, files and lines, out of what an ELF file and its debug files say.
//!
//! The files belong to whoever made the image. Whatever is wrong in them costs a name, never more: sizes, counts and steps
//! are bounded, and what cannot be read is as if it were not there.

#![forbid(unsafe_code)]

mod bounded;
mod demangle;
mod dwarf;
mod dynamic;
pub mod elf;
mod file;
mod gomodule;
mod gopclntab;
mod lines;
mod roots;
mod sections;
mod table;
mod units;
mod unpacked;

pub use demangle::demangle;
pub use roots::Roots;

use super::own;
use super::stack::Frame;
use dwarf::{Call, Dwarf};
use elf::Elf;
use file::DebugFile;
use gopclntab::Pclntab;
use object::elf::SHT_SYMTAB;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use table::{Symbol, Table};

/// Names and paths that a frame keeps; Sentry keeps fewer.
const TEXT_BYTES: usize = 4096;

/// The symbols of one ELF file. Making one is cheap; each source is read when an address is first asked for.
pub struct Symbols {
    elf: Option<Elf<'static>>,
    path: Option<PathBuf>,
    roots: Roots,
    bias: u64,
    debug: OnceCell<Result<Option<DebugFile>, String>>,
    table: OnceCell<Table>,
    dwarf: OnceCell<Option<Dwarf>>,
    go: OnceCell<Option<Pclntab<'static>>>,
}

impl Symbols {
    /// Of a file's bytes and its path, or of an image that was read out of memory (then without a path).
    pub fn of(elf: &'static [u8], path: Option<&Path>, roots: &Roots) -> Symbols {
        Symbols {
            elf: Elf::parse(elf),
            path: path.map(Path::to_owned),
            roots: roots.clone(),
            bias: 0,
            debug: OnceCell::new(),
            table: OnceCell::new(),
            dwarf: OnceCell::new(),
            go: OnceCell::new(),
        }
    }

    /// Where it is loaded, for an image that was read out of memory: its dynamic section may hold addresses of the process.
    pub fn loaded_at(self, bias: u64) -> Symbols {
        Symbols { bias, ..self }
    }

    /// What stands at an address of the file's own (the program counter less the load bias): innermost first, functions
    /// that were inlined there as frames of their own. Empty if nothing is known.
    ///
    /// A return address points behind its call: the caller asks for the byte before it. `address`, `package`,
    /// `image_address` and `trust` are the caller's to fill, and `symbol_address` is without the bias.
    pub fn frames(&self, address: u64) -> Vec<Frame> {
        self.frames_to(address, Depth::Inlined)
    }

    /// The same. But where functions that were inlined could only be told after much has been unpacked, in a large library of the
    /// system, it is the function by its symbol and the line.
    pub fn frames_in_brief(&self, address: u64) -> Vec<Frame> {
        self.frames_to(address, Depth::Line)
    }

    fn frames_to(&self, address: u64, depth: Depth) -> Vec<Frame> {
        // Functions that the linker dropped stay in the debug information, at 0.
        let Some(elf) = self.elf.as_ref().filter(|elf| elf.is_code(address)) else { return Vec::new() };
        // Go's own table is complete, and at hand at once; what it does not know is C.
        if let Some(go) = self.go.get_or_init(|| Pclntab::of(elf)).as_ref().and_then(|go| go.calls(address)) {
            return go.calls.into_iter().map(|call| called(call, go.entry)).collect();
        }
        let symbol = self.table(elf).at(address);
        if let (Some(symbol), Depth::Line, true) = (symbol, depth, self.is_systems())
            && let Some(place) = self.dwarf(elf).and_then(|dwarf| dwarf.place(address))
        {
            return vec![self.named(symbol, place)];
        }
        let calls = self.dwarf(elf).map(|dwarf| dwarf.calls(address)).unwrap_or_default();
        if calls.is_empty() {
            return symbol.map(|symbol| self.named(symbol, Call::default())).into_iter().collect();
        }
        let last = calls.len() - 1;
        let frames = calls.into_iter().enumerate();
        frames.map(|(i, call)| self.told(call, symbol.filter(|_| i == last), symbol)).collect()
    }

    /// What stood in the way of knowing more, `what: why`. To be asked after the last address.
    pub fn gap(&self) -> Option<&str> {
        self.debug.get()?.as_ref().err().map(String::as_str)
    }

    fn debug(&self, elf: &Elf<'static>) -> Option<&DebugFile> {
        let found = self.debug.get_or_init(|| {
            let is_whole = sections::has_dwarf(elf);
            if is_whole { Ok(None) } else { file::separate(elf, self.path.as_deref(), &self.roots) }
        });
        found.as_ref().ok().and_then(Option::as_ref)
    }

    fn dwarf(&self, elf: &Elf<'static>) -> Option<&Dwarf> {
        let of = || Dwarf::of(elf, self.debug(elf), self.path.as_deref(), &self.roots);
        self.dwarf.get_or_init(of).as_ref()
    }

    fn table(&self, elf: &Elf<'static>) -> &Table {
        self.table.get_or_init(|| {
            let debug = self.debug(elf).map(|debug| &debug.elf);
            let is_stripped = elf.symbols(SHT_SYMTAB).is_empty() && debug.is_none();
            let mini = if is_stripped { file::mini(elf, &self.roots) } else { None };
            Table::of(&[Some(elf), debug, mini.as_ref()].into_iter().flatten().collect::<Vec<_>>(), self.bias)
        })
    }

    /// The frame that debug information makes. `own` is the symbol of the outermost call, of the one that was not inlined.
    fn told(&self, call: Call, own: Option<Symbol>, around: Option<Symbol>) -> Frame {
        let linked = own.map(|symbol| symbol.name());
        let raw = call.name.or_else(|| linked.clone()).unwrap_or_default();
        let mut function = demangle(&raw);
        // Of functions that are not exported compilers leave the scope and the parameters to the symbol table.
        if let (None, Some(full)) = (&function, linked.as_deref().and_then(demangle)) {
            function = Some(full).filter(|full| full.contains(&*raw));
        }
        let symbol = linked.or_else(|| function.is_some().then(|| raw.clone()));
        let function = function.unwrap_or(raw);
        let is_own = if call.is_rust {
            own::rust(Some(&function), call.file.as_deref())
        } else {
            own::native(&function, call.file.as_deref())
        };
        Frame {
            in_app: is_own && !self.is_systems(),
            symbol: symbol.filter(|symbol| *symbol != function).map(|symbol| cut(&symbol, TEXT_BYTES).to_owned()),
            function: Some(cut(&function, TEXT_BYTES).to_owned()).filter(|function| !function.is_empty()),
            symbol_address: around.map(|symbol| symbol.address),
            file: call.file,
            line: call.line,
            column: call.column,
            ..Frame::default()
        }
    }

    /// The frame that a symbol makes, at a place that may be known.
    fn named(&self, symbol: Symbol, place: Call) -> Frame {
        let name = symbol.name();
        let is_rust = demangle::is_rust(&name);
        self.told(Call { name: Some(name), is_rust, ..place }, Some(symbol), Some(symbol))
    }

    fn is_systems(&self) -> bool {
        self.path.as_deref().and_then(Path::to_str).is_some_and(own::is_system_library)
    }
}

/// How much is told of an address.
#[derive(Clone, Copy)]
enum Depth {
    /// All that is known.
    Inlined,
    /// What is soon at hand.
    Line,
}

/// The frame of a Go function, named as Go's tracebacks name it: without the types that a generic one was made for.
fn called(call: gopclntab::Call, entry: u64) -> Frame {
    let whole = call.function;
    let types = whole.find('[').zip(whole.rfind(']')).filter(|(open, close)| open < close);
    let function = types.map(|(open, close)| format!("{}[...]{}", &whole[..open], &whole[close + 1..]));
    let symbol = function.as_ref().filter(|function| **function != whole).map(|_| whole.clone());
    let function = function.unwrap_or(whole);
    let package = own::go_package(&function);
    Frame {
        in_app: own::go(package, &call.file),
        module: Some(package.to_owned()).filter(|package| !package.is_empty()),
        file: Some(call.file).filter(|file| !file.is_empty()),
        line: call.line,
        symbol_address: Some(entry),
        symbol,
        function: Some(function),
        ..Frame::default()
    }
}

/// At most so many bytes, cut between characters.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::LittleEndian;
    use object::elf::Sym64;
    use object::read::elf::Sym as _;

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

    /// Our own libc: as it is, and as it lies in memory, with `bias` where its loader adds it.
    fn libc(bias: Option<u64>) -> Option<Vec<u8>> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut bytes = std::fs::read(
            maps.lines()
                .find_map(|line| line.find("/").map(|at| &line[at..]).filter(|path| path.ends_with("/libc.so.6")))?,
        )
        .unwrap();
        let Some(bias) = bias else { return Some(bytes) };
        bytes[40..48].fill(0);
        bytes[60..64].fill(0);
        let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let headers = (0..usize::from(bytes[56])).map(|i| 64 + i * 56);
        let dynamic = headers.into_iter().find(|at| bytes[*at..*at + 4] == [2, 0, 0, 0]).expect("a dynamic section");
        let (offset, size) = (word(&bytes, dynamic + 8) as usize, word(&bytes, dynamic + 32) as usize);
        for at in (offset..offset + size).step_by(16) {
            // DT_HASH, DT_STRTAB, DT_SYMTAB, DT_GNU_HASH
            if [4, 5, 6, 0x6fff_fef5].contains(&word(&bytes, at)) {
                let moved = word(&bytes, at + 8) + bias;
                bytes[at + 8..at + 16].copy_from_slice(&moved.to_le_bytes());
            }
        }
        Some(bytes)
    }

    #[test]
    fn an_image_without_section_headers_has_its_dynamic_symbols() {
        let Some(whole) = libc(None) else { return };
        let roots = Roots::default();
        let whole = Symbols::of(whole.leak(), None, &roots);
        for bias in [0, 0x7f12_3456_7000] {
            let image = Symbols::of(libc(Some(bias)).unwrap().leak(), None, &roots).loaded_at(bias);
            let elf = image.elf.unwrap();
            let (exported, names) = dynamic::symbols(&elf, bias).unwrap();
            assert!(exported.len() > 1000, "{}", exported.len());
            let is = |symbol: &&Sym64<_>, name: &str| symbol.name(LittleEndian, names) == Ok(name.as_bytes());
            let mut same = 0;
            for name in ["abort", "raise", "malloc", "free", "qsort", "pthread_create", "__libc_start_main"] {
                let Some(symbol) = exported.iter().find(|symbol| is(symbol, name)) else { continue };
                let address = symbol.st_value.get(object::LittleEndian);
                let function = |symbols: &Symbols| symbols.frames(address + 1)[0].symbol_address;
                assert_eq!(function(&image), function(&whole), "{name}");
                same += 1;
            }
            assert!(same > 4);
        }
    }

    #[test]
    fn what_is_no_elf_file_has_no_symbols() {
        for bytes in [&b""[..], b"#!/bin/sh", b"\x7fELF", &own()[..64], &own()[..4096]] {
            assert!(Symbols::of(bytes.to_vec().leak(), None, &Roots::default()).frames(4096).is_empty());
        }
    }
}
