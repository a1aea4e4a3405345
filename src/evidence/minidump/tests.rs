//! Minidumps made of what was made up, read back by rust-minidump's reader and unwinder.

use super::*;
use crate::evidence::memory::Pieces;
use crate::evidence::snapshot::{Mapping, Permissions, SignalInfo};
use ::minidump::system_info::{Cpu, Os};
use ::minidump::{
    Minidump, MinidumpException, MinidumpMemoryList, MinidumpMiscInfo, MinidumpModuleList, MinidumpSystemInfo,
    MinidumpThreadList, MinidumpThreadNames, Module as _, UnifiedMemory,
};
use minidump_unwind::{CallStack, Symbolizer, simple_symbol_supplier, walk_stack};
use proptest::prelude::*;

const CODE: u64 = 0x40_0000;
const STACK: u64 = 0x7ff0_0000_0000;
const STACK_END: u64 = STACK + 0x10_0000;
const HEAP: u64 = 0x1000_0000;

fn registers(arch: Arch, values: &[(&str, u64)]) -> Registers {
    let zeroed = Registers::from_bytes(arch, &[0; 34 * 8]).unwrap();
    let bytes: Vec<u8> = zeroed
        .all()
        .flat_map(|(name, _)| {
            values.iter().find(|(found, _)| *found == name).map_or(0, |(_, value)| *value).to_le_bytes()
        })
        .collect();
    Registers::from_bytes(arch, &bytes).unwrap()
}

/// A thread `n` whose three calls are a chain of frame pointers, and its stack.
fn thread(arch: Arch, n: u64) -> (Thread, (u64, Vec<u8>)) {
    let sp = STACK + 0x1000 + n * 0x2000;
    let frames = [(sp + 0x20, CODE + 0x110), (sp + 0x60, CODE + 0x210), (0, CODE + 0x310)];
    let mut stack = vec![0; 0x400];
    for ((frame, pc), at) in frames.iter().zip([0x10, 0x20, 0x60]) {
        stack[at..at + 8].copy_from_slice(&frame.to_le_bytes());
        stack[at + 8..at + 16].copy_from_slice(&pc.to_le_bytes());
    }
    let values = match arch {
        Arch::X86_64 => [("rip", CODE + 0x10), ("rsp", sp), ("rbp", sp + 0x10), ("rdi", HEAP + 0x800), ("cs", 0x33)],
        Arch::Aarch64 => {
            [("pc", CODE + 0x10), ("sp", sp), ("fp", sp + 0x10), ("lr", CODE + 0x110), ("x0", HEAP + 0x800)]
        }
    };
    let name = Some(format!("worker-{n}"));
    (Thread { tid: 100 + n as i32, name, registers: registers(arch, &values), crashed: n == 1 }, (sp, stack))
}

fn death(arch: Arch, threads: u64) -> (Snapshot, Pieces, Vec<LoadedImage>) {
    let permissions = |execute: bool| Permissions { read: true, write: !execute, execute };
    let mapping = |start, end, execute| Mapping { start, end, permissions: permissions(execute), ..Mapping::default() };
    let (threads, mut pieces): (Vec<Thread>, Vec<_>) = (0..threads).map(|n| thread(arch, n)).unzip();
    pieces.push((HEAP, vec![0xab; 0x1000]));
    pieces.push((CODE, vec![0x90; 0x1000]));
    let signal = SignalInfo { number: 11, code: 1, fault_address: Some(0x18), sender_pid: None, sender_uid: None };
    let snapshot = Snapshot {
        arch,
        pid: Some(100),
        comm: Some("shop".to_owned()),
        threads,
        mappings: vec![
            mapping(CODE, CODE + 0x1000, true),
            mapping(HEAP, HEAP + 0x1000, false),
            mapping(STACK, STACK_END.max(STACK + 0x2000 * 12_000), false),
        ],
        signal: Some(signal),
        auxv: Vec::new(),
        gaps: Vec::new(),
    };
    let image = LoadedImage {
        path: Some("/srv/shop".into()),
        name: "/srv/shop".to_owned(),
        range: CODE..CODE + 0x1000,
        bias: CODE,
        bytes: None,
        build_id: Some((0..20).collect()),
        is_program: true,
    };
    let library = LoadedImage {
        name: "/lib/libc.so.6".to_owned(),
        range: 0x10_0000..0x20_0000,
        build_id: None,
        is_program: false,
        ..image.clone()
    };
    (snapshot, Pieces::new(pieces), vec![library, image])
}

