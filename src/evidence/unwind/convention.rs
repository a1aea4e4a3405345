//! Callers without unwind tables, by what calls and kernels do anyway: signal frames, return addresses, frame pointers.

#![forbid(unsafe_code)]

use super::cpu::Cpu;
use crate::evidence::memory::Memory;
use crate::evidence::snapshot::{Arch, SEGV_ACCERR, SEGV_MAPERR, SignalInfo};

/// Bytes of a stack that are searched for a return address.
const SCANNED: u64 = 8 * 1024;
/// Bytes below a stack in which the frame of a signal handler may lie that has returned: red zone, vector registers (11 KiB with
/// AMX), the frame.
const LEFT_BELOW: u64 = 16 * 1024;
/// Of one frame that a frame pointer may span.
const FRAME_BYTES: u64 = 64 << 20;

/// `mov $15, %rax; syscall`: what a signal handler returns to.
const SIGRETURN_X86_64: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// `mov x8, #139; svc #0`.
const SIGRETURN_AARCH64: [u8; 8] = [0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4];

/// What was interrupted, where the program counter is at the return of a signal handler: the kernel left all registers on the
/// stack (`struct rt_sigframe` of the architecture).
pub fn signal_frame(cpu: &Cpu, memory: &impl Memory) -> Option<Cpu> {
    let sp = cpu.sp()?;
    match cpu.arch {
        Arch::X86_64 => {
            memory.bytes(cpu.pc).filter(|code| *code == SIGRETURN_X86_64)?;
            // `uc_mcontext` of the ucontext at sp: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
            const ORDER: [u16; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7];
            let context = sp.checked_add(40)?;
            let mut interrupted = Cpu::at(cpu.arch, memory.word(context.checked_add(16 * 8)?)?);
            for (i, register) in ORDER.into_iter().enumerate() {
                interrupted.set(register, Some(memory.word(context + i as u64 * 8)?));
            }
            Some(interrupted)
        }
        Arch::Aarch64 => {
            memory.bytes(cpu.pc).filter(|code| *code == SIGRETURN_AARCH64)?;
            // siginfo of 128 bytes, then a ucontext whose `uc_mcontext` is at 176; behind the fault address x0 to x30, sp, pc.
            let context = sp.checked_add(128 + 176 + 8)?;
            let mut interrupted = Cpu::at(cpu.arch, memory.word(context.checked_add(32 * 8)?)?);
            for register in 0..32u16 {
                interrupted.set(register, Some(memory.word(context + u64::from(register) * 8)?));
            }
            Some(interrupted)
        }
    }
}

/// The fault that a handler of this signal was called for, where the program counter is at its return: the siginfo that it was
/// given if it asked for one (SA_SIGINFO), else what the kernel left beside the registers. `None` if it was sent.
pub fn fault(cpu: &Cpu, number: i32, memory: &impl Memory, is_mapped: impl Fn(u64) -> bool) -> Option<SignalInfo> {
    /// `X86_TRAP_PF`.
    const PAGE_FAULT: u64 = 14;
    let sp = cpu.sp()?;
    let at = match cpu.arch {
        // Behind a ucontext of 304 bytes.
        Arch::X86_64 => sp.checked_add(304)?,
        Arch::Aarch64 => sp,
    };
    let given = SignalInfo::from_bytes(&memory.some(at, 128)).filter(|info| info.number == number);
    if given.is_some_and(|info| info.code <= 0) {
        return None;
    }
    if cpu.arch == Arch::Aarch64 {
        return given;
    }
    // `struct sigcontext`: 20 words of registers, then the trap; behind `oldmask` the address of a page fault.
    let context = sp.checked_add(40)?;
    let (trap, address) = (memory.word(context.checked_add(20 * 8)?)?, memory.word(context.checked_add(22 * 8)?)?);
    if trap != PAGE_FAULT || given.is_some_and(|info| info.fault_address == Some(address)) {
        return given;
    }
    // What lies where siginfo would be is of something else. The kernel tells the two codes apart in the same way.
    let code = match number {
        libc::SIGSEGV if is_mapped(address) => SEGV_ACCERR,
        libc::SIGSEGV => SEGV_MAPERR,
        _ => return None,
    };
    Some(SignalInfo { number, code, fault_address: Some(address), sender_pid: None, sender_uid: None })
}

