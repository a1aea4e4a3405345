//! Whatever a file holds, what it was built with is read from it in bounded time, to a bounded result, without harm.
#![no_main]

#[path = "../../../src/evidence/gobuild.rs"]
pub mod gobuild;
#[path = "../../../src/sys/map.rs"]
pub mod map;
#[path = "../../../src/evidence/own.rs"]
pub mod own;
#[path = "../../../src/evidence/stack.rs"]
pub mod stack;
#[path = "../../../src/evidence/symbols/mod.rs"]
pub mod symbols;
#[path = "../../../src/evidence/toolchain.rs"]
pub mod toolchain;

// The names under which they know each other.
pub mod sys {
    pub use crate::map;
}

fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let built = toolchain::read(bytes);
    let texts = built.go.iter().flat_map(|go| &go.settings).map(|(key, value)| key.len() + value.len());
    assert!(texts.sum::<usize>() + built.by.map_or(0, |by| by.len()) <= 64 << 10);
});
