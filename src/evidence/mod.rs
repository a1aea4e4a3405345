//! What can be learnt of a death, each file one source.

#![forbid(unsafe_code)]

pub mod oom;
