//! Started as `tini`: its options, its environment, the texts that scripts look for.

#![forbid(unsafe_code)]

use crate::cli::Role;
use crate::config;
use crate::init::Launch;
use crate::init::manners::{Manners, Moment};
use crate::sys::signal::Signal;
use std::ffi::OsString;

const USAGE: &str = "\
obit, standing in for tini

Usage: tini [OPTIONS] PROGRAM -- [ARGS] | --version

  --version   Show the version and exit
  -h          Show this help and exit
  -s          Register as a process subreaper
  -p SIGNAL   Be sent SIGNAL when the parent dies
  -v          Say more; repeatable
  -w          Say when a zombie was reaped
  -g          Send signals to the child's process group
  -e CODE     Turn exit status CODE (0 to 255) into 0; repeatable
  -l          Show the licence and exit

Environment: TINI_SUBREAPER, TINI_VERBOSITY, TINI_KILL_PROCESS_GROUP, and all of obit's (obit run --help)
";

/// tini's own getopt string: options end at the program or at `--`.
pub fn parse(args: &[OsString]) -> Role {
    let set = |name: &str| std::env::var_os(name).is_some();
    let mut loaded = match config::load(&[], None, |name| std::env::var_os(name)) {
        Ok(loaded) => loaded,
        Err(sentence) => return crate::cli::refuse(&sentence),
    };
    let settings = &mut loaded.settings;
    settings.stop_grace = None;
    settings.group |= set("TINI_KILL_PROCESS_GROUP");
    let mut subreaper = set("TINI_SUBREAPER");
    let mut say_reaped = false;
    let verbosity = std::env::var("TINI_VERBOSITY").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
    let words = args.get(1..).unwrap_or_default();
    if words.len() == 1 && words[0] == "--version" {
        let text = format!("tini version 0.19.0 (obit {})\n", env!("CARGO_PKG_VERSION"));
        return Role::Print { text, to_stderr: false, status: 0 };
    }
    let mut rest = words.iter();
    let mut command: Vec<OsString> = Vec::new();
    while let Some(word) = rest.next() {
        let Some(flags) = word.to_str().filter(|word| word.len() > 1).and_then(|word| word.strip_prefix('-')) else {
            command.push(word.clone());
            break;
        };
        if flags == "-" {
            break;
        }
        for (at, letter) in flags.char_indices() {
            let mut value = || {
                let attached = &flags[at + letter.len_utf8()..];
                if attached.is_empty() {
                    rest.next().map(|word| word.to_string_lossy().into_owned())
                } else {
                    Some(attached.to_owned())
                }
            };
            match letter {
                's' => subreaper = true,
                'w' => say_reaped = true,
                'g' => settings.group = true,
                'v' => {}
                'h' => return Role::Print { text: USAGE.to_owned(), to_stderr: false, status: 0 },
                'l' => return Role::Print { text: "MIT OR Apache-2.0\n".to_owned(), to_stderr: false, status: 0 },
                'p' => match value().as_deref().and_then(Signal::parse) {
                    Some(signal) => {
                        settings.parent_death_signal = Some(signal);
                        break;
                    }
                    None => return usage_error("Not a valid option for -p"),
                },
                'e' => match value().and_then(|code| code.parse::<u8>().ok()) {
                    Some(code) => {
                        settings.map_exit[usize::from(code)] = 0;
                        break;
                    }
                    None => return usage_error("Not a valid option for -e"),
                },
                _ => return usage_error(&format!("invalid option -- '{letter}'")),
            }
        }
    }
    command.extend(rest.cloned());
    if command.is_empty() {
        return usage_error("no program was given");
    }
    let narrator: fn(Moment<'_>) -> Option<String> = match (say_reaped, verbosity > 0) {
        (true, _) => narrate_all,
        (false, true) => narrate_warning,
        (false, false) => |_| None,
    };
    let manners = Manners { subreaper, narrator: Some(narrator), ..Manners::default() };
    Role::Init(Box::new(Launch { command, settings: loaded.settings, manners, warnings: loaded.warnings }))
}

fn usage_error(sentence: &str) -> Role {
    Role::Print { text: format!("tini: {sentence}\n{USAGE}"), to_stderr: true, status: 1 }
}

fn narrate_warning(moment: Moment<'_>) -> Option<String> {
    matches!(moment, Moment::Starting { reaping: false }).then(|| {
        "[WARN  tini] not PID 1 and not a child subreaper: zombie reaping won't work; use -s or TINI_SUBREAPER, or be PID 1\n"
            .to_owned()
    })
}

fn narrate_all(moment: Moment<'_>) -> Option<String> {
    match moment {
        Moment::Reaped { pid, main: false, .. } => Some(format!("[WARN  tini] Reaped zombie process with pid={pid}\n")),
        other => narrate_warning(other),
    }
}
