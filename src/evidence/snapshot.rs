//! A process as it stood at its death: threads with their registers, mappings, the signal. A core file and a live process
//! both yield one, beside a [`Memory`](super::memory::Memory); unwinder and symbolizer know only these two.
//!
//! Registers and siginfo are taken from the bytes that the kernel itself writes, which are the same in a core's notes
//! (core(5)) and from PTRACE_GETREGSET and PTRACE_GETSIGINFO.

#![forbid(unsafe_code)]

use crate::sys::signal::Signal;
use std::path::Path;
use std::sync::Arc;

/// Everything about the process but its memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    pub arch: Arch,
    pub pid: Option<i32>,
    /// At most 15 bytes: proc(5), comm.
    pub comm: Option<String>,
    /// In the order of the source; the one that crashed is marked.
    pub threads: Vec<Thread>,
    /// By address.
    pub mappings: Vec<Mapping>,
    /// What the dying thread was sent.
    pub signal: Option<SignalInfo>,
    /// getauxval(3): type and value.
    pub auxv: Vec<(u64, u64)>,
    /// What the source could not give, `what: why`.
    pub gaps: Vec<String>,
}

impl Snapshot {
    /// A value of the auxiliary vector.
    pub fn aux(&self, kind: u64) -> Option<u64> {
        self.auxv.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value)
    }

    /// The mapping that holds the address.
    pub fn mapping(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|mapping| mapping.start <= address);
        self.mappings[..after].last().filter(|mapping| address < mapping.end)
    }

    pub fn crashed(&self) -> Option<&Thread> {
        self.threads.iter().find(|thread| thread.crashed)
    }
}

/// The architectures that are unwound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The one we were built for, which a live process has; `None` where there is no unwinder for it.
    pub const OWN: Option<Arch> = if cfg!(target_arch = "x86_64") {
        Some(Arch::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Arch::Aarch64)
    } else {
        None
    };

    /// As uname(1) has it.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }
}

/// One thread.
#[derive(Clone, PartialEq, Debug)]
pub struct Thread {
    pub tid: i32,
    /// Its comm; a core file has it of none but the first.
    pub name: Option<String>,
    pub registers: Registers,
    /// The one that the fatal signal was for. At most one of all.
    pub crashed: bool,
}

/// The general registers of a thread, as `struct user_regs_struct` of sys/user.h has them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers {
    arch: Arch,
    words: [u64; AARCH64.len()],
}

/// In the order of the kernel's struct.
const X86_64: [&str; 27] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
];
/// 〃
const AARCH64: [&str; 34] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
    "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "lr", "sp", "pc", "pstate",
];

impl Registers {
    /// From the bytes of NT_PRSTATUS's `pr_reg` or of PTRACE_GETREGSET; `None` when there are too few of them.
    pub fn from_bytes(arch: Arch, bytes: &[u8]) -> Option<Registers> {
        let mut words = [0; AARCH64.len()];
        let n = Registers::names(arch).len();
        let bytes = bytes.get(..n * 8)?;
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        Some(Registers { arch, words })
    }

    fn names(arch: Arch) -> &'static [&'static str] {
        match arch {
            Arch::X86_64 => &X86_64,
            Arch::Aarch64 => &AARCH64,
        }
    }

    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// Names, as gdb has them, and values.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Registers::names(self.arch).iter().copied().zip(self.words)
    }

    /// The register of that name; 0 if this architecture has none.
    pub fn of(&self, name: &str) -> u64 {
        self.all().find(|(found, _)| *found == name).map_or(0, |(_, value)| value)
    }

    /// The program counter.
    pub fn pc(&self) -> u64 {
        match self.arch {
            Arch::X86_64 => self.words[16],
            Arch::Aarch64 => self.words[32],
        }
    }

    /// The stack pointer.
    pub fn sp(&self) -> u64 {
        match self.arch {
            Arch::X86_64 => self.words[19],
            Arch::Aarch64 => self.words[31],
        }
    }

    /// The frame pointer, if the code keeps one.
    pub fn fp(&self) -> u64 {
        match self.arch {
            Arch::X86_64 => self.words[4],
            Arch::Aarch64 => self.words[29],
        }
    }

    /// The link register; 0 where there is none.
    pub fn lr(&self) -> u64 {
        match self.arch {
            Arch::X86_64 => 0,
            Arch::Aarch64 => self.words[30],
        }
    }
}

impl std::fmt::Debug for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.all().map(|(name, value)| (name, format!("{value:#x}")))).finish()
    }
}

