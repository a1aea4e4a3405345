//! What the courier remembers between visits, in `spool/limits.json`: how each destination stands.

#![forbid(unsafe_code)]

use super::dsn::Dsn;
use super::standing::Standing;
use crate::spool::Spool;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const NOTE: &str = "limits.json";
/// More within a day are not remembered.
const DESTINATIONS: usize = 8;

/// The note.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Ledger {
    #[serde(default)]
    destinations: BTreeMap<String, Standing>,
}

impl Ledger {
    /// An unreadable note is an empty one: the server says again what it has to say.
    pub fn read(spool: &Spool) -> Ledger {
        spool.note(NOTE).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Kept as far as it still matters. That this may fail costs a request too many at the next visit.
    pub fn keep(&mut self, spool: &Spool, now_unix_ms: u64) {
        self.destinations.retain(|_, standing| !standing.is_clear(now_unix_ms));
        while self.destinations.len() > DESTINATIONS {
            self.destinations.pop_first();
        }
        let text = serde_json::to_string(&self).unwrap_or_default();
        if *self != Ledger::read(spool) {
            let _ = spool.replace_note(NOTE, &text);
        }
    }

    pub fn standing(&self, dsn: &Dsn) -> Standing {
        self.destinations.get(&name(dsn)).cloned().unwrap_or_default()
    }

    pub fn stands(&mut self, dsn: &Dsn, standing: &Standing) {
        self.destinations.insert(name(dsn), standing.clone());
    }
}

/// Tells destinations apart without writing a key to the disk.
fn name(dsn: &Dsn) -> String {
    format!("{dsn}#{:08x}", crc32fast::hash(dsn.public_key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::rate::Limits;
    use std::time::Duration;

    #[test]
    fn what_a_destination_asked_for_is_remembered_for_it_alone_and_no_key_is() {
        let temp = tempfile::tempdir().unwrap();
        let spool = Spool::open(temp.path()).unwrap();
        let [ours, other] = ["https://sesame@h.test/1", "https://other@h.test/1"].map(|dsn| Dsn::parse(dsn).unwrap());
        let mut standing = Standing::default();
        standing.limit(&Limits::from([("error".to_owned(), Duration::from_secs(60))]), 1000);
        let mut ledger = Ledger::read(&spool);
        ledger.stands(&ours, &standing);
        ledger.keep(&spool, 1000);
        assert_eq!(Ledger::read(&spool).standing(&ours), standing);
        assert_eq!(Ledger::read(&spool).standing(&other), Standing::default());
        assert!(!spool.note(NOTE).unwrap().contains("sesame"));
        ledger.keep(&spool, 61_000);
        assert_eq!(Ledger::read(&spool), Ledger::default(), "what is over is forgotten");
    }

    #[test]
    fn noise_is_an_empty_ledger() {
        let temp = tempfile::tempdir().unwrap();
        let spool = Spool::open(temp.path()).unwrap();
        spool.replace_note(NOTE, "{\"destinations\":[").unwrap();
        assert_eq!(Ledger::read(&spool), Ledger::default());
    }
}
