//! The version question: one DNS query a day tells pseudonyms and a version, and the signed answer tells of upgrades.
//!
//! [`name`] is what is asked, [`answer`] what is believed, [`resolver`] the way between them.

#![forbid(unsafe_code)]

pub mod answer;
pub mod kubernetes;
pub mod name;
pub mod release;
pub mod resolver;
pub mod servers;
