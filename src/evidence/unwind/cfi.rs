//! Call frame information: how a function's caller is found from any of its instructions (DWARF 6.4, LSB `.eh_frame`).
//!
//! Rows are found by gimli and kept in a form of ours, because threads that wait in the same places and recursions that end in
//! a stack overflow ask for the same few again and again. gimli is used as it is rather than through framehop, which hides
//! whether a frame was found by it or by the frame pointer, knows no signal frames and recovers three registers alone.

#![forbid(unsafe_code)]

use super::cpu::Cpu;
use crate::evidence::memory::Memory;
use crate::evidence::snapshot::Arch;
use crate::evidence::symbols::elf::Elf;
use gimli::{
    BaseAddresses, CfaRule, DebugFrame, EhFrame, EhFrameHdr, Encoding, EndianSlice, EvaluationResult, Expression,
    FrameDescriptionEntry, LittleEndian, Location, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, Value,
    Vendor,
};
use object::LittleEndian as ObjectEndian;
use object::elf::PT_GNU_EH_FRAME;
use object::read::elf::{ProgramHeader as _, SectionHeader as _};
use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::Range;

type Bytes = EndianSlice<'static, LittleEndian>;

/// Rows kept of one image.
const KEPT_ROWS: usize = 4096;
/// Functions of the largest programs.
const FUNCTIONS: usize = 4_000_000;
/// Unpacked; that of a large Go program has some ten MiB.
const DEBUG_FRAME_BYTES: u64 = 256 << 20;
/// Operations of one expression; compilers write four or five.
const OPERATIONS: u32 = 256;
/// Whose instructions are known besides those of DWARF: a function that signs its return address says so by one of ARM's, and who
/// does not know it cannot read its rows. On x86-64 it means nothing.
const VENDOR: Vendor = Vendor::AArch64;

/// The call frame information of one image.
pub struct Cfi {
    elf: Elf<'static>,
    bases: BaseAddresses,
    eh_frame: Option<EhFrame<Bytes>>,
    header: Option<gimli::ParsedEhFrameHdr<Bytes>>,
    /// For an image whose linker made no table: begin, end and place of each function, by begin.
    index: OnceCell<Vec<(u64, u64, usize)>>,
    debug_frame: OnceCell<Option<Debug>>,
    rows: RefCell<HashMap<u64, Option<Row>>>,
}

/// `.debug_frame`, which Go and assembly have instead of `.eh_frame`.
struct Debug {
    section: DebugFrame<Bytes>,
    index: Vec<(u64, u64, usize)>,
}

/// What holds at one instruction.
#[derive(Clone)]
pub struct Row {
    cfa: CfaRule<usize>,
    rules: Vec<(u16, RegisterRule<usize>)>,
    return_column: u16,
    encoding: Encoding,
    is_eh: bool,
    /// The frame that the kernel pushed for a handler: its caller was interrupted, it did not call.
    pub is_signal: bool,
    /// The addresses of the function.
    pub range: Range<u64>,
}

impl Cfi {
    pub fn of(bytes: &'static [u8]) -> Option<Cfi> {
        let elf = Elf::parse(bytes)?;
        let mut bases = BaseAddresses::default();
        for (name, set) in [
            (".text", BaseAddresses::set_text as fn(BaseAddresses, u64) -> BaseAddresses),
            (".got", BaseAddresses::set_got),
        ] {
            if let Some(section) = elf.section(name) {
                bases = set(bases, section.sh_addr(ObjectEndian));
            }
        }
        let at = elf.segments().iter().find(|segment| segment.p_type(ObjectEndian) == PT_GNU_EH_FRAME);
        let header = at.and_then(|segment| {
            let address = segment.p_vaddr(ObjectEndian);
            bases = std::mem::take(&mut bases).set_eh_frame_hdr(address);
            EhFrameHdr::new(elf.at(address)?, LittleEndian).parse(&bases, 8).ok()
        });
        let by_header = header.as_ref().and_then(|header| header.eh_frame_ptr().direct().ok());
        let by_section = || elf.section(".eh_frame").map(|section| section.sh_addr(ObjectEndian));
        let eh_frame = by_header.or_else(by_section).and_then(|address| {
            bases = std::mem::take(&mut bases).set_eh_frame(address);
            let mut section = EhFrame::new(elf.at(address)?, LittleEndian);
            section.set_address_size(8);
            section.set_vendor(VENDOR);
            Some(section)
        });
        let header = header.filter(|header| header.table().is_some());
        Some(Cfi {
            elf,
            bases,
            eh_frame,
            header,
            index: OnceCell::new(),
            debug_frame: OnceCell::new(),
            rows: RefCell::default(),
        })
    }

    /// The row of an address of the image's own; `None` where no function is known there.
    pub fn row(&self, address: u64) -> Option<Row> {
        if let Some(kept) = self.rows.borrow().get(&address) {
            return kept.clone();
        }
        let row = self.in_eh_frame(address).or_else(|| self.in_debug_frame(address));
        let mut rows = self.rows.borrow_mut();
        if rows.len() >= KEPT_ROWS {
            rows.clear();
        }
        rows.insert(address, row.clone());
        row
    }

