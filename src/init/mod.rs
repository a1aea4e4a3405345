//! PID 1: one thread, one poll, a pure state machine, and effects that are thin.
//!
//! [`forward`], [`verdict`], [`component`] and [`phase`] decide and touch nothing; [`run`] waits for the next event, asks
//! them and does what they say. It never blocks on anything but that wait, reads nothing that a program wrote except to
//! pass it on, and keeps no memory that grows.

#![forbid(unsafe_code)]

pub mod component;
pub mod forward;
pub mod last_resort;
pub mod left;
mod logfile;
pub mod manners;
pub mod phase;
pub mod run;
pub mod setup;
pub mod stderr;
pub mod tail;
pub mod terminal;
pub mod trace;
pub mod verdict;
mod whereabouts;
pub mod workers;

use crate::config::Settings;
use manners::Manners;
use std::ffi::OsString;

pub use run::run;

/// What a command line asks init to do.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    pub settings: Settings,
    pub manners: Manners,
    /// Lines about the settings that the operator should see.
    pub warnings: Vec<String>,
}
