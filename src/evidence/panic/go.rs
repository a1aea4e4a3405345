//! Go: `panic: `, `fatal error: `, or a signal's name, then the goroutines, two lines for each call. Exit code 2, or
//! SIGABRT with GOTRACEBACK=crash; GOTRACEBACK=none prints the first line alone.

#![forbid(unsafe_code)]

use super::fit::ABORTS;
use super::line::{self, place};
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::own;
use crate::evidence::stack::{Exception, Frame, Omitted, Stack, ThreadStack};

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    let mut header = header(lines, at)?;
    let begin = begin(lines, header.end);
    let (goroutines, next) = match begin {
        Some(begin) => goroutines(lines, begin),
        // GOTRACEBACK=none: the runtime says one thing, and it is the last.
        None if lines[header.end..].iter().all(|line| line.trim().is_empty()) => (Vec::new(), header.end),
        None => return None,
    };
    // Before Go 1.20 the further lines of a message were not indented.
    for line in &lines[header.end..begin.unwrap_or(header.end)] {
        // Two threads may have found the same at once.
        let is_again = header.kind == FATAL && line.starts_with(FATAL);
        if !is_again && !line.starts_with("PC=0x") {
            header.take(line, line);
        }
    }
    let mut exceptions = header.exceptions();
    if let (Some(last), Some(crashed)) = (exceptions.last_mut(), goroutines.iter().find(|thread| thread.crashed)) {
        last.thread = (goroutines.len() > 1).then_some(crashed.tid);
        last.stack = Some(crashed.stack.clone()).filter(|stack| !stack.frames.is_empty());
    }
    let threads = if goroutines.len() > 1 { goroutines } else { Vec::new() };
    let ends = Ends { codes: &[2], signals: GO_SIGNALS, last_word: true, ..Ends::default() };
    Some(Block { found: Some(Found { dialect: Dialect::Go, exceptions, threads, ends, lines: (at, next) }), next })
}

/// ABRT with GOTRACEBACK=crash; QUIT where the program was asked for its stacks.
const GO_SIGNALS: &[i32] = &[ABORTS[0], ABORTS[1], ABORTS[2], libc::SIGQUIT];

/// Where the stacks begin: a message may hold the head of one as well, but no calls below it.
fn begin(lines: &[&str], at: usize) -> Option<usize> {
    let heads = |line: &str| goroutine(line).is_some() || line == "runtime stack:";
    let first = line::message_end(lines, at, heads)?;
    let calls = |i: usize| lines.get(i + 2).is_some_and(|below| position(below).is_some());
    let end = lines.len().min(at + 200);
    Some((first..end).find(|&i| heads(lines[i]) && calls(i)).unwrap_or(first))
}

const FATAL: &str = "fatal error";

/// What stands before the stacks.
struct Header<'a> {
    kind: &'a str,
    mechanism: &'a str,
    /// What each said, oldest first; never empty.
    values: Vec<String>,
    /// The line after those that are its own beyond doubt.
    end: usize,
}

fn header<'a>(lines: &[&'a str], at: usize) -> Option<Header<'a>> {
    let header = |kind, mechanism, value: &str| Header {
        kind,
        mechanism,
        values: vec![unmarked(value).to_owned()],
        end: at + 1,
    };
    let line = lines[at];
    if let Some(value) = line.strip_prefix("panic: ") {
        let mut header = header("panic", "panic", value);
        // `panic: first [recovered]`, and below it, indented, `panic: second`; a message's further lines are indented too.
        while let Some(text) = lines.get(header.end).and_then(|line| line.strip_prefix('\t'))
            && header.end < at + 200
        {
            header.take(lines[header.end], text);
            header.end += 1;
        }
        return Some(header);
    }
    if let Some(value) = line.strip_prefix("fatal error: ") {
        return Some(header(FATAL, "panic", value));
    }
    let (name, value) = line.split_once(": ")?;
    let is_signal = name.starts_with("SIG") && lines.get(at + 1).is_some_and(|line| line.starts_with("PC=0x"));
    is_signal.then(|| header(name, "signalhandler", value))
}

impl Header<'_> {
    /// One more line; `text` is it without the indent of a message's further lines.
    fn take(&mut self, line: &str, text: &str) {
        let next = line.strip_prefix('\t').and_then(|line| line.trim_start_matches('\t').strip_prefix("panic: "));
        match (next, self.values.last_mut()) {
            (None, Some(value)) => {
                value.push('\n');
                value.push_str(unmarked(text));
            }
            (next, _) => self.values.push(unmarked(next.unwrap_or(text)).to_owned()),
        }
    }

    fn exceptions(&self) -> Vec<Exception> {
        let newest = self.values.len() - 1;
        let chained = |(i, value): (usize, &String)| {
            let mechanism = if i == newest { self.mechanism } else { "chained" };
            let mut exception = exception(self.kind, value, mechanism, Vec::new());
            exception.mechanism.parent = (i < newest).then_some(i + 1);
            exception
        };
        self.values.iter().enumerate().map(chained).collect()
    }
}