    fn in_eh_frame(&self, address: u64) -> Option<Row> {
        let section = self.eh_frame.as_ref()?;
        let fde = match self.header.as_ref().and_then(|header| header.table()) {
            Some(table) => {
                table.fde_for_address(section, &self.bases, address, EhFrame::cie_from_offset).ok().or_else(|| {
                    // A table that leaves functions out was seen with hand-written assembly.
                    self.by_index(section, address)
                })?
            }
            None => self.by_index(section, address)?,
        };
        row(section, &self.bases, &fde, address, true)
    }

    fn by_index(&self, section: &EhFrame<Bytes>, address: u64) -> Option<FrameDescriptionEntry<Bytes>> {
        let index = self.index.get_or_init(|| match self.header {
            // It was asked already, and going through all of a large image again would cost more than it finds.
            Some(_) => Vec::new(),
            None => index(section, &self.bases),
        });
        let offset = find(index, address)?;
        section.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()
    }

    fn in_debug_frame(&self, address: u64) -> Option<Row> {
        let debug = self.debug_frame.get_or_init(|| {
            let section = self.elf.debug_section(".debug_frame")?;
            let section = Some(section).filter(|section| section.uncompressed_size <= DEBUG_FRAME_BYTES)?;
            // Kept for as long as the process lives, as the file is.
            let bytes: &'static [u8] = match section.decompress().ok()? {
                Cow::Borrowed(bytes) => bytes,
                Cow::Owned(bytes) => bytes.leak(),
            };
            let mut section = DebugFrame::new(bytes, LittleEndian);
            section.set_address_size(8);
            section.set_vendor(VENDOR);
            let index = index(&section, &self.bases);
            Some(Debug { section, index })
        });
        let debug = debug.as_ref()?;
        let offset = find(&debug.index, address)?;
        let fde = debug.section.fde_from_offset(&self.bases, offset.into(), DebugFrame::cie_from_offset).ok()?;
        row(&debug.section, &self.bases, &fde, address, false)
    }

    /// The registers of the caller, or why there are none.
    pub fn step(&self, row: &Row, cpu: &Cpu, bias: u64, memory: &impl Memory) -> Result<Cpu, NoCaller> {
        Evaluator { cfi: self, row, cpu, bias, memory }.step()
    }

    fn expression(&self, expression: &UnwindExpression<usize>, is_eh: bool) -> Option<Expression<Bytes>> {
        if is_eh {
            return expression.get(self.eh_frame.as_ref()?).ok();
        }
        expression.get(&self.debug_frame.get()?.as_ref()?.section).ok()
    }
}

impl Row {
    /// The registers with the stack pointer that fits the frame pointer, of a frame that another's frame record led to. On aarch64 a
    /// record lies anywhere in its frame, so it does not say where that one ends and this one begins; but the frame pointer points
    /// to this function's own record, and the row says where in the frame that is. `None` where it says nothing, and where the
    /// stack pointer is known: after a call to nowhere all registers are, the link register among them, and a function without frame
    /// pointers may have anything in that one.
    pub fn placed_by_frame_pointer(&self, cpu: &Cpu) -> Option<Cpu> {
        const FP: u16 = 29;
        const SP: u16 = 31;
        let CfaRule::RegisterAndOffset { register, offset: size } = self.cfa else { return None };
        let is_record = |(register, rule): &(u16, RegisterRule<usize>)| match rule {
            RegisterRule::Offset(offset) if *register == FP => Some(*offset),
            _ => None,
        };
        let record = self.rules.iter().find_map(is_record)?;
        if cpu.arch != Arch::Aarch64 || register.0 != SP || cpu.link().is_some() {
            return None;
        }
        let mut placed = cpu.clone();
        placed.set_sp(cpu.fp()?.wrapping_add_signed(record.wrapping_add(size).wrapping_neg()));
        Some(placed)
    }
}

/// Why a row leads nowhere.
pub enum NoCaller {
    /// The function says itself that nobody called it.
    Outermost,
    /// It needs memory or registers that are not there.
    Lost,
}

fn row<S: UnwindSection<Bytes>>(
    section: &S,
    bases: &BaseAddresses,
    fde: &FrameDescriptionEntry<Bytes>,
    address: u64,
    is_eh: bool,
) -> Option<Row> {
    let mut context = UnwindContext::new();
    let found = fde.unwind_info_for_address(section, bases, &mut context, address).ok()?;
    Some(Row {
        cfa: found.cfa().clone(),
        rules: found.registers().map(|(register, rule)| (register.0, rule.clone())).collect(),
        return_column: fde.cie().return_address_register().0,
        encoding: fde.cie().encoding(),
        is_eh,
        is_signal: fde.is_signal_trampoline(),
        range: fde.initial_address()..fde.end_address(),
    })
}

