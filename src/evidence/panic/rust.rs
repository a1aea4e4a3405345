//! Rust: `thread 'main' (17) panicked at src/main.rs:2:5:` with the message below it (1.73 and later), or
//! `thread 'main' panicked at 'message', src/main.rs:2:5` (before), and a backtrace where RUST_BACKTRACE asked for one.
//! Exit code 101, or SIGABRT where panics abort; in another thread than `main` the process may go on.

#![forbid(unsafe_code)]

use super::fit::ABORTS;
use super::line::{self, Place, place};
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::own;
use crate::evidence::stack::Frame;

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    overflow(lines, at).or_else(|| allocation(lines, at)).or_else(|| panicked(lines, at))
}

/// `thread 'NAME' (TID)? ` and what follows, wherever another writer left the cursor.
fn thread(line: &str) -> Option<(&str, Option<u64>, &str)> {
    let begin = line.find("thread '")?;
    let after = &line[begin + "thread '".len()..];
    let end = after.find("' panicked at ").or_else(|| after.find("' has overflowed")).or_else(|| after.find("' ("))?;
    let (name, rest) = (&after[..end], &after[end + 2..]);
    let Some(numbered) = rest.strip_prefix('(') else { return Some((name, None, rest)) };
    let (tid, rest) = numbered.split_once(") ")?;
    Some((name, Some(line::number(tid)?.into()), rest))
}

fn panicked(lines: &[&str], at: usize) -> Option<Block> {
    let (name, tid, rest) = thread(lines[at])?;
    let rest = rest.strip_prefix("panicked at ")?;
    let (message, place, mut next) = match rest.strip_suffix(':').and_then(place) {
        Some(place) => {
            let end = message_end(lines, at + 1);
            let message = lines.get(at + 1..end).unwrap_or_default();
            (message.join("\n"), Some(place), end)
        }
        None => old_header(rest, lines, at)?,
    };
    let mut frames = Vec::new();
    if lines.get(next).is_some_and(|line| *line == "stack backtrace:") {
        (frames, next) = backtrace(lines, next + 1);
    }
    while lines.get(next).is_some_and(|line| line.starts_with("note: ")) {
        next += 1;
    }
    if let Some(place) = place {
        placed(place, &mut frames);
    }
    let mut exception = exception("panic", &message, "panic", frames);
    exception.thread = tid;
    let ends = Ends { codes: &[101], signals: ABORTS, thread_only: name != "main", last_word: true, ..Ends::default() };
    let found =
        Found { dialect: Dialect::Rust, exceptions: vec![exception], threads: Vec::new(), ends, lines: (at, next) };
    Some(Block { found: Some(found), next })
}

/// The place in the header belongs to the innermost call of the program's own, which has none of its own without debug
/// info; without a backtrace it is all there is.
fn placed(place: Place<'_>, frames: &mut Vec<Frame>) {
    let own = own::rust(None, Some(place.file));
    let place = place.frame(None, own);
    if frames.is_empty() {
        frames.push(place);
    } else if let Some(frame) = frames.iter_mut().find(|frame| frame.in_app).filter(|frame| own && frame.file.is_none())
    {
        (frame.file, frame.line, frame.column) = (place.file, place.line, place.column);
    }
}

/// The message goes to the backtrace or the note. Where RUST_BACKTRACE=0 silenced both, nobody says where it ends:
/// the first line, and what is indented below it.
fn message_end(lines: &[&str], at: usize) -> usize {
    let ends = |line: &str| line == "stack backtrace:" || line.starts_with("note: run with `RUST_BACKTRACE");
    let closed = line::message_end(lines, at, |line| ends(line) || thread(line).is_some());
    match closed {
        Some(end) if ends(lines[end]) => end,
        _ => {
            let first = (at + 1).min(lines.len());
            let indented = lines[first..].iter().take(100).take_while(|line| line.starts_with([' ', '\t']));
            first + indented.count()
        }
    }
}

/// `'message', file:line:column`, over several lines; a panic of std itself may have no quotes.
fn old_header<'a>(rest: &'a str, lines: &[&'a str], at: usize) -> Option<(String, Option<Place<'a>>, usize)> {
    let closing = |text: &'a str| {
        let (message, location) = text.rsplit_once(", ")?;
        Some((message.strip_suffix('\'').unwrap_or(message), place(location)?))
    };
    let first = rest.strip_prefix('\'').unwrap_or(rest);
    if let Some((message, place)) = closing(first) {
        return Some((message.to_owned(), Some(place), at + 1));
    }
    if !rest.starts_with('\'') {
        return None;
    }
    let end = line::message_end(lines, at + 1, |line| {
        line.rsplit_once("', ").is_some_and(|(_, location)| place(location).is_some())
    })?;
    let (last, place) = closing(lines[end])?;
    let message = line::joined(&line::joined(first, &lines[at + 1..end]), &[last]);
    Some((message, Some(place), end + 1))
}

fn overflow(lines: &[&str], at: usize) -> Option<Block> {
    let (name, tid, rest) = thread(lines[at])?;
    if !rest.starts_with("has overflowed its stack") {
        return None;
    }
    let says_more = lines.get(at + 1).is_some_and(|line| line.starts_with("fatal runtime error: stack overflow"));
    let value = format!("thread '{name}' has overflowed its stack");
    let mut exception = exception("stack overflow", &value, "panic", Vec::new());
    exception.thread = tid;
    Some(one(exception, at, at + 1 + usize::from(says_more)))
}

