//! The line of an address by the line table alone, without the debug information of its unit, which a large library has far behind much
//! else that would have to be unpacked first.
//!
//! Only the unit says which line program is its own. But who links lays both down in the same order, and a program says itself which
//! addresses it is for: the one at the place of the unit is taken, and believed if it knows the address.

#![forbid(unsafe_code)]

use super::bounded::Bounded;
use super::sections;
use super::unpacked::Unpacked;
use addr2line::Context;
use gimli::{
    DW_AT_comp_dir, DW_AT_stmt_list, DW_CHILDREN_no, DW_FORM_sec_offset, DW_FORM_string, DW_TAG_compile_unit,
    DW_UT_compile, DebugLine, DebugLineOffset, Dwarf as Sections, Reader as _, SectionId,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// From this version on a line table has its directory itself.
const VERSION: u16 = 5;
const ADDRESS_BYTES: u8 = 8;

/// Line programs by their place in the table.
#[derive(Default)]
pub struct Lines {
    contexts: RefCell<HashMap<usize, Option<Rc<Context<Bounded>>>>>,
}

impl Lines {
    /// What knows the lines of one program. To be asked where reading is paid for.
    pub fn of(&self, place: usize, file: &Unpacked) -> Option<Rc<Context<Bounded>>> {
        self.contexts.borrow_mut().entry(place).or_insert_with(|| alone(place, file).map(Rc::new)).clone()
    }
}

fn alone(place: usize, file: &Unpacked) -> Option<Context<Bounded>> {
    let program = file.line_program(place)?;
    let texts = file.section(SectionId::DebugLineStr);
    let load = |id: SectionId| {
        let section = match id {
            SectionId::DebugLine => program,
            SectionId::DebugLineStr => texts,
            _ => Bounded::new(&[]),
        };
        Ok::<_, gimli::Error>(section)
    };
    let sections = Sections::load(load).ok()?;
    let header = DebugLine::from(program).program(DebugLineOffset(0), ADDRESS_BYTES, None, None).ok()?;
    let header = header.header();
    let directory = header.directory(0).filter(|_| header.version() >= VERSION)?;
    let directory = sections.attr_line_string(directory).ok()?;
    let directory = sections::text(&directory.to_slice().ok()?).to_vec();
    let (unit, abbreviations) = unit_in(&directory);
    let (unit, abbreviations) = (Bounded::new(unit.leak()), Bounded::new(abbreviations.leak()));
    let made = |id: SectionId| match id {
        SectionId::DebugInfo => Ok(unit),
        SectionId::DebugAbbrev => Ok(abbreviations),
        id => load(id),
    };
    Context::from_dwarf(Sections::load(made).ok()?).ok()
}

/// A unit that says where its line program is and in which directory it was compiled, and its abbreviation: DWARF 7.5.
fn unit_in(directory: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const CODE: u8 = 1;
    const ABBREVIATIONS_AT: [u8; 4] = [0; 4];
    const PROGRAM_AT: [u8; 4] = [0; 4];
    let mut unit = VERSION.to_le_bytes().to_vec();
    unit.extend([DW_UT_compile.0, ADDRESS_BYTES]);
    unit.extend(ABBREVIATIONS_AT);
    unit.push(CODE);
    unit.extend(PROGRAM_AT);
    unit.extend(directory);
    unit.push(0);
    let len = unit.len() as u32;
    // Each of these is less than 128, so that it is its own LEB128; zeros end the attributes, and the abbreviations.
    let (tag, children) = (DW_TAG_compile_unit.0, u16::from(DW_CHILDREN_no.0));
    let attributes = [DW_AT_stmt_list.0, DW_FORM_sec_offset.0, DW_AT_comp_dir.0, DW_FORM_string.0, 0, 0];
    let abbreviation = [CODE.into(), tag, children].into_iter().chain(attributes).chain([0]);
    let abbreviations = abbreviation.map(|number| number as u8).collect();
    ([len.to_le_bytes().to_vec(), unit].concat(), abbreviations)
}
