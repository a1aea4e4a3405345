//! Finds what looks like a secret in text: assignments, URLs, tokens with a known beginning, private keys.
//!
//! Each pass is written by hand and looks at a byte a bounded number of times, so that a hostile stderr costs what a
//! harmless one costs. Passes only add ranges of the original text; overlaps are merged by the caller. Where the end of
//! a secret is unclear, the longer reading is masked.

#![forbid(unsafe_code)]

use super::MASK;
use super::name::{self, Name};
use super::webhook;
use std::ops::Range;

/// How far a bracket, or a URL's `@`, is looked for.
const LOOKAHEAD_BYTES: usize = 4096;

/// All ranges that look secret, unsorted; each begins and ends at a character.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    assignments(bytes, &mut found);
    userinfo(bytes, &mut found);
    tokens(bytes, &mut found);
    private_keys(text, &mut found);
    webhook::find(text, &mut found);
    for range in &mut found {
        while !text.is_char_boundary(range.end) {
            range.end += 1;
        }
    }
    found
}

/// `password=x`, `"apiKey": "x"`, `Authorization: Bearer x`, `--token x`, `<secret>x</secret>`, `PASSWORD 'x'`.
fn assignments(bytes: &[u8], found: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == ESC {
            at = skip_colour(bytes, at).max(at + 1);
            continue;
        }
        if !is_name(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_name(bytes[at]) {
            at += 1;
        }
        let Some((link, value)) = link(bytes, start..at) else { continue };
        // Only ASCII is a name byte, so this is text.
        let Ok(name) = std::str::from_utf8(&bytes[start..at]) else { continue };
        let kind = name::classify(name);
        if kind == Name::Plain || value >= bytes.len() {
            continue;
        }
        if is_line_end(bytes[value]) {
            if let Some(range) = next_line(bytes, value).filter(|_| link == Link::Colon && kind == Name::Secret) {
                at = range.end;
                found.push(range);
            }
            continue;
        }
        if bytes[value..].starts_with(MASK.as_bytes()) {
            at = value + MASK.len();
            continue;
        }
        let before = start.checked_sub(1).map(|i| bytes[i]);
        if link == Link::Colon && is_message(bytes, name, kind, before, start..at, value) {
            continue;
        }
        let range = match link {
            Link::Element => value..until(bytes, value, |b| b == b'<' || is_line_end(b)),
            Link::Quote if kind != Name::Secret => continue,
            _ => value_range(bytes, value, kind, before),
        };
        at = at.max(range.end);
        if !range.is_empty() {
            found.push(range);
        }
    }
}

/// The line after the one that ends at `at`, if it is one word that looks like a value: not indented as YAML's and a
/// stack's are, with a digit or a symbol, and no place in a source file.
fn next_line(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    const VALUE_BYTES: Range<usize> = 6..256;
    let start = if bytes[at..].starts_with(b"\r\n") { at + 2 } else { at + 1 };
    let near = &bytes[..bytes.len().min(start + VALUE_BYTES.end)];
    let end = until(near, start, |b| b.is_ascii_whitespace());
    let word = bytes.get(start..end)?;
    let whole = bytes.get(end).is_none_or(|&b| is_line_end(b));
    let place = matches!(word.last(), Some(b':' | b')' | b'{' | b'[')) || word.windows(2).any(|pair| pair == b"::");
    let numbered = word.iter().rposition(|&b| b == b':').is_some_and(|i| word[i + 1..].iter().all(u8::is_ascii_digit));
    let valued = word.iter().any(|b| !b.is_ascii_alphabetic()) && !word.starts_with(MASK.as_bytes());
    (whole && VALUE_BYTES.contains(&word.len()) && valued && !place && !numbered).then_some(start..end)
}

/// What ties a name to its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    /// `=`, `:=`, `=>`
    Equals,
    /// `:`
    Colon,
    /// The next word of a command line, or of its printed list.
    Option,
    /// `<name>`
    Element,
    /// A blank and a quote: SQL's `PASSWORD 'x'`.
    Quote,
}