/// Begin, end and place of each function, by begin.
fn index<S: UnwindSection<Bytes>>(section: &S, bases: &BaseAddresses) -> Vec<(u64, u64, usize)> {
    let mut index = Vec::new();
    let mut entries = section.entries(bases);
    while let Ok(Some(entry)) = entries.next() {
        if let gimli::CieOrFde::Fde(fde) = entry
            && let Ok(fde) = fde.parse(S::cie_from_offset)
            && fde.len() > 0
        {
            index.push((fde.initial_address(), fde.end_address(), fde.offset()));
        }
        if index.len() >= FUNCTIONS {
            break;
        }
    }
    index.sort_unstable();
    index
}

fn find(index: &[(u64, u64, usize)], address: u64) -> Option<usize> {
    let after = index.partition_point(|(begin, ..)| *begin <= address);
    let (_, end, offset) = index.get(after.checked_sub(1)?)?;
    (address < *end).then_some(*offset)
}

/// One row, the registers and memory that it speaks of.
struct Evaluator<'a, M> {
    cfi: &'a Cfi,
    row: &'a Row,
    cpu: &'a Cpu,
    bias: u64,
    memory: &'a M,
}

impl<M: Memory> Evaluator<'_, M> {
    fn step(&self) -> Result<Cpu, NoCaller> {
        let rule = |column: u16| self.row.rules.iter().find(|(register, _)| *register == column).map(|(_, rule)| rule);
        if matches!(rule(self.row.return_column), Some(RegisterRule::Undefined)) {
            return Err(NoCaller::Outermost);
        }
        self.caller().ok_or(NoCaller::Lost)
    }

    /// `None` when something it needs is not there.
    fn caller(&self) -> Option<Cpu> {
        let cfa = match &self.row.cfa {
            CfaRule::RegisterAndOffset { register, offset } => self.cpu.get(register.0)?.wrapping_add_signed(*offset),
            CfaRule::Expression(expression) => self.evaluate(expression, None)?,
        };
        let mut caller = self.cpu.clone();
        // Where nothing is said of the stack pointer, it is what it was before the call.
        caller.set_sp(cfa);
        let mut return_address = None;
        for (register, rule) in &self.row.rules {
            let value = self.value(*register, rule, cfa);
            if *register == self.row.return_column {
                return_address = Some(value?);
            }
            caller.set(*register, value);
        }
        let return_address = match return_address {
            Some(address) => address,
            // The return address is in a register still: a leaf function of a machine with a link register.
            None => self.cpu.link()?,
        };
        caller.pc = self.cpu.plain(return_address);
        Some(caller)
    }

    fn value(&self, register: u16, rule: &RegisterRule<usize>, cfa: u64) -> Option<u64> {
        match rule {
            RegisterRule::SameValue => self.cpu.get(register),
            RegisterRule::Offset(offset) => self.memory.word(cfa.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add_signed(*offset)),
            RegisterRule::Register(other) => self.cpu.get(other.0),
            RegisterRule::Expression(expression) => self.memory.word(self.evaluate(expression, Some(cfa))?),
            RegisterRule::ValExpression(expression) => self.evaluate(expression, Some(cfa)),
            RegisterRule::Constant(value) => Some(*value),
            _ => None,
        }
    }

    fn evaluate(&self, expression: &UnwindExpression<usize>, initial: Option<u64>) -> Option<u64> {
        let expression = self.cfi.expression(expression, self.row.is_eh)?;
        let mut evaluation = expression.evaluation(self.row.encoding);
        evaluation.set_max_iterations(OPERATIONS);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(self.cpu.get(register.0)?)).ok()?
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let mut bytes = [0; 8];
                    let wanted = bytes.get_mut(..usize::from(size))?;
                    if self.memory.read(address, wanted) < usize::from(size) {
                        return None;
                    }
                    evaluation.resume_with_memory(Value::Generic(u64::from_le_bytes(bytes))).ok()?
                }
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    evaluation.resume_with_relocated_address(address.wrapping_add(self.bias)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.result().first()?.location {
            Location::Address { address } => Some(address),
            Location::Value { value } => value.to_u64(u64::MAX).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimli::Register;

    #[test]
    fn the_frame_pointer_places_a_frame_only_where_nothing_else_does() {
        // What `stp x29, x30, [sp, #-48]!` and `mov x29, sp` leave, and the same with the record 16 bytes further in.
        for (record, fp) in [(-48, 0x1000), (-32, 0x1010)] {
            let row = Row {
                cfa: CfaRule::RegisterAndOffset { register: Register(31), offset: 48 },
                rules: vec![(29, RegisterRule::Offset(record)), (30, RegisterRule::Offset(record + 8))],
                return_column: 30,
                encoding: Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 },
                is_eh: true,
                is_signal: false,
                range: 0..0x100,
            };
            let mut guessed = Cpu::at(Arch::Aarch64, 0x10);
            guessed.set_fp(fp);
            guessed.set_sp(0xfff0);
            assert_eq!(row.placed_by_frame_pointer(&guessed).and_then(|cpu| cpu.sp()), Some(0x1000));
            let mut known = guessed.clone();
            known.set(30, Some(0x10));
            assert_eq!(row.placed_by_frame_pointer(&known), None);
        }
    }
}
