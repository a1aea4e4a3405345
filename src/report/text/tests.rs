//! The obituary as people see it, by snapshot.

use super::*;
use crate::case::{Reason, Tail};
use crate::death::Death;
use crate::evidence::panic;
use crate::report::scrub::Scrubber;
use crate::report::{Exit, FORMAT, Gap, Host, Oom, Process, RunFacts, StderrTail, StopFacts, UsageFacts};
use std::collections::BTreeMap;

/// 2026-11-24T12:00:00Z
const DEATH: u64 = 1_795_521_600_000;
const NOW: u64 = DEATH + 185_000;

fn segfault() -> Report {
    Report {
        format: FORMAT,
        event_id: "4fd1c2e86a7b4b7f9c7d1f0a2b3c4d5e".to_owned(),
        at_unix_ms: DEATH,
        complete: true,
        reason: Reason::Signal,
        level: Level::Fatal,
        component: "web".to_owned(),
        kind: "SIGSEGV".to_owned(),
        summary: "segmentation fault, core dumped, 3.2 s after the start".to_owned(),
        exit: Exit {
            signal: Some("SIGSEGV".to_owned()),
            signal_number: Some(11),
            code: Some(139),
            told_code: Some(139),
            core_dumped: Some(true),
        },
        run: RunFacts {
            id: "00112233445566778899aabbccddeeff".to_owned(),
            started_unix_ms: DEATH - 3200,
            uptime_ms: Some(3200),
            release: Some("shop@1.4.2".to_owned()),
            environment: Some("production".to_owned()),
        },
        process: Process {
            pid: Some(7),
            argv: ["/srv/web", "--listen=:8080", "--db", "[masked]", "hello world"].map(str::to_owned).to_vec(),
            exe: Some("/srv/web".to_owned()),
            build_id: Some("68220ae2c65d65c1b6aaa12fa6765a6ec2f5f434".to_owned()),
            cwd: Some("/srv".to_owned()),
            usage: Some(UsageFacts {
                user_us: 1_234_567,
                system_us: 50_000,
                max_rss_kib: 65_536,
                major_faults: 12,
                minor_faults: 3000,
            }),
            uid: Some(1000),
            gid: Some(1000),
            ns_pids: vec![4711, 7],
            ..Process::default()
        },
        oom: Some(Oom {
            source: "memory.events".to_owned(),
            kills_before: 1,
            kills_after: 1,
            limit_bytes: Some(512 << 20),
            peak_bytes: Some(70 << 20),
        }),
        stop: None,
        stderr_tail: Some(StderrTail {
            text: "listening on :8080\n\x1b[1;31mERROR\x1b[0m cache gone, password=[masked]\n\tat pool.c:42\n"
                .to_owned(),
            total_bytes: 90,
            kept_bytes: 90,
            masked: 1,
        }),
        exceptions: Vec::new(),
        threads: Vec::new(),
        images: Vec::new(),
        minidump: None,
        host: Host {
            name: "web-5d9c7".to_owned(),
            arch: "x86_64".to_owned(),
            kernel: "6.18.44".to_owned(),
            os_name: Some("Debian GNU/Linux".to_owned()),
            os_version: Some("12".to_owned()),
            memory_bytes: Some(8 << 30),
            cpus: Some(4),
            container_id: Some("0123456789abcdef".repeat(4)),
            core_pattern: Some("core".to_owned()),
            ..Host::default()
        },
        kubernetes: BTreeMap::from([("pod_name".to_owned(), "web-5d9c7".to_owned())]),
        fingerprint: ["obit", "web", "signal", "SIGSEGV"].map(str::to_owned).to_vec(),
        suppressed: 0,
        gaps: Vec::new(),
        obit_version: "0.1.0".to_owned(),
    }
}

fn page(report: &Report, colour: bool) -> String {
    obituary(report, "waits to be delivered", NOW, Look { colour })
}

#[test]
fn a_crash_is_readable_at_a_glance() {
    insta::assert_snapshot!(page(&segfault(), false));
}

#[test]
fn colours_are_there_when_they_are_asked_for() {
    insta::assert_snapshot!(page(&segfault(), true).replace('\x1b', "␛"));
}

#[test]
fn an_oom_kill_after_a_stop_in_a_loop_tells_all_three() {
    let mut report = segfault();
    report.reason = Reason::Oom;
    report.kind = "OOM kill".to_owned();
    report.summary = "killed by the kernel at the memory limit of 512.0 MiB, 3.2 s after the start".to_owned();
    report.exit = Exit {
        signal: Some("SIGKILL".to_owned()),
        signal_number: Some(9),
        code: Some(137),
        told_code: Some(0),
        core_dumped: Some(false),
    };
    report.oom = report.oom.map(|oom| Oom { kills_after: 2, peak_bytes: Some(512 << 20), ..oom });
    report.stop = Some(StopFacts {
        signal: "SIGTERM".to_owned(),
        sender_pid: 0,
        sender_uid: 0,
        before_death_ms: 1500,
        hurried: true,
    });
    report.suppressed = 29;
    report.stderr_tail = None;
    report.gaps = vec![Gap::of(
        "build id: the program's file could not be opened, since it was removed while the program ran, or so it seems",
    )];
    insta::assert_snapshot!(page(&report, false));
}

