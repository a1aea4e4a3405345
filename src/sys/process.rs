//! Processes: who we are, forking a worker, signalling, and the traits that prctl(2) sets.

use super::signal::{Set, Signal};
use super::signalfd::Arrival;
use super::{check, signal};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// getpid(2).
pub fn own_pid() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getpid() }
}

/// getpgrp(2).
pub fn own_group() -> i32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::getpgrp() }
}

/// Whether we lead our session: then nobody could continue us if we stopped. See setsid(2).
pub fn is_session_leader() -> bool {
    // SAFETY: takes a number, returns a number.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// The group that our parent is in; `None` when the parent is outside of our PID namespace.
pub fn parent_group_in_our_session() -> Option<i32> {
    // SAFETY: numbers in, numbers out.
    let (parent, own_session) = unsafe { (libc::getppid(), libc::getsid(0)) };
    if parent == 0 {
        return None;
    }
    // SAFETY: as above; both fail with ESRCH for a pid that is gone.
    let (session, group) = unsafe { (libc::getsid(parent), libc::getpgid(parent)) };
    (session == own_session && group > 0).then_some(group)
}

/// geteuid(2).
pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// Puts a child into a process group of its own: setpgid(2). Done by the parent too, so that the group exists whoever
/// of the two runs first; EACCES (the child has already executed) is then no failure.
pub fn make_group(pid: i32) {
    // SAFETY: numbers only.
    unsafe { libc::setpgid(pid, pid) };
}

/// A pidfd names the process itself, not its number: pidfd_open(2), Linux 5.3. `None` where the kernel or a seccomp
/// filter refuses; then the number must do, which is safe as long as we have not reaped it.
pub fn pidfd(pid: i32) -> Option<OwnedFd> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the number was just made by the kernel (always close-on-exec) and belongs to nobody else.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends what arrived on to a process that we have not reaped: with its payload and its sender if it was queued
/// (rt_sigqueueinfo(2)), else as kill(2). By pidfd where there is one (pidfd_send_signal(2)).
pub fn pass_on(pid: i32, pidfd: Option<BorrowedFd<'_>>, signal: Signal, arrival: &Arrival) -> io::Result<()> {
    if arrival.code == libc::SI_QUEUE {
        let info = siginfo(signal, arrival);
        if let Some(pidfd) = pidfd {
            // SAFETY: `info` is a whole siginfo_t that outlives the call.
            let sent = unsafe {
                libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal.number(), &raw const info, 0)
            };
            if sent == 0 {
                return Ok(());
            }
        }
        // SAFETY: as above.
        let sent = unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal.number(), &raw const info) };
        if sent == 0 {
            return Ok(());
        }
    } else if let Some(pidfd) = pidfd {
        let no_info: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: a null siginfo is documented to act as kill(2).
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal.number(), no_info, 0) };
        if sent == 0 {
            return Ok(());
        }
    }
    kill(pid, signal)
}

/// The siginfo_t of sigqueue(3) with the sender and the value of what arrived. Layout: `_sifields._rt` of
/// asm-generic/siginfo.h, which libc's type hides.
fn siginfo(signal: Signal, arrival: &Arrival) -> libc::siginfo_t {
    #[repr(C)]
    struct Queued {
        signo: i32,
        errno: i32,
        code: i32,
        #[cfg(target_pointer_width = "64")]
        padding: i32,
        pid: i32,
        uid: u32,
        value: usize,
    }
    const { assert!(size_of::<Queued>() <= size_of::<libc::siginfo_t>()) };
    // SAFETY: an all-zero siginfo_t is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let queued = Queued {
        signo: signal.number(),
        errno: 0,
        code: arrival.code,
        #[cfg(target_pointer_width = "64")]
        padding: 0,
        pid: arrival.sender_pid,
        uid: arrival.sender_uid,
        value: arrival.value as usize,
    };
    // SAFETY: the kernel's layout for si_code SI_QUEUE is that of `Queued`, which is no larger than siginfo_t.
    unsafe { (&raw mut info).cast::<Queued>().write(queued) };
    info
}

