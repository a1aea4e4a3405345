//! From fork to exec: the child is given exactly what our caller gave us, and tells through a pipe if exec failed.
//!
//! Between fork and exec the child makes system calls only; everything that needs memory is made ready before. See
//! fork(2), vfork(2), execve(2).

use super::signal::{self, Set, set_mask};
use super::{check, fd, process, tty};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where the child goes in the tree of sessions and process groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    OwnGroup,
    OwnSession,
    Inherited,
}

/// A program ready to be executed.
#[derive(Debug)]
pub struct Program {
    /// What to try in this order, as execvp(3) does: the command itself if it has a slash, else one path for each entry of PATH.
    candidates: Vec<CString>,
    argv: Vec<CString>,
}

/// PATH when there is none: what execvp(3) of glibc falls back to.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// For system calls only, and for a build that is not optimised.
const STACK_BYTES: usize = 64 * 1024;
/// Runs scripts without a `#!` line, as execvp(3) does on ENOEXEC.
const SHELL: &CStr = c"/bin/sh";

impl Program {
    /// `command` is the program and its arguments. A NUL byte in one of them cannot come from a real command line; what
    /// follows it is dropped.
    pub fn new(command: &[OsString], path: Option<OsString>) -> Program {
        let argv: Vec<CString> = command.iter().map(|arg| c_string(arg)).collect();
        let name = command.first().cloned().unwrap_or_default();
        let candidates = if name.as_bytes().contains(&b'/') || name.is_empty() {
            vec![c_string(&name)]
        } else {
            let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
            let join = |dir: &[u8]| {
                // An empty entry means the current directory.
                let dir = if dir.is_empty() { b"." } else { dir };
                c_string(Path::new(OsStr::from_bytes(dir)).join(&name).as_os_str())
            };
            path.as_bytes().split(|byte| *byte == b':').map(join).collect()
        };
        Program { candidates, argv }
    }

    /// The first candidate that exists as a regular executable file: what exec will most likely run.
    pub fn likely_file(&self) -> Option<PathBuf> {
        let runnable = |path: &&CString| {
            // SAFETY: a C string that outlives the call.
            unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
        };
        self.candidates.iter().find(runnable).map(|path| PathBuf::from(OsString::from_vec(path.as_bytes().to_vec())))
    }
}

fn c_string(text: &OsStr) -> CString {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

/// Everything else that the child differs in from us.
pub struct Setting<'a> {
    pub place: Place,
    /// Where the child works, if that is not where we do.
    pub directory: Option<BorrowedFd<'a>>,
    /// Put the child into the foreground of this terminal; with [`Place::OwnSession`], make it the controlling one.
    pub terminal: Option<&'a tty::Terminal>,
    /// Becomes the child's stderr, and its stdout too if `both_streams`.
    pub stderr: Option<BorrowedFd<'a>>,
    pub both_streams: bool,
    /// RLIMIT_CORE of the child, soft, if that is not ours.
    pub core_limit: Option<u64>,
    /// The signal mask our caller gave us.
    pub mask: Set,
    /// Our caller ignored SIGCHLD.
    pub ignores_children: bool,
}

/// A child between fork and exec.
#[derive(Debug)]
pub struct Spawned {
    pub pid: i32,
    /// Reads as end of file when exec has happened, else as an [`ExecError`].
    pub verdict: OwnedFd,
}

/// Why exec failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExecError {
    pub errno: i32,
}

impl ExecError {
    /// What the verdict pipe said; `None` when exec has happened or the child died on the way.
    pub fn from_verdict(bytes: &[u8]) -> Option<ExecError> {
        bytes.try_into().ok().map(|bytes| ExecError { errno: i32::from_ne_bytes(bytes) })
    }

    /// Not found, rather than found and not executable.
    pub fn is_not_found(self) -> bool {
        matches!(self.errno, libc::ENOENT | libc::ENOTDIR)
    }
}

/// Forks and lets the child execute the program, once `before_exec`, if any, has returned here. All signals must be blocked.
pub fn spawn(
    program: &Program,
    setting: &Setting<'_>,
    before_exec: Option<&mut dyn FnMut(i32)>,
) -> io::Result<Spawned> {
    let (verdict, report) = fd::pipe(true)?;
    // Reads as end of file when the child may go on. Where no fd is left for it the child does not wait, and nothing is done before.
    let gate = before_exec.is_some().then(|| fd::pipe(false)).and_then(Result::ok);
    let before_exec = before_exec.filter(|_| gate.is_some());
    let (argv, script_argv) = pointers(program);
    let gate_of_child = gate.as_ref().map(|(theirs, ours)| (theirs.as_fd(), ours.as_raw_fd()));
    let mut child = Child { program, setting, gate: gate_of_child, argv, script_argv, report: report.as_fd() };
    // Who may have to wait, for us or because a terminal stops it, has a memory of its own.
    let pid = match gate.is_some() || setting.terminal.is_some() {
        true => fork(&mut child),
        false => fork_in_our_memory(&mut child),
    }?;
    match setting.place {
        Place::OwnGroup => process::make_group(pid),
        Place::OwnSession | Place::Inherited => {}
    }
    if let Some(before_exec) = before_exec {
        before_exec(pid);
    }
    drop(gate);
    Ok(Spawned { pid, verdict })
}

/// What the child needs to become the program.
struct Child<'a> {
    program: &'a Program,
    setting: &'a Setting<'a>,
    /// Reads as end of file when it may go on, once our end, its copy of which it closes, is gone.
    gate: Option<(BorrowedFd<'a>, RawFd)>,
    argv: Vec<*const libc::c_char>,
    script_argv: Vec<*const libc::c_char>,
    report: BorrowedFd<'a>,
}

