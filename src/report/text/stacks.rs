//! Stacks for human eyes: the thread that crashed in full, the others together where they stand at the same place.

#![forbid(unsafe_code)]

use super::{Look, plain};
use crate::evidence::stack::{Frame, Stack, ThreadStack, Trust};
use std::collections::HashMap;
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

/// All threads, first the one that crashed, or of which else this is the `last_moment`.
pub fn threads(threads: &[ThreadStack], last_moment: &str, extent: Extent, look: Look, page: &mut String) {
    if let Some(crashed) = threads.iter().find(|thread| thread.crashed) {
        let _ = writeln!(page, "{}", look.paint("1", &format!("{}, {last_moment}", who(crashed))));
        stack(&crashed.stack, extent.frames, look, page);
    }
    let places = places(threads.iter().filter(|thread| !thread.crashed));
    for there in places.iter().take(extent.places) {
        let _ = writeln!(page, "{}", look.paint("1", &together(there)));
        let stack = there.first().map(|thread| &thread.stack);
        stack.into_iter().for_each(|stack| self::stack(stack, extent.other_frames, look, page));
    }
    if places.len() > extent.places {
        let left: usize = places[extent.places..].iter().map(Vec::len).sum();
        let _ = writeln!(page, "{}", look.dim(&format!("and {left} more threads elsewhere")));
    }
}

/// Where one call stands: inlined calls share an address with what they are in, and one without an address is known by its
/// function.
type Stand<'t> = (Option<u64>, Option<&'t str>);

/// Threads by where they stand, in the order of the first of each.
fn places<'t>(threads: impl Iterator<Item = &'t ThreadStack>) -> Vec<Vec<&'t ThreadStack>> {
    let mut places: Vec<Vec<&ThreadStack>> = Vec::new();
    let mut known: HashMap<Vec<Stand<'_>>, usize> = HashMap::new();
    for thread in threads {
        let frames = thread.stack.frames.iter();
        let stands = frames.map(|frame| (frame.address, frame.function.as_deref().filter(|_| frame.address.is_none())));
        let place = *known.entry(stands.collect()).or_insert(places.len());
        match places.get_mut(place) {
            Some(there) => there.push(thread),
            None => places.push(vec![thread]),
        }
    }
    places
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

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { frames: 16, other_frames: 4, places: 2 };

    fn thread(tid: u64, addresses: &[u64]) -> ThreadStack {
        let frame = |address: &u64| Frame {
            address: Some(*address),
            function: Some(format!("f{address}")),
            trust: Some(Trust::Cfi),
            ..Frame::default()
        };
        let stack = Stack { frames: addresses.iter().map(frame).collect(), ..Stack::default() };
        ThreadStack { tid, stack, ..ThreadStack::default() }
    }

    fn told(all: &[ThreadStack]) -> String {
        let mut page = String::new();
        threads(all, "crashed", EXTENT, Look { colour: false }, &mut page);
        page
    }

    #[test]
    fn threads_that_stand_at_the_same_place_are_told_together_and_the_one_that_crashed_first() {
        let mut all = vec![thread(1, &[1, 2]), thread(2, &[3, 2]), thread(3, &[1, 2]), thread(4, &[1]), thread(5, &[])];
        all.extend((6..=9).map(|tid| thread(tid, &[3, 2])));
        all.push(ThreadStack { crashed: true, name: Some("app".to_owned()), ..thread(10, &[1, 2]) });
        let page = told(&all);
        let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
        let expected = [
            "thread 10 app, crashed",
            "    0 f1",
            "    1 f2",
            "threads 1, 3",
            "    0 f1",
            "    1 f2",
            "threads 2, 6, 7, 8 and 1 more",
            "    0 f3",
            "    1 f2",
            "and 2 more threads elsewhere",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn threads_whose_calls_have_no_addresses_are_told_apart_by_their_functions() {
        let named = |tid, name: &str| {
            let frame = Frame { function: Some(name.to_owned()), ..Frame::default() };
            ThreadStack { tid, stack: Stack { frames: vec![frame], ..Stack::default() }, ..ThreadStack::default() }
        };
        let page = told(&[named(1, "read"), named(2, "wait"), named(3, "read")]);
        assert!(page.starts_with("threads 1, 3\n    0 read\nthread 2\n    0 wait\n"), "{page}");
    }

    #[test]
    fn a_hundred_thousand_threads_are_grouped_at_once() {
        // No two stand at the same place: compared with each other they would take minutes.
        let all: Vec<ThreadStack> = (0..100_000).map(|tid| thread(tid, &[1, 2, 3, tid])).collect();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(told(&all)));
        let page = receiver.recv_timeout(std::time::Duration::from_secs(30)).expect("not compared with each other");
        assert!(page.contains("and 99998 more threads elsewhere"), "{page}");
    }
}