#[test]
fn the_minimum_is_a_page_too() {
    let mut report = segfault();
    report.complete = false;
    report.process = Process { pid: Some(7), argv: vec!["/srv/web".to_owned()], ..Process::default() };
    report.host = Host::default();
    report.kubernetes.clear();
    report.oom = None;
    report.stderr_tail = None;
    report.run.release = None;
    report.run.environment = None;
    report.gaps = vec![Gap::of("everything else: the examiner did not get further")];
    insta::assert_snapshot!(page(&report, false));
}

#[test]
fn what_a_program_wrote_cannot_move_the_cursor() {
    let mut report = segfault();
    let hostile = "\x1b[2J\x1b]0;owned\x07\u{9b}1A\u{202e}evil\r\x1b[31m\x08";
    report.component = hostile.to_owned();
    report.summary = hostile.to_owned();
    report.kind = hostile.to_owned();
    report.process.argv = vec![hostile.to_owned()];
    report.host.name = hostile.to_owned();
    report.gaps = vec![Gap { what: hostile.to_owned(), why: hostile.to_owned() }];
    report.stderr_tail = Some(StderrTail { text: format!("{hostile}\nok\r\n"), ..StderrTail::default() });
    for text in [page(&report, false), one_line(&report)] {
        let escaped = text.chars().all(|c| c == '\n' || !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c));
        assert!(escaped, "{text:?}");
    }
    assert!(!one_line(&report).contains('\n'));
    assert!(page(&report, false).contains("│ ok\n"));
}

#[test]
fn a_long_tail_is_shown_by_its_end_and_long_lines_are_cut() {
    let mut report = segfault();
    let text: String = (1..=100).map(|n| format!("line {n} {}\n", "x".repeat(2000))).collect();
    report.stderr_tail = Some(StderrTail { text, total_bytes: 300_000, kept_bytes: 200_000, masked: 0 });
    let page = page(&report, false);
    assert!(page.contains("stderr (the last 20 lines of 293.0 KiB)\n  │ line 81 "), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= STDERR_LINE_CHARS + 6));
}

#[test]
fn one_line_names_who_what_and_where_to_look() {
    assert_eq!(
        one_line(&segfault()),
        "web shop@1.4.2: SIGSEGV (segmentation fault, core dumped, 3.2 s after the start); \
         report 4fd1c2e86a7b4b7f9c7d1f0a2b3c4d5e"
    );
}

#[test]
fn durations_and_sizes_are_for_people() {
    let times = [
        (0, "0 ms"),
        (999, "999 ms"),
        (3_250, "3.2 s"),
        (245_000, "4 min 5 s"),
        (7_380_000, "2 h 3 min"),
        (436_000_000, "5 d 1 h"),
    ];
    for (ms, expected) in times {
        assert_eq!(duration(ms), expected);
    }
    for (bytes, expected) in
        [(512, "512 B"), (65_536, "64.0 KiB"), (1_610_612_736, "1.5 GiB"), (u64::MAX, "16777216.0 TiB")]
    {
        assert_eq!(size(bytes), expected);
    }
    assert_eq!(utc(1_700_000_000_000), "2023-11-14T22:13:20Z");
    assert_eq!(utc(u64::MAX), u64::MAX.to_string());
}

/// As the examiner makes it of a recorded text.
fn died_of(fixture: &str, death: Death) -> Report {
    let path = format!("{}/fixtures/panics/{fixture}.txt", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let tail = Tail { total_bytes: bytes.len() as u64, bytes };
    let mut report = segfault();
    report.level = Level::Error;
    report.reason = Reason::Code;
    report.kind = death.signal().map_or_else(|| format!("exit code {}", death.exit_status()), Signal::name);
    report.summary = format!("{death}, 3.2 s after the start");
    report.exit = Exit { code: Some(death.exit_status()), core_dumped: Some(false), ..Exit::default() };
    report.stderr_tail = Some(StderrTail { text: "…\n".to_owned(), ..StderrTail::default() });
    report.host.core_pattern = None;
    said::put(&mut report, panic::read(&tail, death), &mut Scrubber::new([]));
    report
}

#[test]
fn an_exception_and_the_program_s_own_calls_come_first() {
    let pages = [
        died_of("python/3.13-cause", Death::Exited(1)),
        died_of("go/1.27-nil", Death::Exited(2)),
        died_of("java/17-suppressed", Death::Exited(1)),
        died_of("native/gcc12-assert-de_DE", Death::Killed { signal: Signal::ABRT, core: false }),
        died_of("python/3.11-logged", Death::Exited(1)),
    ];
    let heads = pages.iter().map(|report| {
        let page = page(report, false);
        let (before, after) = page.split_once("  when ").unwrap();
        let gaps = after.split_once("not known").map_or("", |(_, gaps)| gaps);
        format!("{before}{gaps}")
    });
    insta::assert_snapshot!(heads.collect::<Vec<_>>().join("--------\n"));
}

#[test]
fn a_line_about_a_death_names_the_exception() {
    let line = one_line(&died_of("python/3.13-key", Death::Exited(1)));
    assert_eq!(
        line,
        "web shop@1.4.2: exit code 1, KeyError: 'book' (exited with code 1, 3.2 s after the start); \
         report 4fd1c2e86a7b4b7f9c7d1f0a2b3c4d5e"
    );
}
