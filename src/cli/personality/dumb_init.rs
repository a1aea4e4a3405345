//! Started as `dumb-init`: its options, its environment, its words.

#![forbid(unsafe_code)]

use crate::cli::Role;
use crate::config;
use crate::death::Death;
use crate::init::Launch;
use crate::init::manners::{Farewell, Manners, Moment, Placement};
use crate::sys::signal::{Set, Signal};
use std::ffi::OsString;

/// The version whose manners these are.
const VERSION: &str = "dumb-init v1.2.5\n";
const HELP: &str = "\
Usage: dumb-init [option] command [[arg] ...]

dumb-init is a simple process supervisor that forwards signals to children.
It is designed to run as PID1 in minimal container environments.

Optional arguments:
   -c, --single-child   Run in single-child mode.
                        In this mode, signals are only proxied to the
                        direct child and not any of its descendants.
   -r, --rewrite s:r    Rewrite received signal s to new signal r before proxying.
                        To ignore (not proxy) a signal, rewrite it to 0.
                        This option can be specified multiple times.
   -v, --verbose        Print debugging information to stderr.
   -h, --help           Print this help message and exit.
   -V, --version        Print the current version and exit.

Full help is available online at https://github.com/Yelp/dumb-init
";
const USAGE: &str = "Usage: dumb-init [option] program [args]\nTry dumb-init --help for full usage.\n";
const REWRITE_USAGE: &str = "\
Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.
This option can be specified multiple times.
Use --help for full usage.
";

/// Options end at the program or at `--`.
pub fn parse(args: &[OsString]) -> Role {
    let variable = |name: &str| std::env::var(name).ok();
    let mut loaded = match config::load(&[], None, |name| std::env::var_os(name)) {
        Ok(loaded) => loaded,
        Err(sentence) => return crate::cli::refuse(&sentence),
    };
    let settings = &mut loaded.settings;
    settings.stop_grace = None;
    let mut verbose = variable("DUMB_INIT_DEBUG").as_deref() == Some("1");
    let mut own_session = variable("DUMB_INIT_SETSID").as_deref() != Some("0");
    let mut rewritten = Set::EMPTY;
    let mut rest = args.get(1..).unwrap_or_default().iter();
    let mut command: Vec<OsString> = Vec::new();
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy();
        if !text.starts_with('-') || text == "-" {
            command.push(word.clone());
            break;
        }
        match text.as_ref() {
            "--" => break,
            "-c" | "--single-child" => own_session = false,
            "-v" | "--verbose" => verbose = true,
            "-h" | "--help" => return print(&format!("{VERSION}{HELP}"), 0),
            "-V" | "--version" => return print(VERSION, 0),
            _ => {
                let value = match text.strip_prefix("--rewrite=").or_else(|| text.strip_prefix("-r")) {
                    Some("") => rest.next().map(|word| word.to_string_lossy().into_owned()),
                    Some(value) => Some(value.to_owned()),
                    None if text == "--rewrite" => rest.next().map(|word| word.to_string_lossy().into_owned()),
                    None => return print(&format!("dumb-init: unrecognized option '{text}'\n"), 1),
                };
                match value.as_deref().and_then(rewriting) {
                    Some((from, to)) => {
                        settings.rewrite[usize::from(from)] = to;
                        rewritten = Signal::new(i32::from(from)).map_or(rewritten, |signal| rewritten.with(signal));
                    }
                    None => return print(REWRITE_USAGE, 1),
                }
            }
        }
    }
    command.extend(rest.cloned());
    if command.is_empty() {
        return print(USAGE, 1);
    }
    settings.group = own_session;
    if own_session {
        // In a session of its own the child would ignore what its terminal does not send; see setpgid(2) on orphaned groups.
        for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU].into_iter().filter(|s| !rewritten.contains(*s)) {
            settings.rewrite[signal.number() as usize] = Signal::STOP.number() as u8;
        }
    }
    let manners = Manners {
        placement: if own_session { Placement::OwnSession } else { Placement::Inherited },
        suspends_itself: true,
        farewell: Farewell::Term,
        exec_failed: |_| 2,
        narrator: Some(if verbose { narrate } else { narrate_failure }),
        ..Manners::default()
    };
    Role::Init(Box::new(Launch { command, settings: loaded.settings, manners, warnings: loaded.warnings }))
}

/// `15:3`, numbers of 1 to 31 only; the second may be 0.
fn rewriting(text: &str) -> Option<(u8, u8)> {
    let (from, to) = text.split_once(':')?;
    let (from, to) = (from.parse::<u8>().ok()?, to.parse::<u8>().ok()?);
    ((1..=31).contains(&from) && to <= 31).then_some((from, to))
}

fn print(text: &str, status: u8) -> Role {
    Role::Print { text: text.to_owned(), to_stderr: true, status }
}

fn narrate_failure(moment: Moment<'_>) -> Option<String> {
    match moment {
        Moment::ExecFailed { errno, command } => {
            let text = std::io::Error::from_raw_os_error(errno).to_string();
            Some(format!("[dumb-init] {command}: {}\n", text.split(" (os error").next().unwrap_or_default()))
        }
        _ => None,
    }
}

fn narrate(moment: Moment<'_>) -> Option<String> {
    let words = match moment {
        Moment::Starting { .. } => return None,
        Moment::ExecFailed { .. } => return narrate_failure(moment),
        Moment::DetachedTerminal { was_session_leader: true } => {
            "Detached from controlling tty, ignoring the first SIGHUP and SIGCONT we receive.".to_owned()
        }
        Moment::DetachedTerminal { was_session_leader: false } => {
            "Detached from controlling tty, but was not session leader.".to_owned()
        }
        Moment::Spawned { pid } => format!("Child spawned with PID {pid}."),
        Moment::SessionMade => "setsid complete.".to_owned(),
        Moment::Received { signal } => format!("Received signal {}.", signal.number()),
        Moment::Forwarded { signal } => format!("Forwarded signal {} to children.", signal.number()),
        Moment::HandedOff { signal } => format!("Ignoring tty hand-off signal {}.", signal.number()),
        Moment::Reaped { pid, death: Death::Exited(code), .. } => {
            format!("A child with PID {pid} exited with exit status {code}.")
        }
        Moment::Reaped { pid, death: Death::Killed { signal, .. }, .. } => {
            format!("A child with PID {pid} was terminated by signal {}.", signal.number())
        }
        Moment::Ending { status } => format!("Child exited with status {status}. Goodbye."),
    };
    Some(format!("[dumb-init] {words}\n"))
}