/// The link after a name and where the value begins.
fn link(bytes: &[u8], name: Range<usize>) -> Option<(Link, usize)> {
    let is = |at: usize, byte: u8| bytes.get(at) == Some(&byte);
    if name.start > 0 && bytes[name.start - 1] == b'<' && is(name.end, b'>') {
        return Some((Link::Element, name.end + 1));
    }
    let closed = skip(bytes, name.end, |b| matches!(b, b'"' | b'\'' | b'`' | b'\\' | b']' | b')'));
    let at = skip_blank(bytes, closed);
    if is(at, b'=') || is(at, b':') && is(at + 1, b'=') {
        let after = skip(bytes, at, |b| matches!(b, b'=' | b':' | b'>'));
        return Some((Link::Equals, skip_blank(bytes, after)));
    }
    if is(at, b':') {
        // `auth::session` is a path.
        return (!is(at + 1, b':')).then(|| (Link::Colon, skip_blank(bytes, at + 1)));
    }
    if bytes[name.start] == b'-' {
        let comma = if is(at, b',') { skip_blank(bytes, at + 1) } else { at };
        return (comma > closed).then_some((Link::Option, comma));
    }
    if at > closed && &bytes[name.clone()] == b"password" && is_netrc(&bytes[..name.start]) {
        return Some((Link::Option, at));
    }
    (at > closed && (is(at, b'\'') || is(at, b'"'))).then_some((Link::Quote, at))
}

/// `machine x login y`, which .netrc has before `password z`.
fn is_netrc(before: &[u8]) -> bool {
    let near = &before[before.len().saturating_sub(LOOKAHEAD_BYTES / 16)..];
    let mut back = near.rsplit(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).skip(1);
    back.next() == Some(b"login") && (back.next() == Some(b"default") || back.next() == Some(b"machine"))
}

/// Whether `name: value` is the voice of an error message or a place in a source file rather than an assignment.
fn is_message(bytes: &[u8], name: &str, kind: Name, before: Option<u8>, at: Range<usize>, value: usize) -> bool {
    let spaced = bytes[at.end] == b':' && value > at.end + 1;
    // open /run/secrets/db_password: no such file
    if before == Some(b'/') && spaced {
        return true;
    }
    // session.go:42
    if let Some((_, extension)) = name.rsplit_once('.')
        && bytes[value].is_ascii_digit()
        && extension.len() <= 5
        && name::classify(extension) == Name::Plain
    {
        return true;
    }
    // token: unexpected end of input
    kind == Name::Wordy && spaced && {
        let word = |from: usize| until(bytes, from, |b| !b.is_ascii_alphabetic() && b != b'\'');
        let first = word(value);
        let second = skip(bytes, first, |b| b == b' ');
        let after = word(second);
        (1..=14).contains(&(first - value))
            && second > first
            && after > second
            && bytes.get(after).is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'.' | b',' | b':' | b';'))
            && !is_scheme(&bytes[value..first])
    }
}

/// The part of the text that is the value beginning at `at`.
fn value_range(bytes: &[u8], at: usize, kind: Name, before_name: Option<u8>) -> Range<usize> {
    let slashes = skip(bytes, at, |b| b == b'\\') - at;
    if let Some(&quote) = bytes.get(at + slashes)
        && is_quote(quote)
    {
        let start = at + slashes + 1;
        let Some(end) = closing_quote(bytes, start, quote, slashes) else {
            return start..line_end(bytes, start);
        };
        let after = until(bytes, end, |b| b == quote) + 1;
        return match bytes.get(after) {
            // "ab"cd: the quote was part of it.
            Some(b) if b.is_ascii_alphanumeric() => start..unquoted_end(bytes, after),
            _ if bytes[start..end].starts_with(MASK.as_bytes()) => start..start,
            _ => start..end,
        };
    }
    if kind == Name::Line {
        let end = line_end(bytes, at);
        return match before_name {
            Some(quote) if is_quote(quote) => at..closing_quote(bytes, at, quote, 0).unwrap_or(end),
            _ => at..end,
        };
    }
    if let Some(end) = literal_end(bytes, at) {
        return end;
    }
    let end = unquoted_end(bytes, at);
    let trimmed = if end > at + 1 && matches!(bytes[end - 1], b',' | b';') { end - 1 } else { end };
    at..trimmed
}

