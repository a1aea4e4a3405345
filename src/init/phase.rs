//! The life of the whole container, decided without touching it.
//!
//! ```text
//! Living ──all components ended──▶ Draining ──time──▶ Killing ──nobody left, or time──▶ Settling ──▶ leave
//!                                     └──────────── nobody left ─────────────────────────▲
//! ```
//!
//! Draining asks what is left to end; Settling waits for the report of a death and for the last bytes of stderr. Each
//! stay is bounded, and each is left the moment there is nothing to wait for.

#![forbid(unsafe_code)]

use crate::limits;
use std::time::Duration;

/// Moments are of the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Living,
    Draining { kill_at: Duration },
    Killing { give_up_at: Duration },
    Settling,
}

/// What the decision depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Situation {
    pub now: Duration,
    pub components_ended: bool,
    /// Children other than our workers.
    pub anyone_left: bool,
    /// What is left is asked to end; else the kernel ends it with us.
    pub drain: bool,
    /// When a stop was asked for: the latest moment its grace allows.
    pub stop_deadline: Option<Duration>,
    /// A report is being made or delivered, until this moment at the latest.
    pub reporting_until: Option<Duration>,
    /// Bytes of stderr are on their way, until this moment at the latest.
    pub flushing_until: Option<Duration>,
}

/// What has to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Nothing,
    TermRest,
    KillRest,
    Leave,
}

impl Phase {
    /// The next phase. Called until it says [`Effect::Nothing`].
    pub fn step(self, so: Situation) -> (Phase, Effect) {
        match self {
            Phase::Living if !so.components_ended => (self, Effect::Nothing),
            Phase::Living if !so.anyone_left || !so.drain => Phase::Settling.step(so),
            Phase::Living => (Phase::Draining { kill_at: drain_end(so) }, Effect::TermRest),
            Phase::Draining { .. } | Phase::Killing { .. } if !so.anyone_left => Phase::Settling.step(so),
            Phase::Draining { kill_at } if so.now >= kill_at => {
                (Phase::Killing { give_up_at: so.now + limits::DRAIN_AFTER_KILL }, Effect::KillRest)
            }
            Phase::Killing { give_up_at } if so.now >= give_up_at => Phase::Settling.step(so),
            Phase::Draining { .. } | Phase::Killing { .. } => (self, Effect::Nothing),
            Phase::Settling if is_over(so.reporting_until, so.now) && is_over(so.flushing_until, so.now) => {
                (Phase::Settling, Effect::Leave)
            }
            Phase::Settling => (Phase::Settling, Effect::Nothing),
        }
    }

    /// Somebody asks for the end again while we drain: no more patience.
    pub fn hurry(self, now: Duration) -> Phase {
        match self {
            Phase::Draining { .. } => Phase::Draining { kill_at: now },
            other => other,
        }
    }

    /// When `step` will have something to do of itself.
    pub fn due(self, so: Situation) -> Option<Duration> {
        match self {
            Phase::Living => None,
            Phase::Draining { kill_at } => Some(kill_at),
            Phase::Killing { give_up_at } => Some(give_up_at),
            // A moment that is over is waited for no more, while the other is still to come.
            Phase::Settling => {
                so.reporting_until.into_iter().chain(so.flushing_until).filter(|until| *until > so.now).min()
            }
        }
    }
}

fn is_over(until: Option<Duration>, now: Duration) -> bool {
    until.is_none_or(|until| now >= until)
}

/// What is left gets [`limits::DRAIN_GRACE`], but within the grace of a stop that was asked for, and always half a second.
fn drain_end(so: Situation) -> Duration {
    const LEAST: Duration = Duration::from_millis(500);
    let end = so.now + limits::DRAIN_GRACE;
    so.stop_deadline.map_or(end, |deadline| end.min(deadline)).max(so.now + LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const SO: Situation = Situation {
        now: s(10),
        components_ended: true,
        anyone_left: false,
        drain: true,
        stop_deadline: None,
        reporting_until: None,
        flushing_until: None,
    };

    #[test]
    fn with_nobody_left_and_nothing_to_tell_the_end_is_at_once() {
        assert_eq!(Phase::Living.step(SO), (Phase::Settling, Effect::Leave));
        assert_eq!(Phase::Living.step(Situation { components_ended: false, ..SO }), (Phase::Living, Effect::Nothing));
    }

    #[test]
    fn what_is_over_wakes_nobody_while_the_rest_is_waited_for() {
        let due = |reporting, flushing| {
            Phase::Settling.due(Situation { reporting_until: reporting, flushing_until: flushing, ..SO })
        };
        assert_eq!(due(Some(s(15)), Some(Duration::ZERO)), Some(s(15)));
        assert_eq!(due(Some(s(9)), Some(s(12))), Some(s(12)));
        assert_eq!(due(Some(s(15)), Some(s(12))), Some(s(12)));
        assert_eq!(due(None, Some(Duration::ZERO)), None);
    }

    #[test]
    fn what_is_left_gets_term_then_time_then_kill_then_is_given_up() {
        let left = Situation { anyone_left: true, ..SO };
        let (draining, effect) = Phase::Living.step(left);
        assert_eq!((draining, effect), (Phase::Draining { kill_at: s(13) }, Effect::TermRest));
        assert_eq!(draining.step(Situation { now: s(12), ..left }), (draining, Effect::Nothing));
        let (killing, effect) = draining.step(Situation { now: s(13), ..left });
        assert_eq!((killing, effect), (Phase::Killing { give_up_at: s(14) }, Effect::KillRest));
        assert_eq!(killing.step(Situation { now: s(14), ..left }), (Phase::Settling, Effect::Leave));
        assert_eq!(draining.step(SO), (Phase::Settling, Effect::Leave));
        assert_eq!(Phase::Living.step(Situation { drain: false, ..left }), (Phase::Settling, Effect::Leave));
    }

    #[test]
    fn the_drain_keeps_to_the_grace_of_the_stop() {
        let left = Situation { anyone_left: true, stop_deadline: Some(s(11)), ..SO };
        assert_eq!(Phase::Living.step(left).0, Phase::Draining { kill_at: s(11) });
        let late = Situation { now: s(12), ..left };
        assert_eq!(Phase::Living.step(late).0, Phase::Draining { kill_at: s(12) + Duration::from_millis(500) });
    }

    #[test]
    fn a_report_and_the_last_bytes_are_waited_for_but_not_for_ever() {
        let busy = Situation { reporting_until: Some(s(15)), flushing_until: Some(s(12)), ..SO };
        assert_eq!(Phase::Living.step(busy), (Phase::Settling, Effect::Nothing));
        assert_eq!(Phase::Settling.due(busy), Some(s(12)));
        assert_eq!(Phase::Settling.step(Situation { now: s(15), ..busy }).1, Effect::Leave);
    }

    #[test]
    fn asking_again_ends_the_patience() {
        assert_eq!(Phase::Draining { kill_at: s(13) }.hurry(s(11)), Phase::Draining { kill_at: s(11) });
    }
}
