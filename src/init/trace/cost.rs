//! What tracing costs the program, which at each stop stands still until we have seen it: it may be a small part of its time.

#![forbid(unsafe_code)]

use crate::config::Capture;
use crate::limits;
use crate::sys::ptrace::Stop;
use std::time::Duration;

/// What the stops of the program, and of what it forks, have cost so far.
#[derive(Debug)]
pub struct Cost {
    is_bounded: bool,
    own: Purse,
    others: Purse,
    last_stop: Duration,
    renewals: u32,
}

impl Cost {
    pub fn new(capture: Capture, now: Duration) -> Cost {
        Cost {
            is_bounded: capture != Capture::Ptrace,
            own: Purse::of_stops(now),
            others: Purse::of_stops(now),
            last_stop: now,
            renewals: 0,
        }
    }

    /// Whether a stop can be afforded.
    pub fn affords(&mut self, is_own: bool, stop: Stop, now: Duration) -> bool {
        let price = price(now.saturating_sub(self.last_stop));
        self.last_stop = now;
        // How much it may fork is counted apart.
        let is_fork = matches!(stop.event, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK);
        let is_paid = match is_own {
            true => is_fork || self.own.pay_for(price, now),
            false => self.others.pay_for(price, now),
        };
        is_paid || !self.is_bounded
    }

    /// The program has executed another one: what an entrypoint did is not held against it.
    pub fn begin_anew(&mut self, now: Duration) {
        if self.renewals < limits::TRACE_RENEWALS {
            self.renewals += 1;
            self.own = Purse::of_stops(now);
        }
    }
}

/// How much is afforded: so much at once, and so much in the long run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purse {
    left: u32,
    filled: Duration,
    most: u32,
    earns_one: Duration,
}

impl Purse {
    pub fn full(most: u32, earns_one: Duration, now: Duration) -> Purse {
        Purse { left: most, filled: now, most, earns_one }
    }

    /// For stops, in microseconds that the program is held up.
    fn of_stops(now: Duration) -> Purse {
        Purse::full(micros(limits::TRACE_COST_AT_ONCE), Duration::from_micros(1) * limits::TRACE_COST, now)
    }

    /// Pays for one; `false` when there is nothing left.
    pub fn pay(&mut self, now: Duration) -> bool {
        self.pay_for(1, now)
    }

    /// Pays a price; `false` when there is nothing left.
    fn pay_for(&mut self, price: u32, now: Duration) -> bool {
        let earned = now.saturating_sub(self.filled).as_nanos() / self.earns_one.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX).min(self.most);
        self.left = (self.left + earned).min(self.most);
        self.filled = if earned == self.most { now } else { self.filled + self.earns_one * earned };
        self.left = self.left.saturating_sub(price);
        self.left > 0
    }
}

/// What a stop costs the thread that makes it, in microseconds, by the time since the one before.
fn price(since_last: Duration) -> u32 {
    micros(if since_last <= limits::TRACE_AWAKE { limits::TRACE_STOP_AWAKE } else { limits::TRACE_STOP_ASLEEP })
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_stops_at_once_are_afforded_and_too_many_in_the_long_run_are_not() {
        let start = Duration::from_secs(100);
        let (awake, asleep) = (price(Duration::ZERO), price(Duration::from_millis(1)));
        assert_eq!((awake, asleep), (30, 400));
        let afforded = |price: u32, gap: Duration| {
            let mut purse = Purse::of_stops(start);
            (1..100_000).take_while(|n| purse.pay_for(price, start + gap * *n)).count()
        };
        // A fifth of a second is afforded at once: more than two thousand threads, or five hundred signals.
        assert_eq!((afforded(awake, Duration::ZERO), afforded(asleep, Duration::ZERO)), (6666, 499));
        // In the long run a hundredth of the time: 25 signals in a second for ever, and 200 for some seconds.
        assert_eq!(afforded(asleep, Duration::from_millis(40)), 99_999);
        assert_eq!(afforded(asleep, Duration::from_millis(5)), 571);
        // From nothing, a second earns that part of it.
        let mut purse = Purse::of_stops(start);
        assert!(!purse.pay_for(u32::MAX, start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..u32::MAX).take_while(|_| purse.pay(later)).count(), 9_999);
    }

    #[test]
    fn what_is_asked_for_at_any_cost_is_never_too_dear() {
        let start = Duration::from_secs(100);
        let signal = Stop { signal: libc::SIGALRM, event: 0 };
        let affords = |capture, is_own| {
            let mut cost = Cost::new(capture, start);
            (1..1_000).all(|n| cost.affords(is_own, signal, start + Duration::from_millis(n)))
        };
        assert!(affords(Capture::Ptrace, true) && affords(Capture::Ptrace, false));
        assert!(!affords(Capture::Auto, true) && !affords(Capture::Auto, false));
    }

    #[test]
    fn each_program_that_is_executed_has_its_own_few_times() {
        let start = Duration::from_secs(100);
        let signal = Stop { signal: libc::SIGALRM, event: 0 };
        let mut cost = Cost::new(Capture::Auto, start);
        let paid = (1..100_000).take_while(|n| {
            let now = start + Duration::from_millis(*n);
            if n % 400 == 0 {
                cost.begin_anew(now);
            }
            cost.affords(true, signal, now)
        });
        let last_renewal = 400 * u64::from(limits::TRACE_RENEWALS);
        let paid = paid.count() as u64;
        assert!((last_renewal + 499..last_renewal + 550).contains(&paid), "{paid}");
    }
}
