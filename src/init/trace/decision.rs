//! What is done about a thread that stands still for us, and whether anybody is traced at all: pure tables.

#![forbid(unsafe_code)]

use crate::config::Capture;
use crate::sys::ptrace::{EVENT_STOP, Stop};
use crate::sys::signal::Signal;

/// Whether tracing changes nothing for the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Circumstances {
    pub is_root: bool,
    /// Nobody below us gains a privilege by executing something.
    pub no_new_privileges: bool,
    /// The program itself has the set-user-id or set-group-id bit.
    pub program_gains: bool,
    /// ASAN_OPTIONS or LSAN_OPTIONS is there: a leak check traces its own threads, which only one can.
    pub sanitizer_options: bool,
    pub has_proc: bool,
    /// We stand in for another init, whose children nobody traces.
    pub stands_in: bool,
}

/// Why nobody is traced; `Ok` where it does no harm.
pub fn may_trace(capture: Capture, so: Circumstances) -> Result<(), &'static str> {
    if capture == Capture::Off {
        return Err("switched off (--capture)");
    }
    if so.stands_in {
        return Err("off where obit stands in for another init");
    }
    if !so.has_proc {
        return Err("/proc is not there");
    }
    if capture == Capture::Ptrace {
        return Ok(());
    }
    if so.sanitizer_options {
        return Err("the program may look for leaks by itself, which a traced one cannot (ASAN_OPTIONS, LSAN_OPTIONS)");
    }
    if !so.is_root && (so.program_gains || !so.no_new_privileges) {
        return Err("a set-user-id program would lose its privilege under a tracer that is not root; set \
                    no_new_privileges (allowPrivilegeEscalation: false), or --capture ptrace if there is none");
    }
    Ok(())
}

/// What the tracer is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Every stop is over at once, until one that will kill.
    Watching,
    /// The threads stand still to be looked at.
    Holding,
    /// Whoever stops is let go for good.
    LettingGo,
}

/// What is done about a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Go on, with the signal or without one (0).
    GoOn(i32),
    /// Stay stopped as job control wants it.
    Listen,
    /// If nobody catches the signal, it kills: look first.
    Suspect(i32),
    /// Stay as it is until the others are let on.
    Hold(i32),
    LetGo(i32),
}

/// One stop of one thread.
pub fn about(stop: Stop, mode: Mode) -> Action {
    let delivered = if stop.event == 0 { stop.signal } else { 0 };
    let is_job_control = stop.event == EVENT_STOP && is_stop_signal(stop.signal);
    match mode {
        Mode::LettingGo => Action::LetGo(delivered),
        Mode::Holding => Action::Hold(delivered),
        Mode::Watching if is_job_control => Action::Listen,
        Mode::Watching if Signal::new(delivered).is_some_and(Signal::dumps_core) => Action::Suspect(delivered),
        Mode::Watching => Action::GoOn(delivered),
    }
}

fn is_stop_signal(signal: i32) -> bool {
    matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

/// Whether the signal has its default action, by `SigIgn` and `SigCgt` of /proc/TID/status; no, if that cannot be told.
pub fn is_default(status: &[u8], signal: i32) -> bool {
    let mask = |name: &[u8]| {
        let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
    };
    match (mask(b"SigIgn:"), mask(b"SigCgt:")) {
        (Some(ignored), Some(caught)) => (ignored | caught) >> (signal - 1) & 1 == 0,
        _ => false,
    }
}

/// Whether it has ended, by /proc/TID/status.
pub fn is_zombie(status: &[u8]) -> bool {
    let state = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"State:"));
    state.is_some_and(|state| state.trim_ascii_start().starts_with(b"Z"))
}

