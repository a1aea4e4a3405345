//! The death as a minidump: threads with registers and stacks, modules with their build ids, the memory that registers point to.
//!
//! It is what Sentry, Breakpad's and rust-minidump's tools unwind and symbolicate with debug files that are not here. It holds raw
//! memory, in which anything the program knew can stand, and nothing masks it: it is made only where somebody asked for it.
//!
//! The format is Microsoft's (minidumpapiset.h) with Breakpad's additions for Linux: platform 0x8201, modules with an `BpEL` record.
//! The records come first and the memory takes what is left, the crashed thread's before everybody else's.

#![forbid(unsafe_code)]

use super::images::LoadedImage;
use super::memory::Memory;
use super::snapshot::{Arch, Registers, Snapshot, Thread};
use crate::sys::clock;
use data_encoding::BASE64;

/// The whole file. Sentry takes 100 MiB, a spool with room for a hundred reports less.
pub const BYTES: usize = 2 << 20;
/// Threads that are told, the crashed one among them: each takes 1.3 KiB before a byte of its stack.
const THREADS: usize = 256;
/// Modules that are told; a browser has 200.
const MODULES: usize = 512;
/// Of the crashed thread's stack: some thousand calls.
const CRASHED_STACK_BYTES: u64 = 512 << 10;
/// Of another's, where there are many.
const LEAST_STACK_BYTES: u64 = 4 << 10;
/// Of another's, where there are few.
const STACK_BYTES: u64 = 64 << 10;
/// What a function may use below the stack pointer: the ABI's red zone on x86_64.
const RED_ZONE: u64 = 128;
/// Before and behind an address that a register holds.
const NEAR: (u64, u64) = (128, 384);
/// A module's path, as UTF-16.
const NAME_CHARS: usize = 512;

/// What the snapshot does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Circumstances<'a> {
    pub at_unix_ms: u64,
    /// As uname(1) has it, `6.18.0`.
    pub kernel: &'a str,
    pub cpus: u32,
}

/// The file in base64, as a report holds it, of a death on this machine and just now.
pub fn of(snapshot: &Snapshot, memory: &impl Memory, images: &[LoadedImage]) -> String {
    let kernel = nix::sys::utsname::uname().ok().and_then(|uname| uname.release().to_str().map(str::to_owned));
    let cpus = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    let circumstances =
        Circumstances { at_unix_ms: clock::unix_ms(), kernel: kernel.as_deref().unwrap_or_default(), cpus };
    BASE64.encode(&write(snapshot, memory, images, &circumstances))
}

/// The file. `images` are those of [`images::loaded`](super::images::loaded).
pub fn write(
    snapshot: &Snapshot,
    memory: &impl Memory,
    images: &[LoadedImage],
    circumstances: &Circumstances<'_>,
) -> Vec<u8> {
    let mut out = Out(vec![0; HEADER_BYTES]);
    let threads = told(&snapshot.threads);
    let contexts: Vec<Place> = threads.iter().map(|thread| out.put(&context(&thread.registers))).collect();
    let mut streams = vec![
        (SYSTEM_INFO, system_info(snapshot.arch, circumstances, &mut out)),
        (MODULE_LIST, module_list(images, &mut out)),
        (THREAD_NAMES, thread_names(&threads, &mut out)),
    ];
    if let Some(pid) = snapshot.pid {
        // The size of it, that the pid is there, the pid, and three times that are not.
        streams.push((MISC_INFO, out.put(&words(&[24, 1, pid as u32, 0, 0, 0]))));
    }
    if let Some(stream) = exception(snapshot, &threads, &contexts) {
        streams.push((EXCEPTION, out.put(&stream)));
    }
    // The directory, the thread list and the memory list are still to come.
    let windows = threads.len() + 64;
    let room = BYTES.saturating_sub(out.0.len() + 64 * 12 + threads.len() * 48 + windows * 16 + 64);
    let (stacks, mut ranges) = memories(snapshot, &threads, memory, room, &mut out);
    ranges.sort_unstable_by_key(|range| range.address);
    streams.push((MEMORY_LIST, out.counted(ranges.iter().map(Range::descriptor))));
    let threads = threads.iter().zip(&contexts).zip(&stacks).map(|((thread, context), stack)| {
        let mut record = words(&[thread.tid as u32, 0, 0, 0, 0, 0]);
        record.extend(stack.descriptor());
        record.extend(context.location());
        record
    });
    streams.push((THREAD_LIST, out.counted(threads)));
    out.finish(&streams, circumstances)
}