/// kill(2) of one process.
pub fn kill(pid: i32, signal: Signal) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::kill(pid, signal.number()) }).map(drop)
}

/// sigqueue(3): a signal with a payload.
pub fn queue(pid: i32, signal: Signal, value: u64) -> io::Result<()> {
    let value = libc::sigval { sival_ptr: value as *mut libc::c_void };
    // SAFETY: numbers only; the payload is never followed as a pointer.
    check(unsafe { libc::sigqueue(pid, signal.number(), value) }).map(drop)
}

/// pidfd_send_signal(2): reaches the process that the pidfd names, or nobody.
pub fn kill_by_pidfd(pidfd: &OwnedFd, signal: Signal) -> io::Result<()> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null siginfo is documented to act as kill(2).
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal.number(), no_info, 0) };
    check(sent as libc::c_int).map(drop)
}

/// Ends the tracing of a process that is stopped for us, and gives it the signal that stopped it: PTRACE_DETACH of ptrace(2).
pub fn let_go(pid: i32, signal: i32) {
    // SAFETY: the request takes numbers only; of a process that we do not trace it fails with ESRCH.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, signal) };
}

/// Whether `tid` is a thread of that process: tgkill(2) with no signal. That we might not signal it is an answer, too.
pub fn is_thread_of(pid: i32, tid: i32) -> bool {
    // SAFETY: numbers only.
    let found = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) } == 0;
    found || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Whether that is the number of a process, and not of a later thread of one.
pub fn is_process(tid: i32) -> bool {
    is_thread_of(tid, tid)
}

/// Does something about files as that user and group would, if we may: setfsuid(2), setfsgid(2).
pub fn on_behalf_of<T>(uid: u32, gid: u32, work: impl FnOnce() -> T) -> T {
    // SAFETY: numbers only; what they return is what was there before, whether they did anything or not.
    let (own_gid, own_uid) = unsafe { (libc::setfsgid(gid), libc::setfsuid(uid)) };
    let done = work();
    // SAFETY: as above. The user first: as that one we may not change the group.
    unsafe {
        libc::setfsuid(own_uid as libc::uid_t);
        libc::setfsgid(own_gid as libc::gid_t);
    }
    done
}

/// kill(2) of a process group.
pub fn kill_group(group: i32, signal: Signal) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::kill(-group, signal.number()) }).map(drop)
}

/// kill(2) of every process we may signal but ourselves; for PID 1, whose kill(-1) ends at the PID namespace.
pub fn kill_all(signal: Signal) {
    // SAFETY: numbers only.
    unsafe { libc::kill(-1, signal.number()) };
}

/// Goes to `/`, so that our working directory keeps nobody from unmounting it, and returns the way back: an O_PATH fd for
/// fchdir(2). `None`, and nothing has changed, where there is no way back: a directory that we were put into and may not
/// search, or no fd to be had.
pub fn leave_directory() -> Option<OwnedFd> {
    // SAFETY: a C string that outlives the call.
    let fd = unsafe { libc::open(c".".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    if fd < 0 {
        return None;
    }
    // SAFETY: the number was just made by the kernel and belongs to nobody else.
    let back = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: a number, and a C string that outlives its call.
    let left = unsafe { libc::fchdir(back.as_raw_fd()) == 0 && libc::chdir(c"/".as_ptr()) == 0 };
    left.then_some(back)
}

/// Goes back to where [`leave_directory`] left.
pub fn return_to_directory(back: &OwnedFd) {
    // SAFETY: a number only.
    unsafe { libc::fchdir(back.as_raw_fd()) };
}

/// Stops ourselves until somebody continues us. SIGSTOP cannot be blocked, only PID 1 is immune.
pub fn stop_self() {
    // SAFETY: numbers only.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// Orphaned descendants become our children: PR_SET_CHILD_SUBREAPER, Linux 3.4.
pub fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Takes that back, which execve(2) would keep.
pub fn stop_being_subreaper() {
    let _ = prctl(libc::PR_SET_CHILD_SUBREAPER, 0);
}

/// Whether somebody made us one already: PR_GET_CHILD_SUBREAPER.
pub fn is_subreaper() -> bool {
    let mut flag: libc::c_int = 0;
    // SAFETY: the option writes one int through the pointer, which is live.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut flag, 0, 0, 0) == 0 && flag != 0 }
}

/// The signal we are sent when our parent dies: PR_SET_PDEATHSIG.
pub fn on_parent_death(signal: Signal) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal.number() as libc::c_ulong)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these options take numbers only.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }).map(drop)
}

