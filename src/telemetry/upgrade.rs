//! The upgrade notice: what is known of newer releases, kept across restarts, and when to ask again.
//!
//! ```text
//!            nobody asked yet ──▶ Unknown ◀── failure ──┐
//!                                   │                    │
//!   believed answer ────────▶ Current ──────────────────┘   Unverified: as Unknown, but somebody did answer
//!                  └────────▶ Available | Recommended | Mandatory ──▶ only another believed answer, or the upgrade
//!                                                                     itself, ends it
//!   Disabled: somebody said so, or there is no zone or no version to ask with
//! ```
//!
//! A failure never clears a known notice, whatever fails: whoever can suppress answers must not be able to hide an
//! upgrade. Nor does an answer that is not believed ever make one.

#![forbid(unsafe_code)]

use super::dns::answer::{Severity, Verdict};
use super::dns::release::Release;
use super::wait::{Moment, SPREAD, Wait, portion};
use crate::limits;
use crate::report::text::utc;
use crate::say::Level;
use crate::sys::file::Dir;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::time::Duration;

/// In the state directory.
pub const FILE: &str = "upgrade.json";
/// One record; a larger file is not ours.
const FILE_BYTES: usize = 64 * 1024;
/// A higher one is from a later obit, which may mean something else by it.
const FORMAT: u32 = 1;

/// All that is remembered. Times are seconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The zone that all this was learnt from; another one starts anew.
    pub zone: String,
    pub asked_unix: Option<u64>,
    /// Until the next question; without one it was never thought of.
    #[serde(default)]
    wait: Option<Wait>,
    /// The last believed answer.
    pub notice: Option<Notice>,
    /// Answers with a lower `n` are replays.
    pub newest_not_before: u64,
    /// Why the last question brought nothing, if it did not.
    pub failure: Option<Failure>,
    /// What the log was told last.
    told: Option<Told>,
}

/// A believed answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    pub heard_unix: u64,
    pub latest: String,
    /// The signer's; whether it is an upgrade at all depends on what runs.
    pub severity: Severity,
    pub url: Option<String>,
    pub expires_unix: u64,
    pub key_id: String,
}

/// A question that brought nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub at_unix: u64,
    pub kind: FailureKind,
    pub why: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// No name server gave an answer.
    Unanswered,
    /// There is no such record.
    Absent,
    /// There is one, and it is not believed.
    Unverified,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Told {
    at_unix: u64,
    what: String,
}

/// Where things stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing is asked; who decided that.
    Disabled(String),
    Unknown(String),
    /// There was an answer, and it is not believed.
    Unverified(String),
    Current,
    /// A newer release; never `Severity::Current`.
    Upgrade(Severity),
}

impl State {
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Disabled(_) => "disabled",
            State::Unknown(_) => "unknown",
            State::Unverified(_) => "unverified",
            State::Current => "current",
            State::Upgrade(severity) => severity.as_str(),
        }
    }

    /// Why there is no notice.
    pub fn why(&self) -> Option<&str> {
        match self {
            State::Disabled(why) | State::Unknown(why) | State::Unverified(why) => Some(why),
            State::Current | State::Upgrade(_) => None,
        }
    }

    /// For metrics: 0 when nothing is known, else 1 to 4.
    pub fn number(&self) -> u8 {
        match self {
            State::Current => Severity::Current.number(),
            State::Upgrade(severity) => severity.number(),
            _ => 0,
        }
    }
}

impl Record {
    pub fn new(zone: &str) -> Record {
        Record {
            format: FORMAT,
            zone: zone.to_owned(),
            asked_unix: None,
            wait: None,
            notice: None,
            newest_not_before: 0,
            failure: None,
            told: None,
        }
    }