/// The crashed thread, and the first of the others.
fn told(threads: &[Thread]) -> Vec<&Thread> {
    let others = threads.iter().filter(|thread| !thread.crashed).take(THREADS - 1);
    threads.iter().find(|thread| thread.crashed).into_iter().chain(others).collect()
}

/// Stream types.
const THREAD_LIST: u32 = 3;
const MODULE_LIST: u32 = 4;
const MEMORY_LIST: u32 = 5;
const EXCEPTION: u32 = 6;
const SYSTEM_INFO: u32 = 7;
const MISC_INFO: u32 = 15;
const THREAD_NAMES: u32 = 24;

/// Magic, version, number of streams, where their directory is, checksum, time, flags.
const HEADER_BYTES: usize = 32;

struct Out(Vec<u8>);

/// Where something lies in the file.
#[derive(Clone, Copy, Default)]
struct Place {
    offset: u32,
    len: u32,
}

impl Place {
    /// MINIDUMP_LOCATION_DESCRIPTOR
    fn location(self) -> Vec<u8> {
        words(&[self.len, self.offset])
    }
}

/// Memory of the process.
#[derive(Clone, Copy, Default)]
struct Range {
    address: u64,
    place: Place,
}

impl Range {
    /// MINIDUMP_MEMORY_DESCRIPTOR
    fn descriptor(&self) -> Vec<u8> {
        [self.address.to_le_bytes().to_vec(), self.place.location()].concat()
    }

    fn covers(&self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|at| at < self.place.len.into())
    }
}

impl Out {
    fn put(&mut self, bytes: &[u8]) -> Place {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let offset = self.0.len() as u32;
        self.0.extend_from_slice(bytes);
        Place { offset, len: bytes.len() as u32 }
    }

    /// A count, and so many records.
    fn counted(&mut self, records: impl Iterator<Item = Vec<u8>>) -> Place {
        let records: Vec<Vec<u8>> = records.collect();
        self.put(&[words(&[records.len() as u32]), records.concat()].concat())
    }

    /// MINIDUMP_STRING: its length in bytes, UTF-16, a NUL.
    fn text(&mut self, text: &str) -> Place {
        let units: Vec<u16> = text.encode_utf16().take(NAME_CHARS).collect();
        let mut bytes = words(&[units.len() as u32 * 2]);
        bytes.extend(units.iter().chain(&[0]).flat_map(|unit| unit.to_le_bytes()));
        self.put(&bytes)
    }

