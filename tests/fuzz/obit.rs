//! The parsers of foreign bytes, taken in by their path, in places where they find each other and the checks find them.

#[path = "../../src/evidence/autopsy.rs"]
pub mod autopsy;
#[path = "../../src/evidence/core/mod.rs"]
pub mod core;
#[path = "../../src/death.rs"]
pub mod death;
#[path = "../../src/evidence/gobuild.rs"]
pub mod gobuild;
#[path = "../../src/evidence/images.rs"]
pub mod images;
#[path = "../../src/sys/map.rs"]
pub mod map;
#[path = "../../src/evidence/memory.rs"]
pub mod memory;
#[path = "../../src/evidence/own.rs"]
pub mod own;
#[path = "../../src/evidence/panic/mod.rs"]
pub mod panic;
#[path = "../../src/sys/signal.rs"]
pub mod signal;
#[path = "../../src/evidence/snapshot.rs"]
pub mod snapshot;
#[path = "../../src/evidence/stack.rs"]
pub mod stack;
#[path = "../../src/evidence/symbols/mod.rs"]
pub mod symbols;
#[path = "../../src/evidence/toolchain.rs"]
pub mod toolchain;
#[path = "../../src/evidence/unwind/mod.rs"]
pub mod unwind;

pub mod evidence {
    pub use crate::{
        autopsy, core, gobuild, images, memory, own, panic, snapshot, stack, symbols, toolchain, unwind,
    };
}

pub mod sys {
    pub use crate::{map, signal};

    /// No file is there, whatever the bytes name: a check is about them alone.
    pub mod regular {
        use std::fs::File;
        use std::io;
        use std::path::Path;

        pub enum Link {
            Followed,
            Refused,
        }

        pub fn open(_: &Path, _: Link) -> io::Result<File> {
            Err(io::ErrorKind::NotFound.into())
        }
    }
}

pub mod case {
    pub struct Tail {
        pub bytes: Vec<u8>,
        pub total_bytes: u64,
    }
}

fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
