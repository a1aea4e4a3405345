//! How init behaves towards its child and what it says meanwhile: obit's own way, or that of the tool it stands in for.

#![forbid(unsafe_code)]

use crate::death::{self, Death};
use crate::sys::signal::Signal;

/// The differences between obit and the inits whose name it may be started under.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub placement: Placement,
    /// Adopt orphans where we are not PID 1 (PR_SET_CHILD_SUBREAPER).
    pub subreaper: bool,
    /// When a stop signal of the terminal arrives we stop ourselves too, whatever is passed on for it (dumb-init).
    pub suspends_itself: bool,
    pub farewell: Farewell,
    /// The status where exec(3) fails, by whether the file is not there.
    pub exec_failed: fn(bool) -> u8,
    /// What the tool we stand in for would print at each moment; `None`: it is silent.
    pub narrator: Option<fn(Moment<'_>) -> Option<String>>,
}

/// What becomes of descendants that outlive the main program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// TERM, time and KILL; we leave when the last one is gone.
    Drain,
    /// TERM to whom the signals went, and we leave at once.
    Term,
}

/// Where the child is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Its own process group in our session: setpgid(2), and the terminal's foreground if we had it.
    OwnGroup,
    /// A session of its own that takes over our terminal: setsid(2), TIOCSCTTY.
    OwnSession,
    /// Our own group.
    Inherited,
}

/// What a narrator may have a line for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment<'a> {
    /// Before anything is started; `reaping` is false when orphans will not come to us.
    Starting {
        reaping: bool,
    },
    /// The controlling terminal was given up for the child's new session.
    DetachedTerminal {
        was_session_leader: bool,
    },
    Spawned {
        pid: i32,
    },
    SessionMade,
    /// exec(3) failed; said in place of obit's own sentence.
    ExecFailed {
        errno: i32,
        command: &'a str,
    },
    /// A signal arrived; SIGCHLD is told when it is about somebody else than our workers.
    Received {
        signal: Signal,
    },
    /// A signal of the kernel's, because we gave our terminal up: it is not passed on.
    HandedOff {
        signal: Signal,
    },
    Forwarded {
        signal: Signal,
    },
    /// A child was reaped that is no worker of ours.
    Reaped {
        pid: i32,
        death: Death,
        main: bool,
    },
    /// The main program has ended and init ends with it.
    Ending {
        status: u8,
    },
}

impl Default for Manners {
    fn default() -> Manners {
        Manners {
            placement: Placement::OwnGroup,
            subreaper: true,
            suspends_itself: false,
            farewell: Farewell::Drain,
            exec_failed: |is_missing| if is_missing { death::NOT_FOUND } else { death::NOT_EXECUTABLE },
            narrator: None,
        }
    }
}
