//! The registers of one frame by their DWARF numbers, as far as they are known: psABI of x86-64, figure 3.36; AADWARF64.

#![forbid(unsafe_code)]

use crate::evidence::snapshot::{Arch, Registers};

/// x0 to x30 and the stack pointer.
const COUNT: usize = 32;
/// In the order of their numbers.
const X86_64: [&str; 16] =
    ["rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
/// 〃
const AARCH64: [&str; COUNT] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
    "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "fp", "lr", "sp",
];

fn names(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &X86_64,
        Arch::Aarch64 => &AARCH64,
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    pub arch: Arch,
    pub pc: u64,
    values: [Option<u64>; COUNT],
}

impl Cpu {
    pub fn of(registers: &Registers) -> Cpu {
        let arch = registers.arch();
        let mut values = [None; COUNT];
        for (value, name) in values.iter_mut().zip(names(arch)) {
            *value = Some(registers.of(name));
        }
        Cpu { arch, pc: registers.pc(), values }
    }

    /// Nothing but the program counter.
    pub fn at(arch: Arch, pc: u64) -> Cpu {
        Cpu { arch, pc, values: [None; COUNT] }
    }

    pub fn get(&self, register: u16) -> Option<u64> {
        if self.is_return_column(register) {
            return Some(self.pc);
        }
        self.values.get(usize::from(register)).copied().flatten()
    }

    /// Of registers that are not kept (vectors, flags) nothing happens.
    pub fn set(&mut self, register: u16, value: Option<u64>) {
        if self.is_return_column(register) {
            self.pc = value.unwrap_or(self.pc);
        } else if let Some(place) = self.values[..names(self.arch).len()].get_mut(usize::from(register)) {
            *place = value;
        }
    }

    /// The column of the return address of x86-64 is no register, but rules and expressions name it.
    fn is_return_column(&self, register: u16) -> bool {
        self.arch == Arch::X86_64 && register == 16
    }

    pub fn sp(&self) -> Option<u64> {
        self.get(self.sp_number())
    }

    pub fn set_sp(&mut self, sp: u64) {
        self.set(self.sp_number(), Some(sp));
    }

    pub fn fp(&self) -> Option<u64> {
        self.get(self.fp_number())
    }

    pub fn set_fp(&mut self, fp: u64) {
        self.set(self.fp_number(), Some(fp));
    }

    /// Where the return address is before it is saved; `None` on a machine whose calls push it.
    pub fn link(&self) -> Option<u64> {
        match self.arch {
            Arch::X86_64 => None,
            Arch::Aarch64 => self.get(30),
        }
    }

    /// An address without the signature that pointer authentication leaves in its upper bits.
    pub fn plain(&self, address: u64) -> u64 {
        match self.arch {
            Arch::X86_64 => address,
            Arch::Aarch64 => address & ((1 << 48) - 1),
        }
    }

    fn sp_number(&self) -> u16 {
        match self.arch {
            Arch::X86_64 => 7,
            Arch::Aarch64 => 31,
        }
    }

    fn fp_number(&self) -> u16 {
        match self.arch {
            Arch::X86_64 => 6,
            Arch::Aarch64 => 29,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_what_is_there_and_nothing_else_is() {
        let mut x86 = Cpu::at(Arch::X86_64, 5);
        x86.set(16, Some(6));
        assert_eq!((x86.get(16), x86.pc), (Some(6), 6));
        x86.set(16, None);
        // xmm0 is 17.
        x86.set(17, Some(7));
        assert_eq!(x86.get(17), None);
        // Two that differ in nothing that is known are the same: the walk ends by it.
        assert_eq!(x86, Cpu::at(Arch::X86_64, 6));
        let mut arm = Cpu::at(Arch::Aarch64, 5);
        arm.set(16, Some(6));
        arm.set(31, Some(7));
        arm.set(32, Some(8));
        assert_eq!((arm.get(16), arm.sp(), arm.get(32), arm.pc), (Some(6), Some(7), None, 5));
    }
}
