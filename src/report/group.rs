//! Which deaths are the same death, and how many of them are told.
//!
//! A program that crashes at its start crashes again in a second. The first [`limits::LOOP_REPORTS`] of a kind within
//! [`limits::LOOP_WINDOW`] are reported, then only the 20th, the 40th, the 80th …; the others are counted, and the next
//! report of the kind says how many there were. The count outlives the container that crashes, in one small file of the
//! state directory. That file is an economy and no truth: when it is damaged or cannot be written, every death is told.

#![forbid(unsafe_code)]

use crate::case::{Case, Reason};
use crate::death::Death;
use crate::limits;
use crate::sys::process::own_pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Sentry's grouping key of a death without a stack. No pid, address, time or host name is in it, so that it is the same
/// on every machine and at every start.
pub fn fingerprint(case: &Case) -> Vec<String> {
    let mut parts = vec!["obit".to_owned(), case.run.component.clone(), case.reason.as_str().to_owned()];
    parts.extend(match (case.reason, case.death) {
        (Reason::SpawnFailed | Reason::Unclean, _) | (_, None) => None,
        (_, Some(Death::Exited(code))) => Some(code.to_string()),
        (_, Some(Death::Killed { signal, .. })) => Some(signal.name()),
    });
    if let Some(comm) = case.subject.comm() {
        parts.push(numberless(comm));
    }
    parts
}

/// `worker-4711` is `worker-#`; `python3` stays.
fn numberless(comm: &str) -> String {
    let stem = comm.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() < comm.len() && stem.ends_with(['-', '_', '/', ':', '.', ' ']) {
        format!("{stem}#")
    } else {
        comm.to_owned()
    }
}

/// What becomes of one more death of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Budget {
    /// It is told, and so many before it were only counted.
    Tell { suppressed: u64 },
    /// It is only counted.
    Count,
}

/// Takes one death from the budget kept in the state directory. A file that cannot be read is an empty one, and one that
/// cannot be written costs the economy, never the report.
pub fn take(state_dir: &Path, fingerprint: &[String], now_unix_ms: u64) -> Budget {
    let mut kinds = Kinds::load(state_dir);
    let budget = kinds.take(fingerprint, now_unix_ms);
    let _ = kinds.store(state_dir);
    budget
}

/// The deaths of late by fingerprint.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Kinds {
    kinds: BTreeMap<String, Kind>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Kind {
    /// The last deaths, oldest first, at most [`limits::LOOP_REPORTS`].
    deaths_unix_ms: Vec<u64>,
    /// Deaths since the loop began, its first reports included; 0 outside a loop.
    in_loop: u64,
    /// Counted and not yet told.
    suppressed: u64,
}

/// Name of the file in the state directory.
const FILE: &str = "crash-loop.json";
/// Kinds remembered; the one that was quiet for longest is forgotten.
const KINDS: usize = 100;
/// A fingerprint's length in the file.
const KEY_CHARS: usize = 200;
/// [`KINDS`] of [`KEY_CHARS`] with their times are below this; a larger file is not ours.
const FILE_BYTES: u64 = 256 * 1024;

impl Kinds {
    /// Takes note of a death and decides.
    fn take(&mut self, fingerprint: &[String], now_unix_ms: u64) -> Budget {
        let key: String = fingerprint.join("\u{1f}").chars().take(KEY_CHARS).collect();
        let kind = self.kinds.entry(key).or_default();
        let budget = kind.take(now_unix_ms);
        while self.kinds.len() > KINDS {
            let quiet = self.kinds.iter().min_by_key(|(_, kind)| kind.deaths_unix_ms.last().copied());
            let Some(quiet) = quiet.map(|(key, _)| key.clone()) else { break };
            self.kinds.remove(&quiet);
        }
        budget
    }

    /// As the file in `state` has it; a missing or damaged one is an empty budget.
    fn load(state: &Path) -> Kinds {
        let read = || -> io::Result<Kinds> {
            let file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(state.join(FILE))?;
            let mut text = Vec::new();
            file.take(FILE_BYTES).read_to_end(&mut text)?;
            Ok(serde_json::from_slice(&text)?)
        };
        read().unwrap_or_default()
    }

