//! Go's table in each layout, built by hand and then broken.

use super::*;
use proptest::prelude::*;

const TEXT: u64 = 0x10_0000;
const TABLE: u64 = 0x1000;

/// Two functions in each layout. `main.outer` calls `main.inner`, which was inlined, at line 10; `main.last` is behind it.
struct Program {
    layout: Layout,
    bytes: Vec<u8>,
}

fn zigzag(value: i32) -> u8 {
    ((value << 1) ^ (value >> 31)) as u8
}

/// Values, each for 16 bytes of code.
fn steps(values: &[i32]) -> Vec<u8> {
    let before = [-1].iter().chain(values);
    let pairs = values.iter().zip(before).flat_map(|(value, before)| [zigzag(value - before), 16]);
    pairs.chain([0]).collect()
}

fn program(layout: Layout) -> Program {
    let is_116 = layout == Layout::Go116;
    let names = b"\0main.outer\0main.inner[go.shape.int]\0main.last\0";
    let (outer, inner, last) = (1u32, 12u32, 37u32);
    let files = b"shop/main.go\0shop/inner.go\0";
    let units: Vec<u8> = [0u32, 13].iter().flat_map(|offset| offset.to_le_bytes()).collect();
    let tables = [steps(&[10, 5, 12]), steps(&[0, 1, 0]), steps(&[-1, 0, -1]), steps(&[20])];
    let mut all = vec![0u8];
    let offsets: Vec<u32> = tables
        .iter()
        .map(|table| {
            all.extend(table);
            (all.len() - table.len()) as u32
        })
        .collect();
    let words = if layout >= Layout::Go118 { 8 } else { 7 };
    let mut at = 8 + words * 8u64;
    let mut place = |len: usize| {
        at = at.next_multiple_of(8) + len as u64;
        at - len as u64
    };
    let parts = [place(names.len()), place(units.len()), place(files.len()), place(all.len()), place(0)];
    let width = if is_116 { 8 } else { 4 };
    let functab = 5 * width;
    let function = |entry: u64, name: u32, lines: u32, inlined: bool| {
        let mut function =
            if is_116 { entry.to_le_bytes().to_vec() } else { ((entry - TEXT) as u32).to_le_bytes().to_vec() };
        // Name, arguments, deferreturn, stack, file, line, number of tables, unit.
        for field in [name, 0, 0, 0, offsets[1], lines, if inlined { 3 } else { 0 }, 0] {
            function.extend(field.to_le_bytes());
        }
        if layout == Layout::Go120 {
            function.extend(1u32.to_le_bytes());
        }
        function.extend([0, 0, 0, if inlined { 4 } else { 0 }]);
        if inlined {
            function.extend([0u32, 0, offsets[2]].iter().flat_map(|offset| offset.to_le_bytes()));
        }
        function
    };
    let first = function(TEXT, outer, offsets[0], true);
    let begins = (functab as u64).next_multiple_of(8);
    // Pointers to the function's data are aligned; offsets follow at once.
    let data_at = parts[4] + begins + first.len() as u64;
    let data_at = if is_116 { data_at.next_multiple_of(8) } else { data_at };
    let data_len = if is_116 { 32 } else { 16 };
    let second_at = (data_at + data_len).next_multiple_of(8) - parts[4];
    let second = function(TEXT + 48, last, offsets[3], false);
    let tree_at = (parts[4] + second_at + second.len() as u64).next_multiple_of(16);
    let module_at = tree_at + 32;

    let mut bytes = vec![0u8; module_at as usize + 48 * 8];
    let mut put = |at: u64, what: &[u8]| bytes[at as usize..at as usize + what.len()].copy_from_slice(what);
    let magic = match layout {
        Layout::Go116 => 0xfa,
        Layout::Go118 => 0xf0,
        Layout::Go120 => 0xf1,
    };
    put(0, &[magic, 0xff, 0xff, 0xff, 0, 0, 1, 8]);
    let start: &[u64] = if is_116 { &[2, 2] } else { &[2, 2, 0] };
    for (i, word) in start.iter().chain(&parts).enumerate() {
        put(8 + i as u64 * 8, &word.to_le_bytes());
    }
    put(parts[0], names);
    put(parts[1], &units);
    put(parts[2], files);
    put(parts[3], &all);
    let base = if is_116 { 0 } else { TEXT };
    let fields = [TEXT - base, begins, TEXT + 48 - base, second_at, TEXT + 64 - base];
    for (i, field) in fields.iter().enumerate() {
        put(parts[4] + (i * width) as u64, &field.to_le_bytes()[..width]);
    }
    put(parts[4] + begins, &first);
    put(parts[4] + second_at, &second);
    if is_116 {
        put(data_at + 24, &(TABLE + tree_at).to_le_bytes());
    } else {
        put(data_at, &[0xff; 12]);
        put(data_at + 12, &0u32.to_le_bytes());
    }
    let (name, parent) = if layout == Layout::Go120 { (4, 8) } else { (12, 16) };
    put(tree_at + name, &inner.to_le_bytes());
    put(tree_at + parent, &15u32.to_le_bytes());
    put(module_at, &TABLE.to_le_bytes());
    put(module_at + 8, &(TABLE + parts[0]).to_le_bytes());
    put(module_at + 22 * 8, &TEXT.to_le_bytes());
    let gofunc = if layout == Layout::Go118 { 38 } else { 40 };
    put(module_at + gofunc * 8, &(TABLE + tree_at).to_le_bytes());
    Program { layout, bytes }
}

