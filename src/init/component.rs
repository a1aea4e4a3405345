//! One component's life, decided without touching it: the next state, and what has to be done to get there.
//!
//! ```text
//! Starting ──exec──▶ Running ──stop──▶ (Delayed ──time──▶) Stopping ──grace over, or asked again──▶ Killed
//!     └───────────────── end ─────────────┴───────────── end ─┴──── end ──▶ Ended ◀──── end ─────────┘
//! ```

#![forbid(unsafe_code)]

use crate::config::Settings;
use crate::limits;
use crate::sys::signal::Signal;
use std::time::Duration;

/// Where a component is; moments are of the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Forked, exec not confirmed: signals wait.
    Starting,
    Running,
    /// Asked to stop; the signal is held back so that others can stop sending work.
    Delayed {
        signal: Signal,
        pass_on_at: Duration,
    },
    /// The stop signal was passed on; `None`: it may take for ever.
    Stopping {
        since: Duration,
        kill_at: Option<Duration>,
    },
    /// SIGKILL was sent.
    Killed,
    Ended,
}

/// What has to be done for the component.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Nothing,
    PassOn(Signal),
    Kill,
}

impl State {
    /// Somebody asks for the end. Asking again while it is under way hurries: a delay is cut short, a grace is over.
    pub fn stop(self, signal: Signal, now: Duration, settings: &Settings) -> (State, Effect) {
        match self {
            State::Running if settings.stop_delay > Duration::ZERO => {
                (State::Delayed { signal, pass_on_at: now + settings.stop_delay }, Effect::Nothing)
            }
            State::Running | State::Delayed { .. } => (State::stopping(now, settings), Effect::PassOn(signal)),
            // timeout(1) and process managers signal a process and its group: one wish that arrives twice.
            State::Stopping { since, .. } if now < since + limits::SAME_WISH => (self, Effect::Nothing),
            State::Stopping { kill_at: Some(_), .. } => (State::Killed, Effect::Kill),
            // Without a grace nobody is killed: the signal is passed on as often as it comes.
            State::Stopping { kill_at: None, .. } => (self, Effect::PassOn(signal)),
            State::Starting | State::Killed | State::Ended => (self, Effect::Nothing),
        }
    }

    /// Time has passed.
    pub fn tick(self, now: Duration, settings: &Settings) -> (State, Effect) {
        match self {
            State::Delayed { signal, pass_on_at } if now >= pass_on_at => {
                (State::stopping(now, settings), Effect::PassOn(signal))
            }
            State::Stopping { kill_at: Some(kill_at), .. } if now >= kill_at => (State::Killed, Effect::Kill),
            _ => (self, Effect::Nothing),
        }
    }

    /// When `tick` will have something to do.
    pub fn due(self) -> Option<Duration> {
        match self {
            State::Delayed { pass_on_at, .. } => Some(pass_on_at),
            State::Stopping { kill_at, .. } => kill_at,
            _ => None,
        }
    }

    fn stopping(now: Duration, settings: &Settings) -> State {
        State::Stopping { since: now, kill_at: settings.stop_grace.map(|grace| now + grace) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_stop_is_passed_on_then_grace_then_kill() {
        let settings = Settings::default();
        let (state, effect) = State::Running.stop(Signal::TERM, s(1), &settings);
        assert_eq!(
            (state, effect),
            (State::Stopping { since: s(1), kill_at: Some(s(9)) }, Effect::PassOn(Signal::TERM))
        );
        assert_eq!(state.due(), Some(s(9)));
        assert_eq!(state.tick(s(8), &settings), (state, Effect::Nothing));
        assert_eq!(state.tick(s(9), &settings), (State::Killed, Effect::Kill));
    }

    #[test]
    fn asking_twice_hurries() {
        let settings = Settings { stop_delay: s(5), ..Settings::default() };
        let (delayed, effect) = State::Running.stop(Signal::TERM, s(0), &settings);
        assert_eq!((delayed.due(), effect), (Some(s(5)), Effect::Nothing));
        let (stopping, effect) = delayed.stop(Signal::TERM, s(1), &settings);
        assert_eq!((stopping.due(), effect), (Some(s(9)), Effect::PassOn(Signal::TERM)));
        assert_eq!(stopping.stop(Signal::TERM, s(2), &settings), (State::Killed, Effect::Kill));
        assert_eq!(stopping.stop(Signal::TERM, s(1), &settings), (stopping, Effect::Nothing), "one wish, told twice");
        assert_eq!(delayed.tick(s(5), &settings).1, Effect::PassOn(Signal::TERM));
    }

    #[test]
    fn without_a_grace_nobody_is_killed() {
        let settings = Settings { stop_grace: None, ..Settings::default() };
        let (state, _) = State::Running.stop(Signal::TERM, s(0), &settings);
        assert_eq!(state.due(), None);
        assert_eq!(state.stop(Signal::TERM, s(99), &settings), (state, Effect::PassOn(Signal::TERM)));
    }
}