/// JSON's bare values: a number is masked alone, `true`, `false`, `null` and their like are no secrets.
fn literal_end(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let end = until(bytes, at, |b| !b.is_ascii_alphanumeric() && b != b'-');
    if !bytes.get(end).is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b',' | b'}' | b']')) {
        return None;
    }
    // `1,2` may be all of a password: only JSON goes on with a quote or a bracket.
    let json = bytes.get(end).is_none_or(|&b| b != b',') || bytes.get(end + 1).is_none_or(|&b| b == b'"');
    match &bytes[at..end] {
        b"null" | b"nil" | b"none" | b"None" | b"true" | b"false" | b"True" | b"False" | b"undefined" if json => {
            Some(at..at)
        }
        digits if json && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => Some(at..end),
        _ => None,
    }
}

/// The end of a value without quotes: the next blank, with brackets and quoted parts taken whole.
fn unquoted_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() && !bytes[at].is_ascii_whitespace() {
        let byte = bytes[at];
        if matches!(byte, b'[' | b'{') && at == start {
            at = bracket_end(bytes, at);
            continue;
        }
        if is_quote(byte) {
            let opens = at == start
                || matches!(bytes[at - 1], b'(' | b'[' | b'{' | b'=' | b',' | b':')
                || at == start + 1 && bytes[start].is_ascii_alphabetic();
            if opens {
                at = closing_quote(bytes, at + 1, byte, 0).map_or(at, |end| until(bytes, end, |b| b == byte)) + 1;
                continue;
            }
            // The end of a quoted string that began before the name: "…?token=abc".
            if bytes.get(at + 1).is_none_or(|b| !b.is_ascii_alphanumeric()) {
                break;
            }
        }
        if byte == ESC && at > start {
            break;
        }
        at += 1;
    }
    at
}

