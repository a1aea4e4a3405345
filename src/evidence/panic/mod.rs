//! What a program said as it died: the exception, its causes and its stacks, read from the end of stderr.
//!
//! Each runtime speaks its own dialect, one file each. All are pure and run over the same lines ([`text`]); a dialect
//! looks at a line, knows its own headers, and takes the block that follows. The blocks found are then held against the
//! death, the last first, and **a wrong guess is worse than none**:
//!
//! - The text must fit the death: a Rust panic ends with 101 or SIGABRT, a Go panic with 2, an uncaught Python, Node or
//!   Java exception with 1, an abort with SIGABRT. A shell's 128+n counts as signal n. Nothing that a program can print
//!   explains SIGKILL or SIGTERM, so an OOM kill never gets an exception, whatever was caught and logged before.
//! - The text must be near the end. A traceback that was logged and survived is followed by the ordinary life of the
//!   program; the words of a runtime that gives up are followed by little ([`fit`]).
//! - A thread that died alone leaves exit code 0: its text is taken wherever it stands, as the error it was.
//!
//! What was read and not taken is said in one sentence, so that the reader of a report knows why it holds no exception.
//!
//! The time is linear in the text: a header may look ahead for a fixed number of lines only, and what a block has
//! taken is not looked at again. The output is bounded ([`bound`]): the text is the program's and may be hostile.

#![forbid(unsafe_code)]

mod bound;
mod dotnet;
mod fit;
mod go;
mod java;
mod line;
mod native;
mod node;
mod php;
mod python;
mod python_group;
mod ruby;
mod rust;
mod sanitizer;
mod text;

use super::stack::{Exception, Frame, Mechanism, Stack, ThreadStack};
use crate::case::Tail;
use crate::death::Death;
use std::fmt;

pub use fit::{Ends, shell_signal};

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    Rust,
    Go,
    Python,
    Node,
    Java,
    /// C and C++: terminate, glibc, assert.
    Native,
    Sanitizer,
    DotNet,
    Ruby,
    Php,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::Rust => "Rust",
            Dialect::Go => "Go",
            Dialect::Python => "Python",
            Dialect::Node => "Node",
            Dialect::Java => "Java",
            Dialect::Native => "C or C++",
            Dialect::Sanitizer => "sanitizer",
            Dialect::DotNet => ".NET",
            Dialect::Ruby => "Ruby",
            Dialect::Php => "PHP",
        })
    }
}

/// The last words that explain a death.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    pub dialect: Dialect,
    /// Oldest cause first, never empty.
    pub exceptions: Vec<Exception>,
    /// All that the runtime printed; empty where it printed one stack only.
    pub threads: Vec<ThreadStack>,
    /// Which deaths this text announces.
    ends: Ends,
    /// First line, and the one after the last.
    lines: (usize, usize),
}

/// What came of reading.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reading {
    pub found: Option<Found>,
    /// Why the last exception that was printed is not taken, in one sentence.
    pub passed_over: Option<String>,
}

/// Looks for the words that explain this death.
pub fn read(tail: &Tail, death: Death) -> Reading {
    let text = text::plain(&tail.bytes);
    let lines: Vec<&str> = text.lines().collect();
    let mut reading = fit::choose(blocks(&lines), &lines, death);
    if let Some(found) = &mut reading.found {
        bound::bound(&mut found.exceptions, &mut found.threads);
    }
    reading
}

/// Reads the fatal error log that a JVM left in a file; it must name this pid in its head.
pub fn read_java_log(log: &[u8], pid: i32, death: Death) -> Reading {
    const LINES: usize = 3000;
    const HEAD: usize = 10;
    let text = text::plain(log);
    let lines: Vec<&str> = text.lines().take(LINES).collect();
    let named = format!(" pid={pid},");
    if !lines.iter().take(HEAD).any(|line| line.contains(&named)) {
        return Reading::default();
    }
    let mut reading = fit::choose(blocks(&lines), &lines, death);
    reading.passed_over = None;
    if let Some(found) = &mut reading.found {
        bound::bound(&mut found.exceptions, &mut found.threads);
    }
    reading
}

/// Whether there is anything at all that a dying thread may have said: a search for three words and no reading, so that
/// init may do it where a run ended well, and forks nobody for one that had nothing to say.
pub fn may_hold_a_thread(tail: &[u8]) -> bool {
    const MARKS: [&[u8]; 3] = [b"panicked at", b"Exception in thread", b"terminated with exception"];
    MARKS.iter().any(|mark| tail.windows(mark.len()).any(|window| window == *mark))
}

/// A header was seen at a line: what it led to, and the line after it.
struct Block {
    found: Option<Found>,
    next: usize,
}

type Parse = fn(&[&str], usize) -> Option<Block>;

/// The order matters only where one runtime's report holds another's words.
const PARSERS: [Parse; 10] =
    [sanitizer::at, rust::at, go::at, python::at, java::at, dotnet::at, ruby::at, php::at, node::at, native::at];

/// Blocks kept; a text that holds more of them is a log of caught errors, and the last ones count.
const BLOCKS: usize = 32;

fn blocks(lines: &[&str]) -> Vec<Found> {
    let mut blocks: Vec<Found> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(block) = PARSERS.iter().find_map(|parse| parse(lines, at)) else {
            at += 1;
            continue;
        };
        if let Some(found) = block.found {
            let joined = blocks.last_mut().is_some_and(|last| rust::joined(last, &found, lines));
            if !joined {
                blocks.push(found);
            }
            if blocks.len() > 2 * BLOCKS {
                blocks.drain(..BLOCKS);
            }
        }
        at = block.next.max(at + 1);
    }
    blocks
}

fn exception(kind: &str, value: &str, mechanism: &str, frames: Vec<Frame>) -> Exception {
    Exception {
        kind: kind.to_owned(),
        value: value.trim_end().to_owned(),
        stack: (!frames.is_empty()).then(|| Stack { frames, ..Stack::default() }),
        mechanism: Mechanism { kind: mechanism.to_owned(), ..Mechanism::default() },
        ..Exception::default()
    }
}

#[cfg(test)]
mod tests;
