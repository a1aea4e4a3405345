//! Tracing our own child and what it forks: ptrace(2), as PTRACE_SEIZE has it (Linux 3.4). Every call is about one thread that we trace; of any
//! other it fails with ESRCH and changes nothing.

use super::check;
use std::io;

/// `struct user_regs_struct` of the architectures that are unwound, the larger of them.
const REGISTER_BYTES: usize = 34 * 8;
/// `siginfo_t`.
const SIGINFO_BYTES: usize = 128;
/// elf(5): the general registers.
const NT_PRSTATUS: libc::c_int = 1;

/// What becomes of the processes that a traced thread makes by fork(2) and vfork(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forks {
    /// They are traced from their first step on.
    Followed,
    /// They never know of us.
    Left,
}

/// Whom we trace; threads and processes that it makes inherit what that means, until they stop and something else is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whom {
    /// Our child: its end is ours to collect.
    Child(Forks),
    /// A thread of our child that is about to die of a signal: it stops before its end.
    Dying(Forks),
    /// Somebody else's: each of its threads stops before it ends.
    Others(Forks),
}

fn options(whom: Whom) -> libc::c_ulong {
    let always = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACESYSGOOD;
    let (end, forks) = match whom {
        Whom::Child(forks) => (0, forks),
        Whom::Dying(forks) | Whom::Others(forks) => (libc::PTRACE_O_TRACEEXIT, forks),
    };
    let forks = match forks {
        Forks::Followed => libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK,
        Forks::Left => 0,
    };
    (always | end | forks) as libc::c_ulong
}

/// Begins to trace a child without stopping it, and all threads that it starts from now on. Whoever traces need not stay: with
/// his end the process goes on as it is.
pub fn seize(pid: i32, forks: Forks) -> io::Result<()> {
    // SAFETY: the request takes numbers only.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, options(Whom::Child(forks))) } as libc::c_int).map(drop)
}

/// Another choice for a stopped thread.
pub fn choose(tid: i32, whom: Whom) {
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, tid, 0, options(whom)) };
}

/// At [`libc::PTRACE_EVENT_EXIT`]: the status that wait(2) will give, of the thread and, if all of it ends, of the process.
pub fn end_status(tid: i32) -> Option<i32> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the request writes one word through the pointer, which is live.
    check(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut message) } as libc::c_int).ok()?;
    i32::try_from(message).ok()
}

/// Lets nobody go at his end: what that takes of our code is in memory from then on.
pub fn rehearse_end() {
    let _ = end_status(0);
    super::process::let_go(0, 0);
}

/// Stops a running thread; the stop is told as [`EVENT_STOP`].
pub fn interrupt(tid: i32) -> io::Result<()> {
    // SAFETY: as above.
    check(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) } as libc::c_int).map(drop)
}

/// Lets a stopped thread go on, with this signal or, for 0, without one.
pub fn go_on(tid: i32, signal: i32) {
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_CONT, tid, 0, signal) };
}

/// As [`go_on`], but only as far as the next system call.
pub fn go_on_to_call(tid: i32, signal: i32) {
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_SYSCALL, tid, 0, signal) };
}

/// A system call that a stopped thread is about to make: its number and arguments. `None` after one, and before Linux 5.3.
pub fn call(tid: i32) -> Option<Call> {
    // SAFETY: an all-zero value is valid.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: `info` is live and as long as we say.
    check(unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid, size, &raw mut info) } as libc::c_int).ok()?;
    // SAFETY: the kernel says that this member of the union is the one it wrote.
    (info.op == libc::PTRACE_SYSCALL_INFO_ENTRY).then(|| unsafe {
        let entry = info.u.entry;
        Call { number: entry.nr as libc::c_long, arguments: entry.args }
    })
}

/// A system call before it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    pub number: libc::c_long,
    pub arguments: [u64; 6],
}

/// Leaves a thread stopped that job control has stopped, as it would be without us.
pub fn listen(tid: i32) {
    // SAFETY: as above.
    unsafe { libc::ptrace(libc::PTRACE_LISTEN, tid, 0, 0) };
}

/// The general registers of a stopped thread, as the kernel writes them.
pub fn registers(tid: i32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; REGISTER_BYTES];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: `vector` and the buffer that it names are live for the call; the kernel shortens `iov_len` to what it wrote.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid, NT_PRSTATUS, &raw mut vector) } as libc::c_int)?;
    let len = vector.iov_len;
    bytes.truncate(len);
    Ok(bytes)
}

/// The siginfo of the signal that a thread is stopped at, as the kernel writes it.
pub fn siginfo(tid: i32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SIGINFO_BYTES];
    // SAFETY: the buffer is live and holds a whole siginfo_t.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, tid, 0, bytes.as_mut_ptr()) } as libc::c_int)?;
    Ok(bytes)
}

/// A group-stop, the answer to an interruption, or a thread's first stop.
pub const EVENT_STOP: i32 = libc::PTRACE_EVENT_STOP;

/// The signal of a stop at a system call, which PTRACE_O_TRACESYSGOOD tells from a real SIGTRAP.
pub const CALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// How one thread came to stand still: the status of waitid(2), which is the signal and, above it, the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    pub signal: i32,
    /// 0 where a signal is about to be delivered.
    pub event: i32,
}

impl Stop {
    pub fn from_status(status: i32) -> Stop {
        Stop { signal: status & 0xff, event: status >> 8 }
    }
}

/// PR_GET_NO_NEW_PRIVS: no program that this process or its children execute gains a privilege.
pub fn has_no_new_privileges() -> bool {
    // SAFETY: the option takes numbers only.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}