/// The same where the handler is no more: a signal that it raised again stays blocked until it has returned, and then ends the
/// process where it was interrupted. What the kernel had pushed lies below the stack still; that it is of this interruption its
/// program counter and stack pointer say.
pub fn fault_below(
    cpu: &Cpu,
    number: i32,
    memory: &impl Memory,
    is_mapped: impl Fn(u64) -> bool,
) -> Option<SignalInfo> {
    let sp = cpu.sp()?;
    // From the start of the frame as `signal_frame` has it to the stack pointer in it, behind which the program counter stands.
    let place = match cpu.arch {
        Arch::X86_64 => 40 + 15 * 8,
        Arch::Aarch64 => 128 + 176 + 8 + 31 * 8,
    };
    let mut below = (1..=LEFT_BELOW / 8).map_while(|n| (sp & !7).checked_sub(n * 8));
    let at = below.find(|at| memory.word(*at) == Some(sp) && memory.word(at + 8) == Some(cpu.pc))?;
    let mut frame = cpu.clone();
    frame.set_sp(at.checked_sub(place)?);
    fault(&frame, number, memory, is_mapped)
}

/// The caller of an address that holds no code: nothing has been done yet but the call itself.
pub fn called_nowhere(cpu: &Cpu, memory: &impl Memory, is_code: impl Fn(u64) -> bool) -> Option<Cpu> {
    let mut caller = cpu.clone();
    match cpu.arch {
        Arch::X86_64 => {
            let sp = cpu.sp()?;
            caller.pc = memory.word(sp)?;
            caller.set_sp(sp.checked_add(8)?);
        }
        Arch::Aarch64 => caller.pc = cpu.plain(cpu.link()?),
    }
    is_code(caller.pc).then_some(caller)
}

/// The caller by the chain of frame pointers, whose layout is the same on both architectures.
pub fn frame_pointer(cpu: &Cpu, memory: &impl Memory, is_code: impl Fn(u64) -> bool) -> Option<Cpu> {
    let (sp, fp) = (cpu.sp()?, cpu.fp()?);
    if !fp.is_multiple_of(8) || fp < sp || fp - sp > FRAME_BYTES {
        return None;
    }
    let mut caller = Cpu::at(cpu.arch, cpu.plain(memory.word(fp.checked_add(8)?)?));
    caller.set_fp(memory.word(fp)?);
    caller.set_sp(fp.checked_add(16)?);
    is_code(caller.pc).then_some(caller)
}

/// The next word on the stack that points behind a call.
pub fn scan(cpu: &Cpu, memory: &impl Memory, is_code: impl Fn(u64) -> bool) -> Option<Cpu> {
    let sp = cpu.sp()?.checked_next_multiple_of(8)?;
    for at in (sp..sp.checked_add(SCANNED)?).step_by(8) {
        let address = cpu.plain(memory.word(at)?);
        if is_code(address) && is_behind_a_call(cpu.arch, address, memory) {
            let mut caller = Cpu::at(cpu.arch, address);
            caller.set_sp(at.checked_add(8)?);
            if let Some(fp) = cpu.fp() {
                caller.set_fp(fp);
            }
            return Some(caller);
        }
    }
    None
}

pub fn is_behind_a_call(arch: Arch, address: u64, memory: &impl Memory) -> bool {
    match arch {
        Arch::X86_64 => {
            let Some(code) = address.checked_sub(7).and_then(|start| memory.bytes::<7>(start)) else { return false };
            // FF /2 with its operand in two, three, six or seven bytes.
            let is_indirect = |at: usize| code[at] == 0xff && code[at + 1] & 0x38 == 0x10;
            code[2] == 0xe8 || [5, 4, 1, 0].into_iter().any(is_indirect)
        }
        Arch::Aarch64 => {
            let Some(code) = address.checked_sub(4).and_then(|start| memory.bytes::<4>(start)) else { return false };
            let instruction = u32::from_le_bytes(code);
            instruction >> 26 == 0b10_0101 || instruction & 0xffff_fc1f == 0xd63f_0000
        }
    }
}
