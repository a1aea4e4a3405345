//! Python: `Traceback (most recent call last):` with the innermost call and the exception last, chains with their two
//! separators, notes, syntax errors; exception groups are in [`super::python_group`]. Exit code 1, 130 or SIGINT for
//! KeyboardInterrupt. Besides that faulthandler and fatal errors of the interpreter, innermost call first.

#![forbid(unsafe_code)]

use super::line::{self, number};
use super::{Block, Dialect, Ends, Found, exception, python_group};
use crate::evidence::stack::{Exception, Frame, Omitted, Stack, ThreadStack};

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    fatal(lines, at).or_else(|| python_group::at(lines, at)).or_else(|| traceback(lines, at))
}

pub const HEADER: &str = "Traceback (most recent call last):";
const CAUSE: &str = "The above exception was the direct cause of the following exception:";
const CONTEXT: &str = "During handling of the above exception, another exception occurred:";

fn traceback(lines: &[&str], at: usize) -> Option<Block> {
    let begins = lines[at].ends_with(HEADER) || is_cut(lines, at);
    if !begins {
        return None;
    }
    let (exceptions, next) = chain(lines, at);
    let Some(last) = exceptions.last() else { return Some(Block { found: None, next }) };
    let ends = ends(&last.kind, at.checked_sub(1).map_or("", |before| lines[before]));
    let found = Found { dialect: Dialect::Python, exceptions, threads: Vec::new(), ends, lines: (at, next) };
    Some(Block { found: Some(found), next })
}

/// A call without a header above it: the error of a script that does not compile, or the rest of a traceback whose
/// beginning the tail does not hold any more.
fn is_cut(lines: &[&str], at: usize) -> bool {
    let syntax = |line: &str| ["SyntaxError", "IndentationError", "TabError"].iter().any(|name| line.starts_with(name));
    let in_function = entry(lines[at]).is_some_and(|frame| frame.function.is_some());
    entry(lines[at]).is_some() && (at < 4 && in_function || lines[at + 1..].iter().take(5).any(|line| syntax(line)))
}

/// Which ends go with an exception, by its type and by the line that introduces it.
pub fn ends(kind: &str, before: &str) -> Ends {
    if before.starts_with("Exception ignored in") || before.starts_with("Task exception was never retrieved") {
        return Ends::default();
    }
    let thread_only = before.starts_with("Exception in thread ");
    match kind {
        "KeyboardInterrupt" => Ends { codes: &[1, 130], signals: &[libc::SIGINT], thread_only, ..Ends::default() },
        _ => Ends { codes: &[1], thread_only, ..Ends::default() },
    }
}

/// All links of a chain, in Python's order, which is Sentry's, and the line after them.
pub fn chain(lines: &[&str], begin: usize) -> (Vec<Exception>, usize) {
    let mut exceptions: Vec<Exception> = Vec::new();
    let mut at = begin;
    let mut source = None;
    loop {
        let (link, next) = link(lines, at);
        // A separator with nothing behind it, where the text was cut, makes no cause.
        let Some(link) = link else { return (exceptions, next) };
        let parent = exceptions.len();
        if let Some(cause) = exceptions.last_mut() {
            cause.mechanism.kind = "chained".to_owned();
            cause.mechanism.source = source;
            cause.mechanism.parent = Some(parent);
        }
        exceptions.push(link);
        let separator = (next..lines.len().min(next + 3)).find(|&i| !lines[i].trim().is_empty());
        source = match separator.map(|i| lines[i]) {
            Some(CAUSE) => Some("__cause__".to_owned()),
            Some(CONTEXT) => Some("__context__".to_owned()),
            _ => return (exceptions, next),
        };
        let after = separator.map_or(next, |i| i + 1);
        let Some(header) = (after..lines.len().min(after + 3)).find(|&i| lines[i].ends_with(HEADER)) else {
            return (exceptions, next);
        };
        at = header;
    }
}

/// One traceback with its exception, which is missing where the text was cut.
fn link(lines: &[&str], begin: usize) -> (Option<Exception>, usize) {
    let mut frames: Vec<Frame> = Vec::new();
    let mut omitted = None;
    let mut at = begin + usize::from(entry(lines[begin]).is_none());
    while at < lines.len() {
        let line = lines[at];
        if let Some(frame) = entry(line) {
            frames.push(frame);
        } else if let Some(times) = repeated(line) {
            omitted = Some((frames.len(), times));
        } else if !line.starts_with("    ") {
            let more = |line: &str| entry(line).is_some();
            match named(line) {
                // A line of the program's own may look like an exception; the exception itself has no calls after it.
                Some(_) if !lines[at + 1..].iter().take(2).any(|line| more(line)) => break,
                _ => match line::resume(lines, at + 1, more) {
                    Some(next) => {
                        at = next;
                        continue;
                    }
                    None if named(line).is_some() => break,
                    None => return (None, at),
                },
            }
        }
        at += 1;
    }
    let Some((kind, value)) = lines.get(at).and_then(|line| named(line)) else { return (None, at) };
    let end = message_end(lines, at + 1);
    let further = &lines[at + 1..end];
    let text = line::joined(value, further);
    frames.reverse();
    let count = frames.len();
    let mut exception = exception(kind.strip_prefix("__main__.").unwrap_or(kind), &text, "excepthook", frames);
    if let (Some(stack), Some((after, times))) = (&mut exception.stack, omitted) {
        stack.omitted = Some(Omitted { before: count - after, frames: times });
    }
    (Some(exception), end)
}

