//! Which role this process plays; the only file that knows them all.

#![forbid(unsafe_code)]
