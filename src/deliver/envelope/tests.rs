//! What is sent, as a reader sees it: one snapshot for each kind of envelope.

use super::*;
use crate::evidence::stack::{Exception, Frame, Image, Mechanism, Omitted, Stack, ThreadStack, Trust};
use crate::report::StderrTail;

/// A report in which everything is known.
fn full() -> Report {
    let mut report: Report = serde_json::from_value(json!({
        "format": 1, "event_id": "ab".repeat(16), "at_unix_ms": 1_700_000_000_250u64, "complete": true, "reason": "signal",
        "level": "fatal", "component": "app", "kind": "SIGSEGV", "summary": "segmentation fault, core dumped, 10.2 s after the start",
        "exit": {"signal": "SIGSEGV", "signal_number": 11, "code": 139, "core_dumped": true},
        "run": {"id": "cd".repeat(16), "started_unix_ms": 1_699_999_990_000u64, "uptime_ms": 10_250,
                "release": "app@1.0", "environment": "prod"},
        "process": {"pid": 7, "argv": ["app", "--password", "[filtered]"], "exe": "/usr/bin/app", "build_id": "68220ae2c65d65c1b6aaa12fa6765a6ec2f5f434",
                    "cwd": "/srv", "env": {"HOME": "/root", "TOKEN": ""}, "uid": 1000, "gid": 1000, "cgroup": "/pod/app",
                    "usage": {"user_us": 1, "system_us": 2, "max_rss_kib": 3, "major_faults": 4, "minor_faults": 5}},
        "oom": {"source": "/sys/fs/cgroup/memory.events", "kills_before": 1, "kills_after": 1, "limit_bytes": 536_870_912u64},
        "stop": {"signal": "SIGTERM", "sender_pid": 0, "sender_uid": 0, "before_death_ms": 40},
        "stderr_tail": {"text": "one\n\ntwo é\n", "total_bytes": 12, "kept_bytes": 12, "masked": 0},
        "host": {"name": "web-1", "arch": "aarch64", "kernel": "6.1.0", "os_name": "Debian GNU/Linux", "os_version": "12",
                 "memory_bytes": 2048, "memory_available_bytes": 1024, "cpus": 2, "boot_unix_ms": 1_699_000_000_000u64,
                 "container_id": "ef".repeat(32), "core_pattern": "core"},
        "kubernetes": {"pod_name": "web-1", "node_name": "node-a"},
        "fingerprint": ["obit", "app", "signal", "SIGSEGV"], "suppressed": 3,
        "gaps": [{"what": "core", "why": "the host took it"}], "obit_version": env!("CARGO_PKG_VERSION"),
    }))
    .unwrap();
    let frame = |function: &str, address: u64, trust: Trust| Frame {
        function: Some(function.to_owned()),
        symbol: Some(format!("_Z{function}v")),
        file: Some(format!("/src/{function}.cc")),
        line: Some(7),
        column: Some(3),
        address: Some(address),
        symbol_address: Some(address & !0xff),
        package: Some("/usr/bin/app".to_owned()),
        image_address: Some(0x5000),
        in_app: true,
        trust: Some(trust),
        ..Frame::default()
    };
    let crash = Stack {
        frames: vec![frame("crash", 0x5123, Trust::Context), frame("main", 0x5456, Trust::Cfi)],
        registers: [("pc".to_owned(), 0x5123), ("sp".to_owned(), 0x7fff_0000)].into(),
        omitted: None,
    };
    let waiting = Stack {
        frames: vec![Frame { function: Some("futex_wait".to_owned()), ..Frame::default() }],
        omitted: Some(Omitted { before: 1, frames: 70 }),
        ..Stack::default()
    };
    report.exceptions = vec![
        Exception {
            kind: "io::Error".to_owned(),
            value: "no such file".to_owned(),
            mechanism: Mechanism {
                kind: "chained".to_owned(),
                source: Some("cause".to_owned()),
                parent: Some(1),
                is_group: false,
            },
            ..Exception::default()
        },
        Exception { kind: "SIGSEGV".to_owned(), value: "SEGV_MAPERR at 0x10".to_owned(), ..Exception::default() },
    ];
    let thread = |tid: u64, name: &str, crashed: bool, stack: Stack| ThreadStack {
        tid,
        name: Some(name.to_owned()),
        state: (!crashed).then(|| "futex_wait_queue".to_owned()),
        crashed,
        stack,
    };
    report.threads = vec![thread(7, "app", true, crash), thread(8, "worker", false, waiting)];
    let image = |file: &str, address: u64, build_id: Option<&str>| Image {
        file: file.to_owned(),
        build_id: build_id.map(str::to_owned),
        address,
        size: 0x1000,
    };
    report.images = vec![
        image("/usr/bin/app", 0x5000, Some("68220ae2c65d65c1b6aaa12fa6765a6ec2f5f434")),
        image("/lib/no-frame-in-it.so", 0x9000, Some("0102")),
    ];
    report
}

