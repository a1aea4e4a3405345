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
    DW_AT_GNU_dwo_id, DW_AT_GNU_dwo_name, DW_AT_dwo_name, DW_FORM_GNU_ref_alt, DW_FORM_ref_addr, DW_FORM_ref_sup4,
    DW_FORM_ref_sup8, DebugAbbrev, DebugAranges, DebugInfo, DebugInfoOffset, DwAt, DwForm, Dwarf as Sections,
    SectionId,
};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Ranges of one file; a browser has half a million.
const RANGES: usize = 4 << 20;

/// Forms that name another unit, or another file.
const ELSEWHERE: [DwForm; 4] = [DW_FORM_ref_addr, DW_FORM_GNU_ref_alt, DW_FORM_ref_sup4, DW_FORM_ref_sup8];
/// Attributes of a unit whose content is in a file of its own.
const SPLIT: [DwAt; 3] = [DW_AT_GNU_dwo_id, DW_AT_GNU_dwo_name, DW_AT_dwo_name];

#[derive(Default)]
pub struct Units {
    /// Begin, end and unit of each range, by begin.
    ranges: OnceCell<Vec<(u64, u64, usize)>>,
    contexts: RefCell<HashMap<usize, Option<Rc<Context<Bounded>>>>>,
}

impl Units {
    /// The one unit that holds the address, if it can be read alone. To be asked where reading is paid for.
    pub fn of(&self, address: u64, file: &Unpacked) -> Option<Rc<Context<Bounded>>> {
        let ranges = self.ranges.get_or_init(|| ranges(file).unwrap_or_default());
        let after = ranges.partition_point(|(begin, ..)| *begin <= address);
        let (_, _, unit) = ranges[..after].last().filter(|(_, end, _)| address < *end)?;
        self.contexts.borrow_mut().entry(*unit).or_insert_with(|| alone(*unit, file).map(Rc::new)).clone()
    }
}

fn ranges(file: &Unpacked) -> gimli::Result<Vec<(u64, u64, usize)>> {
    let mut ranges = Vec::new();
    let table = DebugAranges::from(file.section(SectionId::DebugAranges));
    let mut units = table.headers();
    while let Some(unit) = units.next()? {
        let mut entries = unit.entries();
        while let Some(entry) = entries.next()? {
            let range = entry.range();
            // Functions that the linker dropped stay here, at 0.
            if range.begin != 0 && ranges.len() < RANGES {
                ranges.push((range.begin, range.end, unit.debug_info_offset().0));
            }
        }
    }
    ranges.sort_unstable();
    Ok(ranges)
}

fn alone(offset: usize, file: &Unpacked) -> Option<Context<Bounded>> {
    let info = file.unit(offset)?;
    let abbreviations = DebugAbbrev::from(file.section(SectionId::DebugAbbrev));
    let header = DebugInfo::from(info).header_from_offset(DebugInfoOffset(0)).ok()?;
    let abbreviations = header.abbreviations(&abbreviations).ok()?;
    // Compilers number them from 1.
    let mut all = (1..).map_while(|code| abbreviations.get(code)).flat_map(|entry| entry.attributes());
    let needs_others = all.any(|attribute| ELSEWHERE.contains(&attribute.form()) || SPLIT.contains(&attribute.name()));
    let is_skeleton = !matches!(header.type_(), gimli::UnitType::Compilation);
    if needs_others || is_skeleton {
        return None;
    }
    let load = |id: SectionId| match id {
        SectionId::DebugInfo => Ok(info),
        // It would lead to places in the whole.
        SectionId::DebugAranges => Ok(Bounded::new(&[])),
        id if is_read(id) => Ok::<_, gimli::Error>(file.section(id)),
        _ => Ok(Bounded::new(&[])),
    };
    Context::from_dwarf(Sections::load(load).ok()?).ok()
}