const CIRCUMSTANCES: Circumstances<'_> =
    Circumstances { at_unix_ms: 1_700_000_000_250, kernel: "6.18.2-cloud", cpus: 2 };

fn walked(dump: &Minidump<'_, Vec<u8>>, place: usize) -> Vec<u64> {
    let system = dump.get_stream::<MinidumpSystemInfo>().unwrap();
    let modules = dump.get_stream::<MinidumpModuleList>().unwrap();
    let memories = dump.get_stream::<MinidumpMemoryList>().unwrap();
    let threads = dump.get_stream::<MinidumpThreadList>().unwrap();
    let thread = &threads.threads[place];
    let context = thread.context(&system, None).unwrap().into_owned();
    let stack = memories.memory_at_address(context.get_stack_pointer()).map(UnifiedMemory::Memory);
    let info = minidump_unwind::SystemInfo {
        os: system.os,
        os_version: None,
        os_build: None,
        cpu: system.cpu,
        cpu_info: None,
        cpu_microcode_version: None,
        cpu_count: 1,
    };
    let mut calls = CallStack::with_context(context);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let symbolizer = Symbolizer::new(simple_symbol_supplier(Vec::new()));
    runtime.block_on(walk_stack(0, (), &mut calls, stack, &modules, &info, &symbolizer));
    calls.frames.iter().map(|frame| frame.context.get_instruction_pointer()).collect()
}

