//! Reaping: look at what a child became, then take it off the process table. See waitid(2), wait4(2).

use super::poll::Waiting;
use super::{clock, process};
use std::io;
use std::time::Duration;

/// getrusage(2) of the dead, from wait4(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
    pub major_faults: u64,
    pub minor_faults: u64,
    pub blocks_in: u64,
    pub blocks_out: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

/// What became of a child, while it is still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    pub pid: i32,
    pub what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A zombie, with the status that [`reap`] will give: its /proc entry and its pid stay until then.
    Ended(i32),
    /// Job control stopped it by this signal number.
    Stopped(i32),
    /// Traced by us, it waits to be let on: the status of [`Stop`](super::ptrace::Stop), and before its end what its process
    /// has used.
    Traced(i32, Option<Usage>),
}

/// The state of our children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peek {
    Changed(Change),
    /// There are children; none has changed.
    Quiet,
    /// There is no child at all: ECHILD.
    Childless,
}

/// Whether the kernel lets us hear of children: a seccomp filter may refuse it. Asked of who is no child of ours, which is we.
pub fn is_allowed() -> io::Result<()> {
    let own_pid = process::own_pid();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let looked = wait_id(libc::P_PID, own_pid, options).map(drop);
    // SAFETY: the kernel allows both pointers to be null.
    let reaped = unsafe { libc::wait4(own_pid, std::ptr::null_mut(), libc::WNOHANG, std::ptr::null_mut()) };
    for answer in [looked, super::check(reaped).map(drop)] {
        answer.or_else(|error| if error.raw_os_error() == Some(libc::ECHILD) { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

/// Looks at the next changed child without reaping it (WNOWAIT) and without blocking.
///
/// A stop is consumed at once, so that it is told once; a zombie is left for [`reap`].
pub fn peek() -> Peek {
    match wait_id(libc::P_ALL, 0, libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT) {
        Ok(Some((pid, code @ (libc::CLD_STOPPED | libc::CLD_TRAPPED), status))) => {
            let ends = code == libc::CLD_TRAPPED && status >> 8 == libc::PTRACE_EVENT_EXIT;
            let usage = take_note_of_stop(pid, ends);
            let what = if code == libc::CLD_TRAPPED { What::Traced(status, usage) } else { What::Stopped(status) };
            Peek::Changed(Change { pid, what })
        }
        Ok(Some((pid, code, status))) => {
            let status = match code {
                libc::CLD_EXITED => status << 8,
                libc::CLD_DUMPED => status | 0x80,
                _ => status,
            };
            Peek::Changed(Change { pid, what: What::Ended(status) })
        }
        Ok(None) => Peek::Quiet,
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Peek::Childless,
        Err(_) => Peek::Quiet,
    }
}

/// Of a thread that stands still before its end, with what its process has used: waitid(2), whose system call has one argument
/// more than the function of that name.
fn take_note_of_stop(tid: i32, ends: bool) -> Option<Usage> {
    // SAFETY: an all-zero rusage is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let wanted = if ends { &raw mut usage } else { std::ptr::null_mut() };
    let nothing = std::ptr::null_mut::<libc::siginfo_t>();
    let options = libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: the kernel allows both pointers to be null; `usage` is live for the call.
    let noted = unsafe { libc::syscall(libc::SYS_waitid, libc::P_PID, tid, nothing, options, wanted) } == 0;
    (noted && ends).then(|| usage_of(&usage))
}

fn wait_id(whom: libc::idtype_t, pid: i32, options: libc::c_int) -> io::Result<Option<(i32, i32, i32)>> {
    // SAFETY: an all-zero siginfo_t is valid, and waitid leaves it so when nothing has changed.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is live for the call.
    super::check(unsafe { libc::waitid(whom, pid as libc::id_t, &mut info, options) })?;
    // SAFETY: the kernel filled the SIGCHLD fields, or left them zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some((pid, info.si_code, status)))
}

/// What became of a thread that was asked to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// It stands still; the status of [`Stop`](super::ptrace::Stop).
    At(i32),
    /// It has ended. A thread is reaped with that; the end of a process is left for [`peek`].
    Gone,
    /// It does neither, in an uninterruptible sleep perhaps.
    Running,
}

/// Waits for one traced thread to stop, until that moment.
pub fn stopped_within(tid: i32, until: Duration) -> Stopped {
    loop {
        match wait_id(libc::P_PID, tid, libc::WEXITED | libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL) {
            Ok(None) if clock::monotonic() >= until => return Stopped::Running,
            Ok(None) => {
                Waiting::default().wait(Some(LOOK_AGAIN));
            }
            Ok(Some((_, libc::CLD_STOPPED | libc::CLD_TRAPPED, status))) => {
                take_note_of_stop(tid, false);
                return Stopped::At(status);
            }
            Ok(Some(_)) => {
                // Whose program it was must hear of its end, and we do if it is ours.
                if !process::is_process(tid) {
                    let _ = reap(tid);
                }
                return Stopped::Gone;
            }
            Err(_) => return Stopped::Gone,
        }
    }
}

/// Between two looks at a thread that is about to stop: it takes some ten microseconds.
const LOOK_AGAIN: Duration = Duration::from_micros(20);

/// What the next child that has changed became; a zombie is reaped with that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Ended {
        pid: i32,
        status: i32,
    },
    /// Traced by us, and waiting for us to let it go on: ptrace(2) tells its tracer without being asked.
    Held {
        pid: i32,
        by: i32,
    },
    Quiet,
    Childless,
}

/// wait4(2) of any child, without blocking.
pub fn next() -> Next {
    let mut status = 0;
    // SAFETY: the out-parameter is live for the call, and no usage is asked for.
    let pid = unsafe { libc::wait4(-1, &mut status, libc::WNOHANG | libc::__WALL, std::ptr::null_mut()) };
    match pid {
        0 => Next::Quiet,
        pid if pid > 0 && libc::WIFSTOPPED(status) => Next::Held { pid, by: libc::WSTOPSIG(status) },
        pid if pid > 0 => Next::Ended { pid, status },
        _ => Next::Childless,
    }
}

/// Reaps one zombie: its wait status word and what it used. `None` when it was no zombie of ours.
pub fn reap(pid: i32) -> Option<(i32, Usage)> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both out-parameters are live for the call.
    let reaped = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) };
    if reaped != pid {
        return None;
    }
    Some((status, usage_of(&usage)))
}

fn usage_of(usage: &libc::rusage) -> Usage {
    let micros = |time: libc::timeval| (time.tv_sec as u64).saturating_mul(1_000_000) + time.tv_usec as u64;
    Usage {
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss as u64,
        major_faults: usage.ru_majflt as u64,
        minor_faults: usage.ru_minflt as u64,
        blocks_in: usage.ru_inblock as u64,
        blocks_out: usage.ru_oublock as u64,
        voluntary_switches: usage.ru_nvcsw as u64,
        involuntary_switches: usage.ru_nivcsw as u64,
    }
}
