//! Whether a program is one that tells the signal of a child as its own exit code 128+n: a shell, a script of one, a
//! small init. POSIX, Shell Command Language, 2.8.2.

#![forbid(unsafe_code)]

use crate::case::Run;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// By the name of the command or of the file it led to, or by the first line of a script.
pub fn is_one(run: &Run, exe: Option<&File>) -> bool {
    let command = run.argv.first().map(|name| name.to_string_lossy().into_owned());
    let path = run.exe.as_ref().map(|path| path.to_string_lossy().into_owned());
    let mut head = [0; 128];
    let read = exe.and_then(|exe| exe.read_at(&mut head, 0).ok()).unwrap_or(0);
    [command, path].iter().flatten().any(|name| tells(name)) || of_script(&head[..read])
}

fn tells(path: &str) -> bool {
    const NAMES: [&str; 15] = [
        "sh",
        "bash",
        "dash",
        "ash",
        "ksh",
        "mksh",
        "zsh",
        "fish",
        "busybox",
        "tini",
        "dumb-init",
        "catatonit",
        "su",
        "sudo",
        "runuser",
    ];
    let name = path.rsplit('/').next().unwrap_or(path).trim_start_matches('-');
    NAMES.contains(&name)
}

/// `#!/bin/sh -e`, `#!/usr/bin/env bash`
fn of_script(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let Some(line) = text.strip_prefix("#!").and_then(|rest| rest.lines().next()) else { return false };
    line.split_whitespace().take(3).any(tells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_are_known_by_name_and_scripts_by_their_first_line() {
        for (path, expected) in
            [("/bin/sh", true), ("-bash", true), ("python3", false), ("/srv/shop", false), ("", false)]
        {
            assert_eq!(tells(path), expected, "{path}");
        }
        let heads: [(&[u8], bool); 5] = [
            (b"#!/bin/sh -e\n", true),
            (b"#!/usr/bin/env bash\necho sh\n", true),
            (b"#!/usr/bin/python3\nsh\n", false),
            (b"\x7fELF", false),
            (b"", false),
        ];
        for (head, expected) in heads {
            assert_eq!(of_script(head), expected, "{head:?}");
        }
    }
}
