//! Masks secrets before a report touches the disk.
//!
//! Two ways of knowing a secret: by its look (`password=…`, a token's beginning, a private key; the scanner in
//! [`scan`]), and by its value: what a variable or an option with a secret name holds is masked wherever it turns up. Of
//! the environment the names are kept, and the values of a short list that crashes are explained with.

#![forbid(unsafe_code)]

mod command;
mod name;
mod plain;
mod scan;
#[cfg(test)]
mod tests;
mod webhook;

use crate::limits;
use aho_corasick::{AhoCorasick, MatchKind};
use plain::Plain;
use std::collections::BTreeMap;
use std::ops::Range;

/// What stands where a secret stood.
pub const MASK: &str = "[masked]";

/// Shorter values are no secrets worth the holes they would tear into the text.
const VALUE_CHARS: usize = 6;
/// Values of secret variables that are looked for, in bytes; the search automaton takes some fifty times as much.
const VALUES_BYTES: usize = 256 * 1024;

/// Knows the secrets of one environment, and counts what it masked.
pub struct Scrubber {
    known: Known,
    pub masked: u32,
    /// Variables that were not listed because there are too many.
    pub left_out: usize,
}

enum Known {
    Nothing,
    Values(AhoCorasick),
    /// More than can be looked for: then nothing is shown.
    TooMany,
}

impl Scrubber {
    /// Learns the values of the variables whose names are secret, and the passwords of URLs in any of them.
    pub fn new<'a>(environment: impl IntoIterator<Item = (&'a str, &'a str)>) -> Scrubber {
        Scrubber::of(environment, &[])
    }

    /// The same, and what the command line gives away: a program may print the value under no name.
    pub fn of<'a>(environment: impl IntoIterator<Item = (&'a str, &'a str)>, argv: &[String]) -> Scrubber {
        let mut values: Vec<String> = Vec::new();
        let mut learn = |value: &str| {
            let lines = value.lines().map(str::trim);
            values.extend(lines.filter(|v| v.chars().count() >= VALUE_CHARS && !MASK.contains(v)).map(str::to_owned));
        };
        for (name, value) in environment {
            if name::is_secret_variable(name) {
                learn(value);
            }
            if value.contains("://") || value.contains("@tcp(") {
                for range in looking_secret(value) {
                    let part = &value[range];
                    learn(part);
                    part.split_once(':').into_iter().for_each(|(_, password)| learn(password));
                }
            }
        }
        for (i, (arg, secret)) in argv.iter().zip(command::secrets(argv)).enumerate() {
            for range in secret.map_or_else(|| secrets_within(argv, i), |range| vec![range]) {
                let part = &arg[range];
                // `--auth required`: a plain word is everywhere, and no secret of any use.
                if part.bytes().all(|b| b.is_ascii_lowercase()) {
                    continue;
                }
                learn(part);
                // `Bearer x`, `name:password`
                part.rsplit_once(' ').into_iter().for_each(|(_, word)| learn(word));
                part.split_once(':').into_iter().for_each(|(_, password)| learn(password));
            }
        }
        values.sort_unstable();
        values.dedup();
        Scrubber { known: Known::search_for(&values), masked: 0, left_out: 0 }
    }

    /// Whether text is withheld altogether, because environment and command line hold more secrets than can be looked for.
    pub fn withholds(&self) -> bool {
        matches!(self.known, Known::TooMany)
    }

    /// Masks a text that is complete.
    pub fn text(&mut self, text: &str) -> String {
        self.mask(text, looking_secret(text))
    }

    /// Masks the end of a stream; `cut` says that there was more before. A secret that the cut went through is not
    /// recognised any more, so the rest of the line it went through is left out, and what can be the rest of a key.
    pub fn tail(&mut self, bytes: &[u8], cut: bool) -> String {
        let text = String::from_utf8_lossy(bytes);
        let whole = if cut { &text[after_cut(&text)..] } else { &text[..] };
        let mut found = looking_secret(whole);
        if cut {
            found.push(0..scan::key_lines_end(whole, 0));
        }
        self.mask(whole, found)
    }

    /// Masks a command line; at most [`limits::ARGV_BYTES`] of it are kept.
    pub fn argv(&mut self, argv: &[String]) -> Vec<String> {
        let mut shown = Vec::new();
        let mut bytes = 0;
        for (i, (arg, secret)) in argv.iter().zip(command::secrets(argv)).enumerate() {
            let masked = self.mask(arg, secret.map_or_else(|| secrets_within(argv, i), |range| vec![range]));
            bytes += masked.len().min(limits::ARG_CHARS);
            if bytes > limits::ARGV_BYTES {
                shown.push(format!("… {} more", argv.len() - i));
                break;
            }
            shown.push(shortened(masked, limits::ARG_CHARS));
        }
        shown
    }

    /// All names, and the values that explain a crash: language, runtime, limits, place in the cluster.
    pub fn environment<'a>(
        &mut self,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> BTreeMap<String, String> {
        let mut shown = BTreeMap::new();
        let mut bytes = 0;
        // What can be shown comes first, so that it is there however many follow.
        let (open, closed): (Vec<_>, Vec<_>) = environment.into_iter().partition(|(name, _)| is_open(name));
        for (kept, variables) in [(true, open), (false, closed)] {
            for (name, value) in variables {
                let name: String = name.chars().take(limits::ENV_NAME_CHARS).collect();
                let value = if kept { shortened(self.text(value), limits::ENV_VALUE_CHARS) } else { String::new() };
                bytes += name.len() + value.len();
                if shown.len() >= limits::ENV_NAMES || bytes > limits::ENV_BYTES {
                    self.left_out += 1;
                } else {
                    shown.insert(name, value);
                }
            }
        }
        shown
    }

    fn mask(&mut self, text: &str, mut found: Vec<Range<usize>>) -> String {
        match &self.known {
            Known::Nothing => {}
            Known::Values(search) => {
                found.extend(search.find_iter(text).map(|hit| hit.range()));
                let plain = Plain::of(text);
                if plain.text.len() < text.len() {
                    found.extend(search.find_iter(&*plain.text).map(|hit| plain.whole(hit.range())));
                }
            }
            Known::TooMany => found = std::iter::once(0..text.len()).collect(),
        }
        found.retain(|range| !range.is_empty());
        found.sort_unstable_by_key(|range| range.start);
        let mut masked = String::with_capacity(text.len());
        let mut shown = 0;
        for range in found {
            if range.end <= shown {
                continue;
            }
            if range.start > shown || shown == 0 {
                masked.push_str(&text[shown..range.start]);
                masked.push_str(MASK);
                self.masked = self.masked.saturating_add(1);
            }
            shown = range.end;
        }
        masked.push_str(&text[shown..]);
        masked
    }
}

