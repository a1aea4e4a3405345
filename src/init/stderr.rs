//! stderr: the program's bytes pass through untouched while their end is remembered, and obit's own lines go between.
//!
//! Into a pipe the bytes are duplicated by the kernel (tee(2)) and read once for the ring; elsewhere they are read and
//! written. A terminal and a regular file are the program's own, and nothing comes between. Nothing is read while the reader behind us does not take, so back-pressure reaches the program as it
//! would without us; and when that reader is gone, ours goes too, so that the program gets its SIGPIPE.
//!
//! A line of ours comes after what the program had written before it, even if that is still in its pipe: it waits until
//! the stream has come that far.

#![forbid(unsafe_code)]

use super::logfile::LogFile;
use super::tail::Ring;
use crate::case::Tail;
use crate::say;
use crate::sys::fd::{self, Kind};
use crate::sys::poll::{self, Slot, Waiting, Want};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Bytes moved at a time.
const CHUNK: usize = 64 * 1024;
/// A pipe that polls as writable takes this much without blocking: PIPE_BUF of pipe(7).
const PIPE_BUF: usize = 4096;
/// Bytes of own lines that may wait for a stalled reader; later ones are dropped.
const OWN_LINES: usize = 16 * 1024;

/// Our stderr and what is on its way to it.
#[derive(Debug)]
pub struct Stderr {
    out: BorrowedFd<'static>,
    kind: Kind,
    tap: Option<Tap>,
    /// It is a regular file, which the program writes to without us.
    file: Option<LogFile>,
    /// Bytes that must go out before anything else does.
    queue: Vec<u8>,
    queued_from: usize,
    /// Own lines that wait in `queue` or in `held`, in bytes.
    own_waiting: usize,
    /// Own lines, and how many of the program's bytes come before each.
    held: VecDeque<(u64, Vec<u8>)>,
    /// The last byte written was no newline.
    mid_line: bool,
}

/// The pipe that the program writes to.
#[derive(Debug)]
struct Tap {
    read: BorrowedFd<'static>,
    ring: Ring,
    /// The program's side is closed, or our reader is gone.
    closed: bool,
}

/// What the child gets in place of our stderr.
#[derive(Debug)]
pub struct ChildEnd {
    pub write: OwnedFd,
    /// stdout leads to the same place, so both go through one pipe and keep their order.
    pub both_streams: bool,
}

impl Stderr {
    /// Looks at fd 2 and, if `tail_bytes` asks for it and it is neither a terminal nor a file, puts a pipe between. Without a
    /// stderr, or when the pipe cannot be had, nothing is interposed; the gap says why there will be no tail.
    pub fn new(tail_bytes: Option<usize>, closed: [bool; 3]) -> (Stderr, Option<ChildEnd>, Option<String>) {
        let out = fd::stdio(2);
        let mut stderr = Stderr {
            out,
            kind: Kind::Device,
            tap: None,
            file: None,
            queue: Vec::new(),
            queued_from: 0,
            own_waiting: 0,
            held: VecDeque::new(),
            mid_line: false,
        };
        if closed[2] {
            return (stderr, None, Some("stderr tail: stderr is closed".to_owned()));
        }
        let Ok((kind, identity)) = fd::identify(out) else {
            return (stderr, None, Some("stderr tail: stderr cannot be examined".to_owned()));
        };
        stderr.kind = kind;
        let Some(bytes) = tail_bytes else {
            return (stderr, None, Some("stderr tail: switched off".to_owned()));
        };
        if kind == Kind::Terminal {
            return (
                stderr,
                None,
                Some("stderr tail: stderr is a terminal, which nothing may come between".to_owned()),
            );
        }
        if kind == Kind::File {
            let gap = match LogFile::new(out, bytes) {
                Ok(file) => {
                    stderr.file = Some(file);
                    None
                }
                Err(error) => Some(format!("stderr tail: stderr is a file that cannot be read ({error})")),
            };
            return (stderr, None, gap);
        }
        match Ring::new(bytes).and_then(|ring| Ok((ring, fd::pipe(true)?))) {
            Ok((ring, (read, write))) => {
                let same = !closed[1] && fd::identify(fd::stdio(1)).is_ok_and(|(_, stdout)| stdout == identity);
                stderr.tap = Some(Tap { read: fd::keep(read), ring, closed: false });
                (stderr, Some(ChildEnd { write, both_streams: same && kind != Kind::Device }), None)
            }
            Err(error) => (stderr, None, Some(format!("stderr tail: no pipe could be made ({error})"))),
        }
    }