/// What is known before anything was examined.
fn minimal() -> Report {
    serde_json::from_value(json!({
        "format": 1, "event_id": "ab".repeat(16), "at_unix_ms": 1_700_000_000_000u64, "complete": false, "reason": "code",
        "level": "error", "component": "app", "kind": "exit code 3", "summary": "ended with exit code 3",
        "exit": {"code": 3, "core_dumped": false}, "run": {"id": "cd".repeat(16), "started_unix_ms": 1_699_999_990_000u64},
        "fingerprint": ["obit", "app", "code", "3"], "obit_version": env!("CARGO_PKG_VERSION"),
        "gaps": [{"what": "everything else", "why": "the examiner did not get further"}],
    }))
    .unwrap()
}

/// Each line with its JSON spread out; our version, and the lengths that it changes, are not shown.
fn readable(envelope: &[u8]) -> String {
    let text = std::str::from_utf8(envelope).unwrap();
    let spread = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(mut value) => {
            if let Some(length) = value.get_mut("length") {
                *length = "BYTES".into();
            }
            serde_json::to_string_pretty(&value).unwrap()
        }
        Err(_) => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(spread).collect();
    lines.join("\n").replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

const SENT_AT: u64 = 1_700_000_001_000;

#[test]
fn a_crash_with_everything() {
    insta::assert_snapshot!(readable(&crash(
        &full(),
        &Sender { server_name: Some("pseudonym".to_owned()), ..Sender::default() },
        Size::Whole,
        SENT_AT
    )));
}

#[test]
fn a_crash_trimmed_for_a_server_that_takes_little() {
    insta::assert_snapshot!(readable(&crash(&full(), &Sender::default(), Size::Trimmed, SENT_AT)));
}

#[test]
fn a_death_of_which_only_the_minimum_is_known() {
    insta::assert_snapshot!(readable(&crash(&minimal(), &Sender::default(), Size::Whole, SENT_AT)));
}

#[test]
fn a_session() {
    let told = Session {
        format: 1,
        sid: "cd".repeat(16),
        started_unix_ms: 1_699_999_990_000,
        ended_unix_ms: 1_700_000_000_250,
        status: SessionStatus::Crashed,
        errors: 1,
        release: "app@1.0".to_owned(),
        environment: Some("prod".to_owned()),
    };
    insta::assert_snapshot!(readable(&session(&told, false, SENT_AT).unwrap()));
    let again = session(&told, true, SENT_AT).unwrap();
    assert!(readable(&again).contains("\"init\": false"));
    assert_eq!(session(&Session { release: "a/b".to_owned(), ..told }, false, SENT_AT), None);
}

#[test]
fn a_client_report() {
    let lost = Discard { reason: "cache_overflow".to_owned(), category: "error".to_owned(), quantity: 3 };
    insta::assert_snapshot!(readable(&client_report(&[lost], SENT_AT)));
}

#[test]
fn the_envelope_is_lines_with_true_lengths() {
    let mut report = full();
    report.stderr_tail = Some(StderrTail { text: "é\n".to_owned(), ..StderrTail::default() });
    let bytes = crash(&report, &Sender::default(), Size::Whole, SENT_AT);
    let text = String::from_utf8(bytes).unwrap();
    let mut rest = text.split_once('\n').unwrap().1;
    assert!(text.starts_with("{\"event_id\":\"abab") && text.contains("\"sent_at\":\"2023-11-14T22:13:21.000Z\""));
    let mut kinds = Vec::new();
    while !rest.is_empty() {
        let (head, after) = rest.split_once('\n').unwrap();
        let head: Value = serde_json::from_str(head).unwrap();
        let length = head["length"].as_u64().unwrap() as usize;
        assert_eq!(&after[length..=length], "\n");
        kinds.push(head["type"].as_str().unwrap().to_owned());
        rest = &after[length + 1..];
    }
    assert_eq!(kinds, ["event", "attachment"]);
}

#[test]
fn an_event_larger_than_sentry_takes_is_trimmed_before_it_is_sent() {
    let mut report = full();
    let thread = report.threads[1].clone();
    let frame = Frame { function: Some("x".repeat(512)), ..Frame::default() };
    report.threads.extend((100..200).map(|tid| ThreadStack {
        tid,
        stack: Stack { frames: vec![frame.clone(); 200], ..Stack::default() },
        ..thread.clone()
    }));
    let bytes = crash(&report, &Sender::default(), Size::Whole, SENT_AT);
    assert!(bytes.len() < limits::EVENT_ITEM_BYTES, "{}", bytes.len());
    assert!(String::from_utf8(bytes).unwrap().contains("\"trimmed\""));
}