    fn finish(mut self, streams: &[(u32, Place)], circumstances: &Circumstances<'_>) -> Vec<u8> {
        let directory = streams.iter().flat_map(|(kind, place)| words(&[*kind, place.len, place.offset]));
        let directory = self.put(&directory.collect::<Vec<u8>>());
        let seconds = u32::try_from(circumstances.at_unix_ms / 1000).unwrap_or(u32::MAX);
        const MAGIC_AND_VERSION: [u32; 2] = [u32::from_le_bytes(*b"MDMP"), 0xa793];
        let [magic, version] = MAGIC_AND_VERSION;
        let header = words(&[magic, version, streams.len() as u32, directory.offset, 0, seconds, 0, 0]);
        self.0[..HEADER_BYTES].copy_from_slice(&header);
        self.0
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// MINIDUMP_SYSTEM_INFO
fn system_info(arch: Arch, circumstances: &Circumstances<'_>, out: &mut Out) -> Place {
    const LINUX: u32 = 0x8201;
    let kernel = out.text(&format!("Linux {}", circumstances.kernel));
    let machine: u16 = match arch {
        Arch::X86_64 => 9,
        Arch::Aarch64 => 12,
    };
    let mut version = circumstances.kernel.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let mut next = || version.next().unwrap_or(0);
    let mut info = [machine, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    info.extend([circumstances.cpus.min(255) as u8, 0]);
    info.extend(words(&[next(), next(), next(), LINUX, kernel.offset, 0]));
    info.extend([0; 24]);
    out.put(&info)
}

/// MINIDUMP_MODULE of each image, the program first as debuggers expect it.
fn module_list(images: &[LoadedImage], out: &mut Out) -> Place {
    let program = images.iter().filter(|image| image.is_program);
    let others = images.iter().filter(|image| !image.is_program);
    let records: Vec<Vec<u8>> = program
        .chain(others)
        .take(MODULES)
        .map(|image| {
            let name = out.text(&image.name);
            let size = image.range.end.saturating_sub(image.range.start);
            let id = image.build_id.as_ref().map(|id| out.put(&[&b"LEpB"[..], id].concat())).unwrap_or_default();
            let mut record = image.range.start.to_le_bytes().to_vec();
            record.extend(words(&[u32::try_from(size).unwrap_or(u32::MAX), 0, 0, name.offset]));
            // The version of the file, which ELF has none of.
            record.extend([0; 52]);
            record.extend(id.location());
            record.extend([0; 24]);
            record
        })
        .collect();
    out.counted(records.into_iter())
}

/// MINIDUMP_THREAD_NAME of those that have one.
fn thread_names(threads: &[&Thread], out: &mut Out) -> Place {
    let named = threads.iter().filter_map(|thread| Some((thread.tid, thread.name.as_deref()?)));
    let records: Vec<Vec<u8>> = named
        .map(|(tid, name)| {
            let name = out.text(name);
            words(&[tid as u32, name.offset, 0])
        })
        .collect();
    out.counted(records.into_iter())
}

/// MINIDUMP_EXCEPTION_STREAM as Breakpad fills it: the signal as the code, `si_code` as the flags.
fn exception(snapshot: &Snapshot, threads: &[&Thread], contexts: &[Place]) -> Option<Vec<u8>> {
    let signal = snapshot.signal?;
    let (thread, context) = threads.iter().zip(contexts).find(|(thread, _)| thread.crashed)?;
    let address = signal.fault_address.unwrap_or(thread.registers.pc());
    let mut stream = words(&[thread.tid as u32, 0, signal.number as u32, signal.code as u32, 0, 0]);
    stream.extend(address.to_le_bytes());
    stream.extend([0; 8 + 15 * 8]);
    stream.extend(context.location());
    Some(stream)
}

/// CONTEXT_AMD64 or CONTEXT_ARM64 of the general registers. Those of floating point are not in a snapshot.
fn context(registers: &Registers) -> Vec<u8> {
    let word = |name: &str| registers.of(name);
    match registers.arch() {
        Arch::X86_64 => {
            const CONTROL_INTEGER_SEGMENTS: u32 = 0x10_0007;
            const GENERAL: [&str; 17] = [
                "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                "r15", "rip",
            ];
            let mut context = vec![0; 48];
            context.extend(words(&[CONTROL_INTEGER_SEGMENTS, 0]));
            let segments = ["cs", "ds", "es", "fs", "gs", "ss"];
            context.extend(segments.iter().flat_map(|name| (word(name) as u16).to_le_bytes()));
            context.extend((word("eflags") as u32).to_le_bytes());
            context.extend([0; 48]);
            context.extend(GENERAL.iter().flat_map(|name| word(name).to_le_bytes()));
            context.resize(1232, 0);
            context
        }
        Arch::Aarch64 => {
            const CONTROL_INTEGER_X18: u32 = 0x40_0013;
            let mut context = words(&[CONTROL_INTEGER_X18, word("pstate") as u32]);
            context.extend(registers.all().take(33).flat_map(|(_, value)| value.to_le_bytes()));
            context.resize(912, 0);
            context
        }
    }
}

/// The stack of each thread, and all memory that is told, within the room there is.
fn memories(
    snapshot: &Snapshot,
    threads: &[&Thread],
    memory: &impl Memory,
    room: usize,
    out: &mut Out,
) -> (Vec<Range>, Vec<Range>) {
    let mut gather = Gather { snapshot, memory, room, out };
    let mut stacks = vec![Range::default(); threads.len()];
    let mut ranges = Vec::new();
    let crashed = threads.first().filter(|thread| thread.crashed);
    if let Some(thread) = crashed {
        stacks[0] = gather.stack(thread, CRASHED_STACK_BYTES);
        ranges.push(stacks[0]);
        for (_, value) in thread.registers.all() {
            gather.near(value, &mut ranges);
        }
    }
    let share = (gather.room / threads.len().max(1)) as u64;
    let share = share.clamp(LEAST_STACK_BYTES, STACK_BYTES);
    for (thread, range) in threads.iter().zip(&mut stacks).skip(usize::from(crashed.is_some())) {
        *range = gather.stack(thread, share);
        let overlaps = ranges.iter().any(|told| told.covers(range.address) || range.covers(told.address));
        if !overlaps {
            ranges.push(*range);
        }
    }
    ranges.retain(|range| range.place.len > 0);
    (stacks, ranges)
}

/// Copies memory while there is room.
struct Gather<'a, M> {
    snapshot: &'a Snapshot,
    memory: &'a M,
    room: usize,
    out: &'a mut Out,
}

impl<M: Memory> Gather<'_, M> {
    /// What there is from `begin` to `end`, no further than the mapping.
    fn take(&mut self, begin: u64, end: u64) -> Range {
        let held = self.snapshot.mapping(begin).map_or(begin, |mapping| mapping.end).min(end);
        let len = usize::try_from(held.saturating_sub(begin)).unwrap_or(usize::MAX).min(self.room);
        let mut bytes = vec![0; len];
        let read = self.memory.read(begin, &mut bytes);
        if read == 0 {
            return Range { address: begin, ..Range::default() };
        }
        // What alignment takes counts, too.
        self.room = self.room.saturating_sub(read + 8);
        Range { address: begin, place: self.out.put(&bytes[..read]) }
    }

    /// With what a function may use below the stack pointer, where that was kept.
    fn stack(&mut self, thread: &Thread, most: u64) -> Range {
        let sp = thread.registers.sp();
        let below = if self.snapshot.arch == Arch::X86_64 { RED_ZONE } else { 0 };
        let whole = self.take(sp.saturating_sub(below), sp.saturating_add(most));
        if whole.place.len > 0 { whole } else { self.take(sp, sp.saturating_add(most)) }
    }

    /// What is around an address. No two ranges may overlap, so it ends where others begin.
    fn near(&mut self, address: u64, ranges: &mut Vec<Range>) {
        let is_told = ranges.iter().any(|range| range.covers(address));
        let Some(mapping) = self.snapshot.mapping(address).filter(|mapping| mapping.permissions.read && !is_told)
        else {
            return;
        };
        let ends = ranges.iter().map(|range| range.address + u64::from(range.place.len)).filter(|end| *end <= address);
        let begin = ends.fold(address.saturating_sub(NEAR.0).max(mapping.start), u64::max);
        let starts = ranges.iter().map(|range| range.address).filter(|start| *start > address);
        let end = starts.fold(address.saturating_add(NEAR.1), u64::min);
        let whole = self.take(begin, end);
        ranges.push(if whole.place.len > 0 { whole } else { self.take(address, end) });
    }
}

#[cfg(test)]
mod tests;
