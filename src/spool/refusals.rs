//! Why what is in `rejected/` is there: one line for each, of the sender's own note `refusals`.

#![forbid(unsafe_code)]

use super::{Entry, Spool, State};
use std::collections::BTreeMap;

const NOTE: &str = "refusals";
/// The server may have said it.
const WHY_CHARS: usize = 300;

impl Spool {
    /// Notes why an entry was refused; of entries that are there no more it is forgotten. That this may fail costs a reason.
    pub fn note_refusal(&self, entry: &Entry, why: &str) {
        let text = self.note(NOTE).unwrap_or_default();
        let rejected = self.entries_in(State::Rejected);
        let is_there = |id: &str| rejected.iter().any(|entry| entry.id.to_string() == id);
        let mut lines: BTreeMap<String, &str> =
            text.lines().filter_map(|line| line.split_once(' ')).map(|(id, why)| (id.to_owned(), why)).collect();
        lines.retain(|id, _| is_there(id));
        let why: String = why.chars().filter(|c| !c.is_control()).take(WHY_CHARS).collect();
        lines.insert(entry.id.to_string(), &why);
        let text: String = lines.into_iter().map(|(id, why)| format!("{id} {why}\n")).collect();
        let _ = self.replace_note(NOTE, &text);
    }

    /// Why an entry is refused, if it is and somebody noted it.
    pub fn why_refused(&self, entry: &Entry) -> Option<String> {
        let text = self.note(NOTE).filter(|_| entry.state == State::Rejected)?;
        let id = entry.id.to_string();
        text.lines().find_map(|line| line.strip_prefix(&*id)?.strip_prefix(' ')).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Id;
    use crate::spool::Kind;

    #[test]
    fn a_reason_is_kept_as_long_as_its_entry_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let spool = Spool::open(temp.path()).unwrap();
        let refuse = |n: u8, why: &str| {
            let entry = spool.settle(spool.begin(Kind::Crash, Id([n; 16]), n.into(), b"{}").unwrap()).unwrap();
            let entry = spool.mark(&entry, State::Rejected).unwrap();
            spool.note_refusal(&entry, why);
            entry
        };
        let first = refuse(1, "the server answered 400,\nsaying \"no\"");
        assert_eq!(spool.why_refused(&first).as_deref(), Some("the server answered 400,saying \"no\""));
        let waits = spool.mark(&first, State::Pending).unwrap();
        assert_eq!(spool.why_refused(&waits), None);
        let second = refuse(2, &"x".repeat(1000));
        assert_eq!(spool.why_refused(&second).map(|why| why.len()), Some(WHY_CHARS));
        assert_eq!(spool.note(NOTE).unwrap().lines().count(), 1, "who is refused no more is forgotten");
    }
}
