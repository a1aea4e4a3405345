//! obit's own lines: on stderr, each begins with `obit: `, or is one JSON object with `LOG_FORMAT=json`.
//!
//! Writing never fails and never panics: a supervisor whose stderr is gone carries on.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// How bad the news is; Sentry's names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

static JSON: AtomicBool = AtomicBool::new(false);
static LEAST: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Chooses the form of all later lines; set once, when the settings are known.
pub fn configure(json: bool, least: Level) {
    JSON.store(json, Ordering::Relaxed);
    LEAST.store(least as u8, Ordering::Relaxed);
}

/// Whether a line of this level is wanted.
pub fn wanted(level: Level) -> bool {
    level as u8 >= LEAST.load(Ordering::Relaxed)
}

/// The line with its newline, in the chosen form. Control characters in `text` are escaped, so one message is one line.
pub fn line(level: Level, text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 48);
    if JSON.load(Ordering::Relaxed) {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let _ = write!(line, "{{\"level\":\"{level}\",\"logger\":\"obit\",\"msg\":\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => line.extend(['\\', c]),
                c if (c as u32) < 0x20 => {
                    let _ = write!(line, "\\u{:04x}", c as u32);
                }
                c => line.push(c),
            }
        }
        line.push_str("\"}\n");
        return line;
    }
    line.push_str("obit: ");
    match level {
        Level::Debug => line.push_str("debug: "),
        Level::Warning => line.push_str("warning: "),
        Level::Info | Level::Error => {}
    }
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line.push('\n');
    line
}

/// Writes one line to stderr at once, for the roles that may wait for it. Init queues its lines instead.
pub fn say(level: Level, text: &str) {
    if wanted(level) {
        let _ = std::io::stderr().write_all(line(level, text).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        assert_eq!(line(Level::Info, "a\nb\x1b[2J"), "obit: a\\nb\\u{1b}[2J\n");
        assert_eq!(line(Level::Warning, "é"), "obit: warning: é\n");
    }
}
