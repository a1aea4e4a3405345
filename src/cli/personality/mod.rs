//! The names of other inits that obit answers to: their options, their environment, their words.

#![forbid(unsafe_code)]

pub mod dumb_init;
pub mod tini;
