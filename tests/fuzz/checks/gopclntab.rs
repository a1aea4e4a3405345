//! Whatever a program holds in the place of Go's table, addresses are looked up in it in bounded time, without harm.
//!
//! The bytes stand in a writable segment, so that the table, its module data and the trees of inlined calls can all be in them.

use obit::evidence::symbols::{Roots, Symbols};

/// Where the tests' own table and its code lie.
const TABLE: u64 = 0x1000;
/// 〃
const TEXT: u64 = 0x10_0000;

pub fn holds(table: &'static [u8]) {
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend([0u64, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    let size = table.len() as u64;
    for (flags, fields) in [(6, [176, TABLE, TABLE, size, size, 16]), (5, [0, TEXT, TEXT, 0, 4096, 16])] {
        elf.extend([1, 0, 0, 0, flags, 0, 0, 0]);
        elf.extend(fields.iter().flat_map(|n| n.to_le_bytes()));
    }
    elf.extend(table);
    // SAFETY: nothing that is made of the bytes outlives them.
    let bytes = unsafe { std::mem::transmute::<&[u8], &'static [u8]>(&elf) };
    let symbols = Symbols::of(bytes, None, &Roots::default());
    for address in (TEXT..TEXT + 80).step_by(5) {
        assert!(symbols.frames(address).len() <= 256);
    }
}
