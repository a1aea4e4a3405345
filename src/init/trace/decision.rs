//! What is done about a thread that stands still for us, and whether anybody is traced at all: pure tables.

#![forbid(unsafe_code)]

use crate::config::Capture;
use crate::sys::ptrace::{CALL_STOP, Call, EVENT_STOP, Stop};
use crate::sys::signal::Signal;

/// Whether tracing changes nothing for the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Circumstances {
    pub is_root: bool,
    /// Nobody below us gains a privilege by executing something.
    pub no_new_privileges: bool,
    /// The program itself has the set-user-id or set-group-id bit.
    pub program_gains: bool,
    /// By the environment a leak check may be made, which traces the program's own threads; only one can.
    pub leak_check: bool,
    pub has_proc: bool,
    /// We stand in for another init, whose children nobody traces.
    pub stands_in: bool,
    /// CAP_SYS_PTRACE: under such a tracer a program keeps the privilege that it gains by being executed.
    pub may_trace_all: bool,
    /// Somebody sits at a terminal: who may want to trace, or to stop us with the program.
    pub at_terminal: bool,
}

/// Why nobody is traced; `Ok` where it does no harm.
pub fn may_trace(capture: Capture, so: Circumstances) -> Result<(), &'static str> {
    if capture == Capture::Off {
        return Err("switched off (--capture)");
    }
    if !so.has_proc {
        return Err("/proc is not there");
    }
    if capture == Capture::Ptrace {
        return Ok(());
    }
    if so.stands_in {
        return Err("off where obit stands in for another init; --capture ptrace asks for it");
    }
    if so.leak_check {
        return Err(LEAK_CHECK);
    }
    if !so.is_root && (so.program_gains || !so.no_new_privileges) {
        return Err("a set-user-id program would lose its privilege under a tracer that is not root; set \
                    no_new_privileges (allowPrivilegeEscalation: false), or --capture ptrace if there is none");
    }
    Ok(())
}

/// Why what the program forks is left alone; `Ok` where following it does no harm. The program itself is traced anyway.
pub fn may_follow(capture: Capture, so: Circumstances) -> Result<(), &'static str> {
    may_trace(capture, so)?;
    if capture == Capture::Ptrace {
        return Ok(());
    }
    if !so.may_trace_all && !so.no_new_privileges {
        return Err("a set-user-id program would lose its privilege under a tracer without CAP_SYS_PTRACE; set \
                    no_new_privileges (allowPrivilegeEscalation: false) or add that capability, or --capture ptrace if \
                    there is none");
    }
    if so.at_terminal {
        return Err("at a terminal nobody is followed (--capture ptrace does)");
    }
    Ok(())
}

/// The reason for leaving a program alone that has a leak check in it.
pub const LEAK_CHECK: &str =
    "the program may look for leaks when it ends, which a traced one cannot (AddressSanitizer, LeakSanitizer)";

/// What the tracer is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Every stop is over at once, until one that will kill.
    Watching,
    /// The threads stand still to be looked at.
    Holding,
    /// Whoever stops is let go for good.
    LettingGo,
}

/// What is said of stacks where the death that they were taken at was overtaken by another one.
pub fn overtaken(signal: Signal) -> String {
    let signal = signal.name();
    format!(
        "live capture: the stacks are of a moment in which a thread was about to die by {signal}; the process ended otherwise"
    )
}

/// What is done about a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Go on, with the signal or without one (0).
    GoOn(i32),
    /// Stay stopped as job control wants it.
    Listen,
    /// If nobody catches the signal, it kills: look first.
    Suspect(i32),
    /// It is another program now.
    Executed,
    /// It has made a process.
    Forked,
    /// It is about to end.
    Ends,
    /// A new thread before its first step, or one that was asked to stop.
    Newcomer,
    /// About to make a system call, in the handler of a signal that would have killed.
    Call,
    /// Stay as it is until the others are let on.
    Hold(i32),
    LetGo(i32),
}

/// One stop of one thread.
pub fn about(stop: Stop, mode: Mode) -> Action {
    let delivered = if stop.event == 0 && stop.signal != CALL_STOP { stop.signal } else { 0 };
    let is_job_control = stop.event == EVENT_STOP && is_stop_signal(stop.signal);
    match mode {
        Mode::LettingGo => Action::LetGo(delivered),
        Mode::Watching | Mode::Holding if stop.event == libc::PTRACE_EVENT_EXIT => Action::Ends,
        Mode::Holding => Action::Hold(delivered),
        Mode::Watching if is_job_control => Action::Listen,
        Mode::Watching if stop.event == EVENT_STOP => Action::Newcomer,
        Mode::Watching if stop.event == libc::PTRACE_EVENT_EXEC => Action::Executed,
        Mode::Watching if matches!(stop.event, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK) => Action::Forked,
        Mode::Watching if stop.event == 0 && stop.signal == CALL_STOP => Action::Call,
        Mode::Watching if Signal::new(delivered).is_some_and(Signal::dumps_core) => Action::Suspect(delivered),
        Mode::Watching => Action::GoOn(delivered),
    }
}

