//! The dynamic symbols as the loader finds them, by way of the program headers: of an image that was read out of memory, which has
//! no section headers.

#![forbid(unsafe_code)]

use super::elf::{Elf, Header};
use object::LittleEndian;
use object::elf::{DT_GNU_HASH, DT_HASH, DT_STRSZ, DT_STRTAB, DT_SYMTAB, Dyn64, DynamicTag, PT_DYNAMIC, Sym64};
use object::read::StringTable;
use object::read::elf::{Dyn as _, GnuHashTable, HashTable, ProgramHeader as _};
use std::mem::size_of;

/// Symbols and where their names are, if there is a table.
///
/// glibc adds the load bias to the addresses in the dynamic section while it loads the file, musl does not, and a file has them
/// without: `bias` is tried where an address leads nowhere.
pub fn symbols<'d>(elf: &Elf<'d>, bias: u64) -> Option<(&'d [Sym64<LittleEndian>], StringTable<'d>)> {
    let segment = elf.segments().iter().find(|segment| segment.p_type(LittleEndian) == PT_DYNAMIC)?;
    let entries: &[Dyn64<LittleEndian>] = segment.data_as_array(LittleEndian, elf.bytes).ok()?;
    let value = |tag: DynamicTag| {
        let entry = entries.iter().find(|entry| entry.d_tag(LittleEndian) == tag)?;
        Some(entry.d_val(LittleEndian))
    };
    let bytes = |tag| {
        let address = value(tag)?;
        elf.at(address).or_else(|| elf.at(address.wrapping_sub(bias)))
    };
    let by_gnu =
        || GnuHashTable::<Header>::parse(LittleEndian, bytes(DT_GNU_HASH)?).ok()?.symbol_table_length(LittleEndian);
    let by_sysv = || Some(HashTable::<Header>::parse(LittleEndian, bytes(DT_HASH)?).ok()?.symbol_table_length());
    let count = by_gnu().or_else(by_sysv)? as usize;
    let table = bytes(DT_SYMTAB)?;
    let count = count.min(table.len() / size_of::<Sym64<LittleEndian>>());
    let (symbols, _) = object::pod::slice_from_bytes(table, count).ok()?;
    let names = bytes(DT_STRTAB)?;
    let names = &names[..names.len().min(usize::try_from(value(DT_STRSZ)?).ok()?)];
    Some((symbols, StringTable::new(names, 0, names.len() as u64)))
}