impl Child<'_> {
    fn go(&mut self) -> ! {
        become_child(self.setting);
        if let Some((gate, ours)) = self.gate {
            // SAFETY: the number of this process's copy, which nobody else in it uses.
            unsafe { libc::close(ours) };
            let _ = fd::read(gate, &mut [0]);
        }
        let errno = execute(self.program, &self.argv, &mut self.script_argv);
        let _ = fd::write(self.report, &errno.to_ne_bytes());
        process::exit(127)
    }
}

fn fork(child: &mut Child<'_>) -> io::Result<i32> {
    // SAFETY: this process has one thread, and the child makes only async-signal-safe calls.
    match check(unsafe { libc::fork() })? {
        0 => child.go(),
        pid => Ok(pid),
    }
}

/// As vfork(2): the child lives in our memory, on a stack of its own, and we stand still until it has executed something or ended.
/// Nothing is copied for it, and no copy is torn down, which is a sixth of the time from our start to the program's.
fn fork_in_our_memory(child: &mut Child<'_>) -> io::Result<i32> {
    extern "C" fn begin(child: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the pointer below, to what nobody else uses while we stand still.
        unsafe { &mut *child.cast::<Child<'_>>() }.go()
    }
    // No page of it is there before it is used.
    let mut stack = Vec::<u128>::with_capacity(STACK_BYTES / size_of::<u128>());
    let end = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack and `child` live until this returns, which is after the child has left our memory. It makes only
    // system calls, and no handler of ours can run in it: there is none yet.
    check(unsafe { libc::clone(begin, end.cast(), flags, (&raw mut *child).cast()) })
}

/// Executes the program in our own place, with what our caller gave us: where no process can be made. Returns only if that
/// failed, too.
pub fn take_over(program: &Program, mask: Set, ignores_children: bool) -> ExecError {
    let (argv, mut script_argv) = pointers(program);
    become_child(&Setting {
        place: Place::Inherited,
        directory: None,
        terminal: None,
        stderr: None,
        both_streams: false,
        core_limit: None,
        mask,
        ignores_children,
    });
    ExecError { errno: execute(program, &argv, &mut script_argv) }
}

/// What execve(2) wants, for the program and for sh with it: both end with a null pointer, and live no longer than `program`.
fn pointers(program: &Program) -> (Vec<*const libc::c_char>, Vec<*const libc::c_char>) {
    let mut argv: Vec<*const libc::c_char> = program.argv.iter().map(|arg| arg.as_ptr()).collect();
    argv.push(std::ptr::null());
    // For a script without `#!`: sh, the file, the arguments.
    let mut script_argv = vec![SHELL.as_ptr(), std::ptr::null()];
    script_argv.extend_from_slice(&argv[1..]);
    (argv, script_argv)
}

/// In the child, or in us who take its place. Failures are left alone: the program can run in the wrong group, it cannot run without us trying.
fn become_child(setting: &Setting<'_>) {
    let own = process::own_pid();
    match setting.place {
        Place::OwnGroup => {
            process::make_group(0);
            if let Some(terminal) = setting.terminal {
                let _ = terminal.give_to(own);
            }
        }
        Place::OwnSession => {
            // SAFETY: numbers only; TIOCSCTTY with 0 does not steal the terminal from another session.
            unsafe {
                libc::setsid();
                if let Some(terminal) = setting.terminal {
                    libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0);
                }
            }
        }
        Place::Inherited => {}
    }
    if let Some(stderr) = setting.stderr {
        // SAFETY: numbers only; the copies are not close-on-exec.
        unsafe {
            libc::dup2(stderr.as_raw_fd(), 2);
            if setting.both_streams {
                libc::dup2(stderr.as_raw_fd(), 1);
            }
        }
    }
    if let Some(directory) = setting.directory {
        // SAFETY: a number only.
        unsafe { libc::fchdir(directory.as_raw_fd()) };
    }
    if setting.ignores_children {
        signal::ignore_children();
    }
    if let Some(soft) = setting.core_limit {
        let _ = process::set_core_limit(soft);
    }
    set_mask(setting.mask);
}

/// execvp(3) without memory: returns the errno that tells most, EACCES before ENOENT.
fn execute(program: &Program, argv: &[*const libc::c_char], script_argv: &mut [*const libc::c_char]) -> i32 {
    let mut verdict = libc::ENOENT;
    for candidate in &program.candidates {
        let errno = exec(candidate, argv);
        match errno {
            // Not for this machine, or damaged: a shell would take its bytes for commands.
            libc::ENOEXEC if is_elf(candidate) => return errno,
            libc::ENOEXEC => {
                script_argv[1] = candidate.as_ptr();
                return exec(SHELL, script_argv);
            }
            libc::EACCES => verdict = errno,
            libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
            _ => return errno,
        }
    }
    verdict
}

fn is_elf(file: &CStr) -> bool {
    let mut head = [0; 4];
    let read = fd::open_to_read(file).and_then(|file| fd::read(file.as_fd(), &mut head).ok());
    read == Some(head.len()) && head == *b"\x7fELF"
}

fn exec(file: &CStr, argv: &[*const libc::c_char]) -> i32 {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: `file` and every pointer of `argv` are C strings that live as long as this process image, `argv` ends
    // with a null pointer, and `environ` is the caller's environment, which nothing here changes.
    unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), environ) };
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOEXEC)
}
