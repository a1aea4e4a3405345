//! What can be learnt of a death, each file one source. Failing to learn one thing is a gap, never a failure.

#![forbid(unsafe_code)]

pub mod autopsy;
pub mod build_id;
pub mod core;
pub mod core_file;
pub mod core_limit;
pub mod core_pattern;
pub mod gobuild;
pub mod host;
pub mod images;
pub mod java_log;
pub mod live;
pub mod memory;
pub mod minidump;
pub mod oom;
pub mod own;
pub mod panic;
pub mod rival;
pub mod shell;
pub mod snapshot;
pub mod stack;
pub mod symbols;
pub mod toolchain;
pub mod unwind;
pub mod zombie;
