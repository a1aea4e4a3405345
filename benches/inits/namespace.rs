//! One init as PID 1 of a fresh PID namespace: started, signalled, waited for, and never left behind.

use crate::board::Board;
use crate::clock::{Deadline, now_ns};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;

/// What of /proc the namespace sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Proc {
    /// The bench's: cheap, and enough where nobody looks up a pid.
    Outer,
    /// Its own, as in a container.
    Own,
}

pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    pub proc: Proc,
}

pub struct Running {
    /// As seen from outside.
    pub pid: i32,
    pub launched_ns: u64,
    pub stderr: PipeReader,
    pidfd: OwnedFd,
    reaped: bool,
}

/// The namespace is gone.
pub struct Ended {
    pub at_ns: u64,
    /// 128+n for a signal.
    pub code: i32,
    /// Of init and of all it reaped.
    pub cpu_us: f64,
}

impl Launch {
    /// Starts it with a pipe as stderr, nothing else, no core files, and dead when the bench dies.
    pub fn start(&self, board: &Board) -> io::Result<Running> {
        let c = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let arguments = std::iter::once(self.program.as_os_str()).chain(self.arguments.iter().map(|a| a.as_os_str()));
        let arguments = arguments.map(c).collect::<io::Result<Vec<_>>>()?;
        let environment = self.environment.iter().map(|(name, value)| {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            c(&pair)
        });
        let environment = environment.collect::<io::Result<Vec<_>>>()?;
        let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
            list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&arguments), pointers(&environment));
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (stderr, stderr_writer) = io::pipe()?;

        let mut flags = libc::CLONE_NEWPID | libc::CLONE_PIDFD | libc::SIGCHLD;
        if self.proc == Proc::Own {
            flags |= libc::CLONE_NEWNS;
        }
        let mut pidfd: libc::c_int = -1;
        let launched_ns = now_ns();
        // SAFETY: without CLONE_VM this is fork(2): the child has its own copy of everything the pointers name. It runs only
        // `become_init`, which makes system calls and allocates nothing, so locks that other threads held do not matter.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, &mut pidfd, 0, 0) } as i32;
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => become_init(&argv, &envp, &null, &stderr_writer, self.proc, board),
            _ => {
                // SAFETY: CLONE_PIDFD has just put a descriptor there, which nobody else owns.
                let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
                Ok(Running { pid, launched_ns, stderr, pidfd, reaped: false })
            }
        }
    }
}

/// In the child: everything prepared before, only system calls here.
fn become_init(
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    null: &File,
    stderr: &io::PipeWriter,
    proc: Proc,
    board: &Board,
) -> ! {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let none = std::ptr::null();
    // SAFETY: the pointers live in the parent's frame, of which this process has its own copy; argv and envp end with a null.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // Rust's runtime ignores it; the inits shall start as from a shell.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        libc::dup2(null.as_raw_fd(), 0);
        libc::dup2(null.as_raw_fd(), 1);
        libc::dup2(stderr.as_raw_fd(), 2);
        if proc == Proc::Own {
            let proc = c"proc".as_ptr();
            if libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) != 0
                || libc::mount(proc, c"/proc".as_ptr(), proc, 0, none.cast()) != 0
            {
                libc::_exit(127);
            }
        }
        board.facts().exec_ns.store(now_ns(), SeqCst);
        libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
        libc::_exit(127)
    }
}

impl Running {
    /// To PID 1, from outside; when this is done the signal is pending.
    pub fn signal(&self, signal: i32) {
        // SAFETY: no pointers but a null siginfo, which means that of kill(2). A process that is gone answers ESRCH: no harm.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), signal, 0, 0) };
    }

    /// None when the deadline came first; it runs on then.
    pub fn ended(&mut self, deadline: Deadline) -> Option<Ended> {
        let mut gone = libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: one pollfd, ours, for the length of the call.
            match unsafe { libc::poll(&mut gone, 1, deadline.left_ms()) } {
                1 => return Some(self.reap()),
                0 if deadline.passed() => return None,
                _ => {}
            }
        }
    }

    /// wait4(2); blocks until it is dead.
    fn reap(&mut self) -> Ended {
        let mut status = 0;
        // SAFETY: rusage is plain numbers, for which zero is a value; both out-parameters outlive the call.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::wait4(self.pid, &mut status, 0, &mut usage);
            usage
        };
        self.reaped = true;
        let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
        let us = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
        Ended { at_ns: now_ns(), code, cpu_us: us(usage.ru_utime) + us(usage.ru_stime) }
    }

    /// What it has said so far, to go with a failure. Ends it first: the pipe then has an end.
    pub fn last_words(mut self) -> String {
        self.end();
        let mut words = Vec::new();
        let _ = self.stderr.read_to_end(&mut words);
        words.truncate(400);
        String::from_utf8_lossy(&words).trim().replace('\n', " / ")
    }

    fn end(&mut self) {
        if !self.reaped {
            self.signal(libc::SIGKILL);
            self.reap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