/// The end of `[…]` or `{…}`, quotes respected; what is not closed in time counts as far as it was looked at.
fn bracket_end(bytes: &[u8], start: usize) -> usize {
    let limit = bytes.len().min(start + LOOKAHEAD_BYTES);
    let mut depth = 0usize;
    let mut at = start;
    while at < limit {
        match bytes[at] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            quote if is_quote(quote) => {
                if let Some(end) = closing_quote(&bytes[..limit], at + 1, quote, 0) {
                    at = until(bytes, end, |b| b == quote);
                }
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// Where the quoted text ends (its closing quote's backslashes excluded), on the same line; `slashes` stand before the
/// opening quote, so that many may stand before the closing one.
fn closing_quote(bytes: &[u8], start: usize, quote: u8, slashes: usize) -> Option<usize> {
    let mut run = 0;
    for (i, &byte) in bytes.iter().enumerate().skip(start) {
        if is_line_end(byte) {
            return None;
        }
        if byte == quote && run <= slashes {
            return Some(i - run);
        }
        run = if byte == b'\\' { run + 1 } else { 0 };
    }
    None
}

/// `scheme://user:pass@host`, `user:pass@tcp(host)/db`.
fn userinfo(bytes: &[u8], found: &mut Vec<Range<usize>>) {
    let ends = |b: u8| b.is_ascii_whitespace() || is_quote(b) || matches!(b, b'<' | b'>');
    let mut push = |range: Range<usize>| {
        if !range.is_empty() && !bytes[range.clone()].ends_with(MASK.as_bytes()) {
            found.push(range);
        }
    };
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"://") {
            let start = at + 3;
            let near = &bytes[..bytes.len().min(start + LOOKAHEAD_BYTES / 4)];
            let mut end = until(near, start, |b| ends(b) || matches!(b, b'/' | b'?' | b'#' | b'\\'));
            // A colon and no port after it: the slash belongs to a password that nobody encoded.
            let port = near[start..end].iter().position(|&b| b == b':').map(|i| &near[start + i + 1..end]);
            if port.is_some_and(|port| !port.iter().all(u8::is_ascii_digit)) && !near[start..end].contains(&b'@') {
                end = until(near, start, ends);
            }
            if let Some(i) = near[start..end].iter().rposition(|&b| b == b'@') {
                push(start..start + i);
                at = start + i;
            } else {
                at = start;
            }
        } else if bytes[at..].starts_with(b"@tcp(") || bytes[at..].starts_with(b"@unix(") {
            let low = at.saturating_sub(LOOKAHEAD_BYTES / 8);
            let start = (low..at).rev().find(|&i| ends(bytes[i]) || bytes[i] == b'=').map_or(low, |i| i + 1);
            // A byte within a character is no beginning.
            let start = skip(bytes, start, |b| b & 0xc0 == 0x80);
            push(start..at);
            at += 1;
        } else {
            at += 1;
        }
    }
}

/// Beginnings that issuers gave their tokens, and how many bytes follow at the least.
const PREFIXES: [(&str, usize); 34] = [
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 16),
    ("glpat-", 16),
    ("gldt-", 16),
    ("glrt-", 16),
    ("xoxa-", 10),
    ("xoxb-", 10),
    ("xoxe-", 10),
    ("xoxp-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("xapp-", 10),
    ("sk_live_", 10),
    ("sk_test_", 10),
    ("rk_live_", 10),
    ("rk_test_", 10),
    ("whsec_", 10),
    ("sk-", 20),
    ("AIza", 30),
    ("ya29.", 20),
    ("npm_", 30),
    ("pypi-", 30),
    ("dop_v1_", 30),
    ("hf_", 30),
    ("SG.", 30),
    ("shpat_", 20),
    ("hvs.", 20),
    ("dckr_pat_", 16),
    ("sntrys_", 16),
    ("eyJ", 17),
];
/// Access key ids of AWS: 16 upper-case letters and digits follow.
const AWS_IDS: [&str; 4] = ["AKIA", "ASIA", "ABIA", "ACCA"];
/// The secret access key of an id stands close behind it.
const AWS_NEAR_BYTES: usize = 256;
const AWS_SECRET_BYTES: usize = 40;

fn tokens(bytes: &[u8], found: &mut Vec<Range<usize>>) {
    let mut aws_until = 0;
    let mut end = 0;
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        // Here a word begins; the run it belongs to is measured once, by its first word.
        if at >= end {
            end = until(bytes, at, |b| !b.is_ascii_alphanumeric() && !matches!(b, b'_' | b'-' | b'.'));
        }
        let rest = &bytes[at..];
        let word = &bytes[at..end];
        if AWS_IDS.iter().any(|id| word.starts_with(id.as_bytes()))
            && word.len() >= 20
            && word[..20].iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        {
            found.push(at..end);
            aws_until = end + AWS_NEAR_BYTES;
        } else if PREFIXES
            .iter()
            .any(|(prefix, more)| word.len() >= prefix.len() + more && rest.starts_with(prefix.as_bytes()))
        {
            found.push(at..end);
        } else if at < aws_until {
            let near = &rest[..rest.len().min(AWS_SECRET_BYTES + 1)];
            let length = until(near, 0, |b| !b.is_ascii_alphanumeric() && !matches!(b, b'+' | b'/'));
            if length == AWS_SECRET_BYTES {
                found.push(at..at + length);
            }
        } else if is_scheme(word) && bytes.get(end) == Some(&b' ') {
            let start = skip(bytes, end, |b| b == b' ');
            let stop = until(bytes, start, |b| !b.is_ascii_alphanumeric() && !b"-._~+/=".contains(&b));
            let length = stop - start;
            if length >= 20 || length >= 8 && bytes[start..stop].iter().any(u8::is_ascii_digit) {
                found.push(start..stop);
            }
        }
        at = until(bytes, at, |b| !b.is_ascii_alphanumeric());
    }
}

