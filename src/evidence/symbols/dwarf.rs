//! DWARF: the functions at an address, those inlined there first, with file, line and column.

#![forbid(unsafe_code)]

use super::bounded::{Bounded, Purse};
use super::elf::Elf;
use super::file::{self, DebugFile};
use super::lines::Lines;
use super::sections::{has_dwarf, is_read, section};
use super::units::Units;
use super::unpacked::Unpacked;
use super::{Roots, cut};
use addr2line::{Context, LookupContinuation, LookupResult, SplitDwarfLoad};
use gimli::{DW_LANG_Rust, Dwarf as Sections, DwarfPackage, Reader as _};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Inlined calls at one address.
const CALLS: usize = 256;
/// A path, PATH_MAX of limits.h.
const PATH_BYTES: usize = 4096;

/// The debug information of one file.
pub struct Dwarf {
    source: Elf<'static>,
    sections: Unpacked,
    units: Units,
    lines: Lines,
    whole: OnceCell<Option<Whole>>,
    /// The program and its debug file.
    program: Option<PathBuf>,
    debug: Option<PathBuf>,
    roots: Roots,
}

/// All units of the file, where one by itself is not enough.
struct Whole {
    context: Context<Bounded>,
    package: Option<DwarfPackage<Bounded>>,
}

/// One function at an address.
#[derive(Default)]
pub struct Call {
    /// As the linker knows it, if the debug information says.
    pub name: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    pub is_rust: bool,
}

impl Dwarf {
    /// Out of the program itself, else out of its debug file.
    pub fn of(elf: &Elf<'static>, debug: Option<&DebugFile>, program: Option<&Path>, roots: &Roots) -> Option<Dwarf> {
        let debug = debug.filter(|debug| has_dwarf(&debug.elf));
        let source = debug.map_or(*elf, |debug| debug.elf);
        has_dwarf(&source).then(|| Dwarf {
            source,
            sections: Unpacked::of(&source, roots.purse()),
            units: Units::default(),
            lines: Lines::default(),
            whole: OnceCell::new(),
            program: program.map(Path::to_owned),
            debug: debug.map(|debug| debug.path.clone()),
            roots: roots.clone(),
        })
    }

    /// Innermost first; empty if no unit covers the address.
    pub fn calls(&self, address: u64) -> Vec<Call> {
        let purse = self.roots.purse();
        let has_shared = self.source.bytes_of(".gnu_debugaltlink").is_some();
        let alone = if has_shared { None } else { purse.spend(|| self.units.of(address, &self.sections)) };
        let calls = alone.map(|unit| purse.spend(|| self.in_context(&unit, address))).unwrap_or_default();
        if !calls.is_empty() {
            return calls;
        }
        let whole = self.whole.get_or_init(|| self.all());
        whole.as_ref().map(|whole| purse.spend(|| self.in_context(&whole.context, address))).unwrap_or_default()
    }

    /// The place of the address in the source, where all that there is of it would take long and this does not.
    pub fn place(&self, address: u64) -> Option<Call> {
        if !self.sections.is_far() {
            return None;
        }
        self.roots.purse().spend(|| {
            let behind = self.units.place(address, &self.sections)?;
            let lines = self.lines.of(behind, &self.sections)?;
            self.in_context(&lines, address).pop().filter(|call| call.line.is_some())
        })
    }

    fn all(&self) -> Option<Whole> {
        let purse = self.roots.purse();
        let path = self.debug.as_deref().or(self.program.as_deref());
        let context = purse.spend(|| {
            let mut sections = load(&self.sections);
            if let Some(shared) = file::shared(&self.source, path, &self.roots) {
                sections.set_sup(load(&Unpacked::of(&shared.elf, purse)));
            }
            sections.populate_abbreviations_cache(gimli::AbbreviationsCacheStrategy::Duplicates);
            Context::from_dwarf(sections).ok()
        })?;
        let mut beside = [self.program.as_deref(), self.debug.as_deref()].into_iter().flatten();
        let package = beside.find_map(file::package);
        let package = package.and_then(|found| purse.spend(|| load_package(&found.elf, purse)));
        Some(Whole { context, package })
    }

    fn in_context(&self, context: &Context<Bounded>, address: u64) -> Vec<Call> {
        let mut calls = Vec::new();
        let mut found = context.find_frames(address);
        let frames = loop {
            match found {
                LookupResult::Output(frames) => break frames,
                LookupResult::Load { load, continuation } => found = continuation.resume(self.split(&load)),
            }
        };
        let Ok(mut frames) = frames else { return calls };
        while let Ok(Some(frame)) = frames.next() {
            let place = frame.location.as_ref();
            let named = frame.function.as_ref();
            calls.push(Call {
                name: named.and_then(|name| name.raw_name().ok()).map(|name| name.into_owned()),
                file: place.and_then(|place| place.file).map(|file| cut(file, PATH_BYTES).to_owned()),
                line: place.and_then(|place| place.line).filter(|line| *line > 0),
                column: place.and_then(|place| place.column).filter(|column| *column > 0),
                is_rust: named.is_some_and(|name| name.language == Some(DW_LANG_Rust)),
            });
            if calls.len() == CALLS {
                break;
            }
        }
        calls
    }

    /// The unit that the linker left in a file of its own.
    fn split(&self, load: &SplitDwarfLoad<Bounded>) -> Option<Arc<Sections<Bounded>>> {
        let package = self.whole.get().and_then(|whole| whole.as_ref()?.package.as_ref());
        if let Some(Ok(Some(unit))) = package.map(|package| package.find_cu(load.dwo_id, &load.parent)) {
            return Some(Arc::new(unit));
        }
        let name = load.path.as_ref()?.to_slice().ok()?;
        let directory = load.comp_dir.as_ref().and_then(|directory| directory.to_slice().ok()).unwrap_or_default();
        let places = file::split_unit(&name, &directory, self.program.as_deref(), &self.roots);
        places.iter().filter_map(|path| file::open(path)).find_map(|found| {
            let purse = self.roots.purse();
            let mut unit = Sections::load(|id| {
                let name = id.dwo_name().filter(|_| is_read(id)).unwrap_or_default();
                Ok::<_, gimli::Error>(section(&found.elf, name, purse))
            })
            .ok()?;
            let header = unit.units().next().ok()??;
            let id = unit.unit(header).ok()?.dwo_id;
            unit.make_dwo(&load.parent);
            (id == Some(load.dwo_id)).then(|| Arc::new(unit))
        })
    }
}

fn load(file: &Unpacked) -> Sections<Bounded> {
    let load = |id: gimli::SectionId| {
        let empty = Bounded::new(&[]);
        Ok::<_, std::convert::Infallible>(if is_read(id) { file.section(id) } else { empty })
    };
    match Sections::load(load) {
        Ok(sections) => sections,
        Err(never) => match never {},
    }
}

/// All sections: an index says where in each the part of a unit lies.
fn load_package(elf: &Elf<'static>, purse: &Purse) -> Option<DwarfPackage<Bounded>> {
    let load = |id: gimli::SectionId| {
        let name = id.dwo_name().unwrap_or_default();
        Ok::<_, gimli::Error>(section(elf, name, purse))
    };
    DwarfPackage::load(load, Bounded::new(&[])).ok()
}