    /// Replaces the file in `state` in one step. It is not forced to the disk: after a power cut an older count will do.
    fn store(&self, state: &Path) -> io::Result<()> {
        let new = state.join(format!("{FILE}.{}", own_pid()));
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let mut file = options.open(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            fs::rename(&new, state.join(FILE))
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }
}

impl Kind {
    fn take(&mut self, now: u64) -> Budget {
        let reports = limits::LOOP_REPORTS as usize;
        let window = limits::LOOP_WINDOW.as_millis() as u64;
        // A time after now is from before the clock was set back, and says nothing.
        self.deaths_unix_ms.retain(|&at| at <= now && now - at < window);
        let recent = self.deaths_unix_ms.len();
        self.deaths_unix_ms.push(now);
        if recent < reports {
            self.in_loop = 0;
        } else {
            self.deaths_unix_ms.remove(0);
            self.in_loop = self.in_loop.max(recent as u64).saturating_add(1);
            let rounds = self.in_loop / reports as u64;
            if !(self.in_loop.is_multiple_of(reports as u64) && rounds.is_power_of_two()) {
                self.suppressed = self.suppressed.saturating_add(1);
                return Budget::Count;
            }
        }
        Budget::Tell { suppressed: std::mem::take(&mut self.suppressed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Vec<String> {
        vec!["obit".to_owned(), name.to_owned()]
    }

    /// The numbers of the deaths that are told, and what each says of those before.
    fn told(kinds: &mut Kinds, times: impl Iterator<Item = u64>) -> Vec<(usize, u64)> {
        let budgets = times.map(|at| kinds.take(&kind("app"), at)).enumerate();
        budgets
            .filter_map(|(i, budget)| match budget {
                Budget::Tell { suppressed } => Some((i + 1, suppressed)),
                Budget::Count => None,
            })
            .collect()
    }

    #[test]
    fn a_loop_is_told_ten_times_and_then_at_each_doubling() {
        let told = told(&mut Kinds::default(), (0..200).map(|i| 1_000_000 + i * 1000));
        let mut expected: Vec<_> = (1..=10).map(|n| (n, 0)).collect();
        expected.extend([(20, 9), (40, 19), (80, 39), (160, 79)]);
        assert_eq!(told, expected);
    }

    #[test]
    fn deaths_that_are_rare_are_all_told() {
        assert_eq!(told(&mut Kinds::default(), (0..100).map(|i| i * 61_000)).len(), 100);
    }

    #[test]
    fn a_loop_that_ended_is_told_anew_with_what_was_left_uncounted() {
        let mut kinds = Kinds::default();
        told(&mut kinds, (0..15).map(|i| i * 1000));
        assert_eq!(kinds.take(&kind("app"), 3_600_000), Budget::Tell { suppressed: 5 });
        assert_eq!(kinds.take(&kind("app"), 3_601_000), Budget::Tell { suppressed: 0 });
    }

    #[test]
    fn one_kind_does_not_use_up_the_budget_of_another() {
        let mut kinds = Kinds::default();
        told(&mut kinds, (0..15).map(|i| i * 1000));
        assert_eq!(kinds.take(&kind("other"), 15_000), Budget::Tell { suppressed: 0 });
    }

    #[test]
    fn a_clock_set_back_tells_rather_than_hides() {
        let mut kinds = Kinds::default();
        told(&mut kinds, (0..15).map(|i| 9_000_000 + i * 1000));
        assert_eq!(kinds.take(&kind("app"), 1000), Budget::Tell { suppressed: 5 });
    }

    #[test]
    fn the_number_of_kinds_is_bounded_and_the_quiet_one_goes() {
        let mut kinds = Kinds::default();
        for i in 0..1000 {
            kinds.take(&kind(&format!("app{i}{}", "x".repeat(500))), i);
        }
        assert_eq!(kinds.kinds.len(), KINDS);
        assert!(kinds.kinds.keys().any(|key| key.contains("app999")));
        assert!((serde_json::to_vec(&kinds).unwrap().len() as u64) < FILE_BYTES / 2);
    }

    #[test]
    fn the_count_outlives_the_process_and_a_damaged_file_begins_anew() {
        let state = tempfile::tempdir().unwrap();
        let mut kinds = Kinds::load(state.path());
        assert_eq!(kinds, Kinds::default());
        told(&mut kinds, (0..12).map(|i| i * 1000));
        kinds.store(state.path()).unwrap();
        assert_eq!(Kinds::load(state.path()), kinds);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);

        let whole = fs::read(state.path().join(FILE)).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", b"\0\0\0", b"[]", b"{\"kinds\":{\"a\":{}}}"] {
            fs::write(state.path().join(FILE), damaged).unwrap();
            assert_eq!(Kinds::load(state.path()), Kinds::default());
        }
        fs::remove_file(state.path().join(FILE)).unwrap();
        fs::create_dir(state.path().join(FILE)).unwrap();
        assert_eq!(Kinds::load(state.path()), Kinds::default());
        assert!(kinds.store(state.path()).is_err());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_death_is_taken_from_the_file_and_a_directory_that_is_gone_tells_all() {
        let state = tempfile::tempdir().unwrap();
        let told = |dir: &Path| (0..20).filter(|_| take(dir, &kind("app"), 1000) != Budget::Count).count();
        assert_eq!(told(state.path()), 11);
        assert_eq!(told(&state.path().join("gone")), 20);
    }

    #[test]
    fn worker_numbers_are_no_kinds_of_their_own() {
        for (comm, kind) in
            [("worker-4711", "worker-#"), ("kworker/0:1", "kworker/0:#"), ("python3", "python3"), ("7", "7")]
        {
            assert_eq!(numberless(comm), kind);
        }
    }
}
