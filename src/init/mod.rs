//! PID 1: one thread, one poll, a pure state machine, and effects that are thin.

#![forbid(unsafe_code)]

pub mod manners;

use crate::config::Settings;
use manners::Manners;
use std::ffi::OsString;

/// What a command line asks init to do.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    pub settings: Settings,
    pub manners: Manners,
}
