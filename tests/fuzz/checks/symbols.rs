//! Whatever an ELF file holds, addresses in it are looked up in bounded time, to a bounded result, without harm.

use obit::evidence::symbols::elf::Elf;
use obit::evidence::symbols::{Roots, Symbols};
use std::path::Path;

/// What one frame holds at most, in names and paths together.
const FRAME_BYTES: usize = 64 << 10;
/// A library of the system, of which addresses may be told in brief. Nothing lies beside it.
const PLACE: &str = "/usr/lib/nobody/has/this/libfuzz.so";

pub fn holds(bytes: &'static [u8]) {
    let Some(elf) = Elf::parse(bytes) else { return };
    let symbols = Symbols::of(bytes, Some(Path::new(PLACE)), &Roots::default());
    let entry = bytes.get(24..32).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    let code = elf.loads().take(4).flat_map(|load| {
        let begin = load.p_vaddr.get(object::LittleEndian);
        (0..8).map(move |step| begin.wrapping_add(step * 0x2d))
    });
    for address in entry.into_iter().chain(code) {
        for frame in symbols.frames_in_brief(address).into_iter().chain(symbols.frames(address)) {
            let texts = [&frame.function, &frame.symbol, &frame.file, &frame.module];
            assert!(texts.into_iter().flatten().map(String::len).sum::<usize>() <= FRAME_BYTES);
        }
    }
}
