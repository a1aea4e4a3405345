//! The examiner's cage: no new privileges, small limits, one writable directory, and no call that reaches outside.
//!
//! landlock(7) where the kernel has it, seccomp(2) by an allow-list, rlimits for the rest. What the kernel refuses is
//! returned as a sentence: a cage with a gap is better than no report, and the report names the gap.

use landlock::{ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::path::{Path, PathBuf};

/// Address space: a report is at most a few MiB, a parser gone wild gets no further.
const ADDRESS_SPACE: u64 = 2 << 30;
/// CPU seconds.
const CPU: u64 = 10;
/// One file.
const FILE_SIZE: u64 = 16 << 20;
/// Open files: the entry, its directory, the program, and some to spare.
const FILES: u64 = 64;

/// What works on open fds and on our own memory, and the handful that moves entries about (landlock says where).
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_openat,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_getdents64,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
];

/// What a cage leaves open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cage<'a> {
    /// Below these everything may be done by path.
    pub writable: &'a [&'a Path],
    /// Below these files may be read.
    pub readable: &'a [PathBuf],
    /// Bytes of files that are mapped, beside what a report takes.
    pub mapped: u64,
}

/// Closes the cage around this process, for good. Returns what could not be done.
pub fn confine(cage: Cage<'_>) -> Vec<String> {
    let mut gaps = Vec::new();
    for (resource, most) in [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_AS, ADDRESS_SPACE.saturating_add(cage.mapped)),
        (libc::RLIMIT_CPU, CPU),
        (libc::RLIMIT_FSIZE, FILE_SIZE),
        (libc::RLIMIT_NOFILE, FILES),
        (libc::RLIMIT_NPROC, 0),
    ] {
        let mut limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: `limit` is live for both calls; the first replaces it by what is in force, which is only lowered.
        unsafe {
            libc::getrlimit(resource, &mut limit);
            limit.rlim_cur = limit.rlim_cur.min(most);
            limit.rlim_max = limit.rlim_max.min(most);
            libc::setrlimit(resource, &limit);
        }
    }
    // SAFETY: numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        gaps.push("confinement: no_new_privs was refused".to_owned());
    }
    match restrict_paths(cage) {
        Ok(true) => {}
        Ok(false) => gaps.push("confinement: this kernel has no landlock".to_owned()),
        Err(error) => gaps.push(format!("confinement: landlock was refused ({error})")),
    }
    if let Err(error) = restrict_calls() {
        gaps.push(format!("confinement: seccomp was refused ({error})"));
    }
    gaps
}

fn restrict_paths(cage: Cage<'_>) -> Result<bool, landlock::RulesetError> {
    let all = AccessFs::from_all(ABI::V3);
    let mut rules = Ruleset::default().handle_access(all)?.create()?;
    let writable = cage.writable.iter().map(|path| (*path, all));
    let readable = cage.readable.iter().map(|path| (path.as_path(), AccessFs::ReadFile | AccessFs::ReadDir));
    for (path, access) in writable.chain(readable) {
        if let Ok(fd) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(fd, access))?;
        }
    }
    let status = rules.restrict_self()?;
    Ok(status.ruleset != landlock::RulesetStatus::NotEnforced)
}

fn restrict_calls() -> Result<(), String> {
    let rules = ALLOWED.iter().map(|number| (i64::from(*number as i32), Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().map_err(|_| "unknown architecture".to_owned())?;
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow, arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(|error| error.to_string())?;
    seccompiler::apply_filter(&program).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{fd, process, wait};
    use std::io::Write as _;

    /// Runs `escape` in a caged child: 0 if it failed to escape.
    fn caged(escape: fn() -> bool) -> i32 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let pid = process::fork_worker(c"caged", &[], move || {
            let cage = Cage { writable: &[&path], ..Cage::default() };
            if confine(cage).iter().any(|gap| gap.contains("seccomp")) {
                return 77;
            }
            let mut file = match std::fs::File::create(path.join("allowed")) {
                Ok(file) => file,
                Err(_) => return 2,
            };
            if file.write_all(b"x").is_err() {
                return 3;
            }
            u8::from(escape())
        })
        .unwrap();
        loop {
            if let Some((status, _)) = wait::reap(pid) {
                return libc::WEXITSTATUS(status);
            }
            crate::sys::poll::Waiting::default().wait(Some(std::time::Duration::from_millis(1)));
        }
    }

    #[test]
    fn nothing_gets_out_of_the_cage() {
        type Escape = (&'static str, fn() -> bool);
        let escapes: [Escape; 9] = [
            ("write outside", || std::fs::write("/tmp/obit-escaped", b"x").is_ok()),
            ("fork", || process::fork_worker(c"x", &[], || 0).is_ok()),
            // SAFETY: numbers only, and a null pointer with length 0.
            ("process_vm_readv", || unsafe {
                libc::process_vm_readv(libc::getppid(), std::ptr::null(), 0, std::ptr::null(), 0, 0) == 0
            }),
            ("open", || std::fs::File::open("/etc/passwd").is_ok()),
            ("socket", || std::net::UdpSocket::bind("127.0.0.1:0").is_ok()),
            ("connect", || std::os::unix::net::UnixStream::connect("/run/x").is_ok_and(|_| true)),
            ("kill", || process::kill(process::own_pid(), crate::sys::signal::Signal::CONT).is_ok()),
            // SAFETY: PTRACE_TRACEME takes no pointers.
            ("ptrace", || unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } == 0),
            ("execve", || {
                let argv = [c"/bin/true".as_ptr(), std::ptr::null()];
                // SAFETY: a C string and a null-terminated array of C strings, live for the call.
                unsafe { libc::execve(c"/bin/true".as_ptr(), argv.as_ptr(), std::ptr::null()) };
                fd::memory_file(c"x").is_ok()
            }),
        ];
        for (name, escape) in escapes {
            assert_eq!(caged(escape), 0, "{name}");
        }
    }
}
