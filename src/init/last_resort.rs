//! The last resort: what goes on when init itself has failed.
//!
//! A panic in PID 1 would end the container, and so would an abort for want of memory. Neither may happen; should it
//! all the same, the loop is not gone back to. From the point of failure a plain one takes over, until the main child has ended:
//! the dead are reaped, signals passed on, stderr moved, a stop that is not heeded ends in SIGKILL, and the exit status is the
//! child's. Nothing is reported; the run marker stays, so the next start tells of it.
//!
//! The plain loop allocates nothing and trusts nothing but what was noted before the loop began: whatever broke may be
//! the heap. Faults of the processor (SIGSEGV) are not caught: the kernel ends us for them, since every signal is blocked.

#![forbid(unsafe_code)]

use crate::death::{Death, OWN_FAILURE};
use crate::limits;
use crate::sys::fd;
use crate::sys::poll::{Waiting, Want, is_writable};
use crate::sys::signal::{self, HIGHEST, Signal};
use crate::sys::signalfd::{Arrival, SignalFd};
use crate::sys::wait::{self, Next};
use crate::sys::{clock, process};
use std::fmt::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

/// What the plain loop knows, noted when the child has been started.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    pub own_pid: i32,
    pub main: i32,
    pub signals: SignalFd,
    /// The program's stderr, if it goes through us.
    pub stderr: Option<BorrowedFd<'static>>,
    /// Signals go to the child's group.
    pub group: bool,
    pub rewrite: [u8; HIGHEST as usize + 1],
    pub stop_grace: Option<Duration>,
    pub map_exit: [u8; 256],
}

static NOTED: OnceLock<Noted> = OnceLock::new();
/// What the main child's end means outward, once it has ended; below 0 it lives.
static ENDED: AtomicI32 = AtomicI32::new(-1);
/// How often we came here: the plain loop is not tried for ever.
static FAILURES: AtomicU32 = AtomicU32::new(0);
const FAILURES_MAX: u32 = 3;

/// From here on a panic of this process leads here: before there is a child it ends us as our own failure.
pub fn prepare() {
    std::panic::set_hook(Box::new(panicked));
}

/// There is a child now: a panic or an abort must not end us. The workers, which are copies of us, just end.
pub fn note(noted: Noted) {
    if NOTED.set(noted).is_ok() {
        signal::call_on_abort(aborted);
    }
}

/// The main child was reaped.
pub fn main_ended(status: u8) {
    ENDED.store(i32::from(status), Ordering::Relaxed);
}

fn panicked(panic: &PanicHookInfo<'_>) {
    let mut line = Line::default();
    let text = panic.payload().downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied()).unwrap_or("");
    let _ = match panic.location() {
        Some(place) => write!(line, "{text}, at {}:{}", place.file(), place.line()),
        None => write!(line, "{text}"),
    };
    take_over(line.text());
}

extern "C" fn aborted(_signal: libc::c_int) {
    take_over("aborted");
}

/// Returns in a worker only.
fn take_over(why: &str) {
    let mut line = Line::default();
    let Some(noted) = NOTED.get() else {
        let _ = writeln!(line, "obit: internal error ({why}); nothing was started: please report this");
        write_if_taken(line.text());
        process::exit(OWN_FAILURE);
    };
    if noted.own_pid != process::own_pid() {
        let _ = writeln!(line, "obit: a worker failed ({why}); what it had to do is done anew or told later");
        write_if_taken(line.text());
        return;
    }
    if FAILURES.fetch_add(1, Ordering::Relaxed) >= FAILURES_MAX {
        process::exit(OWN_FAILURE);
    }
    let _ = writeln!(
        line,
        "obit: internal error ({why}); from now on signals are passed on and the dead are reaped, and nothing more: \
         please report this"
    );
    write_if_taken(line.text());
    let ended = ENDED.load(Ordering::Relaxed);
    process::exit(u8::try_from(ended).unwrap_or_else(|_| Plain { noted: *noted, kill_at: None }.live()))
}

/// One line of ours, unless its reader would keep us waiting.
fn write_if_taken(line: &str) {
    let out = fd::stdio(2);
    if is_writable(out) {
        let _ = fd::write(out, line.as_bytes());
    }
}