/// A message goes to the separator of the chain, or as far as it can be told from what comes next.
fn message_end(lines: &[&str], at: usize) -> usize {
    let separator = line::message_end(lines, at, |line| line == CAUSE || line == CONTEXT);
    if let Some(separator) = separator.filter(|&end| !lines[at..end].iter().any(|line| line.ends_with(HEADER))) {
        return if separator > at && lines[separator - 1].trim().is_empty() { separator - 1 } else { separator };
    }
    line::open_end(lines, at)
}

/// `  File "crash.py", line 8, in inner`; a syntax error's has no function.
fn entry(line: &str) -> Option<Frame> {
    let (file, rest) = line.strip_prefix("  File \"")?.split_once("\", line ")?;
    let (line, function) = match rest.split_once(", in ") {
        Some((line, function)) => (line, Some(function)),
        None => (rest, None),
    };
    Some(frame(file, number(line)?, function))
}

fn frame(file: &str, line: u32, function: Option<&str>) -> Frame {
    const LIBRARIES: [&str; 4] = ["/site-packages/", "/dist-packages/", "/lib/python", "/lib64/python"];
    let in_app = !file.starts_with("<frozen ") && !LIBRARIES.iter().any(|library| file.contains(library));
    Frame {
        function: function.map(str::to_owned),
        module: module(file),
        file: Some(file.to_owned()),
        line: Some(line),
        in_app,
        ..Frame::default()
    }
}

/// The file's own name, which for a package's `__init__` is the package's.
fn module(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".py")?;
    let (directory, name) = stem.rsplit_once('/').unwrap_or(("", stem));
    let name = if name == "__init__" { directory.rsplit('/').next()? } else { name };
    Some(name.to_owned())
}

fn repeated(line: &str) -> Option<u64> {
    line.strip_prefix("  [Previous line repeated ")?.split(' ').next()?.parse().ok()
}

fn named(line: &str) -> Option<(&str, &str)> {
    line::named(line, ".<>")
}

/// `Fatal Python error: Segmentation fault`, of faulthandler or of the interpreter itself.
fn fatal(lines: &[&str], at: usize) -> Option<Block> {
    let value = lines[at].strip_prefix("Fatal Python error: ")?;
    let mut threads: Vec<ThreadStack> = Vec::new();
    let mut next = at + 1;
    while let Some(i) = line::resume(lines, next, |line| thread(line).is_some()) {
        let (tid, crashed) = thread(lines[i]).unwrap_or_default();
        next = i + 1;
        let mut stack = Stack::default();
        while let Some(frame) = lines.get(next).and_then(|line| fatal_entry(line)) {
            stack.frames.extend(frame);
            next += 1;
        }
        threads.push(ThreadStack { tid, crashed, stack, ..ThreadStack::default() });
    }
    let signals: &[i32] = match value {
        "Segmentation fault" => &[libc::SIGSEGV],
        "Bus error" => &[libc::SIGBUS],
        "Illegal instruction" => &[libc::SIGILL],
        "Floating-point exception" | "Floating point exception" => &[libc::SIGFPE],
        _ => &[libc::SIGABRT],
    };
    let mut exception = exception("Fatal Python error", value, "signalhandler", Vec::new());
    if let Some(crashed) = threads.iter().find(|thread| thread.crashed) {
        exception.thread = (threads.len() > 1).then_some(crashed.tid);
        exception.stack = Some(crashed.stack.clone()).filter(|stack| !stack.frames.is_empty());
    }
    let threads = if threads.len() > 1 { threads } else { Vec::new() };
    let ends = Ends { codes: &[1], signals, last_word: true, ..Ends::default() };
    let found = Found { dialect: Dialect::Python, exceptions: vec![exception], threads, ends, lines: (at, next) };
    Some(Block { found: Some(found), next })
}

/// `Current thread 0x00007f (most recent call first):`
fn thread(line: &str) -> Option<(u64, bool)> {
    let head = line.strip_suffix(" (most recent call first):")?;
    let current = head.starts_with("Current thread ");
    let number = head.strip_prefix("Current thread ").or_else(|| head.strip_prefix("Thread "))?;
    Some((line::address(number.split(' ').next()?)?, current))
}

/// `  File "crash.py", line 79 in fall`; `Some(None)` for a line that belongs and names no call.
fn fatal_entry(line: &str) -> Option<Option<Frame>> {
    if matches!(line, "  ..." | "  <no Python frame>") {
        return Some(None);
    }
    let (file, rest) = line.strip_prefix("  File \"")?.split_once("\", line ")?;
    let (line, function) = rest.split_once(" in ")?;
    Some(Some(frame(file, number(line)?, Some(function))))
}
