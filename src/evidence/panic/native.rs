//! C and C++: std::terminate of libstdc++ and libc++, the aborts of glibc, assert(3) in any language. All of them are
//! SIGABRT, and none of them has a stack: that is another source's to give.

#![forbid(unsafe_code)]

use super::fit::ABORTS;
use super::line::{self, place};
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::stack::Exception;

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    let (exception, next) = terminated(lines, at)
        .or_else(|| libcxx(lines, at))
        .or_else(|| glibc(lines[at]).map(|exception| (exception, at + 1)))
        .or_else(|| assertion(lines[at]).map(|exception| (exception, at + 1)))?;
    let ends = Ends { signals: ABORTS, last_word: true, ..Ends::default() };
    let exceptions = vec![exception];
    let found = Found { dialect: Dialect::Native, exceptions, threads: Vec::new(), ends, lines: (at, next) };
    Some(Block { found: Some(found), next })
}

const TERMINATE: &str = "std::terminate";

fn terminated(lines: &[&str], at: usize) -> Option<(Exception, usize)> {
    let line = lines[at];
    if line == "pure virtual method called" || line == "deleted virtual method called" {
        let closing = lines.get(at + 1).is_some_and(|line| line.starts_with("terminate called"));
        return Some((plain(TERMINATE, line), at + 1 + usize::from(closing)));
    }
    if matches!(line, "terminate called without an active exception" | "terminate called recursively") {
        return Some((plain(TERMINATE, line), at + 1));
    }
    let kind = line.strip_prefix("terminate called after throwing an instance of '")?.strip_suffix('\'')?;
    let Some(what) = lines.get(at + 1).and_then(|line| line.strip_prefix("  what():  ")) else {
        return Some((plain(kind, ""), at + 1));
    };
    let end = line::open_end(lines, at + 2);
    Some((plain(kind, &line::joined(what, &lines[at + 2..end])), end))
}

/// `libc++abi: terminating due to uncaught exception of type std::runtime_error: message`
fn libcxx(lines: &[&str], at: usize) -> Option<(Exception, usize)> {
    let line = lines[at];
    let rest = line.strip_prefix("libc++abi: ").or_else(|| line.strip_prefix("libc++abi.dylib: "))?;
    let uncaught = rest.split_once(" uncaught exception of type ").filter(|(head, _)| head.starts_with("terminating"));
    let Some((_, thrown)) = uncaught else { return Some((plain(TERMINATE, rest), at + 1)) };
    let (kind, what) = thrown.split_once(": ").unwrap_or((thrown, ""));
    Some((plain(kind, what), at + 1))
}

/// What glibc and its allocator say before they abort.
fn glibc(line: &str) -> Option<Exception> {
    const BEGINNINGS: [&str; 12] = [
        "free(): ",
        "malloc(): ",
        "realloc(): ",
        "calloc(): ",
        "munmap_chunk(): ",
        "mremap_chunk(): ",
        "malloc_consolidate(): ",
        "double free or corruption (",
        "corrupted double-linked list",
        "corrupted size vs. prev_size",
        "tcache_thread_shutdown(): ",
        "Fatal glibc error: ",
    ];
    const STARRED: [&str; 5] = [
        "stack smashing detected",
        "buffer overflow detected",
        "%n in writable segment",
        "longjmp causes",
        "invalid %N$",
    ];
    if line.len() > 512 {
        return None;
    }
    if BEGINNINGS.iter().any(|begin| line.starts_with(begin)) {
        return Some(plain("SIGABRT", line));
    }
    let inner = line.strip_prefix("*** ")?;
    let starred = STARRED.iter().any(|words| inner.starts_with(words)) && inner.contains("***");
    // Before glibc 2.26: *** Error in `./a.out': double free or corruption (fasttop): 0x0184 ***
    let older = inner
        .strip_prefix("Error in `")
        .and_then(|rest| rest.strip_suffix(" ***"))
        .and_then(|rest| rest.split_once("': "));
    let words = match older {
        Some((_, words)) => words.rsplit_once(": 0x").map_or(words, |(words, _)| words),
        None if starred => line,
        None => return None,
    };
    Some(plain("SIGABRT", words))
}

/// `prog: file:line: function: Assertion `expression' failed.` The words around the expression follow the locale; its
/// quotes do too. musl: `Assertion failed: expression (file: function: line)`.
fn assertion(line: &str) -> Option<Exception> {
    if line.len() > 8192 {
        return None;
    }
    if let Some(inner) = line.strip_prefix("Assertion failed: ").and_then(|rest| rest.strip_suffix(')')) {
        let (expression, location) = inner.rsplit_once(" (")?;
        let mut parts = location.rsplitn(3, ": ");
        let (number, function, file) = (parts.next()?, parts.next()?, parts.next()?);
        return Some(asserted(expression, file, line::number(number)?, function));
    }
    let (first, rest) = line.split_once(": ")?;
    // libstdc++ and malloc leave the program's name out.
    let (location, rest) = match place(first) {
        Some(_) => (first, rest),
        None => rest.split_once(": ")?,
    };
    let at = place(location).filter(|place| place.column.is_none())?;
    // Without a function's name the words follow at once.
    let (function, words) = match rest.rsplit_once(": ") {
        Some((function, words)) if !quoted(words).unwrap_or_default().is_empty() => (function, words),
        _ => split_before_quote(rest)?,
    };
    let expression = quoted(words)?;
    // A compiler's messages have quotes as well, and a severity where the function is.
    let is_function =
        !matches!(function, "error" | "warning" | "note" | "fatal error" | "") && words.ends_with(['.', '。']);
    is_function.then(|| asserted(expression, at.file, at.line, function))
}

/// `function: words 'expression: with a colon' words`
fn split_before_quote(rest: &str) -> Option<(&str, &str)> {
    let open = rest.find(OPENING)?;
    let colon = rest[..open].rfind(": ")?;
    Some((&rest[..colon], &rest[colon + 2..]))
}

const OPENING: [char; 8] = ['`', '\'', '«', '»', '„', '“', '‘', '「'];
const CLOSING: [char; 7] = ['\'', '»', '«', '“', '”', '’', '」'];

/// What stands between the first and the last quotation mark.
fn quoted(words: &str) -> Option<&str> {
    let open = words.find(OPENING)?;
    let begin = open + words[open..].chars().next()?.len_utf8();
    let end = words[begin..].rfind(CLOSING)? + begin;
    Some(words[begin..end].trim_matches('\u{a0}'))
}

fn asserted(expression: &str, file: &str, line: u32, function: &str) -> Exception {
    let frame = line::Place { file, line, column: None }.frame(Some(function), !file.starts_with("/usr/include/"));
    exception("assertion failed", expression, "signalhandler", vec![frame])
}

fn plain(kind: &str, value: &str) -> Exception {
    exception(kind, value, "signalhandler", Vec::new())
}