/// The signal that a thread is owed which stands still so.
pub fn held_back(stop: Stop) -> i32 {
    match about(stop, Mode::Holding) {
        Action::Hold(signal) => signal,
        _ => 0,
    }
}

/// Whether it is one that dumps core, if nobody catches it.
pub fn dumps_core(stop: Stop) -> bool {
    Signal::new(held_back(stop)).is_some_and(Signal::dumps_core)
}

fn is_stop_signal(signal: i32) -> bool {
    matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

/// What a system call in the handler of a fatal signal means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    On,
    /// The handler is over; the program goes on, or does again what it was stopped at.
    Returns,
    /// Another process is to look at this one: by ptrace(2), which only one can.
    AsksForHelp,
}

/// Crash handlers (Crashpad, Breakpad, createdump of .NET) let a tracer in, start one, or send word to one that waits.
/// `None` is the way back from a call, or a kernel that does not tell.
pub fn step(call: Option<Call>) -> Step {
    let Some(Call { number, arguments }) = call else { return Step::On };
    #[cfg(target_arch = "x86_64")]
    if matches!(number, libc::SYS_fork | libc::SYS_vfork) {
        return Step::AsksForHelp;
    }
    match number {
        libc::SYS_rt_sigreturn => Step::Returns,
        libc::SYS_prctl if arguments[0] == libc::PR_SET_PTRACER as u64 => Step::AsksForHelp,
        libc::SYS_clone if arguments[0] & libc::CLONE_THREAD as u64 == 0 => Step::AsksForHelp,
        // What it makes is told by memory; nobody makes a thread in a handler.
        libc::SYS_clone3 | libc::SYS_sendmsg => Step::AsksForHelp,
        _ => Step::On,
    }
}

/// Whether the signal has its default action, by `SigIgn` and `SigCgt` of /proc/TID/status; no, if that cannot be told.
pub fn is_default(status: &[u8], signal: i32) -> bool {
    match (mask(status, "SigIgn:"), mask(status, "SigCgt:")) {
        (Some(ignored), Some(caught)) => (ignored | caught) >> (signal - 1) & 1 == 0,
        _ => false,
    }
}

/// Whether the program handles the signal.
pub fn is_caught(status: &[u8], signal: i32) -> bool {
    mask(status, "SigCgt:").is_some_and(|caught| caught >> (signal - 1) & 1 == 1)
}

fn mask(status: &[u8], name: &str) -> Option<u64> {
    u64::from_str_radix(field(status, name)?, 16).ok()
}

/// The effective user and group, by /proc/TID/status.
pub fn owner(status: &[u8]) -> Option<(u32, u32)> {
    let effective = |name| field(status, name)?.split_ascii_whitespace().nth(1)?.parse().ok();
    Some((effective("Uid:")?, effective("Gid:")?))
}

/// The process that it is a thread of, and that one's parent, by /proc/TID/status.
pub fn process_and_parent(status: &[u8]) -> Option<(i32, i32)> {
    let number = |name| field(status, name)?.parse().ok();
    Some((number("Tgid:")?, number("PPid:")?))
}

/// Who traces it; 0 is nobody.
pub fn tracer(status: &[u8]) -> Option<i32> {
    field(status, "TracerPid:")?.parse().ok()
}

/// How many PID namespaces deep it lives, as we see it.
pub fn depth(status: &[u8]) -> Option<usize> {
    Some(field(status, "NSpid:")?.split_ascii_whitespace().count())
}

/// CAP_SYS_PTRACE among the effective capabilities.
pub fn may_trace_all(status: &[u8]) -> bool {
    const SYS_PTRACE: u32 = 19;
    mask(status, "CapEff:").is_some_and(|effective| effective >> SYS_PTRACE & 1 == 1)
}

/// When it was started, in ticks since the boot, by /proc/PID/stat: with its number that names a process for good.
pub fn started(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether a file system with this device number is one that a program serves (FUSE), by /proc/self/mountinfo.
pub fn is_served_by_a_program(mounts: &[u8], (major, minor): (u32, u32)) -> bool {
    let device = format!("{major}:{minor}");
    mounts.split(|byte| *byte == b'\n').any(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let is_its = words.nth(2) == Some(device.as_bytes());
        is_its && words.skip_while(|word| *word != b"-").nth(1).is_some_and(|kind| kind.starts_with(b"fuse"))
    })
}

fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))?;
    Some(std::str::from_utf8(line).ok()?.trim())
}

/// Whether it has ended, by /proc/TID/status.
pub fn is_zombie(status: &[u8]) -> bool {
    field(status, "State:").is_some_and(|state| state.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_traced_where_it_could_be_noticed() {
        let root = Circumstances { is_root: true, has_proc: true, ..Circumstances::default() };
        let user = Circumstances { is_root: false, ..root };
        let table = [
            (Capture::Auto, root, true),
            (Capture::Off, root, false),
            (Capture::Auto, Circumstances { stands_in: true, ..root }, false),
            (Capture::Ptrace, Circumstances { stands_in: true, ..root }, true),
            (Capture::Auto, Circumstances { has_proc: false, ..root }, false),
            (Capture::Auto, Circumstances { leak_check: true, ..root }, false),
            (Capture::Ptrace, Circumstances { leak_check: true, ..root }, true),
            (Capture::Auto, user, false),
            (Capture::Ptrace, user, true),
            (Capture::Auto, Circumstances { no_new_privileges: true, ..user }, true),
            (Capture::Auto, Circumstances { no_new_privileges: true, program_gains: true, ..user }, false),
            (Capture::Auto, Circumstances { program_gains: true, ..root }, true),
        ];
        for (capture, so, yes) in table {
            assert_eq!(may_trace(capture, so).is_ok(), yes, "{capture:?} {so:?}");
        }
    }

    #[test]
    fn what_is_forked_is_followed_where_no_privilege_can_get_lost_and_nobody_looks_on() {
        let able = Circumstances { is_root: true, has_proc: true, may_trace_all: true, ..Circumstances::default() };
        let root = Circumstances { may_trace_all: false, ..able };
        let table = [
            (Capture::Auto, able, true),
            (Capture::Auto, root, false),
            (Capture::Ptrace, root, true),
            (Capture::Auto, Circumstances { no_new_privileges: true, ..root }, true),
            (Capture::Auto, Circumstances { is_root: false, no_new_privileges: true, ..root }, true),
            (Capture::Auto, Circumstances { at_terminal: true, ..able }, false),
            (Capture::Ptrace, Circumstances { at_terminal: true, ..able }, true),
            (Capture::Auto, Circumstances { leak_check: true, ..able }, false),
            (Capture::Auto, Circumstances { stands_in: true, ..able }, false),
            (Capture::Ptrace, Circumstances { stands_in: true, ..able }, true),
            (Capture::Off, able, false),
        ];
        for (capture, so, yes) in table {
            assert_eq!(may_follow(capture, so).is_ok(), yes, "{capture:?} {so:?}");
        }
    }

    #[test]
    fn a_stop_is_over_at_once_unless_it_will_kill_or_job_control_wants_it() {
        let delivery = |signal| Stop { signal, event: 0 };
        let event = |signal, event| Stop { signal, event };
        let table = [
            (delivery(libc::SIGUSR1), Action::GoOn(libc::SIGUSR1)),
            (delivery(libc::SIGTERM), Action::GoOn(libc::SIGTERM)),
            (delivery(libc::SIGSTOP), Action::GoOn(libc::SIGSTOP)),
            (delivery(libc::SIGSEGV), Action::Suspect(libc::SIGSEGV)),
            (delivery(libc::SIGTRAP), Action::Suspect(libc::SIGTRAP)),
            (delivery(40), Action::GoOn(40)),
            (event(libc::SIGTRAP, libc::PTRACE_EVENT_CLONE), Action::GoOn(0)),
            (event(libc::SIGTRAP, libc::PTRACE_EVENT_EXEC), Action::Executed),
            (event(libc::SIGTRAP, EVENT_STOP), Action::Newcomer),
            (event(libc::SIGTRAP, libc::PTRACE_EVENT_FORK), Action::Forked),
            (event(libc::SIGTRAP, libc::PTRACE_EVENT_VFORK), Action::Forked),
            (event(libc::SIGTRAP, libc::PTRACE_EVENT_EXIT), Action::Ends),
            (delivery(CALL_STOP), Action::Call),
            (event(libc::SIGSTOP, EVENT_STOP), Action::Listen),
            (event(libc::SIGTTIN, EVENT_STOP), Action::Listen),
        ];
        for (stop, action) in table {
            assert_eq!(about(stop, Mode::Watching), action, "{stop:?}");
        }
        assert_eq!(about(delivery(libc::SIGUSR1), Mode::LettingGo), Action::LetGo(libc::SIGUSR1));
        assert_eq!(about(event(libc::SIGSTOP, EVENT_STOP), Mode::LettingGo), Action::LetGo(0));
        assert_eq!(about(delivery(CALL_STOP), Mode::LettingGo), Action::LetGo(0));
        let end = event(libc::SIGTRAP, libc::PTRACE_EVENT_EXIT);
        assert_eq!(about(end, Mode::Holding), Action::Ends);
        assert_eq!(about(end, Mode::LettingGo), Action::LetGo(0));
        assert_eq!(about(delivery(CALL_STOP), Mode::Holding), Action::Hold(0));
        assert_eq!(Stop::from_status(CALL_STOP), delivery(CALL_STOP));
        assert_eq!(about(delivery(libc::SIGUSR1), Mode::Holding), Action::Hold(libc::SIGUSR1));
        assert_eq!(Stop::from_status(libc::SIGTRAP | EVENT_STOP << 8), event(libc::SIGTRAP, EVENT_STOP));
    }

    #[test]
    fn a_handler_that_asks_another_process_is_told_from_one_that_works_alone() {
        let call = |number, first| Some(Call { number, arguments: [first, 0, 0, 0, 0, 0] });
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD) as u64;
        let table = [
            (None, Step::On),
            (call(libc::SYS_write, 2), Step::On),
            (call(libc::SYS_prctl, libc::PR_SET_NAME as u64), Step::On),
            (call(libc::SYS_clone, thread), Step::On),
            (call(libc::SYS_rt_sigreturn, 0), Step::Returns),
            (call(libc::SYS_prctl, libc::PR_SET_PTRACER as u64), Step::AsksForHelp),
            (call(libc::SYS_clone, libc::CLONE_UNTRACED as u64), Step::AsksForHelp),
            (call(libc::SYS_clone3, 0), Step::AsksForHelp),
            (call(libc::SYS_sendmsg, 3), Step::AsksForHelp),
        ];
        for (call, step) in table {
            assert_eq!(self::step(call), step, "{call:?}");
        }
    }

    #[test]
    fn a_process_is_named_by_its_start_and_a_served_file_system_by_its_type() {
        let stat = b"7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!((started(stat), started(b"7 (x")), (Some(4711), None));
        let mounts = b"22 1 0:20 / / rw - overlay none rw\n30 22 0:44 / /mnt rw shared:1 - fuse.sshfs a b\n";
        assert!(is_served_by_a_program(mounts, (0, 44)));
        assert!(!is_served_by_a_program(mounts, (0, 20)) && !is_served_by_a_program(mounts, (0, 4)));
    }

    #[test]
    fn a_signal_that_nobody_catches_or_ignores_has_its_default_action() {
        let status = |ignored: u64, caught: u64| {
            format!("Name:\tapp\nTgid:\t7\nPid:\t9\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n").into_bytes()
        };
        let segv = 1 << (libc::SIGSEGV - 1);
        assert!(is_default(&status(0, 0), libc::SIGSEGV));
        assert!(is_default(&status(!segv, !segv), libc::SIGSEGV));
        assert!(!is_default(&status(segv, 0), libc::SIGSEGV));
        assert!(!is_default(&status(0, segv), libc::SIGSEGV));
        assert!(!is_default(b"", libc::SIGSEGV));
        assert!(is_caught(&status(0, segv), libc::SIGSEGV) && !is_caught(&status(segv, !segv), libc::SIGSEGV));
        let status = b"Tgid:\t7\nNgid:\t0\nPid:\t9\nPPid:\t3\nTracerPid:\t1\nNSpid:\t9\t2\nCapEff:\t0000000000080000\n";
        assert_eq!(process_and_parent(status), Some((7, 3)));
        assert_eq!((tracer(status), tracer(b"")), (Some(1), None));
        assert_eq!((depth(status), depth(b"Pid:\t9\n")), (Some(2), None));
        assert!(may_trace_all(status) && !may_trace_all(b"CapEff:\t0000000000040000\n"));
        assert_eq!(owner(b"Uid:\t0\t33\t0\t0\nGid:\t0\t34\t0\t0\n"), Some((33, 34)));
        assert_eq!(owner(b"Uid:\t0\nGid:\t0\t34\n"), None);
        assert!(is_zombie(b"Name:\tapp\nState:\tZ (zombie)\n") && !is_zombie(b"State:\tS (sleeping)\n"));
    }
}
