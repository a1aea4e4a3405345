//! Where a Go program keeps its tables: the head of `.gopclntab`, and the module data that knows the rest.
//!
//! The linker writes one `moduledata` (runtime/symtab.go), which begins with a pointer to the head. It tells where the text begins,
//! which the head does not in a program that is loaded anywhere, and where the trees of inlined calls lie.

#![forbid(unsafe_code)]

use super::elf::Elf;
use super::gopclntab::{Head, Layout};

/// Names under which the head is found; the second in programs that are loaded anywhere.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Through how much of a program without section headers the head is looked for.
const SEARCH_BYTES: usize = 256 << 20;
/// Places that look like the module data; there is one.
const CANDIDATES: usize = 16;
/// Words of the module data up to those that are read.
const WORDS: usize = 48;
/// `text`, after the head's address, six slices and three words more: the same since Go 1.16.
const TEXT: usize = 22;
/// `epclntab`, which Go 1.27 has behind its two words more about types and two about itabs.
const END_1_27: usize = 44;

/// What was found.
pub struct Module<'d> {
    pub head: Head<'d>,
    /// Where the text begins.
    pub text: u64,
    /// Where the trees of inlined calls begin (`go:func.*`).
    pub inlined: Option<u64>,
}

pub fn find<'d>(elf: &Elf<'d>) -> Option<Module<'d>> {
    let (address, head) = head(elf)?;
    let module = module(elf, address, &head);
    let text = module.map(|words| words[TEXT]).or_else(|| head.text()).or_else(|| elf.address_of(".text"))?;
    let inlined = module.and_then(|words| {
        let ends_here = words[END_1_27].checked_sub(address).is_some_and(|len| len <= head.data.len() as u64);
        let is_1_27 = ends_here && Some(words[END_1_27] - address) > head.functions_offset();
        let at = match head.layout {
            Layout::Go116 => return None,
            Layout::Go118 => 38,
            Layout::Go120 if is_1_27 => END_1_27 - 1,
            Layout::Go120 => 40,
        };
        Some(words[at])
    });
    Some(Module { head, text, inlined })
}

/// The head's address and its bytes, to the end of the segment.
fn head<'d>(elf: &Elf<'d>) -> Option<(u64, Head<'d>)> {
    let named = SECTIONS.iter().filter_map(|name| elf.address_of(name));
    let mut found = named.filter_map(|address| Some((address, Head::parse(elf.at(address)?)?)));
    found.next().or_else(|| {
        let mut left = SEARCH_BYTES;
        elf.data().find_map(|(address, bytes)| {
            let searched = bytes.len().min(left);
            left -= searched;
            let at = (0..searched).step_by(16).find(|at| {
                let head = bytes.get(*at..).and_then(Head::parse);
                head.is_some_and(|head| head.functions_offset() < Some(head.data.len() as u64))
            })?;
            Some((address.checked_add(at as u64)?, Head::parse(&bytes[at..])?))
        })
    })
}

/// The module data of the head at this address.
fn module(elf: &Elf<'_>, address: u64, head: &Head<'_>) -> Option<[u64; WORDS]> {
    let names = address.checked_add(head.names_offset()?)?;
    let is_it = |words: &[u64; WORDS]| words[0] == address && words[1] == names && elf.is_code(words[TEXT]);
    let at = |place: u64| elf.words::<WORDS>(place).filter(is_it);
    if let Some(found) = elf.address_of(".go.module").and_then(at) {
        return Some(found);
    }
    // In a program that is loaded anywhere the pointer is the addend of a relocation.
    if let Some(found) =
        elf.relative().filter(|(_, value)| *value == address).take(CANDIDATES).find_map(|(place, _)| at(place))
    {
        return Some(found);
    }
    let (first, second) = (address.to_le_bytes(), names.to_le_bytes());
    let mut left = SEARCH_BYTES;
    elf.writable().find_map(|(start, bytes)| {
        let searched = bytes.len().min(left);
        left -= searched;
        let mut places = (0..searched / 8 * 8)
            .step_by(8)
            .filter(|place| bytes[*place..].starts_with(&first) && bytes[*place + 8..].starts_with(&second));
        places.by_ref().take(CANDIDATES).find_map(|place| at(start.saturating_add(place as u64)))
    })
}
