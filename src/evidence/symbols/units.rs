//! Debug information one unit at a time: the table of addresses (`.debug_aranges`) says which unit an address is in, and no other is
//! read. addr2line reads the head of every unit of a file before it answers for one, which in a C library are two thousand.
//!
//! A unit is taken by itself only if it needs no other; for the rest, and where the table does not know an address (not every
//! compiler writes it), the whole file is read.

#![forbid(unsafe_code)]

use super::bounded::Bounded;
use super::sections::is_read;
use super::unpacked::Unpacked;
use addr2line::Context;
use gimli::{
    Abbreviations, DW_AT_GNU_dwo_id, DW_AT_GNU_dwo_name, DW_AT_dwo_name, DW_FORM_GNU_ref_alt, DW_FORM_ref_addr,
    DW_FORM_ref_sup4, DW_FORM_ref_sup8, DebugAbbrev, DebugAranges, DebugInfo, DebugInfoOffset, DwAt, DwForm,
    Dwarf as Sections, SectionId, UnitHeader,
};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Ranges of one file; a browser has half a million.
const RANGES: usize = 4 << 20;

/// Of one unit, commonly.
const ABBREVIATION_BYTES: usize = 16 << 10;

/// Forms that name another unit, or another file.
const ELSEWHERE: [DwForm; 4] = [DW_FORM_ref_addr, DW_FORM_GNU_ref_alt, DW_FORM_ref_sup4, DW_FORM_ref_sup8];
/// Attributes of a unit whose content is in a file of its own.
const SPLIT: [DwAt; 3] = [DW_AT_GNU_dwo_id, DW_AT_GNU_dwo_name, DW_AT_dwo_name];

#[derive(Default)]
pub struct Units {
    table: OnceCell<Table>,
    contexts: RefCell<HashMap<usize, Option<Rc<Context<Bounded>>>>>,
}

/// What `.debug_aranges` says. A unit is where it begins in `.debug_info`.
#[derive(Default)]
struct Table {
    /// Begin, end and unit of each range, by begin.
    ranges: Vec<(u64, u64, usize)>,
    /// Every unit that it names, once, in their order.
    units: Vec<usize>,
}

impl Units {
    /// The one unit that holds the address, if it can be read alone. To be asked where reading is paid for.
    pub fn of(&self, address: u64, file: &Unpacked) -> Option<Rc<Context<Bounded>>> {
        let unit = self.table(file).at(address)?;
        let behind = self.place(address, file);
        self.contexts.borrow_mut().entry(unit).or_insert_with(|| alone(unit, behind, file).map(Rc::new)).clone()
    }

    /// How many units of the table stand before the one that holds the address.
    pub fn place(&self, address: u64, file: &Unpacked) -> Option<usize> {
        let table = self.table(file);
        table.units.binary_search(&table.at(address)?).ok()
    }

    fn table(&self, file: &Unpacked) -> &Table {
        self.table.get_or_init(|| table(file).unwrap_or_default())
    }
}

impl Table {
    fn at(&self, address: u64) -> Option<usize> {
        let after = self.ranges.partition_point(|(begin, ..)| *begin <= address);
        self.ranges[..after].last().filter(|(_, end, _)| address < *end).map(|(.., unit)| *unit)
    }
}

fn table(file: &Unpacked) -> gimli::Result<Table> {
    const RANGE_BYTES: usize = 16;
    let section = file.section(SectionId::DebugAranges);
    let mut ranges = Vec::with_capacity(RANGES.min(section.bytes().len() / RANGE_BYTES));
    let mut offsets = Vec::new();
    let table = DebugAranges::from(section);
    let mut units = table.headers();
    while let Some(unit) = units.next()? {
        let offset = unit.debug_info_offset().0;
        if offsets.len() < RANGES {
            offsets.push(offset);
        }
        let mut entries = unit.entries();
        while let Some(entry) = entries.next()? {
            let range = entry.range();
            // Functions that the linker dropped stay here, at 0.
            if range.begin != 0 && ranges.len() < RANGES {
                ranges.push((range.begin, range.end, offset));
            }
        }
    }
    ranges.sort_unstable();
    offsets.sort_unstable();
    offsets.dedup();
    Ok(Table { ranges, units: offsets })
}

/// The unit there, `behind` so many others.
fn alone(offset: usize, behind: Option<usize>, file: &Unpacked) -> Option<Context<Bounded>> {
    let info = file.unit(offset)?;
    let header = DebugInfo::from(info).header_from_offset(DebugInfoOffset(0)).ok()?;
    let (abbreviation_section, abbreviations) = abbreviations(&header, file)?;
    // Compilers number them from 1.
    let mut all = (1..).map_while(|code| abbreviations.get(code)).flat_map(|entry| entry.attributes());
    let needs_others = all.any(|attribute| ELSEWHERE.contains(&attribute.form()) || SPLIT.contains(&attribute.name()));
    let is_skeleton = !matches!(header.type_(), gimli::UnitType::Compilation);
    if needs_others || is_skeleton {
        return None;
    }
    // Mostly its line program has the place among the others that it has itself. If not, it is not there, and the unit is none.
    let lines_end = behind.and_then(|behind| file.line_program_place(behind)).map(|place| place.end);
    let load = |id: SectionId| match id {
        SectionId::DebugInfo => Ok(info),
        SectionId::DebugAbbrev => Ok(abbreviation_section),
        SectionId::DebugLine if lines_end.is_some() => {
            Ok(lines_end.and_then(|end| file.beginning(id, end)).unwrap_or(Bounded::new(&[])))
        }
        // It would lead to places in the whole.
        SectionId::DebugAranges => Ok(Bounded::new(&[])),
        id if is_read(id) => Ok::<_, gimli::Error>(file.section(id)),
        _ => Ok(Bounded::new(&[])),
    };
    Context::from_dwarf(Sections::load(load).ok()?).ok()
}

/// Those of a unit, and as much of their section as has them: nothing says before where they end.
fn abbreviations(header: &UnitHeader<Bounded>, file: &Unpacked) -> Option<(Bounded, Abbreviations)> {
    let mut len = header.debug_abbrev_offset().0;
    loop {
        len = len.checked_add(ABBREVIATION_BYTES)?;
        let section = file.beginning(SectionId::DebugAbbrev, len)?;
        match header.abbreviations(&DebugAbbrev::from(section)) {
            Ok(abbreviations) => return Some((section, abbreviations)),
            Err(_) if section.bytes().len() >= len => len = len.checked_mul(2)?,
            Err(_) => return None,
        }
    }
}