/// A range of the address space: a line of /proc/PID/maps, a PT_LOAD with what NT_FILE says of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    pub permissions: Permissions,
    /// Of a file, without ` (deleted)`; `[stack]`, `[vdso]` and their like have none.
    pub path: Option<Arc<Path>>,
    /// The file was removed or replaced while it was mapped, so what lies at the path now is another.
    pub deleted: bool,
    /// Device and inode, where the source knows them: a file at the path with others is not this one.
    pub file: Option<(u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Permissions {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

/// The siginfo of the fatal signal: sigaction(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct SignalInfo {
    pub number: i32,
    pub code: i32,
    /// Of a fault that the kernel found; 0 is an address, too.
    pub fault_address: Option<u64>,
    /// Who sent it; `None` for a fault.
    pub sender_pid: Option<i32>,
    pub sender_uid: Option<u32>,
}

impl SignalInfo {
    /// From `siginfo_t` as the kernel writes it on 64-bit machines.
    pub fn from_bytes(bytes: &[u8]) -> Option<SignalInfo> {
        let int = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_le_bytes);
        let (number, code) = (int(0)?, int(8)?);
        let fault = code > 0 && code != SI_KERNEL && FAULTS.contains(&number);
        // A non-canonical address is a general protection fault, of which the kernel knows no address.
        let address = bytes.get(16..24).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).filter(|_| fault);
        let sent = matches!(code, SI_USER | SI_TKILL | SI_QUEUE);
        Some(SignalInfo {
            number,
            code,
            fault_address: address,
            sender_pid: int(16).filter(|_| sent),
            sender_uid: int(20).filter(|_| sent).map(|uid| uid as u32),
        })
    }

    /// Whether the program came upon a breakpoint that is written in its own code.
    pub fn is_of_a_breakpoint(&self) -> bool {
        (self.number, self.code) == (libc::SIGTRAP, SI_KERNEL)
    }

    /// The name of `si_code`, where sigaction(2) gives it one.
    pub fn code_name(&self) -> Option<&'static str> {
        let name = match (self.number, self.code) {
            (_, SI_USER) => "SI_USER",
            (_, SI_KERNEL) => "SI_KERNEL",
            (_, SI_QUEUE) => "SI_QUEUE",
            (_, SI_TKILL) => "SI_TKILL",
            (libc::SIGSEGV, SEGV_MAPERR) => "SEGV_MAPERR",
            (libc::SIGSEGV, SEGV_ACCERR) => "SEGV_ACCERR",
            (libc::SIGSEGV, 3) => "SEGV_BNDERR",
            (libc::SIGSEGV, 4) => "SEGV_PKUERR",
            (libc::SIGSEGV, 10) => "SEGV_CPERR",
            (libc::SIGBUS, 1) => "BUS_ADRALN",
            (libc::SIGBUS, 2) => "BUS_ADRERR",
            (libc::SIGBUS, 3) => "BUS_OBJERR",
            (libc::SIGBUS, 4) => "BUS_MCEERR_AR",
            (libc::SIGILL, 1) => "ILL_ILLOPC",
            (libc::SIGILL, 2) => "ILL_ILLOPN",
            (libc::SIGILL, 3) => "ILL_ILLADR",
            (libc::SIGILL, 4) => "ILL_ILLTRP",
            (libc::SIGILL, 5) => "ILL_PRVOPC",
            (libc::SIGFPE, 1) => "FPE_INTDIV",
            (libc::SIGFPE, 2) => "FPE_INTOVF",
            (libc::SIGFPE, 3) => "FPE_FLTDIV",
            (libc::SIGFPE, 7) => "FPE_FLTINV",
            (libc::SIGTRAP, 1) => "TRAP_BRKPT",
            (libc::SIGTRAP, 2) => "TRAP_TRACE",
            (libc::SIGSYS, 1) => "SYS_SECCOMP",
            _ => return None,
        };
        Some(name)
    }
}

/// `SIGSEGV (segmentation fault), SEGV_MAPERR at 0x10`, `SIGABRT (aborted), sent by pid 7, uid 0`.
pub fn in_words(info: SignalInfo) -> String {
    let name = match Signal::new(info.number) {
        Some(signal) => format!("{signal} ({})", signal.description()),
        None => format!("signal {}", info.number),
    };
    match info.cause() {
        Some(cause) => format!("{name}, {cause}"),
        None => name,
    }
}

