//! How init behaves towards its child and what it says meanwhile: obit's own way, or that of the tool it stands in for.

#![forbid(unsafe_code)]

use crate::death::Death;
use crate::sys::signal::Signal;

/// The differences between obit and the inits whose name it may be started under.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub placement: Placement,
    /// Adopt orphans where we are not PID 1 (PR_SET_CHILD_SUBREAPER).
    pub subreaper: bool,
    /// A terminal stop signal stops the child by SIGSTOP and ourselves too (dumb-init).
    pub suspend_with_child: bool,
    /// Descendants that outlive the main program get TERM, time and KILL; else they are left to the kernel.
    pub drain: bool,
    /// What the tool we stand in for would print at each moment; `None`: it is silent.
    pub narrator: Option<fn(Moment<'_>) -> Option<String>>,
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
    Received {
        signal: Signal,
    },
    Forwarded {
        signal: Signal,
    },
    /// Any child of ours was reaped.
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
            suspend_with_child: false,
            drain: true,
            narrator: None,
        }
    }
}