/// Forks a worker: it runs `work` in a copy of this process and ends with what that returns; it never comes back here.
///
/// In the worker all signals have their default action and none is blocked, it is killed if we die, and it is called
/// `name` in ps(1) (at most 15 bytes). TERM is ignored: the drain of a container must not take the report with it. Of our
/// fds it has only `keep` and the standard streams.
pub fn fork_worker(name: &CStr, keep: &[RawFd], work: impl FnOnce() -> u8) -> io::Result<i32> {
    let parent = own_pid();
    // SAFETY: the process has one thread, so the child may do all that the parent may.
    match check(unsafe { libc::fork() })? {
        0 => {
            let _ = on_parent_death(Signal::KILL);
            // SAFETY: numbers and a C string that outlives the call. A parent that died before the prctl is noticed by
            // the pid; in a worker of PID 1 the kernel has then killed us already.
            unsafe {
                if libc::getppid() != parent && parent != 1 {
                    libc::_exit(1);
                }
                libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
                libc::signal(libc::SIGABRT, libc::SIG_DFL);
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            }
            close_all_but(keep);
            signal::set_mask(Set::EMPTY);
            exit(work())
        }
        pid => Ok(pid),
    }
}

/// Closes every fd above 2 that is not in `keep`: close_range(2), Linux 5.9; where it is refused one by one, as far as
/// any fd of ours can be.
fn close_all_but(keep: &[RawFd]) {
    const HIGHEST: RawFd = 1024;
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from: RawFd = 3;
    for next in keep.into_iter().map(Some).chain([None]) {
        let last = next.map_or(u32::MAX, |fd| (fd - 1) as u32);
        if from as u32 <= last {
            // SAFETY: numbers only. This is the worker's own copy of the table: nothing in it runs a destructor of these
            // fds, since a worker ends by _exit(2).
            let closed = unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) };
            if closed != 0 {
                for fd in from..=last.min(HIGHEST as u32) as RawFd {
                    // SAFETY: as above.
                    unsafe { libc::close(fd) };
                }
            }
        }
        from = next.map_or(from, |fd| fd + 1);
    }
}

/// _exit(2): no destructors, no buffers, nothing that could go wrong on the way out.
pub fn exit(status: u8) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(i32::from(status)) }
}

/// Ends us by the signal's default action, so that our parent sees WIFSIGNALED; returns if the signal's default is no
/// end, or the kernel shields us.
pub fn die_by(signal: Signal) {
    signal::set_default(signal);
    signal::set_mask(Set::EMPTY);
    let _ = signal_hook::low_level::emulate_default_handler(signal.number());
    let _ = kill(own_pid(), signal);
}

/// RLIMIT_CORE 0, so that a death we only repeat does not write a core of us beside the program's.
pub fn forbid_core() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is live for the call.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
}

/// RLIMIT_CORE, soft and hard.
pub fn core_limits() -> io::Result<(u64, u64)> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limits` is live for the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_CORE, &mut limits) })?;
    Ok((limits.rlim_cur, limits.rlim_max))
}

/// The soft one of them alone. May be called between fork and exec.
pub fn set_core_limit(soft: u64) -> io::Result<()> {
    let limits = libc::rlimit { rlim_cur: soft, rlim_max: core_limits()?.1 };
    // SAFETY: 〃
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limits) }).map(drop)
}

/// Gives unused heap back to the kernel, once everything that start-up needed is freed: malloc_trim(3).
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; any thread may call it.
    unsafe {
        libc::malloc_trim(0);
    }
}