impl SignalInfo {
    /// What caused it: `SEGV_MAPERR at 0x10`, `sent by pid 7, uid 0`; `None` where siginfo does not say.
    pub fn cause(&self) -> Option<String> {
        match (self.code_name(), self.fault_address, self.sender_pid) {
            (Some(code), Some(address), _) => Some(format!("{code} at {address:#x}")),
            (_, _, Some(pid)) => Some(format!("sent by pid {pid}, uid {}", self.sender_uid.unwrap_or_default())),
            (Some("SI_KERNEL"), None, None) => Some(match self.number {
                libc::SIGSEGV => "a general protection fault, whose address is not known".to_owned(),
                _ if self.is_of_a_breakpoint() => "a breakpoint instruction".to_owned(),
                _ => "sent by the kernel".to_owned(),
            }),
            (Some(code), None, None) => Some(code.to_owned()),
            (None, ..) => None,
        }
    }
}

const SI_USER: i32 = 0;
const SI_KERNEL: i32 = 0x80;
const SI_QUEUE: i32 = -1;
const SI_TKILL: i32 = -6;
pub const SEGV_MAPERR: i32 = 1;
pub const SEGV_ACCERR: i32 = 2;
/// Signals whose siginfo holds the address of the fault.
const FAULTS: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP];

#[cfg(test)]
mod tests {
    use super::*;

    fn siginfo(number: i32, code: i32, union: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = [number, 0, code, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.extend(union.to_le_bytes());
        bytes.resize(128, 0);
        bytes
    }

    #[test]
    fn a_fault_has_an_address_and_a_sent_signal_a_sender() {
        let fault = SignalInfo::from_bytes(&siginfo(libc::SIGSEGV, 1, 0)).unwrap();
        assert_eq!((fault.fault_address, fault.sender_pid, fault.code_name()), (Some(0), None, Some("SEGV_MAPERR")));
        let sent = SignalInfo::from_bytes(&siginfo(libc::SIGSEGV, 0, 1000 << 32 | 42)).unwrap();
        assert_eq!((sent.fault_address, sent.sender_pid, sent.sender_uid), (None, Some(42), Some(1000)));
        let general_protection = SignalInfo::from_bytes(&siginfo(libc::SIGSEGV, 128, 0)).unwrap();
        assert_eq!((general_protection.fault_address, general_protection.code_name()), (None, Some("SI_KERNEL")));
        assert_eq!(SignalInfo::from_bytes(&[0; 11]), None);
    }

    #[test]
    fn registers_have_their_places_and_too_few_bytes_are_none() {
        let bytes: Vec<u8> = (0..34u64).flat_map(|n| n.to_le_bytes()).collect();
        let x86 = Registers::from_bytes(Arch::X86_64, &bytes).unwrap();
        assert_eq!((x86.pc(), x86.sp(), x86.fp(), x86.lr()), (16, 19, 4, 0));
        assert_eq!((x86.of("rip"), x86.of("rsp"), x86.of("rbp"), x86.all().count()), (16, 19, 4, 27));
        let arm = Registers::from_bytes(Arch::Aarch64, &bytes).unwrap();
        assert_eq!((arm.of("pc"), arm.of("sp"), arm.of("fp"), arm.of("lr")), (arm.pc(), arm.sp(), arm.fp(), arm.lr()));
        assert_eq!(Registers::from_bytes(Arch::Aarch64, &bytes[..271]), None);
        assert_eq!(Registers::from_bytes(Arch::X86_64, &bytes[..215]), None);
    }

    #[test]
    fn an_address_belongs_to_one_mapping_or_to_none() {
        let mapping = |start, end| Mapping { start, end, ..Mapping::default() };
        let snapshot = Snapshot {
            arch: Arch::X86_64,
            pid: None,
            comm: None,
            threads: Vec::new(),
            mappings: vec![mapping(0x1000, 0x2000), mapping(0x2000, 0x3000), mapping(0x5000, 0x6000)],
            signal: None,
            auxv: vec![(9, 0x1234)],
            gaps: Vec::new(),
        };
        let start = |address| snapshot.mapping(address).map(|mapping| mapping.start);
        assert_eq!(
            [0xfff, 0x1000, 0x1fff, 0x2000, 0x3000, 0x5fff, 0x6000].map(start),
            [None, Some(0x1000), Some(0x1000), Some(0x2000), None, Some(0x5000), None]
        );
        assert_eq!((snapshot.aux(9), snapshot.aux(3)), (Some(0x1234), None));
    }
}