/// The schemes of the Authorization header that carry the secret itself.
fn is_scheme(word: &[u8]) -> bool {
    ["bearer", "basic", "digest", "token", "negotiate", "ntlm"].iter().any(|s| word.eq_ignore_ascii_case(s.as_bytes()))
}

const KEY_BEGIN: &str = "-----BEGIN ";
const KEY_END: &str = "-----END ";

/// PEM private keys, on lines of their own or with `\n` spelled out.
fn private_keys(text: &str, found: &mut Vec<Range<usize>>) {
    let mut ends = markers(text, KEY_END).peekable();
    let mut done = 0;
    for begin in markers(text, KEY_BEGIN) {
        if begin.start < done {
            continue;
        }
        while ends.next_if(|end| end.start < begin.end).is_some() {}
        done = match ends.peek() {
            Some(end) => end.end,
            None => key_lines_end(text, line_end(text.as_bytes(), begin.end)),
        };
        found.push(begin.start..done);
    }
}

/// From `-----BEGIN ` to the end of `PRIVATE KEY-----` where that follows soon.
fn markers<'a>(text: &'a str, opening: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    const LABEL_BYTES: usize = 40;
    const CLOSING: &[u8] = b"PRIVATE KEY-----";
    const PGP: &[u8] = b"PRIVATE KEY BLOCK-----";
    text.match_indices(opening).filter_map(move |(start, _)| {
        let label = start + opening.len();
        let near = &text.as_bytes()[label..text.len().min(label + LABEL_BYTES)];
        [CLOSING, PGP].iter().find_map(|closing| {
            let i = near.windows(closing.len()).position(|window| window == *closing)?;
            Some(start..label + i + closing.len())
        })
    })
}

/// The end of the lines from `at` on that can be the body of a key: base64, a header, nothing.
pub(super) fn key_lines_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let mut end = at;
    loop {
        let start = if bytes.get(end) == Some(&b'\n') { end + 1 } else { end };
        let stop = line_end(bytes, start);
        let line = &bytes[start..stop];
        let base64 = line.iter().all(|&b| b.is_ascii_alphanumeric() || b"+/=\r".contains(&b));
        let header = line.starts_with(b"Proc-Type:") || line.starts_with(b"DEK-Info:");
        if stop == end || !(base64 || header) {
            return end;
        }
        end = stop;
    }
}

const ESC: u8 = 0x1b;

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    until(bytes, at, is_line_end)
}

/// The first place from `at` on where `stop` holds, or the end.
fn until(bytes: &[u8], at: usize, stop: impl Fn(u8) -> bool) -> usize {
    bytes.get(at..).and_then(|rest| rest.iter().position(|&b| stop(b))).map_or(bytes.len().max(at), |i| at + i)
}

fn skip(bytes: &[u8], at: usize, over: impl Fn(u8) -> bool) -> usize {
    until(bytes, at, |b| !over(b))
}

/// Past blanks and the colour sequences that loggers put around `=`.
fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let next = skip_colour(bytes, skip(bytes, at, |b| matches!(b, b' ' | b'\t')));
        if next == at {
            return at;
        }
        at = next;
    }
}

/// Past one control sequence (ECMA-48): ESC `[`, parameters, a final byte.
fn skip_colour(bytes: &[u8], at: usize) -> usize {
    if !bytes.get(at..).is_some_and(|rest| rest.starts_with(b"\x1b[")) {
        return at;
    }
    let end = skip(bytes, at + 2, |b| matches!(b, b'0'..=b'?'));
    if bytes.get(end).is_some_and(|b| matches!(b, b'@'..=b'~')) { end + 1 } else { at }
}