fn allocation(lines: &[&str], at: usize) -> Option<Block> {
    let size = lines[at].strip_prefix("memory allocation of ")?.strip_suffix(" bytes failed")?;
    line::number(size)?;
    Some(one(exception("allocation failure", lines[at], "panic", Vec::new()), at, at + 1))
}

fn one(exception: crate::evidence::stack::Exception, at: usize, next: usize) -> Block {
    let ends = Ends { signals: ABORTS, last_word: true, ..Ends::default() };
    let found =
        Found { dialect: Dialect::Rust, exceptions: vec![exception], threads: Vec::new(), ends, lines: (at, next) };
    Block { found: Some(found), next }
}

/// `   3: name` or `   3:     0x5678 - name`, each with `             at file:line:column` below it.
fn backtrace(lines: &[&str], begin: usize) -> (Vec<Frame>, usize) {
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = begin;
    let belongs = |line: &str| numbered(line).is_some() || place_below(line).is_some();
    while let Some(i) = line::resume(lines, at, belongs) {
        if let Some((address, name)) = numbered(lines[i]) {
            let function = demangled(name);
            let in_app = own::rust(Some(&function), None);
            frames.push(Frame { function: Some(function), address, in_app, ..Frame::default() });
        } else if let (Some(place), Some(frame)) = (place_below(lines[i]), frames.last_mut()) {
            frame.in_app = own::rust(frame.function.as_deref(), Some(place.file));
            let place = place.frame(None, false);
            (frame.file, frame.line, frame.column) = (place.file, place.line, place.column);
        }
        at = i + 1;
    }
    // Of the innermost frames only: std catches panics below main as well.
    let inner = frames.iter().position(|frame| frame.in_app).unwrap_or(0);
    if let Some(last) = frames[..inner].iter().rposition(|frame| frame.function.as_deref().is_some_and(is_machinery)) {
        frames.drain(..=last);
    }
    (frames, at)
}

fn numbered(line: &str) -> Option<(Option<u64>, &str)> {
    let (number, rest) = line.trim_start().split_once(": ")?;
    line::number(number).filter(|_| line.starts_with(' ') && !number.is_empty())?;
    let rest = rest.trim_start();
    match rest.split_once(" - ").map(|(address, name)| (line::address(address), name)) {
        Some((Some(address), name)) => Some((Some(address), name)),
        _ => Some((None, rest)),
    }
}

fn place_below(line: &str) -> Option<Place<'_>> {
    place(line.strip_prefix("      ")?.trim_start().strip_prefix("at ")?)
}

/// Without the hashes of either mangling: `::h0123456789abcdef`, `std[e28293b1aa0f68bd]`.
fn demangled(name: &str) -> String {
    let is_hash = |text: &str| (10..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let name = match name.rsplit_once("::h") {
        Some((rest, hash)) if is_hash(hash) => rest,
        _ => name,
    };
    let mut clean = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('[') {
        clean.push_str(before);
        match after.split_once(']') {
            Some((hash, after)) if is_hash(hash) => rest = after,
            _ => {
                clean.push('[');
                rest = after;
            }
        }
    }
    clean + rest
}

/// What stands between the panic and the one who panicked.
fn is_machinery(function: &str) -> bool {
    const WORDS: [&str; 9] = [
        "std::panicking::",
        "core::panicking::",
        "rust_begin_unwind",
        "std::backtrace_rs::",
        "std::sys::backtrace::",
        "std::sys_common::backtrace::",
        "std::panic::panic_any",
        "backtrace::backtrace::",
        "__rust_start_panic",
    ];
    let function = function.trim_start_matches('<');
    WORDS.iter().any(|word| function.starts_with(word)) || function.starts_with("__rustc::rust")
}

/// Panics in one chain; a hostile text may have one on every line.
const LINKS: usize = 16;

/// Panics of one unwinding: a second one while the first unwinds the same thread, a thread's panic handed to whoever
/// joins it, and the closing words of a panic that may not unwind. They become one chain.
pub fn joined(last: &mut Found, next: &Found, lines: &[&str]) -> bool {
    let touching = lines.get(last.lines.1..next.lines.0).is_some_and(|gap| gap.iter().all(|l| l.trim().is_empty()));
    let panics = |found: &Found| found.exceptions.iter().all(|exception| exception.kind == "panic");
    let both = last.dialect == Dialect::Rust && next.dialect == Dialect::Rust && panics(last) && panics(next);
    if !both || !touching || last.exceptions.len() >= LINKS {
        return false;
    }
    let (Some(before), Some(after)) = (last.exceptions.last_mut(), next.exceptions.last()) else { return false };
    let same_thread = thread(lines[last.lines.0]).map(|t| t.0) == thread(lines[next.lines.0]).map(|t| t.0);
    const CLOSING: [&str; 3] =
        ["panic in a destructor during cleanup", "panic in a function that cannot unwind", "panic in a drop"];
    if same_thread && CLOSING.iter().any(|words| after.value.starts_with(words)) {
        last.lines.1 = next.lines.1;
        return true;
    }
    if !same_thread && !after.value.contains("Any { .. }") {
        return false;
    }
    before.mechanism.kind = "chained".to_owned();
    last.exceptions.push(after.clone());
    let newest = last.exceptions.len() - 1;
    last.exceptions[newest - 1].mechanism.parent = Some(newest);
    last.ends = next.ends;
    last.lines.1 = next.lines.1;
    true
}
