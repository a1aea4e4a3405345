//! The API and the page, on a socket that init holds and never reads.
//!
//! init opens the [`door`] at its start and waits for it beside everything else. The first connection makes it fork the
//! one who serves ([`serve`]), who inherits the socket and leaves when nobody has come for a minute. So PID 1 stays one thread,
//! parses nothing of anybody's, and costs nothing while nobody asks; whatever a client does, it does to a process that may die.
//!
//! ```text
//! connection ─▶ http (limits, time) ─▶ guard (Host, Origin, who are you) ─▶ routes ─▶ what spool, markers and consent say
//! ```

#![forbid(unsafe_code)]

pub mod door;
mod guard;
mod http;
mod metrics;
mod page;
mod routes;
mod switches;

use crate::config::Settings;
use crate::say::{Level, say};
use door::Door;
use routes::Desk;
use std::os::fd::AsFd as _;
use std::path::Path;

/// The one who serves, as a worker of init: ends with 0 when nobody has come for a while.
pub fn serve(settings: &Settings, state_dir: Option<&Path>, door: &Door) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let listener = door.as_fd().try_clone_to_owned().map(std::net::TcpListener::from);
    let desk = Desk::new(settings, state_dir, door);
    let served = runtime.and_then(|runtime| runtime.block_on(async { http::serve(listener?, desk).await }));
    match served {
        Ok(()) => 0,
        Err(error) => {
            say(Level::Error, &format!("the API on {} cannot be served: {error}", door.address()));
            1
        }
    }
}
