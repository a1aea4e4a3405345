//! Ruby: `file:line:in 'method': message (Class)`, calls after a tab and `from`, causes below; exit code 1. The
//! interpreter's own `[BUG]` report ends with SIGABRT.

#![forbid(unsafe_code)]

use super::fit::ABORTS;
use super::line::{self, place};
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::stack::{Exception, Frame};

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    bug(lines, at).or_else(|| raised(lines, at))
}

fn raised(lines: &[&str], at: usize) -> Option<Block> {
    let in_thread = |line: &str| line.starts_with("#<Thread:") && line.contains(" terminated with exception ");
    let (begin, thread_only) = if in_thread(lines[at]) { (at + 1, true) } else { (at, false) };
    let mut exceptions = Vec::new();
    let mut next = begin;
    while let Some((link, after)) = lines.get(next).and_then(|_| link(lines, next)).filter(|_| exceptions.len() < 50) {
        exceptions.push(link);
        next = after;
        // A thread's report and the main program's, which follows it, are two.
        if thread_only {
            break;
        }
    }
    if exceptions.is_empty() {
        return None;
    }
    exceptions.reverse();
    let newest = exceptions.len() - 1;
    for (i, exception) in exceptions.iter_mut().enumerate().take(newest) {
        exception.mechanism.kind = "chained".to_owned();
        exception.mechanism.source = Some("cause".to_owned());
        exception.mechanism.parent = Some(i + 1);
    }
    let ends = Ends { codes: &[1], thread_only, last_word: true, ..Ends::default() };
    Some(found(exceptions, ends, at, next))
}

fn found(exceptions: Vec<Exception>, ends: Ends, at: usize, next: usize) -> Block {
    let found = Found { dialect: Dialect::Ruby, exceptions, threads: Vec::new(), ends, lines: (at, next) };
    Block { found: Some(found), next }
}

/// One exception with its calls. The class stands at the end of the message's first line.
fn link(lines: &[&str], at: usize) -> Option<(Exception, usize)> {
    let (frame, message) = head(lines[at])?;
    let (first, kind) = match message.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
        Some((first, kind)) if line::is_name(kind, ":") => (first, kind),
        _ if message == "unhandled exception" => (message, "RuntimeError"),
        _ => return None,
    };
    let from = |line: &str| line.starts_with("\tfrom ") || line.starts_with("\t ... ");
    let calls = line::message_end(lines, at + 1, |line| from(line) || head(line).is_some()).filter(|&i| from(lines[i]));
    // did_you_mean and error_highlight add a blank line and more; that is no message.
    let further = calls.map_or(&[][..], |calls| &lines[at + 1..calls]);
    let message_lines = further.iter().position(|line| line.is_empty()).unwrap_or(further.len());
    let value = line::joined(first, &further[..message_lines]);
    let mut frames = vec![frame];
    let mut next = calls.unwrap_or(at + 1);
    while let Some(i) = line::resume(lines, next, from).filter(|&i| lines[next..i].iter().all(|l| head(l).is_none())) {
        frames.extend(lines[i].strip_prefix("\tfrom ").and_then(call));
        next = i + 1;
    }
    if calls.is_none() {
        next = highlight_end(lines, next);
    }
    Some((exception(kind, &value, "excepthook", frames), next))
}

/// The snippet with carets below a message without calls.
fn highlight_end(lines: &[&str], at: usize) -> usize {
    let window = at..lines.len().min(at + 4);
    let caret = |line: &str| line.contains('^') && line.bytes().all(|b| matches!(b, b' ' | b'^' | b'\t'));
    window.clone().find(|&i| caret(lines[i])).map_or(at, |end| end + 1)
}

/// `crash.rb:4:in 'Integer#take': message`
fn head(line: &str) -> Option<(Frame, &str)> {
    let (location, rest) = line.split_once(":in ")?;
    let quoted = rest.strip_prefix(['`', '\''])?;
    let (function, message) = quoted.split_once("': ")?;
    Some((frame(location, function)?, message))
}

fn call(text: &str) -> Option<Frame> {
    let (location, rest) = text.split_once(":in ")?;
    let function = rest.strip_prefix(['`', '\''])?.strip_suffix('\'')?;
    frame(location, function)
}

fn frame(location: &str, function: &str) -> Option<Frame> {
    let place = place(location).filter(|place| place.column.is_none())?;
    let library = ["/gems/", "/lib/ruby/", "/rubygems/"].iter().any(|part| place.file.contains(part));
    Some(place.frame(Some(function), !library && !place.file.starts_with("<internal:")))
}

/// `crash.rb:17: [BUG] Segmentation fault at 0x0000`
fn bug(lines: &[&str], at: usize) -> Option<Block> {
    const LINES: usize = 2000;
    let (location, value) =
        lines[at].split_once(": [BUG] ").or_else(|| Some(("", lines[at].strip_prefix("[BUG] ")?)))?;
    let end = lines.len().min(at + LINES);
    let heading = (at..end).find(|&i| lines[i].starts_with("-- Ruby level backtrace information"));
    let mut frames: Vec<Frame> = Vec::new();
    let mut next = at + 1;
    if let Some(heading) = heading {
        frames.extend(lines[heading + 1..end].iter().map_while(|line| call(line)));
        next = heading + 1 + frames.len();
        // Outermost first, against Ruby's custom.
        frames.reverse();
    } else {
        frames.extend(place(location).map(|place| place.frame(None, true)));
    }
    let sections = |line: &str| line.starts_with("-- ") || line.starts_with("* ") || line.starts_with("[NOTE]");
    if let Some(last) = (next..end).rev().find(|&i| sections(lines[i])) {
        next = last + 1;
    }
    let value = value.split(" at 0x").next().unwrap_or(value);
    let ends = Ends { signals: ABORTS, last_word: true, ..Ends::default() };
    Some(found(vec![exception("[BUG]", value, "signalhandler", frames)], ends, at, next))
}
