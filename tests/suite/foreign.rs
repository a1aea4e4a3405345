//! Cores of another machine: what a kernel on aarch64 wrote is read on any.

use crate::bed::{Bed, trial};
use flate2::read::GzDecoder;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const BUILD_ID: &str = "435f146f2e907d63f459122acff870e3c4e1c122";

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "each thread of a core from aarch64 is told as gdb tells it, signed return addresses and all",
            &[],
            plain,
        ),
        trial("what a handler interrupted is told behind it, in a core from aarch64", &[], handler),
        trial("a call without unwind tables does not lose those further out, in a core from aarch64", &[], bare),
    ]
}

fn unpack(bed: &Bed, name: &str) -> PathBuf {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/cores/aarch64/{name}.gz"));
    let unpacked = bed.path(name);
    let mut from = GzDecoder::new(File::open(&packed).expect("the fixture"));
    io::copy(&mut from, &mut File::create(&unpacked).unwrap()).unwrap();
    unpacked
}

/// What is told of the core, as JSON and for people.
fn read(bed: &Bed, core: &str) -> (Value, String) {
    let (program, core) = (unpack(bed, "crash"), unpack(bed, core));
    let shown = |more: &[&str]| {
        let obit = bed.obit(["core".as_ref(), core.as_os_str(), "--exe".as_ref(), program.as_os_str()]);
        let ended = obit.args(more).end();
        ended.code(0);
        ended.stdout()
    };
    (serde_json::from_str(&shown(&["--json"])).expect("JSON"), shown(&[]))
}

/// Program counter, function, line of crash.c and how it was found.
fn calls(thread: &Value) -> Value {
    let frames = thread["frames"].as_array().expect("frames").iter();
    frames.map(|frame| json!([frame["pc"], frame["function"], frame["line"], frame["trust"]])).collect()
}

/// Without those that called main, which are the same in each of them.
fn calls_of_main(thread: &Value) -> Value {
    let mut calls = calls(thread).as_array().expect("calls").clone();
    let before_main = calls.split_off(calls.len().saturating_sub(3));
    assert_eq!(
        Value::from(before_main),
        json!([
            ["0x400918", "__libc_start_call_main", null, "cfi"],
            ["0x400ce4", "__libc_start_main", null, "cfi"],
            ["0x4005b0", "_start", null, "cfi"],
        ])
    );
    calls.into()
}

/// What is the same in each of them; its second thread was not in the way.
fn is_of_the_machine(told: &Value, pid: u64, signal: &Value) {
    assert_eq!((&told["arch"], &told["pid"], &told["signal"]), (&json!("aarch64"), &json!(pid), signal));
    assert_eq!(told["gaps"], json!([]));
    let program = &told["images"][0];
    assert_eq!(
        (&program["path"], &program["build_id"], &program["addr"]),
        (&json!("/crash"), &json!(BUILD_ID), &json!("0x400000"))
    );
    let threads = told["threads"].as_array().expect("threads");
    let who: Value = threads.iter().map(|thread| json!([thread["tid"], thread["name"], thread["crashed"]])).collect();
    // A core has one name, that of the thread that died.
    assert_eq!(who, json!([[pid, "crash", true], [pid + 1, null, false]]));
    assert_eq!(
        calls(&threads[1]),
        json!([
            ["0x41ca7c", "pause", null, "context"],
            ["0x400740", "wait_here", 32, "cfi"],
            ["0x40f034", "start_thread", null, "cfi"],
            ["0x4442dc", "thread_start", null, "cfi"],
        ])
    );
    let frames = threads.iter().flat_map(|thread| thread["frames"].as_array().expect("frames"));
    for frame in frames {
        let (is_ours, file) = (frame["line"].is_u64(), frame["file"].as_str());
        assert_eq!(file, is_ours.then_some("/src/crash.c"), "{frame}");
    }
}

fn segfault() -> Value {
    json!({"number": 11, "name": "SIGSEGV", "code": 1, "code_name": "SEGV_MAPERR", "fault_address": "0x0", "sender_pid": null,
        "sender_uid": null})
}

fn plain(bed: &Bed) {
    let (told, page) = read(bed, "plain.core");
    is_of_the_machine(&told, 77, &segfault());
    assert_eq!(
        calls_of_main(&told["threads"][0]),
        json!([
            ["0x4006f0", "inner", 12, "context"],
            ["0x400710", "middle", 15, "cfi"],
            ["0x400768", "outer", 16, "cfi"],
            ["0x400834", "main", 47, "cfi"],
        ])
    );
    for line in
        ["crash, pid 77, 2 threads", "SIGSEGV (segmentation fault), SEGV_MAPERR at 0x0", "thread 77 crash, crashed"]
    {
        assert!(page.contains(line), "{page}");
    }
}

fn handler(bed: &Bed) {
    let (told, _) = read(bed, "handler.core");
    let sent = json!({"number": 6, "name": "SIGABRT", "code": -6, "code_name": "SI_TKILL", "fault_address": null, "sender_pid": 79,
        "sender_uid": 0});
    is_of_the_machine(&told, 79, &sent);
    assert_eq!(
        calls_of_main(&told["threads"][0]),
        json!([
            ["0x410190", "__pthread_kill_implementation.constprop.0", null, "context"],
            ["0x40560c", "raise", null, "cfi"],
            ["0x400430", "abort", null, "cfi"],
            ["0x400754", "give_up", 37, "cfi"],
            ["0xffffa52927bc", "<signal handler called>", null, "cfi"],
            ["0x4006f0", "inner", 12, "cfi"],
            ["0x400710", "middle", 15, "cfi"],
            ["0x400768", "outer", 16, "cfi"],
            ["0x400834", "main", 47, "cfi"],
        ])
    );
}

fn bare(bed: &Bed) {
    let (told, _) = read(bed, "bare.core");
    is_of_the_machine(&told, 81, &segfault());
    assert_eq!(
        calls_of_main(&told["threads"][0]),
        json!([
            ["0x4006f0", "inner", 12, "context"],
            ["0x400710", "middle", 15, "cfi"],
            ["0x400768", "outer", 16, "cfi"],
            ["0x4006e0", "bare", null, "cfi"],
            ["0x400860", "main", 46, "fp"],
        ])
    );
}