    /// The end of the program's pipe that we read, the same fd for ever.
    pub fn source(&self) -> Option<BorrowedFd<'static>> {
        self.tap.as_ref().map(|tap| tap.read)
    }

    /// The end of what the program wrote, with what its pipe still holds; `None` when nothing remembers it.
    pub fn tail(&self) -> Option<Tail> {
        if let Some(file) = &self.file {
            return file.tail();
        }
        let tap = self.tap.as_ref()?;
        let mut tail = tap.ring.tail();
        if let Ok(waiting) = fd::peek(tap.read) {
            tail.total_bytes += waiting.len() as u64;
            tail.bytes.extend_from_slice(&waiting);
            tail.bytes.drain(..tail.bytes.len().saturating_sub(tap.ring.capacity()));
        }
        Some(tail)
    }

    /// Queues one of our lines and writes what can be written at once. Never blocks.
    pub fn say(&mut self, level: say::Level, text: &str) {
        if say::wanted(level) {
            self.write_line(&say::line(level, text));
        }
    }

    /// The same for a line that is ready, newline included.
    pub fn write_line(&mut self, line: &str) {
        if self.own_waiting + line.len() > OWN_LINES {
            return;
        }
        self.own_waiting += line.len();
        let written = self.tap.as_ref().map_or(0, |tap| tap.ring.total() + tap.waiting_bytes());
        self.held.push_back((written, line.as_bytes().to_vec()));
        self.release();
        self.flush();
    }

    /// Queues the own lines whose turn has come.
    fn release(&mut self) {
        let passed = self.tap.as_ref().filter(|tap| !tap.closed).map(|tap| tap.ring.total());
        self.mid_line |= self.queue.is_empty() && self.file.as_ref().is_some_and(LogFile::ends_mid_line);
        let is_due = |after: u64| passed.is_none_or(|passed| passed >= after);
        while self.held.front().is_some_and(|(after, _)| is_due(*after))
            && let Some((_, line)) = self.held.pop_front()
        {
            if self.mid_line {
                self.queue.push(b'\n');
                self.mid_line = false;
            }
            if let Some(file) = &mut self.file {
                file.note_own(&line);
            }
            self.queue.extend_from_slice(&line);
        }
    }

    /// How much of the program's may move now: at most up to the next line of ours.
    fn chunk(&self, passed: u64) -> usize {
        self.held.front().map_or(CHUNK, |(after, _)| CHUNK.min(usize::try_from(after - passed).unwrap_or(CHUNK)))
    }

    /// What to wait for: room at the reader's side if something is stuck, else bytes from the program.
    pub fn wait_for<'a>(&'a self, waiting: &mut Waiting<'a>) -> Option<Slot> {
        if self.is_stuck() {
            return Some(waiting.add(self.out, Want::Writable));
        }
        self.tap.as_ref().filter(|tap| !tap.closed).map(|tap| waiting.add(tap.read, Want::Readable))
    }

    fn is_stuck(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Moves what can be moved without blocking, a few chunks at most. Returns whether a byte went out.
    pub fn pump(&mut self) -> bool {
        let before = self.progress();
        self.flush();
        for _ in 0..4 {
            if self.is_stuck() || !self.move_chunk() {
                break;
            }
        }
        self.progress() != before
    }

    fn progress(&self) -> (u64, usize) {
        (self.tap.as_ref().map_or(0, |tap| tap.ring.total()), self.queue.len() - self.queued_from)
    }

    /// Nothing is on its way any more: the queue is out, and the pipe is empty or closed.
    pub fn is_idle(&mut self) -> bool {
        self.pump();
        if self.is_stuck() {
            return false;
        }
        let Some(tap) = self.tap.as_ref().filter(|tap| !tap.closed) else { return true };
        let mut waiting = Waiting::default();
        let slot = waiting.add(tap.read, Want::Readable);
        !waiting.wait(Some(std::time::Duration::ZERO)).has(Some(slot))
    }

    /// One chunk from the program to the reader; false when there is nothing to do for now.
    fn move_chunk(&mut self) -> bool {
        let Some(passed) = self.tap.as_ref().filter(|tap| !tap.closed).map(|tap| tap.ring.total()) else {
            return false;
        };
        let chunk = self.chunk(passed);
        let Some(tap) = self.tap.as_mut() else { return false };
        let outcome = match self.kind {
            Kind::Pipe => match fd::tee(tap.read, self.out, chunk) {
                Ok(0) => Ok(0),
                Ok(copied) => consume(tap, copied),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    // The other end is no pipe that tee(2) can write to after all.
                    self.kind = Kind::Device;
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.tee_would_block(chunk),
                Err(error) => Err(error),
            },
            _ => {
                let Tap { read, ring, .. } = &mut *tap;
                match ring.fill(chunk, |room| fd::read(*read, room)) {
                    Ok(n) => {
                        self.queue.extend_from_slice(ring.last(n));
                        Ok(n)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        match outcome {
            Ok(0) => self.close_tap(),
            Ok(_) => {
                self.mid_line =
                    self.tap.as_ref().and_then(|tap| tap.ring.last_byte()).is_some_and(|byte| byte != b'\n');
                self.release();
                self.flush();
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            // The reader behind us is gone (EPIPE), or our stderr is broken: so is the program's.
            Err(_) => self.close_tap(),
        }
        false
    }

    /// tee(2) found the program's side empty or the reader's side full; in the second case the bytes go by hand, which
    /// leaves them in the queue until there is room, and the loop waits for that room.
    fn tee_would_block(&mut self, chunk: usize) -> bool {
        if poll::is_writable(self.out) {
            return false;
        }
        let Some(tap) = self.tap.as_mut() else { return false };
        let Tap { read, ring, .. } = &mut *tap;
        match ring.fill(chunk.min(PIPE_BUF), |room| fd::read(*read, room)) {
            Ok(0) => self.close_tap(),
            Ok(n) => {
                let bytes = ring.last(n);
                self.mid_line = bytes.last() != Some(&b'\n');
                self.queue.extend_from_slice(bytes);
                self.release();
            }
            Err(_) => {}
        }
        false
    }

    fn close_tap(&mut self) {
        if let Some(tap) = self.tap.as_mut() {
            tap.closed = true;
            // Closing our read end is what gives the program EPIPE; the ring stays readable.
            if let Ok((read, _)) = fd::pipe(true) {
                fd::replace(tap.read, &read);
            }
        }
        self.release();
    }

    fn flush(&mut self) {
        while self.queued_from < self.queue.len() {
            let rest = &self.queue[self.queued_from..];
            let written = match self.kind {
                Kind::Socket => fd::send(self.out, rest),
                Kind::Pipe if !poll::is_writable(self.out) => return,
                Kind::Pipe => fd::write(self.out, &rest[..rest.len().min(PIPE_BUF)]),
                // A terminal that was stopped by Ctrl-S would hold us for as long as it is.
                Kind::Terminal if !poll::is_writable(self.out) => return,
                Kind::Terminal | Kind::File | Kind::Device => fd::write(self.out, rest),
            };
            match written {
                Ok(n) => self.queued_from += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.queued_from = self.queue.len();
                    self.close_tap();
                }
            }
        }
        self.queue.clear();
        self.queued_from = 0;
        self.own_waiting = self.held.iter().map(|(_, line)| line.len()).sum();
    }
}

impl Tap {
    /// What the program has written and we have not taken.
    fn waiting_bytes(&self) -> u64 {
        if self.closed { 0 } else { fd::unread_bytes(self.read).unwrap_or(0) }
    }
}

/// Takes the bytes that tee(2) has already passed on, into the ring.
fn consume(tap: &mut Tap, mut left: usize) -> io::Result<usize> {
    let copied = left;
    let Tap { read, ring, .. } = tap;
    while left > 0 {
        match ring.fill(left, |room| fd::read(*read, room)) {
            Ok(0) => break,
            Ok(n) => left -= n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(copied)
}
