//! The exception on the page: what it was, where in the program's own code, and what led to it.

#![forbid(unsafe_code)]

use super::{Look, plain, wrapped};
use crate::evidence::stack::{Exception, Frame};
use crate::report::Report;
use std::fmt::Write as _;

/// Exceptions of a chain that are shown; all are in `--json`.
const SHOWN: usize = 5;
/// The program's own calls of each.
const FRAMES: usize = 8;
/// Calls of libraries, where the program has none of its own in a stack.
const OTHER_FRAMES: usize = 3;
/// Lines of a message.
const VALUE_LINES: usize = 4;
/// Of one such line, and of a function's name.
const LINE_CHARS: usize = 300;
/// Where places begin, unless a function's name is longer.
const PLACE_COLUMN: usize = 24;

/// Nothing where the program said nothing.
pub fn told(report: &Report, look: Look, page: &mut String) {
    let exceptions = &report.exceptions;
    for (i, exception) in exceptions.iter().rev().take(SHOWN).enumerate() {
        head(exception, i == 0, look, page);
        calls(exception, look, page);
    }
    if exceptions.len() > SHOWN {
        let more = format!("  and {} more", exceptions.len() - SHOWN);
        let _ = writeln!(page, "{}", look.dim(&more));
    }
    if !exceptions.is_empty() {
        page.push('\n');
    }
}

fn head(exception: &Exception, is_main: bool, look: Look, page: &mut String) {
    let mut lines = exception.value.lines();
    let first = cut(lines.next().unwrap_or_default());
    let colon = if first.is_empty() { "" } else { ": " };
    let kind = look.paint("1", &plain(&cut(&exception.kind)));
    let relation = if is_main { String::new() } else { look.dim(relation(exception)) };
    let indent = if is_main { "" } else { "  " };
    let _ = writeln!(page, "{indent}{relation}{kind}{}", wrapped(&format!("{colon}{}", plain(&first)), 2));
    for line in lines.by_ref().take(VALUE_LINES - 1).filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(page, "{indent}  {}", plain(&cut(line)));
    }
}

/// How a link of the chain stands to what came of it.
fn relation(exception: &Exception) -> &'static str {
    match exception.mechanism.source.as_deref() {
        Some("__context__") => "while handling ",
        Some("suppressed") => "suppressed ",
        Some(place) if place.starts_with("exceptions[") || place.starts_with("errors[") => "in it ",
        Some(_) => "because of ",
        None => "after ",
    }
}

fn calls(exception: &Exception, look: Look, page: &mut String) {
    let frames = exception.stack.as_ref().map(|stack| stack.frames.as_slice()).unwrap_or_default();
    let own: Vec<&Frame> = frames.iter().filter(|frame| frame.in_app).collect();
    let (shown, most) = if own.is_empty() { (frames.iter().collect(), OTHER_FRAMES) } else { (own, FRAMES) };
    for frame in shown.iter().take(most) {
        let function = frame.function.as_deref().map_or_else(|| "?".to_owned(), |name| plain(&cut(name)));
        let place = place(frame);
        let column = if place.is_empty() { 0 } else { PLACE_COLUMN };
        let _ =
            writeln!(page, "    {} {function:<column$}{}", look.dim("at"), look.dim(&format!("  {place}")).trim_end());
    }
    if shown.len() > most {
        let _ = writeln!(page, "    {}", look.dim(&format!("… {} more", shown.len() - most)));
    }
}

fn place(frame: &Frame) -> String {
    match (&frame.file, frame.line, &frame.package) {
        (Some(file), Some(line), _) => plain(&format!("{}:{line}", cut(file))),
        (Some(file), None, _) => plain(&cut(file)),
        (None, _, Some(package)) => plain(&cut(package)),
        (None, _, None) => String::new(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LINE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
