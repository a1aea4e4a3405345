//! What becomes of a signal that init was sent: a pure decision.

#![forbid(unsafe_code)]

use crate::config::Settings;
use crate::sys::signal::Signal;
use crate::sys::signalfd::Arrival;

/// The payload of the SIGCHLD by which `obit detach` asks. No other signal could: all of them are the program's.
pub const LET_GO: u64 = u64::from_be_bytes(*b"obit:let");

/// What to do about one arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Children have changed.
    Reap,
    /// `obit detach` asks us not to trace the program any more.
    LetGo,
    /// Pass it on as this signal.
    PassOn(Signal),
    /// Somebody asks for the end: pass this on, and see that it comes about.
    Stop(Signal),
    /// Rewritten to 0, or our own doing.
    Swallow,
    /// What giving up the terminal brought us.
    HandOff,
}

/// What the decision depends on besides the settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Circumstances {
    pub own_pid: i32,
    /// The child's group is in the foreground of our terminal: the kernel has told it itself what it tells us.
    pub child_has_terminal: bool,
    /// We gave our terminal up: the hang-up and the continuation that this brings are about us.
    pub gave_up_terminal: bool,
}

/// Decides. A signal of the kernel's that is about our own doing (SIGPIPE or SIGXFSZ of a write, the hang-up of a terminal we
/// gave up) is not passed on; everything else is, and SIGTERM asks for the end.
pub fn decide(arrival: &Arrival, settings: &Settings, here: Circumstances) -> Verdict {
    let signal = arrival.signal;
    if signal == Signal::CHLD {
        return if arrival.code == libc::SI_QUEUE && arrival.value == LET_GO { Verdict::LetGo } else { Verdict::Reap };
    }
    // Our write went into a closed pipe or beyond RLIMIT_FSIZE, or our time beyond RLIMIT_CPU.
    let is_our_write = matches!(signal, Signal::PIPE | Signal::XFSZ) && arrival.sender_pid == here.own_pid;
    if is_our_write || signal == Signal::XCPU && arrival.code == libc::SI_KERNEL {
        return Verdict::Swallow;
    }
    if matches!(signal, Signal::HUP | Signal::CONT) {
        // TIOCNOTTY signals the foreground group in the name of whoever asked for it.
        if here.gave_up_terminal && (arrival.code == libc::SI_KERNEL || arrival.sender_pid == here.own_pid) {
            return Verdict::HandOff;
        }
        if here.child_has_terminal && arrival.code == libc::SI_KERNEL {
            return Verdict::Swallow;
        }
    }
    let Some(rewritten) = Signal::new(i32::from(settings.rewrite[signal.number() as usize])) else {
        return Verdict::Swallow;
    };
    match (signal == Signal::TERM, settings.stop_signal) {
        (true, Some(stop)) if rewritten == signal => Verdict::Stop(stop),
        (true, _) => Verdict::Stop(rewritten),
        (false, _) => Verdict::PassOn(rewritten),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Circumstances = Circumstances { own_pid: 1, child_has_terminal: false, gave_up_terminal: false };

    fn arrival(signal: Signal, code: i32, sender_pid: i32) -> Arrival {
        Arrival { signal, code, sender_pid, sender_uid: 0, value: 0 }
    }

    #[test]
    fn every_signal_but_sigchld_is_passed_on_as_itself() {
        let settings = Settings::default();
        for number in 1..=64 {
            let signal = Signal::new(number).unwrap();
            let expected = match signal {
                Signal::CHLD => Verdict::Reap,
                Signal::TERM => Verdict::Stop(signal),
                _ => Verdict::PassOn(signal),
            };
            assert_eq!(decide(&arrival(signal, libc::SI_USER, 7), &settings, HERE), expected);
        }
    }

    #[test]
    fn whoever_wants_to_trace_the_program_asks_by_a_signal_that_is_never_passed_on() {
        let settings = Settings::default();
        let asked = |code, value| decide(&Arrival { value, ..arrival(Signal::CHLD, code, 7) }, &settings, HERE);
        assert_eq!(asked(libc::SI_QUEUE, LET_GO), Verdict::LetGo);
        assert_eq!(asked(libc::SI_QUEUE, 1), Verdict::Reap);
        assert_eq!(asked(libc::CLD_EXITED, LET_GO), Verdict::Reap);
    }

    #[test]
    fn rewriting_replaces_and_zero_swallows() {
        let mut settings = Settings::default();
        settings.rewrite[libc::SIGTERM as usize] = libc::SIGQUIT as u8;
        settings.rewrite[libc::SIGHUP as usize] = 0;
        settings.stop_signal = Some(Signal::INT);
        let decide = |signal| decide(&arrival(signal, libc::SI_USER, 7), &settings, HERE);
        assert_eq!(decide(Signal::TERM), Verdict::Stop(Signal::QUIT));
        assert_eq!(decide(Signal::HUP), Verdict::Swallow);
        settings.rewrite[libc::SIGTERM as usize] = libc::SIGTERM as u8;
        assert_eq!(super::decide(&arrival(Signal::TERM, 0, 7), &settings, HERE), Verdict::Stop(Signal::INT));
    }

    #[test]
    fn what_the_kernel_tells_us_about_our_own_doing_stays_with_us() {
        let settings = Settings::default();
        assert_eq!(decide(&arrival(Signal::PIPE, libc::SI_USER, 1), &settings, HERE), Verdict::Swallow);
        assert_eq!(decide(&arrival(Signal::PIPE, libc::SI_USER, 9), &settings, HERE), Verdict::PassOn(Signal::PIPE));
        assert_eq!(decide(&arrival(Signal::XFSZ, libc::SI_USER, 1), &settings, HERE), Verdict::Swallow);
        assert_eq!(decide(&arrival(Signal::XFSZ, libc::SI_USER, 9), &settings, HERE), Verdict::PassOn(Signal::XFSZ));
        assert_eq!(decide(&arrival(Signal::XCPU, libc::SI_KERNEL, 0), &settings, HERE), Verdict::Swallow);
        assert_eq!(decide(&arrival(Signal::XCPU, libc::SI_USER, 9), &settings, HERE), Verdict::PassOn(Signal::XCPU));
        let hangup = arrival(Signal::HUP, libc::SI_KERNEL, 0);
        assert_eq!(decide(&hangup, &settings, HERE), Verdict::PassOn(Signal::HUP));
        assert_eq!(decide(&hangup, &settings, Circumstances { child_has_terminal: true, ..HERE }), Verdict::Swallow);
        let gave_up = Circumstances { gave_up_terminal: true, ..HERE };
        assert_eq!(decide(&hangup, &settings, gave_up), Verdict::HandOff);
        assert_eq!(decide(&arrival(Signal::CONT, libc::SI_USER, 1), &settings, gave_up), Verdict::HandOff);
        assert_eq!(
            decide(&arrival(Signal::HUP, libc::SI_USER, 7), &settings, gave_up),
            Verdict::PassOn(Signal::HUP),
            "somebody else's is meant for the program"
        );
    }
}
