//! Which words belong to which death, and how near its end they must stand.

#![forbid(unsafe_code)]

use super::{Found, Reading};
use crate::death::Death;
use crate::sys::signal::Signal;

/// The deaths that a text announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    pub codes: &'static [u8],
    /// Signal numbers.
    pub signals: &'static [i32],
    /// Any exit code but 0: the operator may choose it.
    pub any_code: bool,
    /// One thread dies of it; the process may go on and end with 0.
    pub thread_only: bool,
    /// Only a runtime that gives up prints it; no program prints it of an exception that it caught.
    pub last_word: bool,
}

/// How a runtime gives up: abort(3), or the trap that a compiler puts where nothing may be reached.
pub const ABORTS: &[i32] = &[libc::SIGABRT, libc::SIGILL, libc::SIGTRAP];

/// Lines that may follow a text which a program can also print of something it survived: shutting down takes a few.
const LINES_AFTER: usize = 8;
/// Lines that other threads and processes may add after the last words of a runtime.
const LINES_AFTER_LAST_WORDS: usize = 64;

/// Takes the last block that fits.
pub fn choose(blocks: Vec<Found>, lines: &[&str], death: Death) -> Reading {
    // Lines that belong to no block, from each line to the end.
    let mut ordinary_after = vec![0_usize; lines.len() + 1];
    let mut spans: Vec<(usize, usize)> = blocks.iter().map(|found| found.lines).collect();
    for at in (0..lines.len()).rev() {
        while spans.last().is_some_and(|span| at < span.0) {
            spans.pop();
        }
        let ordinary = !lines[at].trim().is_empty() && spans.last().is_none_or(|span| at >= span.1);
        ordinary_after[at] = ordinary_after[at + 1] + usize::from(ordinary && !is_echo(lines[at]));
    }
    let mut passed_over = None;
    for found in blocks.into_iter().rev() {
        let after = ordinary_after[found.lines.1.min(lines.len())];
        let why = match (fits(&found.ends, death), death) {
            (false, _) => format!("does not go with a process that {}", was(death)),
            (true, Death::Exited(0)) => return Reading { found: Some(found), passed_over: None },
            (true, _) if after > allowed(&found.ends) => format!("was followed by {after} ordinary lines"),
            (true, _) => return Reading { found: Some(found), passed_over: None },
        };
        let kind = found.exceptions.last().map_or("", |exception| exception.kind.as_str());
        let kind: String = kind.chars().take(80).collect();
        passed_over.get_or_insert(format!("{kind} ({}) on stderr {why}", found.dialect));
    }
    Reading { found: None, passed_over }
}

fn was(death: Death) -> String {
    match death {
        Death::Exited(code) => format!("ended with {code}"),
        Death::Killed { signal, .. } => format!("was ended by {signal}"),
    }
}

fn allowed(ends: &Ends) -> usize {
    if ends.last_word { LINES_AFTER_LAST_WORDS } else { LINES_AFTER }
}

fn fits(ends: &Ends, death: Death) -> bool {
    let by_signal = |number: i32| ends.signals.contains(&number);
    match death {
        Death::Exited(0) => ends.thread_only,
        Death::Exited(code) => {
            let of_shell = shell_signal(code).is_some_and(|signal| by_signal(signal.number()));
            ends.codes.contains(&code) || of_shell || ends.any_code && shell_signal(code).is_none()
        }
        Death::Killed { signal, .. } => by_signal(signal.number()),
    }
}

/// The signal that a shell tells as 128+n.
pub fn shell_signal(code: u8) -> Option<Signal> {
    code.checked_sub(128).and_then(|n| Signal::new(i32::from(n)))
}

/// What shells and build tools say of a child that died: part of its death, not of the life after it.
fn is_echo(line: &str) -> bool {
    let line = line.trim();
    let shell = ["Aborted", "Segmentation fault", "Trace/breakpoint trap", "Illegal instruction"];
    line.starts_with("exit status ") || line.len() < 512 && shell.iter().any(|words| line.contains(words))
}
