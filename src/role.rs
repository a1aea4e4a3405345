//! Which role this process plays: the only file that knows them all.

#![forbid(unsafe_code)]

use crate::init::setup::Caller;
use crate::init::workers::Roles;
use crate::sys::signal::{self, Signal};
use crate::{capture, cli, courier, examine, init, panel};
use std::io::Write as _;

/// Everything after the process has begun: returns what it ends with.
pub fn play() -> u8 {
    let caller = Caller::seize();
    let args: Vec<_> = std::env::args_os().collect();
    match cli::parse(&args) {
        cli::Role::Init(launch) => {
            let roles = Roles {
                examine: examine::examine,
                capture: capture::capture,
                recover: examine::recover,
                session: examine::session,
                courier: courier::run,
                panel: panel::serve,
            };
            init::run(*launch, caller, roles)
        }
        cli::Role::Ctl(words) => {
            // `obit crashes list | head` ends like any tool: by SIGPIPE.
            signal::set_default(Signal::PIPE);
            signal::set_mask(caller.mask);
            cli::commands::ctl(&words)
        }
        cli::Role::Print { text, to_stderr, status } => {
            let _ = if to_stderr {
                std::io::stderr().write_all(text.as_bytes())
            } else {
                std::io::stdout().write_all(text.as_bytes())
            };
            status
        }
    }
}
