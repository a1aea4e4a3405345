//! Stacks for human eyes: the thread that crashed in full, the others together where they stand at the same place.

#![forbid(unsafe_code)]

use super::{Look, plain};
use crate::evidence::stack::{Frame, Stack, ThreadStack, Trust};
use std::fmt::Write as _;

/// How much of it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Of the thread that crashed.
    pub frames: usize,
    /// Of each other one.
    pub other_frames: usize,
    /// Places at which other threads stand.
    pub places: usize,
}

/// A line of a function's name.
const NAME_CHARS: usize = 160;
/// Where places begin, unless a function's name is longer.
const PLACE_COLUMN: usize = 30;
/// The same call more often than that is a recursion.
const RECURSION: usize = 3;
/// Threads that are named one by one.
const NAMED: usize = 4;

/// All threads, the one that crashed first.
pub fn threads(threads: &[ThreadStack], extent: Extent, look: Look, page: &mut String) {
    if let Some(crashed) = threads.iter().find(|thread| thread.crashed) {
        let _ = writeln!(page, "{}", look.paint("1", &format!("{}, crashed", who(crashed))));
        stack(&crashed.stack, extent.frames, look, page);
    }
    let mut places: Vec<(&Stack, Vec<&ThreadStack>)> = Vec::new();
    for thread in threads.iter().filter(|thread| !thread.crashed) {
        match places.iter_mut().find(|(stack, _)| is_same_place(stack, &thread.stack)) {
            Some((_, there)) => there.push(thread),
            None => places.push((&thread.stack, vec![thread])),
        }
    }
    for (stack, there) in places.iter().take(extent.places) {
        let _ = writeln!(page, "{}", look.paint("1", &together(there)));
        self::stack(stack, extent.other_frames, look, page);
    }
    if places.len() > extent.places {
        let left: usize = places[extent.places..].iter().map(|(_, there)| there.len()).sum();
        let _ = writeln!(page, "{}", look.dim(&format!("and {left} more threads elsewhere")));
    }
}

fn is_same_place(one: &Stack, other: &Stack) -> bool {
    let places = |stack: &Stack| stack.frames.iter().map(|frame| frame.address).collect::<Vec<_>>();
    one.frames.len() == other.frames.len() && places(one) == places(other)
}

fn who(thread: &ThreadStack) -> String {
    match &thread.name {
        Some(name) => format!("thread {} {}", thread.tid, plain(name)),
        None => format!("thread {}", thread.tid),
    }
}

/// `threads 12 idle, 13 idle and 60 more`.
fn together(there: &[&ThreadStack]) -> String {
    if let [only] = there {
        return who(only);
    }
    let name = |thread: &&ThreadStack| who(thread).trim_start_matches("thread ").to_owned();
    let named: Vec<String> = there.iter().take(NAMED).map(name).collect();
    match there.len().saturating_sub(NAMED) {
        0 => format!("threads {}", named.join(", ")),
        more => format!("threads {} and {more} more", named.join(", ")),
    }
}

/// The calls, innermost first, with what was left out where it was; a recursion is told once.
pub fn stack(stack: &Stack, most: usize, look: Look, page: &mut String) {
    let mut shown = 0;
    let mut next = 0;
    while let Some(frame) = stack.frames.get(next) {
        if let Some(omitted) = stack.omitted.filter(|omitted| omitted.before == next) {
            let _ = writeln!(page, "      {}", look.dim(&format!("… {} calls left out …", omitted.frames)));
        }
        if shown == most {
            let _ = writeln!(page, "      {}", look.dim(&format!("… {} more", stack.frames.len() - next)));
            return;
        }
        line(next, frame, look, page);
        shown += 1;
        let hole = stack.omitted.map(|omitted| omitted.before).filter(|before| *before > next);
        let end = hole.unwrap_or(stack.frames.len());
        let same = stack.frames[next..end].iter().take_while(|other| is_same_call(frame, other)).count();
        if same > RECURSION {
            let _ = writeln!(page, "      {}", look.dim(&format!("… the same {} times more", same - 1)));
            next += same;
        } else {
            next += 1;
        }
    }
}

fn is_same_call(one: &Frame, other: &Frame) -> bool {
    one.function.is_some() && (&one.function, &one.file, one.line) == (&other.function, &other.file, other.line)
}

fn line(number: usize, frame: &Frame, look: Look, page: &mut String) {
    let address = || frame.address.map_or_else(|| "?".to_owned(), |address| format!("{address:#x}"));
    let name = frame.function.as_deref().map_or_else(address, |name| plain(&cut(name)));
    let name = if frame.in_app { look.paint("1", &name) } else { name };
    // Paint takes room that is not seen.
    let seen =
        frame.function.as_deref().map_or_else(|| address().chars().count(), |name| plain(&cut(name)).chars().count());
    let padding = " ".repeat(PLACE_COLUMN.saturating_sub(seen));
    let place = place(frame);
    let guess = if frame.trust == Some(Trust::Scan) { "  (a guess: found on the stack)" } else { "" };
    let rest = look.dim(&format!("{padding}  {place}{guess}"));
    let _ = writeln!(page, "  {} {name}{}", look.dim(&format!("{number:>3}")), rest.trim_end());
}

fn place(frame: &Frame) -> String {
    match (&frame.file, frame.line, &frame.package) {
        (Some(file), Some(line), _) => plain(&format!("{}:{line}", cut(file))),
        (Some(file), None, _) => plain(&cut(file)),
        (None, _, Some(package)) => format!("in {}", plain(&cut(package))),
        (None, _, None) => String::new(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(NAME_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
