//! Signals by number and by name, 1 to 64, real-time ones included. See signal(7).

use std::fmt;

/// A signal number that the kernel knows: 1..=64. See signal(7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(u8);

/// The highest signal number of the kernel's 64-bit sets (`_NSIG`).
pub const HIGHEST: u8 = 64;

/// What glibc's `SIGRTMIN` is: the kernel's 32 and 33 serve glibc's own threads.
const RTMIN: u8 = 34;

/// Name without `SIG`, and what people call it: the texts of strsignal(3), kept here because they follow the locale there.
const NAMES: [(i32, &str, &str); 31] = [
    (libc::SIGHUP, "HUP", "hangup"),
    (libc::SIGINT, "INT", "interrupt"),
    (libc::SIGQUIT, "QUIT", "quit"),
    (libc::SIGILL, "ILL", "illegal instruction"),
    (libc::SIGTRAP, "TRAP", "trace or breakpoint trap"),
    (libc::SIGABRT, "ABRT", "aborted"),
    (libc::SIGBUS, "BUS", "bus error"),
    (libc::SIGFPE, "FPE", "floating point exception"),
    (libc::SIGKILL, "KILL", "killed"),
    (libc::SIGUSR1, "USR1", "user defined signal 1"),
    (libc::SIGSEGV, "SEGV", "segmentation fault"),
    (libc::SIGUSR2, "USR2", "user defined signal 2"),
    (libc::SIGPIPE, "PIPE", "broken pipe"),
    (libc::SIGALRM, "ALRM", "alarm clock"),
    (libc::SIGTERM, "TERM", "terminated"),
    (libc::SIGSTKFLT, "STKFLT", "stack fault"),
    (libc::SIGCHLD, "CHLD", "child status changed"),
    (libc::SIGCONT, "CONT", "continued"),
    (libc::SIGSTOP, "STOP", "stopped"),
    (libc::SIGTSTP, "TSTP", "stopped from the terminal"),
    (libc::SIGTTIN, "TTIN", "stopped on terminal input"),
    (libc::SIGTTOU, "TTOU", "stopped on terminal output"),
    (libc::SIGURG, "URG", "urgent I/O condition"),
    (libc::SIGXCPU, "XCPU", "CPU time limit exceeded"),
    (libc::SIGXFSZ, "XFSZ", "file size limit exceeded"),
    (libc::SIGVTALRM, "VTALRM", "virtual timer expired"),
    (libc::SIGPROF, "PROF", "profiling timer expired"),
    (libc::SIGWINCH, "WINCH", "window changed"),
    (libc::SIGIO, "IO", "I/O possible"),
    (libc::SIGPWR, "PWR", "power failure"),
    (libc::SIGSYS, "SYS", "bad system call"),
];

/// Spellings that mean the same number.
const ALIASES: [(&str, i32); 4] =
    [("IOT", libc::SIGABRT), ("CLD", libc::SIGCHLD), ("POLL", libc::SIGIO), ("UNUSED", libc::SIGSYS)];

impl Signal {
    pub const HUP: Signal = Signal(libc::SIGHUP as u8);
    pub const INT: Signal = Signal(libc::SIGINT as u8);
    pub const QUIT: Signal = Signal(libc::SIGQUIT as u8);
    pub const KILL: Signal = Signal(libc::SIGKILL as u8);
    pub const TERM: Signal = Signal(libc::SIGTERM as u8);
    pub const CHLD: Signal = Signal(libc::SIGCHLD as u8);
    pub const CONT: Signal = Signal(libc::SIGCONT as u8);
    pub const STOP: Signal = Signal(libc::SIGSTOP as u8);
    pub const TSTP: Signal = Signal(libc::SIGTSTP as u8);
    pub const TTIN: Signal = Signal(libc::SIGTTIN as u8);
    pub const TTOU: Signal = Signal(libc::SIGTTOU as u8);
    pub const PIPE: Signal = Signal(libc::SIGPIPE as u8);
    pub const XCPU: Signal = Signal(libc::SIGXCPU as u8);
    pub const XFSZ: Signal = Signal(libc::SIGXFSZ as u8);
    pub const WINCH: Signal = Signal(libc::SIGWINCH as u8);
    pub const SEGV: Signal = Signal(libc::SIGSEGV as u8);
    pub const ABRT: Signal = Signal(libc::SIGABRT as u8);

    /// The signal of this number, if the kernel has one.
    pub fn new(number: i32) -> Option<Signal> {
        u8::try_from(number).ok().filter(|n| (1..=HIGHEST).contains(n)).map(Signal)
    }

    /// 1..=64.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// `TERM`, `SIGTERM`, `sigterm`, `15`, `RTMIN+3`, `RTMAX-1`.
    pub fn parse(text: &str) -> Option<Signal> {
        if let Ok(number) = text.parse::<i32>() {
            return Signal::new(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(&(number, ..)) = NAMES.iter().find(|(_, n, _)| *n == name) {
            return Signal::new(number);
        }
        if let Some(&(_, number)) = ALIASES.iter().find(|(n, _)| *n == name) {
            return Signal::new(number);
        }
        let (base, rest) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => (i32::from(RTMIN), rest),
            (_, Some(rest)) => (i32::from(HIGHEST), rest),
            _ => return None,
        };
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('+').unwrap_or(rest).parse::<i32>().ok()? };
        Signal::new(base.checked_add(offset)?).filter(|signal| signal.0 >= RTMIN)
    }

