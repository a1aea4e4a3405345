//! From the registers of a thread to the calls that led there: program counters alone, names come later.
//!
//! Each step takes the best that is left: call frame information; what the kernel pushed for a signal handler; the return
//! address of a call to nowhere; the chain of frame pointers; and at last whatever on the stack looks like a return address. How
//! a frame was found stays with it. The stack is the program's own and may hold anything, so every step must get further
//! out, and their number is bounded.

#![forbid(unsafe_code)]

mod cfi;
mod convention;
mod cpu;
mod pages;

use super::images::{self, LoadedImage};
use super::memory::Memory;
use super::snapshot::{Arch, Registers, SignalInfo, Snapshot, Thread};
use super::stack::Trust;
use cfi::{Cfi, NoCaller, Row};
use cpu::Cpu;
use pages::Pages;
use std::cell::OnceCell;
use std::collections::VecDeque;

/// Of a stack that is kept whole: the innermost frames, where the fault is …
const INNERMOST: usize = 128;
/// … and the outermost, which say how it came there.
const OUTERMOST: usize = 64;
/// A stack of 8 MiB that overflowed has some hundred thousand frames.
const STEPS: u64 = 1 << 19;
/// Of all threads together.
const ALL_STEPS: u64 = 1 << 21;

/// One program counter on a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    pub pc: u64,
    /// It was called and will be returned to, so the call is the instruction before `pc`; else it was interrupted at `pc`.
    pub is_return: bool,
    /// It was interrupted by the instruction before `pc`, which has been carried out.
    pub is_trap: bool,
    /// What a signal handler returns to: the kernel pushed it on what it interrupted.
    pub is_signal_frame: bool,
    pub trust: Trust,
}

impl Call {
    /// An address within the instruction that was under way.
    pub fn instruction(self) -> u64 {
        let is_behind = (self.is_return || self.is_trap) && !self.is_signal_frame;
        if is_behind { self.pc.saturating_sub(1) } else { self.pc }
    }
}

/// The calls of one thread, innermost first.
#[derive(Clone, PartialEq, Debug)]
pub struct Unwound {
    pub tid: i32,
    pub name: Option<String>,
    pub crashed: bool,
    pub registers: Registers,
    pub calls: Vec<Call>,
    /// Index of the call before which some are missing, and how many.
    pub omitted: Option<(usize, u64)>,
    /// Where the signal that ended it was raised in a handler of its own: the fault that this handler was called for.
    pub fault: Option<SignalInfo>,
}

/// Unwinds every thread of a process.
pub fn all(snapshot: &Snapshot, memory: &impl Memory, images: &[LoadedImage]) -> Vec<Unwound> {
    let walker = Walker { snapshot, images, tables: images.iter().map(|_| OnceCell::new()).collect() };
    let mut left = ALL_STEPS;
    let mut threads: Vec<_> = snapshot.threads.iter().enumerate().collect();
    // If there is not enough for all, the one that crashed has had its share.
    threads.sort_by_key(|(_, thread)| !thread.crashed);
    let mut unwound: Vec<(usize, Unwound)> = threads
        .into_iter()
        .map(|(place, thread)| {
            let pages = Pages::new(memory);
            let mut calls = Kept::default();
            let left_behind = if thread.crashed { walker.left_behind(thread, &pages) } else { None };
            let signals = [snapshot.signal.filter(|_| thread.crashed), left_behind];
            let is_trap = signals.into_iter().flatten().any(|signal| walker.is_trap(signal));
            walker.walk(&thread.registers, is_trap, &pages, left.min(STEPS), &mut calls);
            left = left.saturating_sub(calls.seen);
            let fault = calls.fault.filter(|_| thread.crashed).or(left_behind);
            let (calls, omitted) = calls.finish();
            let unwound = Unwound {
                tid: thread.tid,
                name: thread.name.clone(),
                crashed: thread.crashed,
                registers: thread.registers,
                calls,
                omitted,
                fault,
            };
            (place, unwound)
        })
        .collect();
    unwound.sort_by_key(|(place, _)| *place);
    unwound.into_iter().map(|(_, thread)| thread).collect()
}

/// The two ends of a stack, however long it is.
#[derive(Default)]
struct Kept {
    seen: u64,
    fault: Option<SignalInfo>,
    inner: Vec<Call>,
    outer: VecDeque<Call>,
}

impl Kept {
    fn push(&mut self, call: Call) {
        self.seen += 1;
        if self.inner.len() < INNERMOST {
            self.inner.push(call);
            return;
        }
        if self.outer.len() == OUTERMOST {
            self.outer.pop_front();
        }
        self.outer.push_back(call);
    }

    fn finish(self) -> (Vec<Call>, Option<(usize, u64)>) {
        let missing = self.seen - (self.inner.len() + self.outer.len()) as u64;
        let omitted = (missing > 0).then_some((self.inner.len(), missing));
        (self.inner.into_iter().chain(self.outer).collect(), omitted)
    }
}

struct Walker<'a> {
    snapshot: &'a Snapshot,
    images: &'a [LoadedImage],
    tables: Vec<OnceCell<Option<Cfi>>>,
}