/// The table in a writable segment, and code that nothing holds.
fn elf(table: &[u8]) -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend([0u64, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 6, 0, 0, 0]);
    let size = table.len() as u64;
    elf.extend([176, TABLE, TABLE, size, size, 16].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    elf.extend([0, TEXT, TEXT, 0, 4096, 16].iter().flat_map(|n| n.to_le_bytes()));
    elf.extend(table);
    elf
}

fn told(table: &[u8], address: u64) -> Option<Vec<(String, String, u32)>> {
    let bytes = elf(table);
    let found = Pclntab::of(&Elf::parse(&bytes)?)?.calls(address)?;
    Some(found.calls.into_iter().map(|call| (call.function, call.file, call.line.unwrap_or_default())).collect())
}

#[test]
fn each_layout_tells_names_lines_and_inlined_calls() {
    for layout in [Layout::Go116, Layout::Go118, Layout::Go120] {
        let Program { bytes, layout } = program(layout);
        let call = |function: &str, file: &str, line| (function.to_owned(), format!("shop/{file}.go"), line);
        let table = [
            (TEXT, Some(vec![call("main.outer", "main", 10)])),
            (TEXT + 15, Some(vec![call("main.outer", "main", 10)])),
            (TEXT + 16, Some(vec![call("main.inner[go.shape.int]", "inner", 5), call("main.outer", "main", 10)])),
            (TEXT + 31, Some(vec![call("main.inner[go.shape.int]", "inner", 5), call("main.outer", "main", 10)])),
            (TEXT + 32, Some(vec![call("main.outer", "main", 12)])),
            (TEXT + 48, Some(vec![call("main.last", "main", 20)])),
            (TEXT + 64, None),
            (TEXT - 1, None),
            (u64::MAX, None),
        ];
        for (address, expected) in table {
            assert_eq!(told(&bytes, address), expected, "{layout:?} {address:#x}");
        }
    }
}

#[test]
fn without_its_module_data_a_table_still_has_the_names_if_its_head_knows_the_text() {
    let Program { mut bytes, .. } = program(Layout::Go120);
    let module = bytes.len() - 48 * 8;
    bytes[module..].fill(0);
    assert_eq!(told(&bytes, TEXT + 16), None);
    bytes[24..32].copy_from_slice(&TEXT.to_le_bytes());
    assert_eq!(told(&bytes, TEXT + 16), Some(vec![("main.outer".to_owned(), "shop/inner.go".to_owned(), 5)]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_wrong_table_does_no_harm(
        layout in 0usize..3,
        wrong in proptest::collection::vec((0usize..900, any::<u8>()), 1..20),
        cut in 0usize..400,
        address in TEXT..TEXT + 70,
    ) {
        let Program { mut bytes, .. } = program([Layout::Go116, Layout::Go118, Layout::Go120][layout]);
        // The head is wrong more often than chance would have it.
        for (at, byte) in wrong {
            let at = if at >= bytes.len() { at % 72 } else { at };
            bytes[at] = byte;
        }
        if cut < 200 {
            bytes.truncate(bytes.len() - cut);
        }
        if let Some(calls) = told(&bytes, address) {
            prop_assert!(calls.len() <= CALLS);
        }
    }
}
