//! The minidump of a real death, as its judges read it: the same calls as we find, by other people's code.

use crate::bed::{Bed, trial};
use crate::need::Need;
use libtest_mimic::Trial;
use minidump::{Minidump, MinidumpException, MinidumpMemoryList, MinidumpModuleList, MinidumpSystemInfo};
use minidump::{MinidumpThreadList, Module as _, UnifiedMemory};
use minidump_unwind::{CallStack, Symbolizer, SystemInfo, simple_symbol_supplier, walk_stack};
use obit::evidence::images::{self, Files};
use obit::evidence::minidump::{self as ours, Circumstances};
use obit::evidence::{core, unwind};
use obit::sys::map;
use std::fs::{self, File};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    vec![trial("the minidump of a core has the calls that we find in the core", &[Need::Tool("gdb")], same_calls)]
}

const PROGRAM: &str = r#"
#include <pthread.h>
#include <unistd.h>
static int *volatile shelf;
__attribute__((noinline)) int take(int i) { return shelf[i] + 1; }
__attribute__((noinline)) int twice(int i) { return take(i) * 2; }
__attribute__((noinline)) void *worker(void *arg) { return (void *)(long)twice(*(int *)arg); }
static void *idle(void *arg) { pause(); return arg; }
int main(void) {
    pthread_t threads[3];
    int i = 4;
    for (int n = 0; n < 2; n++) pthread_create(&threads[n], 0, idle, 0);
    pthread_create(&threads[2], 0, worker, &i);
    pthread_join(threads[2], 0);
    return 0;
}
"#;

fn same_calls(bed: &Bed) {
    let directory = bed.path("");
    fs::write(directory.join("shop.c"), PROGRAM).unwrap();
    // Without CFI, which lies in files, the judges follow frame pointers: each function keeps one.
    let flags = ["-g", "-O0", "-pthread", "shop.c", "-o", "shop"];
    assert!(Command::new("gcc").args(flags).current_dir(&directory).status().unwrap().success());
    let dump = ["-batch", "-ex", "run", "-ex", "generate-core-file core", "./shop"];
    let gdb = Command::new("gdb").args(dump).current_dir(&directory).output().unwrap();
    let file =
        File::open(directory.join("core")).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&gdb.stderr)));
    let core = core::read(map::file(&file).unwrap()).expect("a core");
    let (images, gaps) = images::loaded(&core.snapshot, &core.memory, &Files::by_path(None));
    let threads = unwind::all(&core.snapshot, &core.memory, &images);
    let crashed = threads.iter().find(|thread| thread.crashed).expect("a thread that crashed");
    let expected: Vec<u64> = crashed.calls.iter().map(|call| call.pc).take(3).collect();

    let circumstances = Circumstances { at_unix_ms: 1_700_000_000_000, kernel: "6.18.0", cpus: 2 };
    let bytes = ours::write(&core.snapshot, &core.memory, &images, &circumstances);
    assert!(bytes.len() < ours::BYTES, "{}", bytes.len());
    let dump = Minidump::read(bytes).unwrap();
    let system = dump.get_stream::<MinidumpSystemInfo>().unwrap();
    let modules = dump.get_stream::<MinidumpModuleList>().unwrap();
    let memories = dump.get_stream::<MinidumpMemoryList<'_>>().unwrap();
    let list = dump.get_stream::<MinidumpThreadList<'_>>().unwrap();
    assert_eq!(list.threads.len(), 4, "{gaps:?}");
    assert!(modules.main_module().unwrap().code_file().ends_with("/shop"));
    let exception = dump.get_stream::<MinidumpException<'_>>().unwrap();
    assert_eq!(exception.get_crashing_thread_id(), crashed.tid as u32);
    let context = exception.context(&system, None).unwrap().into_owned();
    let stack = memories.memory_at_address(context.get_stack_pointer()).map(UnifiedMemory::Memory);
    let info = SystemInfo {
        os: system.os,
        os_version: None,
        os_build: None,
        cpu: system.cpu,
        cpu_info: None,
        cpu_microcode_version: None,
        cpu_count: 2,
    };
    let mut calls = CallStack::with_context(context);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let symbolizer = Symbolizer::new(simple_symbol_supplier(Vec::new()));
    runtime.block_on(walk_stack(0, (), &mut calls, stack, &modules, &info, &symbolizer));
    let found: Vec<u64> = calls.frames.iter().map(|frame| frame.context.get_instruction_pointer()).take(3).collect();
    assert_eq!(found, expected, "take, twice, worker");
    // Every other thread's stack is there from its pointer on.
    for thread in &list.threads {
        let context = thread.context(&system, None).unwrap();
        assert!(memories.memory_at_address(context.get_stack_pointer()).is_some(), "thread {}", thread.raw.thread_id);
    }
}