impl Walker<'_> {
    fn walk(&self, registers: &Registers, is_trap: bool, memory: &impl Memory, steps: u64, kept: &mut Kept) {
        let mut cpu = Cpu::of(registers);
        let mut call = Call { pc: cpu.pc, is_return: false, is_trap, is_signal_frame: false, trust: Trust::Context };
        for _ in 0..steps {
            let caller = self.caller(&cpu, call, memory);
            call.is_signal_frame = caller.as_ref().is_some_and(|(_, found)| !found.is_return);
            if let (true, None, Some(number)) = (call.is_signal_frame, kept.fault, self.raised()) {
                kept.fault =
                    convention::fault(&cpu, number, memory, |address| self.snapshot.mapping(address).is_some());
            }
            if caller.is_none() && call.is_return && self.is_made_up(&cpu, memory) {
                // No call stands before it.
                call.is_return = false;
            }
            kept.push(call);
            let Some((next, mut found)) = caller else { return };
            found.is_trap = call.is_signal_frame && kept.fault.is_some_and(|fault| self.is_trap(fault));
            // Outwards is upwards, except from a handler that ran on a stack of its own.
            let onwards = match (cpu.sp(), next.sp()) {
                (Some(before), Some(after)) => {
                    after > before || (after == before && next.pc != cpu.pc && !call.is_return)
                }
                _ => true,
            };
            if next.pc == 0 || next == cpu || !onwards && found.is_return {
                return;
            }
            (cpu, call) = (next, found);
        }
    }

    /// The signal that ended the process, if the process raised it itself.
    fn raised(&self) -> Option<i32> {
        let signal = self.snapshot.signal?;
        let is_own = signal.sender_pid.is_none_or(|sender| Some(sender) == self.snapshot.pid);
        (signal.code <= 0 && is_own).then_some(signal.number)
    }

    /// Whether it leaves the program counter behind the instruction that it is of. An `int3` of x86 does, a `brk` of ARM does not.
    fn is_trap(&self, signal: SignalInfo) -> bool {
        self.snapshot.arch == Arch::X86_64 && signal.is_of_a_breakpoint()
    }

    /// The registers of the caller and the call that they stand at.
    fn caller(&self, cpu: &Cpu, call: Call, memory: &impl Memory) -> Option<(Cpu, Call)> {
        let told = |cpu: Cpu, is_return: bool, trust: Trust| {
            let pc = cpu.pc;
            Some((cpu, Call { pc, is_return, is_trap: false, is_signal_frame: false, trust }))
        };
        let row = self.table(call.instruction()).and_then(|(table, bias)| {
            let row = table.row(call.instruction().wrapping_sub(bias))?;
            Some((table, bias, row))
        });
        let is_at_border = || row.as_ref().is_none_or(|(_, bias, row)| row.range.end == cpu.pc.wrapping_sub(*bias));
        if call.is_return && is_at_border() {
            // Go has a function for it, with unwind tables as if it had been called, and nobody calls it.
            if let Some(interrupted) = convention::signal_frame(cpu, memory) {
                return told(interrupted, false, Trust::Cfi);
            }
            if self.is_made_up(cpu, memory) {
                return None;
            }
        }
        if let Some((table, bias, row)) = row {
            let is_guess = matches!(call.trust, Trust::Fp | Trust::Scan);
            let placed = if is_guess { row.placed_by_frame_pointer(cpu) } else { None };
            match table.step(&row, placed.as_ref().unwrap_or(cpu), bias, memory) {
                Ok(caller) if is_guess && caller.pc != 0 && !self.is_code(caller.pc) => {}
                Ok(caller) => return told(caller, !row.is_signal, Trust::Cfi),
                Err(NoCaller::Outermost) => return None,
                Err(NoCaller::Lost) => {}
            }
        }
        if let Some(interrupted) = convention::signal_frame(cpu, memory) {
            return told(interrupted, false, Trust::Cfi);
        }
        let is_code = |address: u64| self.is_code(address);
        if !call.is_return
            && !is_code(cpu.pc)
            && let Some(caller) = convention::called_nowhere(cpu, memory, is_code)
        {
            return told(caller, true, Trust::Fp);
        }
        if let Some(caller) = convention::frame_pointer(cpu, memory, is_code) {
            return told(caller, true, Trust::Fp);
        }
        // The outermost frame ends the chain by a null; what lies further out is nobody's.
        if call.is_return && cpu.fp() == Some(0) {
            return None;
        }
        convention::scan(cpu, memory, is_code).and_then(|caller| told(caller, true, Trust::Scan))
    }

    /// The unwind tables for an address, and by what the image is shifted.
    fn table(&self, address: u64) -> Option<(&Cfi, u64)> {
        let image = images::at(self.images, address)?;
        let place = self.images.partition_point(|other| other.range.start < image.range.start);
        let table = self.tables.get(place)?.get_or_init(|| image.bytes.and_then(Cfi::of));
        Some((table.as_ref()?, image.bias))
    }

    /// What a handler left behind that came back while the signal it had raised again was still blocked.
    fn left_behind(&self, thread: &Thread, memory: &impl Memory) -> Option<SignalInfo> {
        let is_mapped = |address| self.snapshot.mapping(address).is_some();
        convention::fault_below(&Cpu::of(&thread.registers), self.raised()?, memory, is_mapped)
    }

    /// Whether a return address is one that nobody called from: a function begins at it, and no call stands before it. makecontext(3)
    /// lays such a one down, and whatever lies further out is of whoever had the memory before.
    fn is_made_up(&self, cpu: &Cpu, memory: &impl Memory) -> bool {
        let row = self.table(cpu.pc).and_then(|(table, bias)| Some((bias, table.row(cpu.pc.wrapping_sub(bias))?)));
        let begins = |(bias, row): (u64, Row)| !row.is_signal && row.range.start == cpu.pc.wrapping_sub(bias);
        row.is_some_and(begins) && !convention::is_behind_a_call(cpu.arch, cpu.pc, memory)
    }

    /// Whether instructions may stand there: memory that a program made executable itself counts, too.
    fn is_code(&self, address: u64) -> bool {
        self.snapshot.mapping(address).is_some_and(|mapping| mapping.permissions.execute)
    }
}

#[cfg(test)]
mod tests;
