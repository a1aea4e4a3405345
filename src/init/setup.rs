//! Everything between our own start and the loop: who called us, where we may keep things, the child.
//!
//! The child is forked before the state directory is looked at, so that it starts no later for our book-keeping. What
//! fails here is said and lived without; where no child can be forked the program takes our place.

#![forbid(unsafe_code)]

use super::manners::{Manners, Placement};
use super::stderr::ChildEnd;
use super::terminal::Foreground;
use super::trace::decision::Circumstances;
use super::trace::{self, Tracer};
use crate::case::{Id, Run};
use crate::config::Settings;
use crate::evidence::core_limit::{self, Raise};
use crate::say::{self, Level};
use crate::sys::signal::{self, Set};
use crate::sys::spawn::{Place, Program, Setting, Spawned, spawn, take_over};
use crate::sys::{clock, fd, memory, process};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// What our caller gave us, taken before anything changed it.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The signal mask, which the child gets back.
    pub mask: Set,
    /// SIGCHLD was ignored, which the child gets back, too.
    pub ignores_children: bool,
    /// Which of 0, 1 and 2 were closed.
    pub closed_stdio: [bool; 3],
}

impl Caller {
    /// The first thing the process does: from here on no signal is lost, and no fd of ours can be taken for stdio.
    pub fn seize() -> Caller {
        Caller {
            mask: signal::block_all(),
            ignores_children: signal::hear_of_children(),
            closed_stdio: fd::occupy_closed_stdio(),
        }
    }
}

/// A child between fork and exec, and what leads to it.
#[derive(Debug)]
pub struct Started {
    pub spawned: Spawned,
    pub run: Run,
    pub foreground: Option<Foreground>,
    /// The terminal was given up for the child's new session; we led the old one if `Some(true)`.
    pub gave_up_terminal: Option<bool>,
    /// Why RLIMIT_CORE is not what was asked for.
    pub core_limit_refused: Option<String>,
}

/// Forks the child. The write end of its stderr is gone from here when this returns.
pub fn start(
    command: &[OsString],
    settings: &Settings,
    manners: &Manners,
    caller: Caller,
    child_end: Option<ChildEnd>,
) -> io::Result<(Started, Tracer)> {
    let program = Program::new(command, std::env::var_os("PATH"));
    let mut foreground = match manners.placement {
        Placement::Inherited => None,
        Placement::OwnGroup | Placement::OwnSession => Foreground::ours(),
    };
    let gave_up_terminal = match (manners.placement, &foreground) {
        (Placement::OwnSession, Some(foreground)) => {
            let was_leader = process::is_session_leader();
            foreground.terminal().detach().is_ok().then_some(was_leader)
        }
        _ => None,
    };
    let run = Run {
        id: random_id(),
        component: settings.component.clone().unwrap_or_else(|| component_of(&command[0])),
        argv: command.to_vec(),
        exe: program.likely_file(),
        cwd: std::env::current_dir().ok(),
        started_unix_ms: clock::unix_ms(),
        release: settings.release.clone(),
        environment: settings.environment.clone(),
    };
    let (core_limit, core_limit_refused) = match settings.raise_core_limit.then(core_limit::here) {
        Some(Raise::To(limit)) => (Some(limit), None),
        Some(Raise::Refused(why)) => (None, Some(why)),
        Some(Raise::Needless) | None => (None, None),
    };
    let stands_in = manners.narrator.is_some();
    let circumstances = trace::circumstances(settings.capture, run.exe.as_deref(), stands_in);
    let mut tracer = Tracer::new(settings, Circumstances { at_terminal: foreground.is_some(), ..circumstances });
    let home = process::leave_directory();
    let wants_to_begin = tracer.wants_to_begin();
    let mut begin = |pid| tracer.begin(pid);
    let before_exec = wants_to_begin.then_some(&mut begin as &mut dyn FnMut(i32));
    let spawned = spawn(
        &program,
        &Setting {
            directory: home.as_ref().map(AsFd::as_fd),
            place: match manners.placement {
                Placement::OwnGroup => Place::OwnGroup,
                Placement::OwnSession => Place::OwnSession,
                Placement::Inherited => Place::Inherited,
            },
            terminal: foreground.as_ref().and_then(|foreground| match gave_up_terminal {
                Some(_) => Some(foreground.terminal()),
                None => foreground.to_give(),
            }),
            stderr: child_end.as_ref().map(|end| end.write.as_fd()),
            both_streams: child_end.as_ref().is_some_and(|end| end.both_streams),
            core_limit,
            mask: caller.mask,
            ignores_children: caller.ignores_children,
        },
        before_exec,
    )
    .inspect_err(|_| home.iter().for_each(process::return_to_directory))?;
    match manners.placement {
        Placement::OwnGroup => {
            if let Some(foreground) = &mut foreground {
                foreground.hand_over(spawned.pid);
            }
        }
        // The new session has the terminal; our fd of it is of no use any more.
        Placement::OwnSession | Placement::Inherited => foreground = None,
    }
    Ok((Started { spawned, run, foreground, gave_up_terminal, core_limit_refused }, tracer))
}

