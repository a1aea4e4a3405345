//! Bytes of stderr as plain lines: no colours, no CR, and what a logger wrapped into JSON unwrapped.

#![forbid(unsafe_code)]

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The text as the runtime wrote it, as far as can be told.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    for line in text.split('\n') {
        let line = line.trim_end_matches('\r');
        match unwrapped(line) {
            Some(words) => words.iter().for_each(|text| uncoloured(text, &mut plain)),
            None => uncoloured(line, &mut plain),
        }
    }
    plain
}

/// Appends the text without the escape sequences of ECMA-48, line by line.
fn uncoloured(text: &str, plain: &mut String) {
    for line in text.trim_end_matches('\n').split('\n') {
        let mut rest = line;
        while let Some(at) = rest.find(['\x1b', '\u{9b}', '\r']) {
            plain.push_str(&rest[..at]);
            rest = after_sequence(&rest[at..]);
        }
        plain.push_str(rest);
        plain.push('\n');
    }
}

/// What follows the control sequence that the text begins with.
fn after_sequence(text: &str) -> &str {
    let parameters = match text.strip_prefix("\x1b[").or_else(|| text.strip_prefix('\u{9b}')) {
        Some(parameters) => parameters,
        // A command to the terminal that nobody ended hides the rest of its line.
        None if text.starts_with("\x1b]") => {
            return match text.find('\x07') {
                Some(end) => &text[end + 1..],
                None => "",
            };
        }
        None => return text.get(1..).unwrap_or_default(),
    };
    let end = parameters.find(|c: char| !('\x20'..='\x3f').contains(&c));
    match end {
        Some(end) if ('\x40'..='\x7e').contains(&parameters[end..].chars().next().unwrap_or_default()) => {
            &parameters[end + 1..]
        }
        Some(end) => &parameters[end..],
        None => "",
    }
}

/// The words of a line that is one JSON object, in their order; `None` where it is none or says nothing.
fn unwrapped(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if !line.starts_with('{') || !line.ends_with('}') {
        return None;
    }
    let Words(words) = serde_json::from_str(line).ok()?;
    (!words.is_empty()).then_some(words)
}

/// Where loggers put what they were given, and what they call a stack.
const KEYS: [&str; 16] = [
    "message",
    "msg",
    "log",
    "error",
    "err",
    "exception",
    "exc_info",
    "stack",
    "stack_trace",
    "stackTrace",
    "stacktrace",
    "traceback",
    "panic",
    "text",
    "MESSAGE",
    "error.stack_trace",
];

/// The texts under [`KEYS`], in nested objects too; everything else is passed by.
struct Words(Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        deserializer.deserialize_any(WordsOf)
    }
}

struct WordsOf;

impl<'de> Visitor<'de> for WordsOf {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if KEYS.contains(&key.as_str()) {
                words.extend(map.next_value::<Words>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Words(words))
    }

    fn visit_str<E>(self, text: &str) -> Result<Words, E> {
        Ok(Words(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Words(Vec::new()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Words, E> {
        Ok(Words(Vec::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Words, E> {
        Ok(Words(Vec::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Words, E> {
        Ok(Words(Vec::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Words, E> {
        Ok(Words(Vec::new()))
    }

    fn visit_unit<E>(self) -> Result<Words, E> {
        Ok(Words(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_carriage_returns_are_gone_and_words_stay() {
        let table: [(&[u8], &str); 6] = [
            (b"\x1b[31mthread 'main'\x1b[0m panicked\r\n", "thread 'main' panicked\n\n"),
            (b"\x1b]0;title\x07text", "text\n"),
            (b"\x1b]0;title never ended\nnext", "\nnext\n"),
            (b"50%\r100%\n", "50%100%\n\n"),
            (b"a\xffb", "a\u{fffd}b\n"),
            (b"\x1b\x1b[\x1b[3", "\n"),
        ];
        for (bytes, expected) in table {
            assert_eq!(plain(bytes), expected);
        }
    }

    #[test]
    fn a_log_record_is_unwrapped_to_what_was_logged() {
        let table = [
            (r#"{"log":"panic: x\n","stream":"stderr"}"#, "panic: x\n"),
            (r#"{"level":"error","msg":"died","ts":1.5,"stacktrace":"a\n\tb"}"#, "died\na\n\tb\n"),
            (r#"{"err":{"type":"E","message":"m","stack":"E: m\n    at f"},"ok":[1,2]}"#, "m\nE: m\n    at f\n"),
            (r#"{"level":"info"}"#, "{\"level\":\"info\"}\n"),
            (r#"{"message": }"#, "{\"message\": }\n"),
            ("{}", "{}\n"),
        ];
        for (line, expected) in table {
            assert_eq!(plain(line.as_bytes()), expected);
        }
        let deep = format!("{{\"message\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(plain(deep.as_bytes()), format!("{deep}\n"));
    }
}
