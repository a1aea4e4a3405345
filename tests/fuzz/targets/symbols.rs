//! Whatever an ELF file holds, addresses in it are looked up in bounded time, to a bounded result, without harm.
#![no_main]

#[path = "../../../src/sys/map.rs"]
pub mod map;
#[path = "../../../src/evidence/own.rs"]
pub mod own;
#[path = "../../../src/evidence/stack.rs"]
pub mod stack;
#[path = "../../../src/evidence/symbols/mod.rs"]
pub mod symbols;

// The names under which they know each other.
pub mod sys {
    pub use crate::map;
}

fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

use libfuzzer_sys::fuzz_target;
use symbols::elf::Elf;
use symbols::{Roots, Symbols};

/// What one frame holds at most, in names and paths together.
const FRAME_BYTES: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    // SAFETY: nothing that is made of the bytes outlives this run.
    let bytes: &'static [u8] = unsafe { std::mem::transmute(bytes) };
    let Some(elf) = Elf::parse(bytes) else { return };
    let symbols = Symbols::of(bytes, None, &Roots::default());
    let entry = bytes.get(24..32).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    let code = elf.loads().take(4).flat_map(|load| {
        let begin = load.p_vaddr.get(object::LittleEndian);
        (0..8).map(move |step| begin.wrapping_add(step * 0x2d))
    });
    for address in entry.into_iter().chain(code) {
        for frame in symbols.frames(address) {
            let texts = [&frame.function, &frame.symbol, &frame.file, &frame.module];
            assert!(texts.into_iter().flatten().map(String::len).sum::<usize>() <= FRAME_BYTES);
        }
    }
});