    /// The record of the zone. One that cannot be read starts anew, and so does one of another zone.
    pub fn read(state_dir: &Path, zone: &str) -> Record {
        let bytes = Dir::open(state_dir).and_then(|dir| dir.read_small(FILE, FILE_BYTES));
        let record: Option<Record> = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        record.filter(|record| record.format == FORMAT && record.zone == zone).unwrap_or_else(|| Record::new(zone))
    }

    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        Dir::open(state_dir)?.replace(FILE, serde_json::json!(self).to_string().as_bytes())
    }

    /// Takes in what a question brought.
    pub fn heard(&mut self, outcome: Result<Verdict, Failure>, now_unix: u64) {
        match outcome {
            Ok(Verdict { answer, .. }) => {
                self.newest_not_before = self.newest_not_before.max(answer.not_before);
                self.failure = None;
                self.notice = Some(Notice {
                    heard_unix: now_unix,
                    latest: answer.latest,
                    severity: answer.severity,
                    url: answer.url,
                    expires_unix: answer.expires,
                    key_id: answer.key_id,
                });
            }
            Err(failure) => self.failure = Some(failure),
        }
    }

    /// Where things stand for who runs `running`; channels that are closed are for the caller to tell.
    pub fn state(&self, running: &str, now_unix: u64) -> State {
        if let Some(severity) = self.notice.as_ref().and_then(|notice| notice.severity_for(running)) {
            return State::Upgrade(severity);
        }
        match (&self.failure, &self.notice) {
            (Some(Failure { kind: FailureKind::Unverified, why, .. }), _) => State::Unverified(why.clone()),
            (Some(failure), _) => State::Unknown(failure.why.clone()),
            (None, None) => State::Unknown("nobody was asked yet".to_owned()),
            (None, Some(notice)) if notice.expires_unix <= now_unix => {
                State::Unknown("the last answer has expired".to_owned())
            }
            (None, Some(_)) => State::Current,
        }
    }

    /// The notice behind a state of [`State::Upgrade`] or [`State::Current`].
    pub fn notice_for(&self, state: &State) -> Option<&Notice> {
        self.notice.as_ref().filter(|_| matches!(state, State::Upgrade(_) | State::Current))
    }

    /// The line that the log is to get now, if any: on a change, and daily while an upgrade is urgent.
    pub fn news(&mut self, state: &State, running: &str, now_unix: u64) -> Option<(Level, String)> {
        let notice = self.notice_for(state);
        let latest = notice.map(|notice| notice.latest.as_str()).unwrap_or_default();
        let what = match state {
            State::Upgrade(severity) => format!("{} {latest} {running}", severity.as_str()),
            other => other.as_str().to_owned(),
        };
        let urgent = matches!(state, State::Upgrade(severity) if *severity >= Severity::Recommended);
        let again = |told: &Told| urgent && now_unix.abs_diff(told.at_unix) >= limits::NOTICE_AGAIN.as_secs();
        let before = self.told.as_ref();
        if before.is_some_and(|told| told.what == what && !again(told)) {
            return None;
        }
        let was_upgrade = before.is_some_and(|told| told.what.contains(' '));
        let line = match state {
            State::Upgrade(severity) => {
                let level = if urgent { Level::Error } else { Level::Warning };
                let more = notice.and_then(|notice| notice.url.as_deref()).map(|url| format!(": {url}"));
                Some((level, format!("{}{}", sentence(*severity, latest, running), more.unwrap_or_default())))
            }
            State::Current if was_upgrade => Some((Level::Info, format!("{running} is the latest release"))),
            State::Unverified(why) => Some((Level::Warning, format!("no news of upgrades can be believed: {why}"))),
            State::Unknown(why) if self.asked_unix.is_some() => {
                Some((Level::Info, format!("whether there is an upgrade is not known: {why}")))
            }
            State::Current | State::Unknown(_) | State::Disabled(_) => None,
        };
        self.told = Some(Told { at_unix: now_unix, what });
        line
    }

    /// How long until the next question, by a moment that stays the same until somebody asked; `None`: now. `random` is any
    /// number.
    pub fn left(&mut self, now: &Moment, random: u64) -> Option<Duration> {
        let first = match self.asked_unix {
            None => portion(SPREAD, random),
            Some(_) => regular(random),
        };
        self.wait.get_or_insert_with(|| Wait::begin(now, first)).left(now, LONGEST, random)
    }

    /// Notes that the question leaves now, before it does: who dies over it must not ask again at once.
    pub fn asking(&mut self, now: &Moment, random: u64) {
        self.asked_unix = Some(now.unix_ms / 1000);
        self.wait = Some(Wait::begin(now, regular(random)));
    }

    /// When the next question leaves, at the latest, if somebody is there to ask it.
    pub fn next_unix(&self, now: &Moment) -> Option<u64> {
        self.wait.as_ref().map(|wait| wait.ends_unix_ms(now, LONGEST) / 1000)
    }
}

