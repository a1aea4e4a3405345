//! Which deaths are worth a report, and under which reason: a pure table.

#![forbid(unsafe_code)]

use crate::case::Reason;
use crate::death::Death;
use crate::sys::signal::Signal;

/// What is known of a death besides itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Circumstances<'a> {
    /// The last signal that was passed on to ask for the end.
    pub stop_passed_on: Option<Signal>,
    /// A signal without a core in its default action that was passed on: a death by it was asked for too.
    pub passed_on: Option<Signal>,
    /// We sent SIGKILL because the grace was over.
    pub killed_by_us: bool,
    /// The terminal belongs to the child: Ctrl-C and the hang-up reach it without us.
    pub has_terminal: bool,
    /// The cgroup's OOM counter is not what it was at the start.
    pub oom_counter_moved: bool,
    /// Exit codes that are no news.
    pub expected_exit: &'a [u8],
}

/// Whether the end of the main program is news.
pub fn of_main(death: Death, so: Circumstances<'_>) -> Option<Reason> {
    match death {
        Death::Exited(0) => None,
        Death::Exited(code) if so.expected_exit.contains(&code) => None,
        // The JVM and shells end with 128+n when they were asked by signal n.
        Death::Exited(code) if so.stop_passed_on.is_some_and(|s| i32::from(code) == 128 + s.number()) => None,
        Death::Exited(_) => Some(Reason::Code),
        Death::Killed { signal: Signal::KILL, .. } if so.killed_by_us => Some(Reason::StopTimeout),
        Death::Killed { signal: Signal::KILL, .. } if so.oom_counter_moved => Some(Reason::Oom),
        Death::Killed { signal, .. } if so.stop_passed_on == Some(signal) || so.passed_on == Some(signal) => None,
        Death::Killed { signal: Signal::HUP | Signal::INT | Signal::QUIT, .. } if so.has_terminal => None,
        Death::Killed { .. } => Some(Reason::Signal),
    }
}

/// Whether the end of something that was left to us is news: a crash is, an ordinary end by a signal is not.
pub fn of_descendant(death: Death, oom_counter_moved: bool) -> Option<Reason> {
    match death {
        Death::Killed { signal: Signal::KILL, .. } if oom_counter_moved => Some(Reason::Oom),
        Death::Killed { signal, .. } if signal.dumps_core() && signal != Signal::QUIT => Some(Reason::Signal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed(signal: Signal) -> Death {
        Death::Killed { signal, core: false }
    }

    #[test]
    fn the_end_of_the_main_program_is_news_unless_it_went_well_or_was_asked_for() {
        let calm = Circumstances { expected_exit: &[3], ..Circumstances::default() };
        let stopped = Circumstances { stop_passed_on: Some(Signal::TERM), ..calm };
        let table = [
            (Death::Exited(0), calm, None),
            (Death::Exited(3), calm, None),
            (Death::Exited(1), calm, Some(Reason::Code)),
            (Death::Exited(143), calm, Some(Reason::Code)),
            (Death::Exited(143), stopped, None),
            (Death::Exited(1), stopped, Some(Reason::Code)),
            (killed(Signal::SEGV), calm, Some(Reason::Signal)),
            (killed(Signal::SEGV), stopped, Some(Reason::Signal)),
            (killed(Signal::TERM), calm, Some(Reason::Signal)),
            (killed(Signal::TERM), stopped, None),
            (killed(Signal::KILL), stopped, Some(Reason::Signal)),
            (killed(Signal::KILL), Circumstances { killed_by_us: true, ..stopped }, Some(Reason::StopTimeout)),
            (killed(Signal::KILL), Circumstances { oom_counter_moved: true, ..calm }, Some(Reason::Oom)),
            (killed(Signal::SEGV), Circumstances { oom_counter_moved: true, ..calm }, Some(Reason::Signal)),
            (killed(Signal::HUP), Circumstances { passed_on: Some(Signal::HUP), ..calm }, None),
            (killed(Signal::INT), calm, Some(Reason::Signal)),
            (killed(Signal::INT), Circumstances { has_terminal: true, ..calm }, None),
        ];
        for (death, so, expected) in table {
            assert_eq!(of_main(death, so), expected, "{death} {so:?}");
        }
    }

    #[test]
    fn a_descendant_is_news_when_it_crashed() {
        let table = [
            (killed(Signal::ABRT), false, Some(Reason::Signal)),
            (killed(Signal::QUIT), false, None),
            (killed(Signal::TERM), false, None),
            (killed(Signal::KILL), false, None),
            (killed(Signal::KILL), true, Some(Reason::Oom)),
            (Death::Exited(1), false, None),
        ];
        for (death, moved, expected) in table {
            assert_eq!(of_descendant(death, moved), expected, "{death}");
        }
    }
}