fn unmarked(value: &str) -> &str {
    const MARKS: [&str; 3] = [" [recovered, repanicked]", " [recovered]", " [goexit]"];
    MARKS.iter().find_map(|mark| value.strip_suffix(mark)).unwrap_or(value)
}

/// `goroutine 18 gp=0x1 m=0 mp=0x2 [chan receive, 5 minutes]:`
fn goroutine(line: &str) -> Option<(u64, &str)> {
    let (head, state) = line.strip_prefix("goroutine ")?.split_once(" [")?;
    let number = head.split(' ').next()?.parse().ok()?;
    Some((number, state.strip_suffix("]:")?))
}

/// All goroutines to the end of the report. The first is the one that died, after the runtime's own stack.
fn goroutines(lines: &[&str], begin: usize) -> (Vec<ThreadStack>, usize) {
    let mut threads: Vec<ThreadStack> = Vec::new();
    let mut runtime = Vec::new();
    let mut at = begin;
    let mut end = begin;
    while at < lines.len() {
        let line = lines[at];
        if let Some((tid, state)) = goroutine(line) {
            let (stack, next) = calls(lines, at + 1);
            let crashed = threads.is_empty();
            threads.push(ThreadStack { tid, state: Some(state.to_owned()), crashed, stack, ..ThreadStack::default() });
            (at, end) = (next, next);
        } else if line == "runtime stack:" {
            let (stack, next) = calls(lines, at + 1);
            runtime = stack.frames;
            (at, end) = (next, next);
        } else if line.trim().is_empty() || is_between(line) {
            at += 1;
        } else {
            // Somebody else wrote between two goroutines.
            match line::resume(lines, at, |line| goroutine(line).is_some()) {
                Some(next) => at = next,
                None => break,
            }
        }
    }
    // The closing registers belong to the report.
    while end < at && lines.get(end).is_some_and(|line| line.trim().is_empty() || is_between(line)) {
        end += 1;
    }
    if threads.is_empty() && !runtime.is_empty() {
        let stack = Stack { frames: runtime, ..Stack::default() };
        threads.push(ThreadStack { crashed: true, stack, ..ThreadStack::default() });
    }
    (threads, end)
}

/// Registers, the rulers of crash mode, and its second header.
fn is_between(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let register = line.len() < 40
        && matches!((words.next(), words.next()), (Some(name), Some(value)) if name.len() <= 6 && value.starts_with("0x"));
    register || line == "-----" || line.starts_with("PC=0x") || line.starts_with("SIG") && line.len() < 40
}

/// Pairs of lines: the call, and its place after a tab.
fn calls(lines: &[&str], begin: usize) -> (Stack, usize) {
    let mut stack = Stack::default();
    let mut at = begin;
    loop {
        let is_call = |i: usize| lines.get(i + 1).is_some_and(|below| position(below).is_some());
        if let Some(elided) = lines.get(at).and_then(|line| elided(line)) {
            stack.omitted = Some(Omitted { before: stack.frames.len(), frames: elided });
            at += 1;
        } else if lines.get(at).is_some_and(|line| line.trim_start().starts_with("goroutine running on other thread")) {
            at += 1;
        } else if let Some(i) = (at..lines.len().min(at + 3)).find(|&i| is_call(i))
            && lines[at..i].iter().all(|line| !line.is_empty())
            && let Some((place, address)) = position(lines[i + 1])
        {
            let mut frame = frame(lines[i], place);
            frame.address = address;
            stack.frames.push(frame);
            at = i + 2;
        } else {
            return (stack, at);
        }
    }
}

/// `\t/srv/shop/crash.go:18 +0x25 fp=0x1 sp=0x2 pc=0x3`
fn position(line: &str) -> Option<(line::Place<'_>, Option<u64>)> {
    let text = line.strip_prefix('\t')?;
    let mut words = text.split(" +0x");
    let place = place(words.next()?.trim_end())?;
    let address = text.rsplit_once(" pc=").and_then(|(_, pc)| line::address(pc));
    place.column.is_none().then_some((place, address))
}

/// `...additional frames elided...`, `...23 frames elided...`
fn elided(line: &str) -> Option<u64> {
    let text = line.strip_prefix("...")?.strip_suffix("...")?.strip_suffix(" frames elided")?;
    Some(text.parse().unwrap_or(0))
}

fn frame(call: &str, place: line::Place<'_>) -> Frame {
    let (call, creator) = match call.strip_prefix("created by ") {
        Some(rest) => (rest.split(" in goroutine ").next().unwrap_or(rest), true),
        None => (call, false),
    };
    let function = match call.ends_with(')').then(|| call.rfind('(')).flatten() {
        Some(arguments) if !creator => &call[..arguments],
        _ => call,
    };
    let package = own::go_package(function);
    let shown = if creator { format!("created by {function}") } else { function.to_owned() };
    let mut frame = place.frame(Some(&shown), own::go(package, place.file));
    frame.module = (!package.is_empty()).then(|| package.to_owned());
    frame
}
