//! The sanitizers of gcc and clang: Address, Leak, Thread, Memory and UndefinedBehavior. The exit code is the
//! operator's choice (1, 23 for leaks, 66 for races), or SIGABRT with abort_on_error=1.

#![forbid(unsafe_code)]

use super::fit::ABORTS;
use super::line::{self, place};
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::stack::{Exception, Frame};

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    let (kind, mut value, last_word) = header(lines[at])?;
    let (frames, after) = first_stack(lines, at + 1);
    if value.is_empty() {
        value =
            described(&lines[at + 1..after]).unwrap_or_else(|| kind.rsplit(": ").next().unwrap_or_default().to_owned());
    }
    let next = report_end(lines, after);
    let any_code = last_word;
    let ends = Ends { codes: &[1], signals: FAULTS, any_code, last_word, ..Ends::default() };
    let exceptions: Vec<Exception> = vec![exception(&kind, &value, "signalhandler", frames)];
    let found = Found { dialect: Dialect::Sanitizer, exceptions, threads: Vec::new(), ends, lines: (at, next) };
    Some(Block { found: Some(found), next })
}

/// What UndefinedBehaviorSanitizer warns of may come true a moment later.
const FAULTS: &[i32] = &[ABORTS[0], ABORTS[1], ABORTS[2], libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];

/// Type, value if the header has it, and whether the process ends of it.
fn header(line: &str) -> Option<(String, String, bool)> {
    if let Some((location, message)) = line.split_once(": runtime error: ") {
        place(location).filter(|place| place.column.is_some())?;
        return Some(("UndefinedBehaviorSanitizer".to_owned(), message.to_owned(), false));
    }
    let rest = match line.strip_prefix("==").and_then(|rest| rest.split_once("==")) {
        Some((pid, rest)) => line::number(pid).map(|_| rest)?,
        None => line,
    };
    let rest = rest.strip_prefix("ERROR: ").or_else(|| rest.strip_prefix("WARNING: "))?;
    let (name, words) = rest.split_once(": ")?;
    if !name.ends_with("Sanitizer") || !line::is_name(name, "") {
        return None;
    }
    let words = words.strip_prefix("attempting ").unwrap_or(words);
    let end = [" on address ", " on unknown address", " on 0x", " (pid=", " (pc ", " in thread"];
    let end = end.iter().filter_map(|end| words.find(end)).min().unwrap_or(words.len());
    Some((format!("{name}: {}", &words[..end]), String::new(), true))
}

/// `READ of size 4`, `The signal is caused by a READ memory access.`, `Direct leak of 16 byte(s) in 1 object(s)`:
/// without the addresses, which are others each time.
fn described(lines: &[&str]) -> Option<String> {
    let words = lines.iter().map(|line| line.trim()).map(|line| line.rsplit("==").next().unwrap_or(line));
    let starts = [
        "READ of",
        "WRITE of",
        "The signal is",
        "Direct leak",
        "Indirect leak",
        "Read of",
        "Write of",
        "Atomic",
        "Previous",
    ];
    let mut said = words.filter(|line| starts.iter().any(|start| line.starts_with(start)));
    let line = said.next()?;
    let end = [" at 0x", " allocated from", " by thread", " by main"].iter().filter_map(|end| line.find(end)).min();
    Some(line[..end.unwrap_or(line.len())].to_owned())
}

/// How many lines of words may stand before the first stack.
const WORDS: usize = 12;

fn first_stack(lines: &[&str], begin: usize) -> (Vec<Frame>, usize) {
    let end = lines.len().min(begin + WORDS);
    let stops = |line: &str| line.starts_with("SUMMARY: ") || header(line).is_some();
    let first = (begin..end).take_while(|&i| !stops(lines[i])).find(|&i| call(lines[i]).is_some());
    let Some(first) = first else { return (Vec::new(), begin) };
    let mut frames = Vec::new();
    let mut at = first;
    while let Some(i) = line::resume(lines, at, |line| call(line).is_some())
        .filter(|&i| lines[at..i].iter().all(|line| !line.trim().is_empty()))
    {
        frames.extend(call(lines[i]));
        at = i + 1;
    }
    (frames, at)
}

/// `    #1 0x5630 in main /srv/shop/sanitize.c:16:66`, `    #0 main sanitize.c:21 (prog+0x1546)`,
/// `    #0 0x7f67 in free (/lib/libasan.so+0xa3) (BuildId: e02d)`
fn call(line: &str) -> Option<Frame> {
    let (number, rest) = line.trim_start().strip_prefix('#')?.split_once(' ')?;
    line::number(number).filter(|_| line.starts_with(' ') && !number.is_empty())?;
    let (address, text) = match rest.strip_prefix("0x").and_then(|rest| rest.split_once(' ')) {
        Some((address, text)) => (u64::from_str_radix(address, 16).ok(), text),
        None => (None, rest),
    };
    let text = text.trim_start();
    let text = text.strip_prefix("in ").unwrap_or(text);
    let text = text.split(" (BuildId: ").next().unwrap_or(text);
    let (text, package) = match text.strip_suffix(')').and_then(|text| text.rsplit_once('(')) {
        Some((before, image)) if image.contains("+0x") => {
            (before.trim_end(), image.rsplit_once("+0x").map(|(package, _)| package.to_owned()))
        }
        _ => (text, None),
    };
    let (function, location) = match text.rsplit_once(' ') {
        Some((function, "<null>")) => (function, None),
        Some((function, location)) if location.contains('/') || place(location).is_some() => (function, Some(location)),
        _ => (text, None),
    };
    let mut frame = match location.and_then(place) {
        Some(place) => place.frame(None, true),
        None => Frame { file: location.map(str::to_owned), ..Frame::default() },
    };
    frame.function = (!function.is_empty()).then(|| function.to_owned());
    frame.address = address;
    frame.in_app = is_own(function, frame.file.as_deref(), package.as_deref());
    frame.package = package;
    Some(frame)
}

fn is_own(function: &str, file: Option<&str>, package: Option<&str>) -> bool {
    const RUNTIME: [&str; 7] =
        ["__interceptor_", "__asan", "__tsan", "__libc_start", "_start", "operator new", "operator delete"];
    const PLACES: [&str; 4] = ["/libsanitizer/", "sysdeps/nptl/", "/csu/", "/compiler-rt/"];
    let library = |path: &str| path.contains(".so") || path.starts_with("/lib") || path.starts_with("/usr/lib");
    !RUNTIME.iter().any(|name| function.starts_with(name))
        && !file.is_some_and(|file| PLACES.iter().any(|place| file.contains(place)))
        && !package.is_some_and(library)
        && (file.is_some()
            || package.is_some() && !matches!(function, "free" | "malloc" | "calloc" | "realloc" | "pthread_create"))
}

/// The report goes on after its first stack, to the summary and the shadow bytes below it.
fn report_end(lines: &[&str], begin: usize) -> usize {
    const LINES: usize = 500;
    const SHADOW: usize = 60;
    let stop = |line: &str| header(line).is_some();
    let window = begin..lines.len().min(begin + LINES);
    let Some(summary) = window.take_while(|&i| !stop(lines[i])).find(|&i| lines[i].starts_with("SUMMARY: ")) else {
        return begin;
    };
    let mut closing = summary + 1..lines.len().min(summary + SHADOW);
    let ends =
        |line: &str| line.ends_with("==ABORTING") || line == "Exiting" || line.starts_with("ThreadSanitizer: reported");
    closing.find(|&i| ends(lines[i])).map_or(summary + 1, |end| end + 1)
}
