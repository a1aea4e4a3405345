//! Who died and how: the wait status as a type, the words for it, and the one table of exit codes.
//!
//! Source: wait(2), and the conventions of POSIX shells for 126, 127 and 128+n.

#![forbid(unsafe_code)]

use crate::sys::signal::Signal;
use std::fmt;

/// The end of a process as wait(2) tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Death {
    /// It called exit(3) or returned from main: 0..=255.
    Exited(u8),
    /// A signal ended it; `core` is WCOREDUMP, which a pipe in core_pattern sets too, whatever became of the dump.
    Killed { signal: Signal, core: bool },
}

/// obit itself failed before it had a program to speak for, or lost hold of it.
pub const OWN_FAILURE: u8 = 125;
/// The program was found and could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub const NOT_FOUND: u8 = 127;
/// A death by signal n is told as 128+n, as shells and container runtimes do.
const SIGNAL_BASE: u8 = 128;

impl Death {
    /// From the status word of wait4(2); `None` for a stop or a continuation, which are no deaths.
    pub fn from_wait_status(status: i32) -> Option<Death> {
        if libc::WIFEXITED(status) {
            return Some(Death::Exited(libc::WEXITSTATUS(status) as u8));
        }
        if libc::WIFSIGNALED(status) {
            let signal = Signal::new(libc::WTERMSIG(status))?;
            return Some(Death::Killed { signal, core: libc::WCOREDUMP(status) });
        }
        None
    }

    /// What init ends with when this was its main child: the code itself, or 128+n.
    pub fn exit_status(self) -> u8 {
        match self {
            Death::Exited(code) => code,
            Death::Killed { signal, .. } => SIGNAL_BASE + signal.number() as u8,
        }
    }

    /// Whether the kernel says that a core was dumped.
    pub fn core_dumped(self) -> bool {
        matches!(self, Death::Killed { core: true, .. })
    }

    /// The signal that ended it, if one did.
    pub fn signal(self) -> Option<Signal> {
        match self {
            Death::Killed { signal, .. } => Some(signal),
            Death::Exited(_) => None,
        }
    }
}

/// `exited with code 3`, `killed by SIGSEGV (segmentation fault), core dumped`.
impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Exited(code) => write!(f, "exited with code {code}"),
            Death::Killed { signal, core } => {
                write!(f, "killed by {signal} ({})", signal.description())?;
                if *core { f.write_str(", core dumped") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_become_deaths_and_exit_codes() {
        let table = [
            (0x0000, Death::Exited(0), 0, "exited with code 0"),
            (0xff00, Death::Exited(255), 255, "exited with code 255"),
            (
                0x000b,
                Death::Killed { signal: Signal::SEGV, core: false },
                139,
                "killed by SIGSEGV (segmentation fault)",
            ),
            (
                0x0086,
                Death::Killed { signal: Signal::ABRT, core: true },
                134,
                "killed by SIGABRT (aborted), core dumped",
            ),
            (0x0009, Death::Killed { signal: Signal::KILL, core: false }, 137, "killed by SIGKILL (killed)"),
            (
                0x0040,
                Death::Killed { signal: Signal::new(64).unwrap(), core: false },
                192,
                "killed by SIGRTMIN+30 (real-time signal)",
            ),
        ];
        for (status, death, code, words) in table {
            assert_eq!(Death::from_wait_status(status), Some(death));
            assert_eq!(death.exit_status(), code);
            assert_eq!(death.to_string(), words);
        }
    }

    #[test]
    fn a_stop_and_a_continuation_are_no_deaths() {
        assert_eq!(Death::from_wait_status(0x137f), None);
        assert_eq!(Death::from_wait_status(0xffff), None);
    }
}