/// Where there is no room for two processes, or no fd for signals, the program runs in our place: it would without us, too.
/// Returns only if it cannot be executed, with the status to end with.
pub fn in_our_place(command: &[OsString], manners: &Manners, caller: Caller, why: &str) -> u8 {
    let name = command[0].to_string_lossy();
    let what = "runs in place of obit, and nothing will be reaped or reported";
    say::say(Level::Warning, &format!("{why}: {name} {what}"));
    if manners.subreaper {
        process::stop_being_subreaper();
    }
    let program = Program::new(command, std::env::var_os("PATH"));
    let error = take_over(&program, caller.mask, caller.ignores_children);
    say::say(Level::Error, &format!("cannot execute {name}: {}", reason(error.errno)));
    (manners.exec_failed)(error.is_not_found() && program.likely_file().is_none())
}

/// 128 random bits, marked as a version 4 UUID, which some Sentry-alikes insist on.
pub fn random_id() -> Id {
    let mut bytes = [0; 16];
    memory::random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Id(bytes)
}

/// The file name of the command.
fn component_of(command: &OsString) -> String {
    Path::new(command).file_name().unwrap_or(command).to_string_lossy().into_owned()
}

/// The sentence for a child that could not be executed.
pub fn exec_failure(command: &OsString, run: &Run, errno: i32) -> String {
    let name = command.to_string_lossy();
    let why = reason(errno);
    match (errno, &run.exe) {
        (libc::ENOENT, Some(exe)) => format!(
            "cannot execute {}: it exists, but its interpreter (#! line or ELF loader) does not; check the first line of \
             the script, or use a static binary",
            exe.display()
        ),
        (libc::ENOENT | libc::ENOTDIR, None) if name.contains('/') => {
            format!("cannot execute {name}: no such file; check the path in the image")
        }
        (libc::ENOENT | libc::ENOTDIR, None) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            format!("cannot execute {name}: not found in PATH ({})", path.to_string_lossy())
        }
        (libc::EACCES, _) if run.cwd.clone().unwrap_or_default().join(command).is_dir() => {
            format!("cannot execute {name}: it is a directory; name a program in it")
        }
        (libc::EACCES, _) => format!(
            "cannot execute {name}: permission denied; it needs the execute bit (chmod +x), every directory above it must \
             be searchable, and its mount must not be noexec"
        ),
        (libc::ENOEXEC, _) => format!(
            "cannot execute {name}: it is made for another machine than {}, or damaged; see what file(1) says of it",
            std::env::consts::ARCH
        ),
        _ => format!("cannot execute {name}: {why}"),
    }
}

fn reason(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