    /// `SIGSEGV`, `SIGRTMIN+2`; for the two that glibc hides, `SIG32` and `SIG33`.
    pub fn name(self) -> String {
        match NAMES.iter().find(|(n, ..)| *n == self.number()) {
            Some((_, name, _)) => format!("SIG{name}"),
            None if self.0 < RTMIN => format!("SIG{}", self.0),
            None if self.0 == RTMIN => "SIGRTMIN".to_owned(),
            None => format!("SIGRTMIN+{}", self.0 - RTMIN),
        }
    }

    /// `segmentation fault`, in English whatever the locale.
    pub fn description(self) -> &'static str {
        NAMES.iter().find(|(n, ..)| *n == self.number()).map_or("real-time signal", |(_, _, text)| text)
    }

    /// Queued and with a payload: 32..=64.
    pub fn is_real_time(self) -> bool {
        self.0 >= 32
    }

    /// The default action is a core dump (signal(7), "Core"): the program did something wrong, or was asked to abort.
    pub fn dumps_core(self) -> bool {
        const CORE: [i32; 10] = [
            libc::SIGQUIT,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGSEGV,
            libc::SIGXCPU,
            libc::SIGXFSZ,
            libc::SIGSYS,
        ];
        CORE.contains(&self.number())
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A set of signals as the kernel keeps it: bit n-1 stands for signal n. glibc's own sets cannot hold 32 and 33.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Set(pub u64);

impl Set {
    pub const EMPTY: Set = Set(0);
    pub const FULL: Set = Set(u64::MAX);

    pub fn contains(self, signal: Signal) -> bool {
        self.0 & (1 << (signal.0 - 1)) != 0
    }

    #[must_use]
    pub fn with(self, signal: Signal) -> Set {
        Set(self.0 | (1 << (signal.0 - 1)))
    }

    #[must_use]
    pub fn without(self, signal: Signal) -> Set {
        Set(self.0 & !(1 << (signal.0 - 1)))
    }
}

/// Blocks every signal and returns the mask as it was. The raw call: glibc's leaves out 32 and 33. See rt_sigprocmask(2).
pub fn block_all() -> Set {
    change_mask(Set::FULL)
}

/// Sets the mask of this thread.
pub fn set_mask(mask: Set) {
    change_mask(mask);
}

fn change_mask(mask: Set) -> Set {
    let mut old = Set::EMPTY;
    // SAFETY: both sets are 8 live bytes, and 8 is the size the kernel asks for. It fails only for a bad address or size.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask.0, &raw mut old.0, 8usize);
    }
    old
}

/// Gives a signal its default action: for the tools' roles, which start with whatever the caller ignored.
pub fn set_default(signal: Signal) {
    // SAFETY: SIG_DFL installs no code.
    unsafe { libc::signal(signal.number(), libc::SIG_DFL) };
}

/// Makes sure that we are told of the ends of our children, and that they stay to be collected; whether our caller had SIGCHLD
/// ignored, which the child is to have back.
pub fn hear_of_children() -> bool {
    // SAFETY: SIG_DFL installs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_IGN }
}

/// Has this process ignore the ends of its children. Async-signal-safe.
pub fn ignore_children() {
    // SAFETY: SIG_IGN installs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Has abort(3) call this first: it unblocks SIGABRT and raises it. The child of a fork before this is none the wiser.
pub fn call_on_abort(handler: extern "C" fn(libc::c_int)) {
    // SAFETY: an all-zero sigaction is valid: an empty mask, no flags.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // An abort within the handler comes back to it.
    action.sa_flags = libc::SA_NODEFER;
    // SAFETY: `action` is live for the call; the handler lives as long as the program and takes one int, as without
    // SA_SIGINFO it must.
    unsafe { libc::sigaction(libc::SIGABRT, &action, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_parsed_back_from_its_name_and_number() {
        for number in 1..=i32::from(HIGHEST) {
            let signal = Signal::new(number).unwrap();
            assert_eq!(Signal::parse(&number.to_string()), Some(signal));
            if !(32..34).contains(&number) {
                assert_eq!(Signal::parse(&signal.name()), Some(signal), "{signal}");
                assert_eq!(Signal::parse(&signal.name().to_lowercase()[3..]), Some(signal), "{signal}");
            }
        }
    }

    #[test]
    fn names_that_are_no_signal_are_refused() {
        for text in ["", "0", "65", "-1", "SIG", "FOO", "RTMIN+31", "RTMAX-31", "RTMIN+x", "TERM ", "9999999999"] {
            assert_eq!(Signal::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn real_time_names_count_from_both_ends() {
        assert_eq!(Signal::parse("RTMIN+30"), Signal::new(64));
        assert_eq!(Signal::parse("SIGRTMAX-30"), Signal::new(34));
        assert_eq!(Signal::parse("iot"), Some(Signal::ABRT));
    }
}