impl Notice {
    fn severity_for(&self, running: &str) -> Option<Severity> {
        let newer = Release::parse(&self.latest).is_some_and(|latest| latest.is_upgrade_from(running));
        Some(self.severity).filter(|severity| newer && *severity > Severity::Current)
    }

    pub fn heard(&self) -> String {
        utc(self.heard_unix.saturating_mul(1000))
    }
}

/// A day, four hours more or less: never twice within twenty hours.
fn regular(random: u64) -> Duration {
    limits::ASK_EVERY - limits::ASK_SPREAD + portion(2 * limits::ASK_SPREAD, random)
}

/// No wait is begun that is longer.
const LONGEST: Duration = limits::ASK_EVERY.saturating_add(limits::ASK_SPREAD);

/// For log, status and panel.
pub fn sentence(severity: Severity, latest: &str, running: &str) -> String {
    match severity {
        Severity::Current => format!("{running} is the latest release"),
        Severity::Available => format!("release {latest} is available, {running} is running"),
        Severity::Recommended => format!("release {latest} is recommended, {running} is running"),
        Severity::Mandatory => format!("release {latest} is needed for security, {running} is running"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dns::answer::Answer;
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn verdict(latest: &str, severity: Severity, not_before: u64) -> Result<Verdict, Failure> {
        let answer = Answer {
            from: None,
            latest: latest.to_owned(),
            severity,
            not_before,
            expires: NOW + 864_000,
            url: Some("https://example.test/".to_owned()),
            key_id: "1835e266".to_owned(),
        };
        Ok(Verdict { answer, severity })
    }

    fn failure(kind: FailureKind) -> Result<Verdict, Failure> {
        Err(Failure { at_unix: NOW, kind, why: "no luck".to_owned() })
    }

    fn after(steps: &[Result<Verdict, Failure>]) -> Record {
        let mut record = Record::new("example.test");
        for step in steps {
            record.heard(step.clone(), NOW);
        }
        record
    }

    #[test]
    fn a_failure_never_clears_a_known_notice_and_makes_current_unknown() {
        use FailureKind::{Absent, Unanswered, Unverified};
        for kind in [Absent, Unanswered, Unverified] {
            for severity in [Severity::Available, Severity::Recommended, Severity::Mandatory] {
                let record = after(&[verdict("2.0.0", severity, 5), failure(kind)]);
                assert_eq!(record.state("1.0.0", NOW), State::Upgrade(severity));
                assert_eq!(record.state("1.0.0", NOW + 99_999_999), State::Upgrade(severity), "long after it expired");
            }
            let state = after(&[verdict("1.0.0", Severity::Current, 5), failure(kind)]).state("1.0.0", NOW);
            assert_eq!(state.as_str(), if kind == Unverified { "unverified" } else { "unknown" });
            assert_eq!(state.why(), Some("no luck"));
        }
        let record = after(&[failure(Unverified), verdict("1.0.0", Severity::Current, 5)]);
        assert_eq!(record.state("1.0.0", NOW), State::Current);
        assert_eq!(record.state("1.0.0", NOW + 864_000).as_str(), "unknown", "what is current is so for a time");
        assert_eq!(Record::new("a").state("1.0.0", NOW).as_str(), "unknown");
    }

    #[test]
    fn the_upgrade_itself_ends_the_notice_and_so_does_a_newer_answer() {
        let record = after(&[verdict("2.0.0", Severity::Mandatory, 5)]);
        assert_eq!(record.state("2.0.0", NOW), State::Current);
        let record = after(&[verdict("2.0.0", Severity::Mandatory, 5), verdict("1.0.0", Severity::Current, 6)]);
        assert_eq!((record.state("1.0.0", NOW), record.newest_not_before), (State::Current, 6));
    }

    #[test]
    fn the_log_hears_of_changes_and_daily_of_what_is_urgent() {
        let mut record = Record::new("example.test");
        let says = |record: &mut Record, outcome, at: u64| {
            record.asked_unix = Some(at);
            record.heard(outcome, at);
            let state = record.state("1.0.0", at);
            record.news(&state, "1.0.0", at).map(|(level, line)| format!("{level:?}: {line}"))
        };
        let table = [
            (verdict("1.0.0", Severity::Current, 1), 0, None),
            (failure(FailureKind::Unanswered), 10, Some("Info: whether there is an upgrade is not known: no luck")),
            (failure(FailureKind::Absent), 20, None),
            (
                verdict("1.1.0", Severity::Available, 2),
                30,
                Some("Warning: release 1.1.0 is available, 1.0.0 is running: https://example.test/"),
            ),
            (verdict("1.1.0", Severity::Available, 2), 99_999, None),
            (
                verdict("1.1.0", Severity::Mandatory, 3),
                100_000,
                Some("Error: release 1.1.0 is needed for security, 1.0.0 is running: https://example.test/"),
            ),
            (failure(FailureKind::Unverified), 100_010, None),
            (
                verdict("1.1.0", Severity::Mandatory, 3),
                186_400,
                Some("Error: release 1.1.0 is needed for security, 1.0.0 is running: https://example.test/"),
            ),
            (verdict("1.0.0", Severity::Current, 4), 186_500, Some("Info: 1.0.0 is the latest release")),
            (failure(FailureKind::Unverified), 186_600, Some("Warning: no news of upgrades can be believed: no luck")),
        ];
        for (outcome, at, expected) in table {
            assert_eq!(says(&mut record, outcome, NOW + at).as_deref(), expected, "{at}");
        }
    }

    /// A node whose true time and wall clock are ours to decide.
    struct Node {
        record: Record,
        true_ms: u64,
        wall_offset_ms: i64,
        boots: u64,
        seed: u64,
        /// True times of questions.
        questions: Vec<u64>,
    }

    const MINUTE_MS: u64 = 60_000;
    const HOUR_MS: u64 = 60 * MINUTE_MS;
    const DAY_MS: u64 = 24 * HOUR_MS;

    impl Node {
        fn new(seed: u64) -> Node {
            Node {
                record: Record::new("example.test"),
                true_ms: NOW * 1000,
                wall_offset_ms: 0,
                boots: 1,
                seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
                questions: Vec::new(),
            }
        }

        fn now(&self) -> Moment {
            Moment {
                unix_ms: self.true_ms.saturating_add_signed(self.wall_offset_ms),
                boot_id: self.boots.to_string(),
                boot_ms: self.true_ms,
            }
        }

        /// xorshift64*.
        fn random(&mut self) -> u64 {
            self.seed ^= self.seed >> 12;
            self.seed ^= self.seed << 25;
            self.seed ^= self.seed >> 27;
            self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        /// What a courier does; how long it wants to be left alone.
        fn look(&mut self) -> u64 {
            let (now, random) = (self.now(), self.random());
            if self.record.left(&now, random).is_none() {
                self.questions.push(self.true_ms);
                self.record.asking(&now, random);
            }
            self.record.left(&now, random).map_or(0, |left| u64::try_from(left.as_millis()).unwrap())
        }

        /// Runs for so long with a look whenever it was asked for, and at least every hour.
        fn run(&mut self, ms: u64) {
            let end = self.true_ms + ms;
            while self.true_ms < end {
                let next = self.look().clamp(MINUTE_MS, HOUR_MS);
                self.true_ms = (self.true_ms + next).min(end);
            }
        }

        /// Runs until it asks, and is looked at whenever it asked for that; when that is.
        fn next_question(&mut self) -> u64 {
            let before = self.questions.len();
            while self.questions.len() == before {
                let left = self.look();
                self.true_ms += if self.questions.len() == before { left } else { 0 };
            }
            self.questions[before]
        }

        /// Hours between questions.
        fn gaps(&self) -> Vec<u64> {
            self.questions.windows(2).map(|pair| (pair[1] - pair[0]) / HOUR_MS).collect()
        }
    }

    #[test]
    fn it_is_asked_within_ten_minutes_at_first_and_then_once_a_day_however_often_it_starts() {
        for seed in 0..50 {
            let mut node = Node::new(seed);
            node.run(30 * DAY_MS);
            assert!(node.questions[0] - NOW * 1000 <= 11 * MINUTE_MS);
            assert!(node.gaps().iter().all(|hours| (20..=28).contains(hours)), "{:?}", node.gaps());
            assert!((26..=36).contains(&node.questions.len()), "{}", node.questions.len());
        }
    }

    #[test]
    fn a_wall_clock_that_jumps_three_days_either_way_changes_nothing() {
        for jump in [3, -3] {
            let mut node = Node::new(7);
            node.run(2 * DAY_MS);
            node.wall_offset_ms = jump * DAY_MS as i64;
            node.run(2 * DAY_MS);
            node.wall_offset_ms = 0;
            node.run(2 * DAY_MS);
            assert!(node.gaps().iter().all(|hours| (20..=28).contains(hours)), "{jump}: {:?}", node.gaps());
            assert!(node.questions.len() >= 5, "none is lost: {:?}", node.gaps());
        }
    }

    #[test]
    fn across_a_boot_a_wall_clock_that_went_back_asks_late_and_not_twice() {
        let mut node = Node::new(8);
        node.wall_offset_ms = 3 * DAY_MS as i64;
        node.run(DAY_MS / 2);
        node.boots += 1;
        node.wall_offset_ms = 0;
        node.run(3 * DAY_MS);
        assert!(node.gaps().iter().all(|hours| (20..=40).contains(hours)), "{:?}", node.gaps());
        assert!(node.questions.len() >= 3, "{:?}", node.gaps());
    }

    #[test]
    fn a_record_of_an_older_obit_keeps_its_notice_and_asks_within_a_day() {
        let mut record = after(&[verdict("2.0.0", Severity::Mandatory, 5)]);
        record.asked_unix = Some(NOW);
        let mut old = serde_json::json!(record);
        old.as_object_mut().unwrap().remove("wait");
        old["next_unix"] = NOW.into();
        let mut read: Record = serde_json::from_value(old).unwrap();
        assert_eq!(read.state("1.0.0", NOW), State::Upgrade(Severity::Mandatory));
        assert!(read.left(&Moment::now(), 0).is_some_and(|left| left >= limits::ASK_EVERY - limits::ASK_SPREAD));
    }

    #[test]
    fn ten_thousand_nodes_spread_over_ten_minutes_when_they_start_and_when_they_are_back_from_an_outage() {
        let spread = |mut nodes: Vec<Node>| {
            let begun = nodes[0].true_ms;
            let mut minutes = [0u32; 11];
            for node in &mut nodes {
                let asked = node.next_question();
                minutes[((asked - begun) / MINUTE_MS) as usize] += 1;
            }
            assert!(minutes[..10].iter().all(|n| (850..1150).contains(n)), "{minutes:?}");
        };
        spread((0..10_000).map(Node::new).collect());
        let back = (0..10_000).map(|seed| {
            let mut node = Node::new(seed);
            node.run(HOUR_MS);
            node.true_ms = NOW * 1000 + 3 * DAY_MS;
            node.boots += 1;
            node
        });
        spread(back.collect());
    }

    #[test]
    fn ten_thousand_nodes_that_started_together_have_drifted_over_eight_hours_a_day_later() {
        let mut hours = [0u32; 40];
        for seed in 0..10_000 {
            let mut node = Node::new(seed);
            node.next_question();
            hours[((node.next_question() - NOW * 1000) / HOUR_MS) as usize] += 1;
        }
        assert!(hours[..20].iter().all(|n| *n == 0), "{hours:?}");
        assert!(hours[21..28].iter().all(|n| (1000..1500).contains(n)), "{hours:?}");
    }

    #[test]
    fn what_is_remembered_is_of_one_zone_and_survives() {
        let temp = tempfile::tempdir().unwrap();
        let record = after(&[verdict("2.0.0", Severity::Mandatory, 5)]);
        record.write(temp.path()).unwrap();
        assert_eq!(Record::read(temp.path(), "example.test"), record);
        assert_eq!(Record::read(temp.path(), "other.test"), Record::new("other.test"));
        for content in ["", "{", "[]", "{\"format\":9}"] {
            std::fs::write(temp.path().join(FILE), content).unwrap();
            assert_eq!(Record::read(temp.path(), "example.test"), Record::new("example.test"));
        }
    }
}