impl Known {
    fn search_for(values: &[String]) -> Known {
        if values.is_empty() {
            return Known::Nothing;
        }
        if values.iter().map(String::len).sum::<usize>() > VALUES_BYTES {
            return Known::TooMany;
        }
        AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(values)
            .map_or(Known::TooMany, Known::Values)
    }
}

/// What looks secret in an argument whose place says nothing.
fn secrets_within(argv: &[String], i: usize) -> Vec<Range<usize>> {
    let mut found = looking_secret(&argv[i]);
    found.extend(command::secrets_of_script(argv, i));
    found
}

/// What looks secret to a reader, who sees no control sequences.
fn looking_secret(text: &str) -> Vec<Range<usize>> {
    let plain = Plain::of(text);
    scan::find(&plain.text).into_iter().map(|range| plain.whole(range)).collect()
}

fn shortened(text: String, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// Where the first whole line begins. A line without an end is left as far as a secret may reach, and to the next blank.
fn after_cut(text: &str) -> usize {
    const REACH_BYTES: usize = 8 * 1024;
    match text.bytes().take(REACH_BYTES).position(|b| b == b'\n') {
        Some(i) => i + 1,
        None if text.len() <= REACH_BYTES => text.len(),
        None => {
            let blank = text.bytes().skip(REACH_BYTES).position(|b| b.is_ascii_whitespace());
            blank.map_or(text.len(), |i| REACH_BYTES + i)
        }
    }
}

/// Whether a variable's value may be shown.
fn is_open(name: &str) -> bool {
    const NAMES: [&str; 28] = [
        "TZ",
        "LANG",
        "LANGUAGE",
        "PATH",
        "PWD",
        "HOME",
        "SHELL",
        "TERM",
        "HOSTNAME",
        "RUST_BACKTRACE",
        "RUST_LIB_BACKTRACE",
        "RUST_LOG",
        "RUST_MIN_STACK",
        "GOTRACEBACK",
        "GODEBUG",
        "GOGC",
        "GOMAXPROCS",
        "GOMEMLIMIT",
        "JAVA_HOME",
        "JAVA_OPTS",
        "JAVA_TOOL_OPTIONS",
        "NODE_ENV",
        "NODE_OPTIONS",
        "NODE_NAME",
        "HOST_IP",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "OMP_NUM_THREADS",
    ];
    const BEGINNINGS: [&str; 6] = ["LC_", "PYTHON", "MALLOC_", "GLIBC_TUNABLES", "KUBERNETES_", "POD_"];
    let listed = NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    listed && !name::is_secret_variable(name)
}
