//! Small cores built by hand, whole, cut and broken.

use super::*;
use crate::evidence::autopsy;
use crate::evidence::images::Files;
use crate::evidence::memory::Memory as _;
use crate::evidence::symbols::Roots;
use proptest::prelude::*;

const STACK: u64 = 0x7fff_0000;

fn note(kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut note: Vec<u8> = [5, desc.len() as u32, kind].iter().flat_map(|word| word.to_le_bytes()).collect();
    note.extend(b"CORE\0\0\0\0");
    note.extend(desc);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

fn prstatus(arch: Arch, tid: i32, signal: i16, pc: u64) -> Vec<u8> {
    let (words, place) = match arch {
        Arch::X86_64 => (27, 16),
        Arch::Aarch64 => (34, 32),
    };
    let mut desc = vec![0; 112 + words * 8 + 8];
    desc[12..14].copy_from_slice(&signal.to_le_bytes());
    desc[32..36].copy_from_slice(&tid.to_le_bytes());
    desc[112 + place * 8..112 + place * 8 + 8].copy_from_slice(&pc.to_le_bytes());
    desc
}

/// Two threads, a fault at 0x10, one file, one segment of 16 bytes.
fn core(arch: Arch) -> Vec<u8> {
    core_of(arch, "/app (deleted)", 1)
}

/// The same with a file of that name, and with so many headers that name its notes.
fn core_of(arch: Arch, file_name: &str, note_headers: u16) -> Vec<u8> {
    let mut prpsinfo = vec![0; 136];
    prpsinfo[24..28].copy_from_slice(&7i32.to_le_bytes());
    prpsinfo[40..43].copy_from_slice(b"app");
    let mut siginfo = vec![0; 128];
    siginfo[0] = 11;
    siginfo[8] = 1;
    siginfo[16] = 0x10;
    let file: Vec<u8> = [1, 4096, 0x1000, 0x3000, 2].iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    let notes = [
        note(1, &prstatus(arch, 7, 11, 0x1234)),
        note(3, &prpsinfo),
        note(0x5349_4749, &siginfo),
        note(6, &[9u64, 0x1000, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>()),
        note(0x4649_4c45, &[file, file_name.as_bytes().to_vec(), vec![0]].concat()),
        note(1, &prstatus(arch, 8, 0, 0x2345)),
    ]
    .concat();
    let machine: u8 = if arch == Arch::X86_64 { 62 } else { 183 };
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    out.extend([4, 0, machine, 0, 1, 0, 0, 0]);
    out.extend([0u64, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    let headers = note_headers + 2;
    out.extend([[0, 0], [0, 0], [64, 0], [56, 0], headers.to_le_bytes(), [64, 0], [0, 0], [0, 0]].concat());
    let notes_at = 64 + u64::from(headers) * 56;
    let memory_at = notes_at + notes.len() as u64;
    let mut header = |kind: u32, flags: u32, offset: u64, address: u64, file: u64, memory: u64| {
        out.extend([kind, flags].iter().flat_map(|word| word.to_le_bytes()));
        out.extend([offset, address, address, file, memory, 4].iter().flat_map(|word| word.to_le_bytes()));
    };
    for _ in 0..note_headers {
        header(4, 0, notes_at, 0, notes.len() as u64, 0);
    }
    header(1, 5, memory_at, 0x1000, 0, 0x2000);
    header(1, 6, memory_at, STACK, 16, 0x1000);
    out.extend(notes);
    out.extend([0xab; 16]);
    out
}

fn leaked(bytes: &[u8]) -> &'static [u8] {
    // Aligned as a mapped file is, for the tables are read where they lie.
    let mut room = vec![0u64; bytes.len().div_ceil(8)];
    for (word, bytes) in room.iter_mut().zip(bytes.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(eight);
    }
    &object::pod::bytes_of_slice(&*room.leak())[..bytes.len()]
}

#[test]
fn a_core_says_who_died_of_what_and_where_its_threads_stood() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let Core { snapshot, memory } = read(leaked(&core(arch))).unwrap();
        assert_eq!((snapshot.arch, snapshot.pid, snapshot.comm.as_deref()), (arch, Some(7), Some("app")));
        let threads: Vec<_> = snapshot.threads.iter().map(|t| (t.tid, t.registers.pc(), t.crashed)).collect();
        assert_eq!(threads, [(7, 0x1234, true), (8, 0x2345, false)]);
        assert_eq!(snapshot.signal.unwrap().fault_address, Some(0x10));
        assert_eq!(snapshot.aux(9), Some(0x1000));
        let code = &snapshot.mappings[0];
        assert_eq!((code.start, code.end, code.offset, code.deleted), (0x1000, 0x3000, 0x2000, true));
        assert_eq!(code.path.as_deref(), Some(std::path::Path::new("/app")));
        assert!(code.permissions.execute && !code.permissions.write);
        assert_eq!(memory.some(STACK + 8, 100), [0xab; 8]);
        assert!(memory.some(0x1000, 1).is_empty());
        assert_eq!(snapshot.gaps, Vec::<String>::new());
    }
}

#[test]
fn a_core_that_is_cut_anywhere_says_so_and_no_more_than_it_has() {
    let whole = core(Arch::X86_64);
    for len in 0..whole.len() {
        match read(leaked(&whole[..len])) {
            Ok(core) => assert!(!core.snapshot.gaps.is_empty(), "{len}"),
            Err(why) => assert!(len < 64 + 56 && !why.is_empty(), "{len}: {why}"),
        }
    }
}

#[test]
fn notes_that_many_headers_name_are_read_once() {
    let Core { snapshot, .. } = read(leaked(&core_of(Arch::X86_64, "/app", 60_000))).unwrap();
    assert_eq!(snapshot.threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(snapshot.gaps, ["notes of the core: 59999 headers name bytes that others name, or are too many"]);
    assert_eq!(snapshot.signal.unwrap().fault_address, Some(0x10));
}

#[test]
fn a_name_that_no_file_can_have_is_not_kept() {
    let path = |name: &str| read(leaked(&core_of(Arch::X86_64, name, 1))).unwrap().snapshot.mappings[0].path.clone();
    assert!(path(&"/a".repeat(2048)).is_some());
    assert_eq!(path(&"/a".repeat(2049)), None);
}

#[test]
fn what_is_no_core_is_refused() {
    let mut program = core(Arch::X86_64);
    program[16] = 2;
    let mut other = core(Arch::X86_64);
    other[18] = 8;
    for (bytes, why) in [(&b"core"[..], "no 64-bit"), (&program, "but no core"), (&other, "machine")] {
        assert!(read(leaked(bytes)).unwrap_err().contains(why), "{why}");
    }
}

proptest! {
    #[test]
    fn no_noise_in_a_core_does_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)) {
        let mut bytes = core(Arch::X86_64);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(core) = read(leaked(&bytes)) {
            let (autopsy, _) = autopsy::of(&core.snapshot, &core.memory, &Files::default(), &Roots::default());
            prop_assert!(autopsy.threads.len() <= core.snapshot.threads.len());
        }
    }
}
