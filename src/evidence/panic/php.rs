//! PHP: `PHP Fatal error:  Uncaught Type: message in file:line` with its trace, previous exceptions before `Next`, and
//! fatal errors without one. Exit code 255.

#![forbid(unsafe_code)]

use super::line::{self, Place};
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::stack::{Exception, Frame};

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    let (severity, text) = header(lines[at])?;
    let (exceptions, next) = match text.strip_prefix("Uncaught ") {
        Some(text) => chain(lines, at, text)?,
        None => {
            let (message, place) = in_file_on_line(text)?;
            let frame = place.frame(None, is_own(place.file));
            (vec![exception(severity, message, "onerror", vec![frame])], at + 1)
        }
    };
    let ends = Ends { codes: &[255], last_word: true, ..Ends::default() };
    let found = Found { dialect: Dialect::Php, exceptions, threads: Vec::new(), ends, lines: (at, next) };
    Some(Block { found: Some(found), next })
}

/// With log_errors after `PHP `, perhaps after a date; with display_errors without it.
fn header(line: &str) -> Option<(&'static str, &str)> {
    const SEVERITIES: [&str; 4] = ["Fatal error", "Parse error", "Recoverable fatal error", "Compile error"];
    SEVERITIES.iter().find_map(|severity| {
        let shown = || line.strip_prefix(severity).and_then(|rest| rest.strip_prefix(": "));
        let logged = || {
            let (before, rest) = line.split_once("PHP ")?;
            let dated = before.is_empty() || before.starts_with('[') && before.ends_with("] ");
            rest.strip_prefix(severity).and_then(|rest| rest.strip_prefix(":  ")).filter(|_| dated)
        };
        shown().or_else(logged).map(|text| (*severity, text))
    })
}

/// `message in /srv/crash.php on line 2`
fn in_file_on_line(text: &str) -> Option<(&str, Place<'_>)> {
    let (rest, number) = text.rsplit_once(" on line ")?;
    let (message, file) = rest.rsplit_once(" in ")?;
    Some((message, Place { file, line: line::number(number)?, column: None }))
}

/// Exceptions over all links; a hostile text may have one on every line.
const LINKS: usize = 50;

/// The oldest comes first, the others after `Next `, to `  thrown in`.
fn chain(lines: &[&str], at: usize, text: &str) -> Option<(Vec<Exception>, usize)> {
    let mut exceptions: Vec<Exception> = Vec::new();
    let (mut head, mut text) = (at, text);
    loop {
        let (mut link, next) = link(lines, head, text)?;
        link.mechanism.kind = "onerror".to_owned();
        exceptions.push(link);
        let following = (next..lines.len().min(next + 2)).find_map(|i| Some((i, lines[i].strip_prefix("Next ")?)));
        match following.filter(|_| exceptions.len() < LINKS) {
            Some((i, rest)) => {
                let parent = exceptions.len();
                if let Some(previous) = exceptions.last_mut() {
                    previous.mechanism.kind = "chained".to_owned();
                    previous.mechanism.source = Some("previous".to_owned());
                    previous.mechanism.parent = Some(parent);
                }
                (head, text) = (i, rest);
            }
            None => {
                let thrown = lines.get(next).is_some_and(|line| line.starts_with("  thrown in "));
                return Some((exceptions, next + usize::from(thrown)));
            }
        }
    }
}

fn link(lines: &[&str], at: usize, text: &str) -> Option<(Exception, usize)> {
    let in_place = |line: &str| {
        let (_, location) = line.rsplit_once(" in ")?;
        line::place(location).filter(|place| place.column.is_none()).map(|_| ())
    };
    // The message may have further lines; the place ends the last of them.
    let end =
        if in_place(text).is_some() { at } else { line::message_end(lines, at + 1, |line| in_place(line).is_some())? };
    let further = if end > at { &lines[at + 1..=end] } else { &[][..] };
    let whole = line::joined(text, further);
    let (head, location) = whole.rsplit_once(" in ")?;
    let place = line::place(location)?;
    let (kind, value) = match head.split_once(": ") {
        Some((kind, value)) => (kind, value),
        None => (head, ""),
    };
    if !line::is_name(kind, "\\") {
        return None;
    }
    let mut next = end + 1;
    let mut calls: Vec<(Option<Place>, &str)> = Vec::new();
    if lines.get(next).is_some_and(|line| *line == "Stack trace:") {
        next += 1;
        while let Some(i) = line::resume(lines, next, |line| call(line).is_some()) {
            calls.extend(call(lines[i]));
            next = i + 1;
        }
    }
    Some((exception(kind, value, "onerror", frames(place, &calls)), next))
}

/// PHP tells of each call where it was made; a frame says where its function is.
fn frames(thrown: Place<'_>, calls: &[(Option<Place<'_>>, &str)]) -> Vec<Frame> {
    let mut at = Some(thrown);
    let mut frames = Vec::new();
    for (place, function) in calls {
        let frame = at.map(|at| at.frame(Some(function), is_own(at.file)));
        frames.push(frame.unwrap_or_else(|| Frame { function: Some((*function).to_owned()), ..Frame::default() }));
        at = *place;
    }
    if calls.is_empty() {
        frames.push(thrown.frame(None, is_own(thrown.file)));
    }
    frames
}

/// `#0 /srv/crash.php(5): inner()`, `#1 [internal function]: f()`, `#2 {main}`
fn call(line: &str) -> Option<(Option<Place<'_>>, &str)> {
    let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
    line::number(number).filter(|_| !number.is_empty())?;
    if rest == "{main}" {
        return Some((None, "{main}"));
    }
    let (location, call) = rest.split_once(": ")?;
    let function = call.split('(').next().unwrap_or(call);
    let place = location.strip_suffix(')').and_then(|location| location.rsplit_once('('));
    let place = place.and_then(|(file, number)| Some(Place { file, line: line::number(number)?, column: None }));
    Some((place, function))
}

fn is_own(file: &str) -> bool {
    !file.contains("/vendor/")
}
