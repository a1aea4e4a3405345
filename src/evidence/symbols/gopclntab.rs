//! Go's own table of functions and lines, which survives `-s -w`: names, files, lines and the calls that were inlined.
//!
//! The layouts are those of Go 1.16, 1.18 and 1.20 (cmd/link/internal/ld/pcln.go, runtime/symtab.go, runtime/symtabinl.go); Go 1.27
//! writes the last. Older ones are left to DWARF.

#![forbid(unsafe_code)]

use super::elf::Elf;
use super::gomodule::{self, Module};

/// Inlined calls at one address.
const CALLS: usize = 128;
/// Steps through one table of one function; the longest functions there are have some 100,000.
const STEPS: usize = 1 << 20;
/// A name or a path.
const TEXT_BYTES: usize = 4096;

/// Since which Go a table is as it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Layout {
    Go116,
    Go118,
    Go120,
}

/// The table of one program.
pub struct Pclntab<'d> {
    elf: Elf<'d>,
    layout: Layout,
    /// Instructions are multiples of so many bytes.
    quantum: u64,
    functions: u64,
    names: &'d [u8],
    units: &'d [u8],
    files: &'d [u8],
    steps: &'d [u8],
    /// Entries and offsets of the functions, then the functions.
    table: &'d [u8],
    text: u64,
    /// Where the trees of inlined calls begin, if that was found.
    inlined: Option<u64>,
}

/// One call. The outermost is the function that the linker knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    pub function: String,
    pub file: String,
    pub line: Option<u32>,
}

/// Innermost first, and where the function begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Calls {
    pub entry: u64,
    pub calls: Vec<Call>,
}

/// The head of a table.
#[derive(Clone, Copy)]
pub struct Head<'d> {
    pub layout: Layout,
    pub data: &'d [u8],
    /// Words behind the first eight bytes.
    words: [u64; 8],
}

impl<'d> Head<'d> {
    /// Of bytes that begin with one, for 64 bits.
    pub fn parse(data: &'d [u8]) -> Option<Head<'d>> {
        let layout = match data.first_chunk()? {
            [0xfa, 0xff, 0xff, 0xff, 0, 0, 1 | 2 | 4, 8] => Layout::Go116,
            [0xf0, 0xff, 0xff, 0xff, 0, 0, 1 | 2 | 4, 8] => Layout::Go118,
            [0xf1, 0xff, 0xff, 0xff, 0, 0, 1 | 2 | 4, 8] => Layout::Go120,
            _ => return None,
        };
        let mut words = [0; 8];
        for (i, word) in words.iter_mut().enumerate() {
            *word = u64::from_le_bytes(*data.get(8 + i * 8..)?.first_chunk()?);
        }
        Some(Head { layout, data, words })
    }

    /// The offset of the n-th part: names, units, files, steps, functions.
    fn part(&self, n: usize) -> Option<u64> {
        // From Go 1.18 the start of the text stood before them.
        let first = if self.layout >= Layout::Go118 { 3 } else { 2 };
        self.words.get(first + n).copied()
    }

    fn bytes(&self, n: usize) -> Option<&'d [u8]> {
        self.data.get(usize::try_from(self.part(n)?).ok()?..)
    }

    /// Where the names begin, counted from the head.
    pub fn names_offset(&self) -> Option<u64> {
        self.part(0)
    }

    /// Where the functions begin, counted from the head.
    pub fn functions_offset(&self) -> Option<u64> {
        self.part(4)
    }

    /// The start of the text, which the head had until Go 1.26; 0 in a program that is loaded anywhere.
    pub fn text(&self) -> Option<u64> {
        (self.layout >= Layout::Go118).then_some(self.words[2]).filter(|text| *text > 0)
    }
}

impl<'d> Pclntab<'d> {
    /// `None` if the program has none.
    pub fn of(elf: &Elf<'d>) -> Option<Pclntab<'d>> {
        let Module { head, text, inlined } = gomodule::find(elf)?;
        let table = head.bytes(4)?;
        Some(Pclntab {
            elf: *elf,
            layout: head.layout,
            quantum: head.data[6].into(),
            // Each takes eight bytes of the table or more.
            functions: Some(head.words[0]).filter(|n| *n <= table.len() as u64 / 8)?,
            names: head.bytes(0)?,
            units: head.bytes(1)?,
            files: head.bytes(2)?,
            steps: head.bytes(3)?,
            table,
            text,
            inlined,
        })
    }

    /// The calls at an address, if it lies in a Go function.
    pub fn calls(&self, address: u64) -> Option<Calls> {
        let function = self.function(address)?;
        let entry = function.entry;
        let mut calls = Vec::new();
        let mut at = address;
        while calls.len() < CALLS {
            let inner = self.inlined_at(&function, at);
            let name = inner.map_or_else(|| self.name(function.name), |inner| self.name(inner.name));
            let (file, line) = self.place(&function, at);
            calls.push(Call { function: name?, file: file.unwrap_or_default(), line });
            let Some(inner) = inner else { break };
            at = entry.checked_add(inner.parent.into())?;
        }
        Some(Calls { entry, calls })
    }

    /// The last function that begins at or before the address; behind the last of all stands where the text ends.
    fn function(&self, address: u64) -> Option<Function> {
        let begins = |i: u64| self.field(i * 2).and_then(|field| field.checked_add(self.base()));
        let (mut low, mut high) = (0, self.functions);
        if address < begins(0)? || address >= begins(high)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if begins(middle)? <= address { low = middle } else { high = middle }
        }
        self.parsed(begins(low)?, self.field(low * 2 + 1)?)
    }