/// The process that a thread belongs to, by /proc/TID/status.
pub fn thread_group(status: &[u8]) -> Option<i32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Tgid:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_traced_where_it_could_be_noticed() {
        let root = Circumstances { is_root: true, has_proc: true, ..Circumstances::default() };
        let user = Circumstances { is_root: false, ..root };
        let table = [
            (Capture::Auto, root, true),
            (Capture::Off, root, false),
            (Capture::Auto, Circumstances { stands_in: true, ..root }, false),
            (Capture::Ptrace, Circumstances { stands_in: true, ..root }, false),
            (Capture::Auto, Circumstances { has_proc: false, ..root }, false),
            (Capture::Auto, Circumstances { sanitizer_options: true, ..root }, false),
            (Capture::Ptrace, Circumstances { sanitizer_options: true, ..root }, true),
            (Capture::Auto, user, false),
            (Capture::Ptrace, user, true),
            (Capture::Auto, Circumstances { no_new_privileges: true, ..user }, true),
            (Capture::Auto, Circumstances { no_new_privileges: true, program_gains: true, ..user }, false),
            (Capture::Auto, Circumstances { program_gains: true, ..root }, true),
        ];
        for (capture, so, yes) in table {
            assert_eq!(may_trace(capture, so).is_ok(), yes, "{capture:?} {so:?}");
        }
    }

    #[test]
    fn a_stop_is_over_at_once_unless_it_will_kill_or_job_control_wants_it() {
        let delivery = |signal| Stop { signal, event: 0 };
        let event = |signal, event| Stop { signal, event };
        let table = [
            (delivery(libc::SIGUSR1), Action::GoOn(libc::SIGUSR1)),
            (delivery(libc::SIGTERM), Action::GoOn(libc::SIGTERM)),
            (delivery(libc::SIGSTOP), Action::GoOn(libc::SIGSTOP)),
            (delivery(libc::SIGSEGV), Action::Suspect(libc::SIGSEGV)),
            (delivery(libc::SIGTRAP), Action::Suspect(libc::SIGTRAP)),
            (delivery(40), Action::GoOn(40)),
            (event(libc::SIGTRAP, libc::PTRACE_EVENT_CLONE), Action::GoOn(0)),
            (event(libc::SIGTRAP, libc::PTRACE_EVENT_EXEC), Action::GoOn(0)),
            (event(libc::SIGTRAP, EVENT_STOP), Action::GoOn(0)),
            (event(libc::SIGSTOP, EVENT_STOP), Action::Listen),
            (event(libc::SIGTTIN, EVENT_STOP), Action::Listen),
        ];
        for (stop, action) in table {
            assert_eq!(about(stop, Mode::Watching), action, "{stop:?}");
        }
        assert_eq!(about(delivery(libc::SIGUSR1), Mode::LettingGo), Action::LetGo(libc::SIGUSR1));
        assert_eq!(about(event(libc::SIGSTOP, EVENT_STOP), Mode::LettingGo), Action::LetGo(0));
        assert_eq!(about(delivery(libc::SIGUSR1), Mode::Holding), Action::Hold(libc::SIGUSR1));
        assert_eq!(Stop::from_status(libc::SIGTRAP | EVENT_STOP << 8), event(libc::SIGTRAP, EVENT_STOP));
    }

    #[test]
    fn a_signal_that_nobody_catches_or_ignores_has_its_default_action() {
        let status = |ignored: u64, caught: u64| {
            format!("Name:\tapp\nTgid:\t7\nPid:\t9\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n").into_bytes()
        };
        let segv = 1 << (libc::SIGSEGV - 1);
        assert!(is_default(&status(0, 0), libc::SIGSEGV));
        assert!(is_default(&status(!segv, !segv), libc::SIGSEGV));
        assert!(!is_default(&status(segv, 0), libc::SIGSEGV));
        assert!(!is_default(&status(0, segv), libc::SIGSEGV));
        assert!(!is_default(b"", libc::SIGSEGV));
        assert!(is_zombie(b"Name:\tapp\nState:\tZ (zombie)\n") && !is_zombie(b"State:\tS (sleeping)\n"));
        assert_eq!((thread_group(&status(0, 0)), thread_group(b"Tgid:\tx\n")), (Some(7), None));
    }
}
