//! Shapes of lines that several runtimes share.

#![forbid(unsafe_code)]

use crate::evidence::stack::Frame;

/// A place in a source file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'a> {
    pub file: &'a str,
    pub line: u32,
    pub column: Option<u32>,
}

impl Place<'_> {
    pub fn frame(self, function: Option<&str>, in_app: bool) -> Frame {
        Frame {
            function: function.map(str::to_owned),
            file: Some(self.file.to_owned()),
            line: Some(self.line),
            column: self.column,
            in_app,
            ..Frame::default()
        }
    }
}

/// `path:12:5` or `path:12`; the path may hold colons.
pub fn place(text: &str) -> Option<Place<'_>> {
    let (rest, last) = text.rsplit_once(':')?;
    let last: u32 = number(last)?;
    if let Some((file, line)) = rest.rsplit_once(':')
        && let Some(line) = number(line)
    {
        return (!file.is_empty()).then_some(Place { file, line, column: Some(last) });
    }
    (!rest.is_empty()).then_some(Place { file: rest, line: last, column: None })
}

/// Digits alone.
pub fn number(text: &str) -> Option<u32> {
    (text.bytes().all(|b| b.is_ascii_digit()) && text.len() <= 10).then(|| text.parse().ok()).flatten()
}

/// `0x7f00`.
pub fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Whether a name has only what names of types have: letters, digits and these.
pub fn is_name(text: &str, marks: &str) -> bool {
    let begins = text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_' || c == '$');
    begins && text.len() <= 512 && text.chars().all(|c| c.is_alphanumeric() || c == '_' || marks.contains(c))
}

/// `Type: message` or `Type` alone, where the name may hold these marks.
pub fn named<'a>(line: &'a str, marks: &str) -> Option<(&'a str, &'a str)> {
    let (name, value) = match line.split_once(": ") {
        Some((name, value)) => (name, value),
        None => (line.strip_suffix(':').unwrap_or(line), ""),
    };
    is_name(name, marks).then_some((name, value))
}

/// How many lines of somebody else may stand in the middle of a stack.
const FOREIGN_LINES: usize = 3;

/// The next line at or after `at` that belongs to a block which others have written into; `None` when it is over.
/// Where another report begins it is over, whatever follows.
pub fn resume(lines: &[&str], at: usize, belongs: impl Fn(&str) -> bool) -> Option<usize> {
    let near = lines.iter().enumerate().skip(at).take(FOREIGN_LINES + 1);
    near.take_while(|(_, line)| belongs(line) || !begins_anew(line)).find(|(_, line)| belongs(line)).map(|(i, _)| i)
}

/// Whether a line looks like the head of another report.
fn begins_anew(line: &str) -> bool {
    const HEADS: [&str; 7] = [
        "Exception in thread ",
        "Unhandled ",
        "[ERROR] FATAL ",
        "panic: ",
        "fatal error: ",
        "terminate called",
        "Fatal Python error: ",
    ];
    let error = |name: &str| name.ends_with("Error") || name.ends_with("Exception");
    HEADS.iter().any(|head| line.starts_with(head))
        || line.contains("Traceback (most recent call last)")
        || line.contains("' panicked at ")
        || named(line.trim_start(), ".$").is_some_and(|(name, _)| error(name))
}

/// How many further lines a message may have.
const MESSAGE_LINES: usize = 100;

/// Where a message that began before `at` ends: at the first line that `ends` it, within bounds.
pub fn message_end(lines: &[&str], at: usize, ends: impl Fn(&str) -> bool) -> Option<usize> {
    (at..lines.len().min(at + MESSAGE_LINES)).find(|&i| ends(lines[i]))
}

/// Lines after a message that nothing closes: they are part of it only when the text ends with them and none of them
/// looks like the next entry of a log.
pub fn open_end(lines: &[&str], at: usize) -> usize {
    const LINES: usize = 12;
    let mut end = at;
    while end < lines.len() && lines[end].starts_with([' ', '\t']) && end < at + MESSAGE_LINES {
        end += 1;
    }
    let rest = &lines[end..];
    let closed = rest.len() <= LINES && !rest.iter().any(|line| is_log(line));
    if closed { lines.len() } else { end }
}

/// Whether a line looks like the entry of a log, or like what a shell says.
pub fn is_log(line: &str) -> bool {
    const LEVELS: [&str; 10] =
        ["INFO", "WARN", "ERROR", "DEBUG", "TRACE", "CRITICAL", "NOTICE", "FATAL", "level=", "obit: "];
    let head: String = line.chars().take(80).collect();
    let stamp = line.trim_start_matches('[');
    stamp.starts_with(|c: char| c.is_ascii_digit())
        || line.starts_with('{')
        || LEVELS.iter().any(|level| head.contains(level))
}

/// Joins the first words of a message and its further lines.
pub fn joined(first: &str, further: &[&str]) -> String {
    let mut text = first.to_owned();
    for line in further {
        text.push('\n');
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_from_its_end() {
        let table = [
            ("src/main.rs:2:5", Some(("src/main.rs", 2, Some(5)))),
            ("/a:b/c.go:18", Some(("/a:b/c.go", 18, None))),
            ("node:internal/x:24:47", Some(("node:internal/x", 24, Some(47)))),
            ("C:5", Some(("C", 5, None))),
            (":5", None),
            ("main.rs", None),
            ("main.rs:", None),
            ("main.rs:99999999999", None),
        ];
        for (text, expected) in table {
            assert_eq!(place(text).map(|p| (p.file, p.line, p.column)), expected, "{text}");
        }
    }
}