    /// Entries count from the start of the text, before Go 1.18 from 0.
    fn base(&self) -> u64 {
        if self.layout >= Layout::Go118 { self.text } else { 0 }
    }

    fn field(&self, i: u64) -> Option<u64> {
        let i = usize::try_from(i).ok()?;
        match self.layout {
            Layout::Go116 => self.table.get(i.checked_mul(8)?..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
            _ => word(self.table, i.checked_mul(4)?).map(u64::from),
        }
    }

    /// runtime2.go, `_func`.
    fn parsed(&self, entry: u64, offset: u64) -> Option<Function> {
        let function = self.table.get(usize::try_from(offset).ok()?..)?;
        // The entry itself, of four bytes or eight.
        let at = if self.layout == Layout::Go116 { 8 } else { 4 };
        let field = |i: usize| word(function, at + i * 4);
        let tail = at + if self.layout == Layout::Go120 { 9 } else { 8 } * 4;
        let (tables, data) = (field(6)?, *function.get(tail + 3)?);
        Some(Function {
            entry,
            name: field(0)?,
            file_steps: field(4)?,
            line_steps: field(5)?,
            unit: field(7)?,
            tree_steps: (tables > INLINED_TABLE)
                .then(|| word(function, tail + 4 + INLINED_TABLE as usize * 4))
                .flatten(),
            tree: if u32::from(data) > INLINED_DATA { self.tree(function, tail + 4, tables) } else { None },
        })
    }

    /// Where the tree of inlined calls lies: an offset since Go 1.18, an aligned pointer before.
    fn tree(&self, function: &[u8], tail: usize, tables: u32) -> Option<u64> {
        let behind = tail.checked_add(usize::try_from(tables).ok()?.checked_mul(4)?)?;
        if self.layout == Layout::Go116 {
            let from_start = function.as_ptr() as usize - self.elf.bytes.as_ptr() as usize;
            let aligned = (from_start + behind).next_multiple_of(8) - from_start;
            let pointer = function.get(aligned + INLINED_DATA as usize * 8..)?.first_chunk()?;
            return Some(u64::from_le_bytes(*pointer)).filter(|pointer| *pointer > 0);
        }
        let offset = word(function, behind + INLINED_DATA as usize * 4).filter(|offset| *offset != u32::MAX)?;
        self.inlined?.checked_add(offset.into())
    }

    /// The inlined call that covers the address.
    fn inlined_at(&self, function: &Function, address: u64) -> Option<Inlined> {
        let index = self.value(function.tree_steps?, function.entry, address).filter(|index| *index >= 0)?;
        // Parent, file and line went away in Go 1.20: runtime/symtab.go and symtabinl.go, `inlinedCall`.
        let (size, name, parent) = if self.layout == Layout::Go120 { (16, 4, 8) } else { (20, 12, 16) };
        let entry = self.elf.at(function.tree?.checked_add(index as u64 * size)?)?;
        let inlined = Inlined { name: word(entry, name)?, parent: word(entry, parent)? };
        // The caller's place is in the same function, so it is never far.
        (inlined.parent <= i32::MAX as u32).then_some(inlined)
    }

    fn place(&self, function: &Function, address: u64) -> (Option<String>, Option<u32>) {
        let line = self.value(function.line_steps, function.entry, address);
        let file = self.value(function.file_steps, function.entry, address).filter(|file| *file >= 0);
        let file = file.and_then(|file| {
            let slot = u64::from(function.unit).checked_add(file as u64)?.checked_mul(4)?;
            let offset = word(self.units, usize::try_from(slot).ok()?).filter(|offset| *offset != u32::MAX)?;
            text(self.files, offset)
        });
        (file, line.and_then(|line| u32::try_from(line).ok()).filter(|line| *line > 0))
    }

    fn name(&self, offset: u32) -> Option<String> {
        text(self.names, offset).filter(|name| !name.is_empty())
    }

    /// The value of a table at an address: pairs of variable length, the change of the value and how far it holds.
    fn value(&self, offset: u32, entry: u64, address: u64) -> Option<i32> {
        let mut bytes = self.steps.get(usize::try_from(offset).ok()?..).filter(|_| offset > 0)?;
        let mut pc = entry;
        let mut value = -1i32;
        for step in 0..STEPS {
            let change = varint(&mut bytes)?;
            if change == 0 && step > 0 {
                return None;
            }
            value = value.wrapping_add((change >> 1) as i32 ^ -((change & 1) as i32));
            pc = pc.checked_add(u64::from(varint(&mut bytes)?).checked_mul(self.quantum)?)?;
            if address < pc {
                return Some(value);
            }
        }
        None
    }
}

/// PCDATA_InlTreeIndex and FUNCDATA_InlTree of internal/abi/symtab.go.
const INLINED_TABLE: u32 = 2;
/// 〃
const INLINED_DATA: u32 = 3;

struct Function {
    entry: u64,
    name: u32,
    file_steps: u32,
    line_steps: u32,
    unit: u32,
    tree_steps: Option<u32>,
    tree: Option<u64>,
}

#[derive(Clone, Copy)]
struct Inlined {
    name: u32,
    /// An instruction of the call, counted from the function's entry.
    parent: u32,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Up to a NUL.
fn text(bytes: &[u8], offset: u32) -> Option<String> {
    let bytes = bytes.get(usize::try_from(offset).ok()?..)?;
    let bytes = &bytes[..bytes.len().min(TEXT_BYTES)];
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests;
