//! Days, restarts and clocks, simulated.

#![forbid(unsafe_code)]

use super::super::wait::millis;
use super::*;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A machine whose true time, wall clock and boots are ours to decide.
struct Machine {
    true_ms: u64,
    wall_offset_ms: i64,
    booted_ms: u64,
    boots: u32,
    seed: u64,
    kept: Option<Schedule>,
    /// True times of reports.
    reports: Vec<u64>,
}

impl Machine {
    fn new(seed: u64) -> Machine {
        Machine {
            true_ms: 1_700_000_000_000,
            wall_offset_ms: 0,
            booted_ms: 0,
            boots: 1,
            seed,
            kept: None,
            reports: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment {
            unix_ms: self.true_ms.saturating_add_signed(self.wall_offset_ms),
            boot_id: format!("boot-{}", self.boots),
            boot_ms: self.true_ms - self.booted_ms,
        }
    }

    /// xorshift64*.
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// What a courier does; returns how long it wants to be left alone.
    fn look(&mut self) -> Duration {
        let (now, random) = (self.now(), self.random());
        let mut schedule = self.kept.take().unwrap_or_else(|| Schedule::first(&now, random));
        let next = match schedule.due(&now, random) {
            Due::In(wait) => wait,
            Due::Now => {
                schedule.begin(&now, Id([7; 16]), random);
                schedule.finish();
                self.reports.push(self.true_ms);
                DAY
            }
            Due::Unfinished(_) => unreachable!("every report is finished here"),
        };
        self.kept = Some(schedule);
        next
    }

    fn sleep(&mut self, ms: u64) {
        self.true_ms += ms;
    }

    /// Runs for so long with a look whenever it was asked for, and at least every four hours.
    fn run(&mut self, ms: u64) {
        let end = self.true_ms + ms;
        while self.true_ms < end {
            let next = millis(self.look()).clamp(MINUTE_MS, 4 * HOUR_MS);
            self.true_ms = (self.true_ms + next).min(end);
        }
    }

    fn reboot(&mut self) {
        self.boots += 1;
        self.booted_ms = self.true_ms;
    }

    #[track_caller]
    fn never_twice_a_day(&self) {
        for pair in self.reports.windows(2) {
            assert!(pair[1] - pair[0] >= DAY_MS, "{} minutes apart", (pair[1] - pair[0]) / MINUTE_MS);
        }
    }
}

#[test]
fn thirty_days_of_running_are_thirty_reports_within_ten_minutes_of_the_start() {
    let mut machine = Machine::new(1);
    let begun = machine.true_ms;
    machine.run(30 * DAY_MS + HOUR_MS);
    assert!(machine.reports[0] - begun <= 11 * MINUTE_MS);
    machine.never_twice_a_day();
    assert!((29..=31).contains(&machine.reports.len()), "{}", machine.reports.len());
}

#[test]
fn fifty_restarts_in_an_hour_are_one_report() {
    let mut machine = Machine::new(2);
    for _ in 0..50 {
        machine.look();
        machine.sleep(72_000);
    }
    assert_eq!(machine.reports.len(), 1);
    for _ in 0..50 * 24 {
        machine.look();
        machine.sleep(72_000);
    }
    assert_eq!(machine.reports.len(), 2);
    machine.never_twice_a_day();
}

#[test]
fn a_wall_clock_that_jumps_three_days_either_way_changes_nothing() {
    for jump in [3, -3] {
        let mut machine = Machine::new(3);
        machine.run(2 * DAY_MS);
        let before = machine.reports.len();
        machine.wall_offset_ms = jump * DAY_MS as i64;
        machine.run(6 * HOUR_MS);
        machine.wall_offset_ms = 0;
        machine.run(3 * DAY_MS);
        machine.never_twice_a_day();
        assert!(machine.reports.len() >= before + 2, "none is lost");
    }
}

#[test]
fn a_wall_clock_that_is_set_right_by_a_reboot_costs_a_day_at_most() {
    let mut machine = Machine::new(4);
    machine.wall_offset_ms = 3 * DAY_MS as i64;
    machine.run(2 * HOUR_MS);
    machine.reboot();
    machine.wall_offset_ms = 0;
    machine.run(3 * DAY_MS);
    machine.never_twice_a_day();
    assert!(machine.reports.len() >= 3, "{}", machine.reports.len());
}

#[test]
fn a_machine_that_slept_reports_late_and_once() {
    let mut machine = Machine::new(5);
    machine.run(HOUR_MS);
    machine.sleep(5 * DAY_MS);
    machine.run(HOUR_MS);
    assert_eq!(machine.reports.len(), 2);
    machine.never_twice_a_day();
}

#[test]
fn a_report_that_was_begun_is_made_good_and_not_made_anew() {
    let machine = Machine::new(6);
    let mut schedule = Schedule::first(&machine.now(), 0);
    assert_eq!(schedule.due(&machine.now(), 0), Due::Now);
    schedule.begin(&machine.now(), Id([7; 16]), 0);
    assert_eq!(schedule.due(&machine.now(), 0), Due::Unfinished(Id([7; 16])));
    schedule.finish();
    assert!(matches!(schedule.due(&machine.now(), 0), Due::In(wait) if wait == DAY));
}

#[test]
fn ten_thousand_machines_that_start_together_spread_over_ten_minutes() {
    let spread = |mut machines: Vec<Machine>| {
        let begun = machines[0].true_ms;
        let mut minutes = [0u32; 11];
        for machine in &mut machines {
            let before = machine.reports.len();
            let wait = machine.look();
            machine.sleep(millis(wait));
            machine.look();
            assert_eq!(machine.reports.len(), before + 1);
            minutes[((machine.reports[before] - begun) / MINUTE_MS) as usize] += 1;
        }
        assert!(minutes[..10].iter().all(|n| (850..1150).contains(n)), "{minutes:?}");
    };
    let seeds = (1..=10_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    spread(seeds.clone().map(Machine::new).collect());
    // And when all of them come back from an outage of two days.
    let back = seeds.map(|seed| {
        let mut machine = Machine::new(seed);
        machine.run(HOUR_MS);
        machine.true_ms = 1_700_000_000_000 + 3 * DAY_MS;
        machine
    });
    spread(back.collect());
}

#[test]
fn it_is_held_by_one_and_read_again_and_noise_in_it_is_as_none() {
    let temp = tempfile::tempdir().unwrap();
    let now = Moment::now();
    let held = Held::take(temp.path(), &now, u64::MAX / 2).unwrap().unwrap();
    assert!(Held::take(temp.path(), &now, 0).unwrap().is_none());
    let first = held.schedule.clone();
    assert_eq!(first, Schedule::after(&now, Duration::from_millis(5 * MINUTE_MS - 1)));
    drop(held);
    assert_eq!(Held::take(temp.path(), &now, 0).unwrap().unwrap().schedule, first);
    std::fs::write(temp.path().join(FILE), "noise").unwrap();
    assert_eq!(peek(temp.path()), None);
    assert!(Held::take(temp.path(), &now, 0).unwrap().is_some());
}
