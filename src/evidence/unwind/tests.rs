//! Steps without unwind tables, on stacks built by hand, of both architectures.

use super::*;
use crate::evidence::memory::Pieces;
use crate::evidence::snapshot::{Arch, Mapping, Permissions, Thread};

const CODE: u64 = 0x40_0000;
const STACK: u64 = 0x7fff_0000;

fn snapshot(arch: Arch, registers: Registers) -> Snapshot {
    let code = Permissions { read: true, write: false, execute: true };
    let data = Permissions { read: true, write: true, execute: false };
    let mapping = |start, permissions| Mapping { start, end: start + 0x1_0000, permissions, ..Mapping::default() };
    Snapshot {
        arch,
        pid: Some(7),
        comm: None,
        threads: vec![Thread { tid: 7, name: None, registers, crashed: true }],
        mappings: vec![mapping(CODE, code), mapping(STACK, data)],
        signal: None,
        auxv: Vec::new(),
        gaps: Vec::new(),
    }
}

/// Registers by the place of their words in the kernel's struct.
fn registers(arch: Arch, words: &[(usize, u64)]) -> Registers {
    let mut bytes = vec![0; 34 * 8];
    for (place, value) in words {
        bytes[place * 8..place * 8 + 8].copy_from_slice(&value.to_le_bytes());
    }
    Registers::from_bytes(arch, &bytes).unwrap()
}

fn x86_64(pc: u64, sp: u64, fp: u64) -> Registers {
    registers(Arch::X86_64, &[(16, pc), (19, sp), (4, fp)])
}

