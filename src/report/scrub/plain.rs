//! A text without the control sequences in it, and the way back: a colour may stand within a name, a token or a value.

#![forbid(unsafe_code)]

use super::MASK;
use std::borrow::Cow;
use std::ops::Range;

const ESC: u8 = 0x1b;

/// What a terminal would show, with the places of what was taken out.
pub(super) struct Plain<'a> {
    pub(super) text: Cow<'a, str>,
    /// Where in `text` something was taken out, and how many bytes were taken out up to there; ascending.
    cuts: Vec<(usize, usize)>,
}

impl<'a> Plain<'a> {
    pub(super) fn of(text: &'a str) -> Plain<'a> {
        if !text.as_bytes().contains(&ESC) {
            return Plain { text: Cow::Borrowed(text), cuts: Vec::new() };
        }
        let bytes = text.as_bytes();
        let mut plain = String::with_capacity(text.len());
        let mut cuts = Vec::new();
        let (mut shown, mut removed, mut at) = (0, 0, 0);
        while at < bytes.len() {
            match sequence(&bytes[at..]) {
                0 => at += 1,
                length => {
                    plain.push_str(&text[shown..at]);
                    removed += length;
                    cuts.push((plain.len(), removed));
                    at += length;
                    shown = at;
                }
            }
        }
        plain.push_str(&text[shown..]);
        Plain { text: Cow::Owned(plain), cuts }
    }

    /// The range of the whole text that `range` of the plain one stands for, with the sequences inside it.
    pub(super) fn whole(&self, range: Range<usize>) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let whole = |at: usize| match self.cuts.partition_point(|(cut, _)| *cut <= at) {
            0 => at,
            i => at + self.cuts[i - 1].1,
        };
        whole(range.start)..whole(range.end - 1) + 1
    }
}

/// The length of the control sequence at the beginning: ESC `[`, parameters, a final byte (ECMA-48), or the choice of a
/// character set. What looks like one and is a mask is none.
fn sequence(bytes: &[u8]) -> usize {
    match bytes {
        [ESC, rest @ ..] if rest.starts_with(MASK.as_bytes()) => 0,
        [ESC, b'[', rest @ ..] => {
            let end = rest.iter().position(|b| !matches!(b, b'0'..=b'?'));
            end.filter(|&i| matches!(rest[i], b'@'..=b'~')).map_or(0, |i| i + 3)
        }
        [ESC, b'(' | b')', b'0'..=b'9' | b'A'..=b'Z', ..] => 3,
        _ => 0,
    }
}
