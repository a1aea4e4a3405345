//! What a program prints, without what differs between two runs of it by nature: addresses, process and thread numbers, and the
//! directory that each run has for itself.

use std::path::Path;

/// Words that stand before a process's or a thread's number.
const NUMBERED: [&str; 8] =
    ["pid=", "tid=", "hs_err_pid", "core.", "thread 'main' (", "thread 'worker' (", "goroutine ", "sent by pid "];

pub fn alike(text: &str, directory: &Path) -> String {
    let mut text = text.replace(&*directory.to_string_lossy(), "DIRECTORY");
    text = replaced(&text, "0x", |c| c.is_ascii_hexdigit());
    for before in NUMBERED {
        text = replaced(&text, before, |c| c.is_ascii_digit());
    }
    text
}

/// With a `#` for what follows the word as long as `belongs` holds.
fn replaced(text: &str, word: &str, belongs: impl Fn(char) -> bool) -> String {
    let mut pieces = text.split(word);
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(&belongs);
        whole.push_str(word);
        whole.push_str(if rest.len() < piece.len() { "#" } else { "" });
        whole.push_str(rest);
    }
    whole
}

/// Without obit's own lines.
pub fn without_ours(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with("obit: ")).collect()
}
