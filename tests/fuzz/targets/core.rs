//! Whatever a core file holds, threads, mappings and memory are read from it in bounded time, without harm.
#![no_main]

#[path = "../../../src/evidence/core/mod.rs"]
pub mod core;
#[path = "../../../src/evidence/memory.rs"]
pub mod memory;
#[path = "../../../src/sys/signal.rs"]
pub mod signal;
#[path = "../../../src/evidence/snapshot.rs"]
pub mod snapshot;

// The names under which they know each other.
pub mod evidence {
    pub use crate::{core, memory, snapshot};
}

pub mod sys {
    pub use crate::signal;
}

use libfuzzer_sys::fuzz_target;
use memory::Memory as _;

fuzz_target!(|bytes: &[u8]| {
    // SAFETY: nothing that is made of the bytes outlives this run.
    let bytes: &'static [u8] = unsafe { std::mem::transmute(bytes) };
    let Ok(core) = crate::core::read(bytes) else { return };
    for mapping in core.snapshot.mappings.iter().take(16) {
        assert!(core.memory.some(mapping.start, 4096).len() <= 4096);
    }
    for thread in core.snapshot.threads.iter().take(16) {
        let _ = core.memory.word(thread.registers.sp());
    }
});