struct Plain {
    noted: Noted,
    kill_at: Option<Duration>,
}

impl Plain {
    fn live(&mut self) -> u8 {
        loop {
            if let Some(status) = self.reap() {
                let until = clock::monotonic() + limits::WORKERS_GONE;
                while clock::monotonic() < until && self.move_stderr() {}
                return status;
            }
            let now = clock::monotonic();
            if self.kill_at.is_some_and(|kill_at| now >= kill_at) {
                self.kill_at = None;
                self.send(Signal::KILL);
            }
            let mut waiting = Waiting::default();
            let signals = waiting.add(self.noted.signals.as_fd(), Want::Readable);
            // Either side of the stream may be what it waits for; looking at both at once would not sleep.
            let stderr = self.noted.stderr.map(|read| match is_readable(read) {
                true => waiting.add(fd::stdio(2), Want::Writable),
                false => waiting.add(read, Want::Readable),
            });
            let ready = waiting.wait(self.kill_at.map(|kill_at| kill_at.saturating_sub(now)));
            if ready.has(Some(signals)) {
                let signals = self.noted.signals;
                signals.read().for_each(|arrival| self.arrived(&arrival));
            }
            if ready.has(stderr) {
                self.move_stderr();
            }
        }
    }

    /// Until nobody else has ended; the status to leave with when the main child has.
    fn reap(&mut self) -> Option<u8> {
        loop {
            match wait::next() {
                Next::Ended { pid, status } if pid == self.noted.main => {
                    let death = Death::from_wait_status(status)?;
                    return Some(self.noted.map_exit[usize::from(death.exit_status())]);
                }
                Next::Ended { .. } => {}
                Next::Held { pid, by } => process::let_go(pid, by),
                Next::Quiet => return None,
                Next::Childless => return Some(OWN_FAILURE),
            }
        }
    }

    fn arrived(&mut self, arrival: &Arrival) {
        if arrival.signal == Signal::CHLD {
            return;
        }
        let rewritten = self.noted.rewrite[arrival.signal.number() as usize];
        if let Some(signal) = Signal::new(i32::from(rewritten)) {
            self.send(signal);
        }
        if arrival.signal == Signal::TERM && self.kill_at.is_none() {
            self.kill_at = self.noted.stop_grace.map(|grace| clock::monotonic() + grace);
        }
    }

    fn send(&self, signal: Signal) {
        let _ = match self.noted.group {
            true => process::kill_group(self.noted.main, signal),
            false => process::kill(self.noted.main, signal),
        };
    }

    /// A piece that the reader takes without waiting; false when there is none, or nobody takes it.
    fn move_stderr(&mut self) -> bool {
        let Some(read) = self.noted.stderr.filter(|read| is_readable(*read) && is_writable(fd::stdio(2))) else {
            return false;
        };
        // PIPE_BUF of pipe(7): what a pipe that polls as writable takes whole.
        let mut piece = [0; 4096];
        let moved = fd::read(read, &mut piece).and_then(|n| fd::write(fd::stdio(2), &piece[..n]));
        if !matches!(moved, Ok(n) if n > 0) {
            self.noted.stderr = None;
        }
        self.noted.stderr.is_some()
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut waiting = Waiting::default();
    let slot = waiting.add(fd, Want::Readable);
    waiting.wait(Some(Duration::ZERO)).has(Some(slot))
}

/// Text of bounded length, without memory of the heap's; what does not fit is cut.
struct Line {
    bytes: [u8; 512],
    used: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line { bytes: [0; 512], used: 0 }
    }
}

impl Line {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.used]).unwrap_or("")
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let end = self.used + c.len_utf8();
            if end > self.bytes.len() {
                break;
            }
            c.encode_utf8(&mut self.bytes[self.used..end]);
            self.used = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_two_characters() {
        let mut line = Line::default();
        for _ in 0..300 {
            let _ = write!(line, "é");
        }
        assert_eq!(line.text(), "é".repeat(256));
        let _ = write!(line, "x");
        assert_eq!(line.text().len(), 512);
    }
}
