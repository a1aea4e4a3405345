//! How a fleet spreads: 10,000 simulated nodes that start in the same instant, and when each asks its question and makes its
//! daily report, by obit's own rules under simulated clocks. `cargo bench --bench spread` prints the tables in seconds.
//!
//! A courier looks one second after the start, then as many whole minutes later as it wished for, plus a part of a minute that
//! belongs to the run; what it sends takes no time here.

use obit::case::Id;
use obit::courier::{CALL_AGAIN_MAX, minutes_until};
use obit::limits;
use obit::telemetry::schedule::{Due, Schedule};
use obit::telemetry::upgrade::Record;
use obit::telemetry::wait::Moment;
use std::collections::BTreeMap;

const NODES: u64 = 10_000;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// When it all begins, in milliseconds since 1970.
const EPOCH: u64 = 1_700_000_000_000;
/// The longest bar of a table, in characters.
const BAR: usize = 40;

struct Node {
    now: u64,
    boots: u64,
    seed: u64,
    schedule: Option<Schedule>,
    record: Record,
    questions: Vec<u64>,
    reports: Vec<u64>,
}

impl Node {
    fn new(seed: u64) -> Node {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Node {
            now: 0,
            boots: 0,
            seed,
            schedule: None,
            record: Record::new("updates.example.com"),
            questions: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// xorshift64*.
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn moment(&self) -> Moment {
        Moment { unix_ms: EPOCH + self.now, boot_id: self.boots.to_string(), boot_ms: self.now }
    }

    /// A courier's visit; after how many milliseconds it wants to be called again.
    fn look(&mut self) -> u64 {
        let now = self.moment();
        let [first, spread, drift] = [self.random(), self.random(), self.random()];
        let mut schedule = self.schedule.take().unwrap_or_else(|| Schedule::first(&now, first));
        if schedule.due(&now, spread) == Due::Now {
            schedule.begin(&now, Id([7; 16]), drift);
            schedule.finish();
            self.reports.push(self.now);
        }
        let report = match schedule.due(&now, spread) {
            Due::In(wait) => wait,
            Due::Now | Due::Unfinished(_) => unreachable!("the next one is a day away"),
        };
        self.schedule = Some(schedule);
        let [spread, next] = [self.random(), self.random()];
        if self.record.left(&now, spread).is_none() {
            self.questions.push(self.now);
            self.record.asking(&now, next);
        }
        let question = self.record.left(&now, spread).expect("the next one is most of a day away");
        report.min(question).min(limits::CONSENT_AGAIN).as_millis() as u64
    }

    /// A start and a run of so long.
    fn run(&mut self, length: u64) {
        self.boots += 1;
        let (part, end) = (self.random() % MINUTE, self.now + length);
        self.now += SECOND;
        while self.now < end {
            let minutes = minutes_until(self.now + self.look(), self.now);
            assert!(minutes <= CALL_AGAIN_MAX);
            self.now += u64::from(minutes) * MINUTE + part;
        }
        self.now = end;
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("benchmarks run under `cargo bench --bench spread`");
        return;
    }
    let mut nodes: Vec<Node> = (1..=NODES).map(Node::new).collect();
    let mut pass = |length: u64| nodes.iter_mut().for_each(|node| node.run(length));
    pass(30 * HOUR);
    // A restart of them all, an hour of running, then an outage of two days, and all are back at once.
    let (restarted, length) = (30 * HOUR, HOUR);
    pass(length);
    nodes.iter_mut().for_each(|node| node.now += 2 * DAY);
    let back = restarted + length + 2 * DAY;
    nodes.iter_mut().for_each(|node| node.run(8 * DAY));

    table(&nodes, "All start for the first time", 0, MINUTE, 13);
    table(&nodes, "All restart thirty hours later", restarted, MINUTE, 13);
    table(&nodes, "All are back from an outage of two days", back, MINUTE, 13);
    table(&nodes, "The day after that", back + 19 * HOUR, HOUR, 11);
    table(&nodes, "A week after that", back + 7 * DAY, HOUR, 24);
}

/// Questions and reports from `begin` on in so many steps.
fn table(nodes: &[Node], title: &str, begin: u64, step: u64, steps: u64) {
    let count = |of: fn(&Node) -> &Vec<u64>, width: u64| {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for at in nodes.iter().flat_map(of).filter(|at| (begin..begin + steps * step).contains(at)) {
            *counts.entry((at - begin) / width).or_default() += 1;
        }
        counts
    };
    let of_questions: fn(&Node) -> &Vec<u64> = |node| &node.questions;
    let of_reports: fn(&Node) -> &Vec<u64> = |node| &node.reports;
    let (questions, reports) = (count(of_questions, step), count(of_reports, step));
    let most = questions.values().chain(reports.values()).copied().max().unwrap_or(1);
    println!("\n{title}\n");
    println!("{:>6}  {:>9}  {:>7}", if step == MINUTE { "minute" } else { "hour" }, "questions", "reports");
    for row in 0..steps {
        let [asked, made] = [&questions, &reports].map(|counts| counts.get(&row).copied().unwrap_or_default());
        let bars = [(asked, "?"), (made, "#")].map(|(n, mark)| mark.repeat((n * BAR).div_ceil(most))).concat();
        println!("{}", format!("{row:>6}  {asked:>9}  {made:>7}  {bars}").trim_end());
    }
    let busiest = |of| count(of, SECOND).into_values().max().unwrap_or_default();
    let all = |counts: BTreeMap<u64, usize>| counts.into_values().sum::<usize>();
    println!(
        "{} questions and {} reports of {NODES} nodes; in the busiest second {} and {}",
        all(questions),
        all(reports),
        busiest(of_questions),
        busiest(of_reports)
    );
}