fn aarch64(pc: u64, sp: u64, fp: u64, lr: u64) -> Registers {
    registers(Arch::Aarch64, &[(32, pc), (31, sp), (29, fp), (30, lr)])
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn calls(registers: Registers, pieces: Vec<(u64, Vec<u8>)>) -> Vec<(u64, Trust)> {
    let snapshot = snapshot(registers.arch(), registers);
    let unwound = all(&snapshot, &Pieces::new(pieces), &[]);
    unwound[0].calls.iter().map(|call| (call.pc, call.trust)).collect()
}

#[test]
fn the_chain_of_frame_pointers_is_followed_to_its_null() {
    let stack = words(&[0, STACK + 0x20, CODE + 0x20, 0, 0, CODE + 0x30, 0]);
    let expected = [(CODE + 0x10, Trust::Context), (CODE + 0x20, Trust::Fp), (CODE + 0x30, Trust::Fp)];
    assert_eq!(calls(x86_64(CODE + 0x10, STACK, STACK + 8), vec![(STACK, stack.clone())]), expected);
    assert_eq!(calls(aarch64(CODE + 0x10, STACK, STACK + 8, 0), vec![(STACK, stack)]), expected);
}

#[test]
fn a_chain_that_leads_back_or_nowhere_ends() {
    let back = words(&[0, STACK + 8, CODE + 0x20]);
    assert_eq!(calls(x86_64(CODE + 0x10, STACK, STACK + 8), vec![(STACK, back)]).len(), 2);
    for fp in [0, 1, STACK + 1, STACK - 8, u64::MAX - 7] {
        assert_eq!(calls(x86_64(CODE + 0x10, STACK, fp), Vec::new()).len(), 1, "{fp:#x}");
    }
    assert_eq!(calls(x86_64(u64::MAX, u64::MAX, u64::MAX), Vec::new()).len(), 1);
}

#[test]
fn a_call_to_nowhere_came_from_what_it_would_return_to() {
    let stack = words(&[CODE + 0x20]);
    assert_eq!(calls(x86_64(0, STACK, 0), vec![(STACK, stack)]), [(0, Trust::Context), (CODE + 0x20, Trust::Fp)]);
    assert_eq!(
        calls(aarch64(0x10, STACK, 0, CODE + 0x20), Vec::new()),
        [(0x10, Trust::Context), (CODE + 0x20, Trust::Fp)]
    );
}

#[test]
fn what_a_handler_interrupted_is_where_the_kernel_left_it() {
    // mov $15, %rax; syscall. The registers stand 40 bytes into the ucontext, rsp and rip the last two of 17.
    let code = vec![0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    let mut context = vec![0; 40 + 17 * 8];
    context[40 + 15 * 8..].copy_from_slice(&words(&[STACK + 0x800, CODE + 0x500]));
    let found = calls(x86_64(CODE, STACK, 0), vec![(CODE, code), (STACK, context)]);
    assert_eq!(found, [(CODE, Trust::Context), (CODE + 0x500, Trust::Cfi)]);
    // mov x8, #139; svc #0. Behind siginfo and the ucontext's head: the fault address, x0 to x30, sp, pc.
    let code = vec![0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
    let mut context = vec![0; 128 + 176 + 8 + 33 * 8];
    let at = 128 + 176 + 8 + 31 * 8;
    context[at..].copy_from_slice(&words(&[STACK + 0x800, CODE + 0x500]));
    let found = calls(aarch64(CODE, STACK, 0, 0), vec![(CODE, code), (STACK, context)]);
    assert_eq!(found, [(CODE, Trust::Context), (CODE + 0x500, Trust::Cfi)]);
}

#[test]
fn a_guess_is_what_stands_behind_a_call_and_says_that_it_is_one() {
    // A call of five bytes ends at CODE + 0x20; nothing but code is at CODE + 0x40.
    let mut code = vec![0x90; 0x100];
    code[0x1b] = 0xe8;
    let stack = words(&[CODE + 0x40, 5, CODE + 0x20, 0]);
    let found = calls(x86_64(CODE + 0x80, STACK, 3), vec![(CODE, code), (STACK, stack)]);
    assert_eq!(found, [(CODE + 0x80, Trust::Context), (CODE + 0x20, Trust::Scan)]);
}

#[test]
fn a_stack_too_deep_to_be_kept_is_kept_at_its_ends() {
    let mut kept = Kept::default();
    let call = |pc| Call { pc, is_return: true, is_trap: false, is_signal_frame: false, trust: Trust::Cfi };
    (0..1000).for_each(|pc| kept.push(call(pc)));
    let (calls, omitted) = kept.finish();
    assert_eq!(calls.len(), INNERMOST + OUTERMOST);
    assert_eq!(omitted, Some((INNERMOST, 1000 - (INNERMOST + OUTERMOST) as u64)));
    assert_eq!((calls[0].pc, calls[INNERMOST - 1].pc, calls.last().unwrap().pc), (0, INNERMOST as u64 - 1, 999));
}

#[test]
fn threads_come_out_in_the_order_of_the_source_however_many_they_are() {
    let registers = x86_64(CODE + 0x10, STACK, 0);
    let mut many = snapshot(Arch::X86_64, registers);
    // Two of one number, as a core that somebody made may have them, and one that crashed in the midst.
    let tids: Vec<i32> = (0..100_000).rev().chain([7]).collect();
    many.threads =
        tids.iter().map(|tid| Thread { tid: *tid, name: None, registers, crashed: *tid == 50_000 }).collect();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(all(&many, &Pieces::default(), &[])));
    let unwound = receiver.recv_timeout(std::time::Duration::from_secs(30)).expect("not compared with each other");
    assert_eq!(unwound.iter().map(|thread| thread.tid).collect::<Vec<_>>(), tids);
    assert!(unwound.iter().all(|thread| thread.crashed == (thread.tid == 50_000)));
}

/// What is told of a signal frame at STACK with this trap, address and siginfo, whose handler is about to return.
fn fault(trap: u64, address: u64, siginfo: Option<(i32, i32, u64)>, sent: SignalInfo) -> Option<(i32, Option<u64>)> {
    let code = vec![0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    let mut frame = vec![0; 304 + 128];
    frame[40 + 15 * 8..40 + 17 * 8].copy_from_slice(&words(&[STACK + 0x800, CODE + 0x500]));
    frame[40 + 20 * 8..40 + 21 * 8].copy_from_slice(&trap.to_le_bytes());
    frame[40 + 22 * 8..40 + 23 * 8].copy_from_slice(&address.to_le_bytes());
    if let Some((number, code, address)) = siginfo {
        frame[304..308].copy_from_slice(&number.to_le_bytes());
        frame[312..316].copy_from_slice(&code.to_le_bytes());
        frame[320..328].copy_from_slice(&address.to_le_bytes());
    }
    let snapshot = Snapshot { signal: Some(sent), ..snapshot(Arch::X86_64, x86_64(CODE, STACK, 0)) };
    let found = all(&snapshot, &Pieces::new(vec![(CODE, code), (STACK, frame)]), &[])[0].fault;
    found.map(|fault| (fault.code, fault.fault_address))
}

#[test]
fn what_a_handler_was_called_for_is_told_where_it_raised_that_again() {
    const SEGV: i32 = libc::SIGSEGV;
    const FPE: i32 = libc::SIGFPE;
    let sent = |number, code, pid| SignalInfo {
        number,
        code,
        fault_address: None,
        sender_pid: Some(pid),
        sender_uid: Some(0),
    };
    let raised = |number| sent(number, -6, 7);
    let table = [
        (fault(14, 16, Some((SEGV, 1, 16)), raised(SEGV)), Some((1, Some(16)))),
        (fault(0, 0, Some((FPE, 1, 32)), raised(FPE)), Some((1, Some(32)))),
        // A general protection fault has no address.
        (fault(13, 0, Some((SEGV, 128, 0)), raised(SEGV)), Some((128, None))),
        // Without SA_SIGINFO nothing or something else is where siginfo would be.
        (fault(14, 16, None, raised(SEGV)), Some((1, Some(16)))),
        (fault(14, 16, Some((SEGV, 1, 99)), raised(SEGV)), Some((1, Some(16)))),
        (fault(14, CODE + 1, None, raised(SEGV)), Some((2, Some(CODE + 1)))),
        (fault(0, 0, None, raised(SEGV)), None),
        // It was called for a signal that was sent, or for another, or somebody else ended the process, or a fault did.
        (fault(14, 16, Some((SEGV, -6, 7)), raised(SEGV)), None),
        (fault(14, 16, Some((SEGV, 1, 16)), raised(libc::SIGABRT)), None),
        (fault(14, 16, Some((SEGV, 1, 16)), sent(SEGV, 0, 8)), None),
        (fault(14, 16, Some((SEGV, 1, 16)), SignalInfo { sender_pid: None, ..sent(SEGV, 1, 7) }), None),
    ];
    for (row, (found, expected)) in table.into_iter().enumerate() {
        assert_eq!(found, expected, "row {row}");
    }
}

#[test]
fn what_a_handler_was_called_for_is_found_below_the_stack_when_it_has_returned() {
    let top = STACK + 0x800;
    let mut frame = vec![0; 304 + 128];
    frame[40 + 15 * 8..40 + 17 * 8].copy_from_slice(&words(&[top, CODE + 0x500]));
    frame[40 + 20 * 8..40 + 21 * 8].copy_from_slice(&words(&[14]));
    frame[40 + 22 * 8..40 + 23 * 8].copy_from_slice(&words(&[16]));
    let signal = SignalInfo { number: 11, code: -6, fault_address: None, sender_pid: Some(7), sender_uid: Some(0) };
    let found = |pc, sp| {
        let snapshot = Snapshot { signal: Some(signal), ..snapshot(Arch::X86_64, x86_64(pc, sp, 0)) };
        all(&snapshot, &Pieces::new(vec![(STACK, frame.clone())]), &[])[0].fault.and_then(|fault| fault.fault_address)
    };
    assert_eq!(found(CODE + 0x500, top), Some(16));
    // It is of an interruption elsewhere.
    assert_eq!(found(CODE + 0x501, top), None);
    assert_eq!(found(CODE + 0x500, top + 8), None);
}

#[test]
fn a_breakpoint_was_reached_where_its_instruction_is_not_behind_it() {
    let instructions = |registers: Registers, signal, pieces| {
        let snapshot = Snapshot { signal: Some(signal), ..snapshot(registers.arch(), registers) };
        let unwound = all(&snapshot, &Pieces::new(pieces), &[]);
        unwound[0].calls.iter().map(|call| (call.pc, call.instruction())).collect::<Vec<_>>()
    };
    let signal = |number, code| SignalInfo { number, code, fault_address: None, sender_pid: None, sender_uid: None };
    let kernels = 0x80;
    let table = [
        (x86_64(CODE + 0x10, STACK, 0), signal(libc::SIGTRAP, kernels), CODE + 0xf),
        // A single step, a fault, another machine.
        (x86_64(CODE + 0x10, STACK, 0), signal(libc::SIGTRAP, 2), CODE + 0x10),
        (x86_64(CODE + 0x10, STACK, 0), signal(libc::SIGSEGV, kernels), CODE + 0x10),
        (aarch64(CODE + 0x10, STACK, 0, 0), signal(libc::SIGTRAP, kernels), CODE + 0x10),
    ];
    for (registers, signal, expected) in table {
        assert_eq!(instructions(registers, signal, Vec::new()), [(CODE + 0x10, expected)], "{signal:?}");
    }
    // Its handler raised it again, in itself and after it had returned.
    let mut frame = vec![0; 304 + 128];
    frame[40 + 15 * 8..40 + 17 * 8].copy_from_slice(&words(&[STACK + 0x800, CODE + 0x500]));
    frame[304..308].copy_from_slice(&libc::SIGTRAP.to_le_bytes());
    frame[312..316].copy_from_slice(&kernels.to_le_bytes());
    let code = vec![0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
    let raised = signal(libc::SIGTRAP, -6);
    let pieces = vec![(CODE, code), (STACK, frame)];
    let within = instructions(x86_64(CODE, STACK, 0), raised, pieces.clone());
    assert_eq!(within, [(CODE, CODE), (CODE + 0x500, CODE + 0x4ff)]);
    let after = instructions(x86_64(CODE + 0x500, STACK + 0x800, 0), raised, pieces);
    assert_eq!(after, [(CODE + 0x500, CODE + 0x4ff)]);
}