#[test]
fn its_judges_read_what_was_written_and_find_the_calls() {
    for (arch, cpu) in [(Arch::X86_64, Cpu::X86_64), (Arch::Aarch64, Cpu::Arm64)] {
        let (snapshot, memory, images) = death(arch, 3);
        let dump = Minidump::read(write(&snapshot, &memory, &images, &CIRCUMSTANCES)).unwrap();
        assert_eq!(dump.header.time_date_stamp, 1_700_000_000);
        let system = dump.get_stream::<MinidumpSystemInfo>().unwrap();
        assert_eq!(
            (system.os, system.cpu, system.raw.major_version, system.raw.minor_version),
            (Os::Linux, cpu, 6, 18)
        );
        assert_eq!(system.csd_version().as_deref(), Some("Linux 6.18.2-cloud"));
        let misc = dump.get_stream::<MinidumpMiscInfo>().unwrap();
        assert_eq!(misc.raw.process_id(), Some(&100));

        let modules = dump.get_stream::<MinidumpModuleList>().unwrap();
        let program = modules.main_module().unwrap();
        assert_eq!((program.code_file().as_ref(), program.base_address(), program.size()), ("/srv/shop", CODE, 0x1000));
        assert_eq!(program.code_identifier().unwrap().as_str(), "000102030405060708090a0b0c0d0e0f10111213");
        assert_eq!(program.debug_identifier().unwrap().to_string(), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(modules.iter().count(), 2);

        let threads = dump.get_stream::<MinidumpThreadList>().unwrap();
        let names = dump.get_stream::<MinidumpThreadNames>().unwrap();
        let told: Vec<u32> = threads.threads.iter().map(|thread| thread.raw.thread_id).collect();
        assert_eq!(told, [101, 100, 102]);
        assert_eq!(names.get_name(101).as_deref(), Some("worker-1"));
        let exception = dump.get_stream::<MinidumpException>().unwrap();
        assert_eq!(exception.get_crashing_thread_id(), 101);
        assert_eq!(exception.raw.exception_record.exception_code, 11);
        assert_eq!(exception.raw.exception_record.exception_flags, 1);
        assert_eq!(exception.raw.exception_record.exception_address, 0x18);
        let context = exception.context(&system, None).unwrap();
        assert_eq!((context.get_instruction_pointer(), context.get_stack_pointer()), (CODE + 0x10, STACK + 0x3000));

        let memories = dump.get_stream::<MinidumpMemoryList<'_>>().unwrap();
        let near = memories.memory_at_address(HEAP + 0x800).expect("the memory that a register points to");
        assert_eq!(near.get_memory_at_address::<u8>(HEAP + 0x800), Some(0xab));
        assert!(memories.memory_at_address(CODE + 0x10).is_some(), "the code of the fault");
        for place in 0..3 {
            let calls = walked(&dump, place);
            assert_eq!(calls[0], CODE + 0x10, "{arch:?}");
            for pc in [CODE + 0x110, CODE + 0x210, CODE + 0x310] {
                assert!(calls.contains(&pc), "{arch:?}, thread {place}: {calls:x?}");
            }
        }
    }
}

#[test]
fn it_is_bounded_however_many_threads_and_however_deep_they_are() {
    let (snapshot, _, images) = death(Arch::X86_64, 10_000);
    let pieces = Pieces::new(vec![(STACK, vec![7; 64 << 20])]);
    let images: Vec<LoadedImage> = (0..3000).map(|_| images[0].clone()).collect();
    let bytes = write(&snapshot, &pieces, &images, &CIRCUMSTANCES);
    assert!((BYTES / 2..=BYTES).contains(&bytes.len()), "{}", bytes.len());
    let dump = Minidump::read(bytes).unwrap();
    assert_eq!(dump.get_stream::<MinidumpThreadList>().unwrap().threads.len(), THREADS);
    let exception = dump.get_stream::<MinidumpException>().unwrap();
    assert_eq!(exception.get_crashing_thread_id(), 101);
}

#[test]
fn a_death_of_which_little_is_known_is_still_a_minidump() {
    let (mut snapshot, _, _) = death(Arch::X86_64, 2);
    snapshot.threads.iter_mut().for_each(|thread| thread.crashed = false);
    snapshot.mappings.clear();
    snapshot.signal = None;
    snapshot.pid = None;
    let dump = Minidump::read(write(&snapshot, &Pieces::default(), &[], &Circumstances::default())).unwrap();
    assert_eq!(dump.get_stream::<MinidumpThreadList>().unwrap().threads.len(), 2);
    assert!(dump.get_stream::<MinidumpException>().is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Registers of a program gone wrong hold anything.
    #[test]
    fn any_registers_make_a_minidump_whose_memory_does_not_overlap(values in proptest::collection::vec(any::<u64>(), 27), near in 0u64..0x1200) {
        let (mut snapshot, memory, images) = death(Arch::X86_64, 2);
        let places = [HEAP, CODE, STACK + 0x3000, u64::MAX - 0x800];
        let bytes: Vec<u8> = values.iter().enumerate().flat_map(|(i, value)| {
            let value = if i % 3 == 0 { *value } else { places[i % 4].wrapping_add(near.wrapping_mul(i as u64) % 0x1400) };
            value.to_le_bytes()
        }).collect();
        snapshot.threads[1].registers = Registers::from_bytes(Arch::X86_64, &bytes).unwrap();
        let dump = Minidump::read(write(&snapshot, &memory, &images, &CIRCUMSTANCES)).unwrap();
        let memories = dump.get_stream::<MinidumpMemoryList<'_>>().unwrap();
        let mut end = 0;
        for told in memories.iter() {
            prop_assert!(told.base_address >= end);
            end = told.base_address + told.size;
        }
    }
}
