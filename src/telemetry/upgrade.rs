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
    pub next_unix: Option<u64>,
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
            next_unix: None,
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

    /// When to ask, a moment that stays the same until somebody did. `random` is any number. A clock that was set back is
    /// noticed by a moment that lies further ahead than it can.
    pub fn due_unix(&mut self, now_unix: u64, random: u64) -> u64 {
        let most = limits::ASK_EVERY.as_secs() + limits::ASK_SPREAD.as_secs();
        if let Some(next) = self.next_unix.filter(|next| *next <= now_unix + most) {
            return next;
        }
        let next = match self.asked_unix {
            None => now_unix + random % limits::ASK_FIRST.as_secs(),
            Some(_) => now_unix + regular(random),
        };
        self.next_unix = Some(next);
        next
    }

    /// Notes that the question leaves now, before it does: who dies over it must not ask again at once.
    pub fn asking(&mut self, now_unix: u64, random: u64) {
        self.asked_unix = Some(now_unix);
        self.next_unix = Some(now_unix + regular(random));
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
fn regular(random: u64) -> u64 {
    let spread = limits::ASK_SPREAD.as_secs();
    limits::ASK_EVERY.as_secs() - spread + random % (2 * spread)
}

/// For log, status and panel.
pub fn sentence(severity: Severity, latest: &str, running: &str) -> String {
    match severity {
        Severity::Current => format!("{running} is the latest release"),
        Severity::Available => format!("release {latest} is available, {running} is running"),
        Severity::Recommended => format!("release {latest} is recommended, {running} is running"),
        Severity::Mandatory => format!("release {latest} is needed for security, {running} is running"),
    }
}

/// How long from now until a moment; nothing for one that has passed.
pub fn until(then_unix: u64, now_unix: u64) -> Duration {
    Duration::from_secs(then_unix.saturating_sub(now_unix))
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

    #[test]
    fn it_is_asked_soon_at_first_and_then_once_a_day_across_restarts_and_jumps_of_the_clock() {
        for random in [0, 1, 599, 600, 28_800, u64::MAX] {
            let mut record = Record::new("example.test");
            let first = record.due_unix(NOW, random);
            assert!((NOW..NOW + 600).contains(&first));
            assert_eq!(record.due_unix(NOW + 5, random ^ 77), first, "a restart does not choose anew");
            record.asking(first, random);
            let next = record.due_unix(first + 1, 3);
            assert!((first + 72_000..first + 100_800).contains(&next), "{}", next - first);
            assert_eq!(record.due_unix(first + 300, 9), next);
            let three_days_back = record.due_unix(first - 259_200, random);
            assert!((first - 259_200 + 72_000..first - 259_200 + 100_800).contains(&three_days_back));
        }
    }

    #[test]
    fn ten_thousand_nodes_that_start_together_drift_apart() {
        const NODES: u64 = 10_000;
        let mut moments: Vec<u64> = vec![NOW; NODES as usize];
        let mut records: Vec<Record> = moments.iter().map(|_| Record::new("example.test")).collect();
        let mut random = 1u64;
        // Knuth's MMIX generator: any spread of numbers does.
        let mut next_random = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 11
        };
        for day in 0..3 {
            for (record, moment) in records.iter_mut().zip(&mut moments) {
                *moment = record.due_unix(*moment, next_random());
                record.asking(*moment, next_random());
            }
            let (first, last) = (moments.iter().min().unwrap(), moments.iter().max().unwrap());
            let window = if day == 0 { 600 } else { 8 * 3600 };
            assert!(last - first > window * 9 / 10, "day {day}: {}", last - first);
            let busiest = (0..=(last - first) / 60)
                .map(|minute| moments.iter().filter(|moment| (*moment - first) / 60 == minute).count() as u64)
                .max();
            assert!(busiest.unwrap() < NODES * 60 / window * 3 + 20, "day {day}: {busiest:?} in one minute");
        }
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
