//! What people type: one command line to one role, without side effects.

#![forbid(unsafe_code)]

mod check;
pub mod commands;
pub mod core;
pub mod crashes;
pub mod detach;
pub mod doctor;
pub mod heartbeat;
pub mod manual;
pub mod output;
pub mod personality;
pub mod run;
pub mod telemetry;
pub mod upgrade;

use crate::init::Launch;
use std::ffi::OsString;
use std::path::Path;

/// What this process is to be.
#[derive(Debug)]
pub enum Role {
    Init(Box<Launch>),
    /// A command of a person; its arguments, without the program's name.
    Ctl(Vec<OsString>),
    /// Something to print, and the status to end with.
    Print {
        text: String,
        to_stderr: bool,
        status: u8,
    },
}

/// Reads the command line; `args[0]` is the name we were started under.
pub fn parse(args: &[OsString]) -> Role {
    let name = args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    match name.to_str() {
        Some("tini" | "tini-static" | "docker-init") => return personality::tini::parse(args),
        Some("dumb-init") => return personality::dumb_init::parse(args),
        _ => {}
    }
    let rest = args.get(1..).unwrap_or_default();
    match rest.first().map(|word| word.as_encoded_bytes()) {
        Some(b"run") => run::parse(&rest[1..]),
        // `obit --help` and `obit --version` are for people, whatever else stands there.
        Some(b"--help" | b"-h" | b"--version" | b"-V" | b"help") | None => Role::Ctl(rest.to_vec()),
        Some([b'-', ..]) => run::parse(rest),
        Some(_) => Role::Ctl(rest.to_vec()),
    }
}

/// An error of ours on the command line: one line, and the status of our own failures.
fn refuse(sentence: &str) -> Role {
    Role::Print { text: format!("obit: {sentence}\n"), to_stderr: true, status: crate::death::OWN_FAILURE }
}
