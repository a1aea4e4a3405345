//! What is read of last words: the fixtures by snapshot, hostile text by its bounds.

use super::*;
use crate::sys::signal::Signal;
use proptest::prelude::*;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/panics")
}

/// Name, stderr and death of every recorded run, as the table in fixtures/panics/README.md has them.
fn recorded() -> Vec<(String, Vec<u8>, Death)> {
    let readme = std::fs::read_to_string(fixtures().join("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with("| ") && line.contains('/') && line.contains('`'));
    rows.map(|row| {
        let name = row.split('|').nth(1).unwrap().trim().to_owned();
        let end = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap().trim().to_owned();
        let (how, number) = end.split_once(' ').unwrap();
        let number: u8 = number.parse().unwrap();
        let death = match how {
            "exit" => Death::Exited(number),
            _ => killed(Signal::new(number.into()).unwrap()),
        };
        let stderr = std::fs::read(fixtures().join(format!("{name}.txt"))).unwrap();
        (name, stderr, death)
    })
    .collect()
}

fn killed(signal: Signal) -> Death {
    Death::Killed { signal, core: false }
}

fn tail(bytes: &[u8]) -> Tail {
    Tail { bytes: bytes.to_vec(), total_bytes: bytes.len() as u64 }
}

fn reading(text: &str, death: Death) -> Reading {
    read(&tail(text.as_bytes()), death)
}

/// What matters of a reading, on a few lines.
fn shown(reading: &Reading) -> String {
    let mut out = String::new();
    let Some(found) = &reading.found else {
        return format!("    nothing: {}\n", reading.passed_over.as_deref().unwrap_or("-"));
    };
    for exception in &found.exceptions {
        let mechanism = &exception.mechanism;
        let place = mechanism.source.as_deref().map(|source| format!(" [{source}]")).unwrap_or_default();
        let _ = writeln!(out, "    {}: {:?}{place}", exception.kind, exception.value);
        let frames = exception.stack.as_ref().map(|stack| stack.frames.as_slice()).unwrap_or_default();
        let own = frames.iter().find(|frame| frame.in_app);
        if let Some(frame) = own {
            let _ = writeln!(
                out,
                "        {} at {}:{} of {} frames",
                frame.function.as_deref().unwrap_or("?"),
                frame.file.as_deref().unwrap_or("?"),
                frame.line.unwrap_or_default(),
                frames.len()
            );
        } else if !frames.is_empty() {
            let _ = writeln!(out, "        none of {} frames is the program's", frames.len());
        }
    }
    if !found.threads.is_empty() {
        let _ = writeln!(out, "        {} threads", found.threads.len());
    }
    out
}

#[test]
fn every_recorded_death_is_read_for_what_it_was() {
    let mut dialect = String::new();
    let mut table = String::new();
    let mut tables = Vec::new();
    for (name, stderr, death) in recorded() {
        let of = name.split('/').next().unwrap().to_owned();
        if of != dialect && !table.is_empty() {
            tables.push((dialect, std::mem::take(&mut table)));
        }
        dialect = of;
        let _ = write!(table, "{name}, {death}\n{}", shown(&read(&tail(&stderr), death)));
    }
    tables.push((dialect, table));
    for (dialect, table) in tables {
        insta::assert_snapshot!(format!("recorded_{dialect}"), table);
    }
}

/// The module's promise: what a program survived, or what does not go with its end, is not the cause of it.
#[test]
fn a_caught_exception_does_not_explain_another_death() {
    let key_error = std::fs::read_to_string(fixtures().join("python/3.11-key.txt")).unwrap();
    let panic = std::fs::read_to_string(fixtures().join("rust/1.95-thread.txt")).unwrap();
    let java = std::fs::read_to_string(fixtures().join("java/17-thread.txt")).unwrap();
    let life: String = (0..40).map(|n| format!("INFO request {n} served\n")).collect();
    let table = [
        // Nothing printed explains a SIGKILL, an OOM kill among them, nor a SIGTERM.
        (key_error.clone(), killed(Signal::KILL), false),
        (key_error.clone(), killed(Signal::TERM), false),
        (panic.clone(), killed(Signal::KILL), false),
        (key_error.clone(), killed(Signal::SEGV), false),
        // The code is another's.
        (key_error.clone(), Death::Exited(3), false),
        (panic.clone(), Death::Exited(1), false),
        (java.clone(), Death::Exited(2), false),
        // Life went on.
        (format!("{key_error}{life}"), Death::Exited(1), false),
        (format!("{panic}{}{life}", life), Death::Exited(101), false),
        (format!("{java}{life}"), Death::Exited(1), false),
        // A few lines of shutting down are no life.
        (format!("{key_error}INFO shutting down\nINFO bye\n"), Death::Exited(1), true),
        // A thread died, whenever it was, and the process ended well.
        (format!("{panic}{life}"), Death::Exited(0), true),
        (format!("{java}{life}"), Death::Exited(0), true),
        (format!("{key_error}{life}"), Death::Exited(0), false),
        // What a shell makes of SIGABRT.
        (panic, Death::Exited(134), true),
        ("free(): invalid pointer\nAborted (core dumped)\n".to_owned(), Death::Exited(134), true),
        ("free(): invalid pointer\n".to_owned(), Death::Exited(139), false),
    ];
    for (text, death, expected) in table {
        let reading = reading(&text, death);
        assert_eq!(reading.found.is_some(), expected, "{death}: {text}\n{}", shown(&reading));
        assert!(expected || reading.passed_over.is_some(), "{text}");
    }
}

#[test]
fn a_fatal_error_log_is_read_if_it_is_this_process_s() {
    let log = std::fs::read(fixtures().join("java/17-native-hs_err.txt")).unwrap();
    let abort = killed(Signal::ABRT);
    let found = read_java_log(&log, 11387, abort).found.unwrap();
    let exception = found.exceptions.last().unwrap();
    assert_eq!((exception.kind.as_str(), exception.value.as_str()), ("SIGSEGV", "Unsafe_PutLong in libjvm.so"));
    assert_eq!(read_java_log(&log, 1138, abort).found, None);
    assert_eq!(read_java_log(&log, 11387, killed(Signal::KILL)).found, None);
}

#[test]
fn the_last_exception_that_fits_is_the_one() {
    let go = std::fs::read_to_string(fixtures().join("go/1.27-index.txt")).unwrap();
    let python = std::fs::read_to_string(fixtures().join("python/3.11-key.txt")).unwrap();
    let text = format!("{python}{go}{python}");
    let kind = |death| reading(&text, death).found.map(|found| found.exceptions.last().unwrap().kind.clone());
    assert_eq!(kind(Death::Exited(2)).as_deref(), Some("panic"));
    assert_eq!(kind(Death::Exited(1)).as_deref(), Some("KeyError"));
    assert_eq!(kind(killed(Signal::SEGV)), None);
}

/// Each recorded text still means the same after what logs do to it.
#[test]
fn colours_line_ends_and_log_records_do_not_change_the_reading() {
    // One of them is a record already.
    for (name, stderr, death) in recorded().into_iter().filter(|(name, ..)| name != "python/3.11-json") {
        let text = String::from_utf8_lossy(&stderr).into_owned();
        let plain = shown(&reading(&text, death));
        let crlf = text.replace('\n', "\r\n");
        let coloured: String = text.lines().map(|line| format!("\x1b[1;31m{line}\x1b[0m\n")).collect();
        let one_each: String = text
            .lines()
            .map(|l| format!("{}\n", serde_json::json!({"log": format!("{l}\n"), "stream": "stderr"})))
            .collect();
        let after_a_log = format!("{}{text}", "INFO request served\n".repeat(100));
        for (how, changed) in [("CRLF", crlf), ("colours", coloured), ("records", one_each), ("log", after_a_log)] {
            assert_eq!(shown(&reading(&changed, death)), plain, "{name} with {how}");
        }
        let whole = format!("{}\n", serde_json::json!({"level": "fatal", "message": text}));
        assert_eq!(shown(&reading(&whole, death)), plain, "{name} as one record");
    }
}

/// Lines of another thread in the middle of a stack cost neither type nor value.
#[test]
fn what_go_says_twice_is_told_once_and_what_it_says_of_two_is_a_chain() {
    let calls = "\ngoroutine 1 [running]:\nmain.f()\n\t/srv/shop/main.go:3 +0x1d\n";
    let told = |head: &str| {
        let found = reading(&format!("{head}{calls}"), Death::Exited(2)).found.expect("a panic");
        found.exceptions.into_iter().map(|exception| (exception.value, exception.mechanism.parent)).collect::<Vec<_>>()
    };
    let chain = [("one\ntwo".to_owned(), Some(1)), ("again: one\ntwo".to_owned(), None)];
    // Before Go 1.20, and since.
    assert_eq!(told("panic: one\ntwo [recovered]\n\tpanic: again: one\ntwo\n"), chain);
    assert_eq!(told("panic: one\n\ttwo [recovered]\n\tpanic: again: one\n\ttwo\n"), chain);
    let writes = "fatal error: concurrent map writes\n";
    assert_eq!(told(&writes.repeat(2)), [("concurrent map writes".to_owned(), None)]);
}

#[test]
fn a_line_of_another_thread_in_a_stack_is_passed_by() {
    let table = [
        ("python/3.11-key", 3, "KeyError"),
        ("go/1.27-index", 5, "panic"),
        ("rust/1.95-index-short", 7, "panic"),
        ("java/17-null", 2, "java.lang.NullPointerException"),
        ("node/20-type", 8, "TypeError"),
        ("ruby/3.1-plain", 2, "ArgumentError"),
        ("sanitizer/gcc-address-use", 5, "AddressSanitizer: heap-use-after-free"),
    ];
    for (name, at, kind) in table {
        let (_, stderr, death) = recorded().into_iter().find(|(recorded, ..)| recorded == name).unwrap();
        let text = String::from_utf8_lossy(&stderr).into_owned();
        let mut lines: Vec<&str> = text.lines().collect();
        let before = read(&tail(&stderr), death).found.unwrap();
        lines.insert(at, "[pool-3] request 17 served in 3 ms");
        let found = reading(&lines.join("\n"), death).found.unwrap_or_else(|| panic!("{name}"));
        let (one, other) = (found.exceptions.last().unwrap(), before.exceptions.last().unwrap());
        assert_eq!((&one.kind[..], &one.value), (kind, &other.value), "{name}");
        let frames = |e: &Exception| e.stack.as_ref().map_or(0, |stack| stack.frames.len());
        assert_eq!(frames(one), frames(other), "{name}");
    }
}

/// A type that was read from a cut text is one that the whole text has.
#[test]
fn a_text_cut_at_any_line_is_never_read_for_something_else() {
    for (name, stderr, death) in recorded().into_iter().step_by(5) {
        let text = String::from_utf8_lossy(&stderr).into_owned();
        let kinds = |text: &str| -> Vec<String> {
            let blocks = blocks(&text.lines().collect::<Vec<_>>());
            blocks.into_iter().flat_map(|found| found.exceptions).map(|exception| exception.kind).collect()
        };
        let whole = kinds(&text);
        let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).take(40).collect();
        for &at in &starts {
            for part in [&text[at..], &text[..at]] {
                let _ = reading(part, death);
                for kind in kinds(part) {
                    // A header that is cut off from what made it special is still what was printed.
                    let printed =
                        text.contains(&kind) || whole.contains(&kind) || kind == "abort" || kind == "Uncaught";
                    assert!(printed, "{name} cut at {at}: {kind}");
                }
            }
        }
    }
}

/// Found by the fuzzer: the cause pointed to an exception that the cut had taken away.
#[test]
fn a_chain_cut_after_its_separator_points_nowhere() {
    let whole = std::fs::read_to_string(fixtures().join("python/3.11-cause.txt")).unwrap();
    let (cut, _) = whole.rsplit_once("    exec(").unwrap();
    let found = reading(cut, Death::Exited(1)).found.unwrap();
    let last = found.exceptions.last().unwrap();
    assert_eq!((last.kind.as_str(), last.mechanism.parent, last.mechanism.source.as_deref()), ("Trouble", None, None));
}

#[test]
fn what_mono_repeats_is_passed_over_only_if_it_is_an_exception() {
    let told = "Unhandled Exception:\nShop.Sold: out\n  at Shop.Main () [0x00] in <0>:0 \n";
    for again in ["Shop.Sold: out", "Sold", "", "out ---> of"] {
        let text = format!("{told}[ERROR] FATAL UNHANDLED EXCEPTION: {again}\n  at Shop.Main () [0x00] in <0>:0 \n");
        let found = reading(&text, Death::Exited(1)).found.expect("an exception");
        assert_eq!((&*found.exceptions[0].kind, &*found.exceptions[0].value), ("Shop.Sold", "out"), "{again}");
    }
}

#[test]
fn what_comes_out_of_a_hostile_text_is_bounded() {
    let lines = 20_000;
    let deep_python = format!(
        "Traceback (most recent call last):\n{}ValueError: {}\n",
        "  File \"a.py\", line 1, in f\n".repeat(lines),
        "x".repeat(100_000)
    );
    let goroutines: String =
        (0..lines).map(|n| format!("goroutine {n} [select]:\nmain.f()\n\t/a.go:1 +0x1\n\n")).collect();
    let chain = format!(
        "Exception in thread \"main\" a.B: c\n\tat a.B.c(B.java:1)\n{}",
        "Caused by: a.B: c\n\tat a.B.c(B.java:1)\n".repeat(lines)
    );
    let table = [
        (deep_python, Death::Exited(1)),
        (format!("panic: x\n\n{goroutines}"), Death::Exited(2)),
        (chain, Death::Exited(1)),
    ];
    for (text, death) in table {
        let found = reading(&text, death).found.unwrap();
        let size = serde_json::to_vec(&(&found.exceptions, &found.threads)).unwrap().len();
        assert!(size < 700_000, "{size}");
    }
}

/// Every header on every line, and lines without an end: no text makes it walk back and forth.
#[test]
fn no_text_is_slow_to_read() {
    const SIZE: usize = crate::limits::STDERR_TAIL_BYTES / 2;
    let heads: Vec<String> = vec![
        "x".repeat(200),
        "{\"a\":".repeat(40),
        "thread 'main' panicked at '".to_owned(),
        "thread 'a' (1) panicked at a:1:1:".to_owned(),
        "panic: a".to_owned(),
        "goroutine 1 [running]:".to_owned(),
        "Traceback (most recent call last):".to_owned(),
        "  File \"a\", line 1, in f".to_owned(),
        "  + Exception Group Traceback (most recent call last):".to_owned(),
        "Exception in thread \"a\" a.B: c".to_owned(),
        "Caused by: a.B: c".to_owned(),
        "\tSuppressed: a.B: c".to_owned(),
        "==1==ERROR: AddressSanitizer: a".to_owned(),
        "Unhandled exception. A.B: c".to_owned(),
        " ---> A.B: c".to_owned(),
        "a.rb:1:in `b': c (D)".to_owned(),
        "a.rb:1: [BUG] x".to_owned(),
        "PHP Fatal error:  Uncaught A: b".to_owned(),
        "/a.js:1".to_owned(),
        "Error: a".to_owned(),
        "FATAL ERROR: a".to_owned(),
        "terminate called after throwing an instance of 'a'".to_owned(),
        "# A fatal error has been detected by the Java Runtime Environment:".to_owned(),
        "[cause]: Error: a".to_owned(),
        "  [errors]: [".to_owned(),
    ];
    for head in heads {
        for separator in ["\n", "", "\n    at a (b:1:1)\n\tat a.b(C.java:1)\n"] {
            let unit = format!("{head}{separator}");
            let text = unit.repeat(SIZE / unit.len());
            let begun = Instant::now();
            let _ = reading(&text, Death::Exited(1));
            // In a debug build on a busy machine; a quadratic walk takes minutes.
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for {head:?}{separator:?}", begun.elapsed());
        }
    }
}

/// Pieces of what runtimes print, in any order.
fn piece() -> impl Strategy<Value = String> {
    let lines: Vec<String> = recorded()
        .into_iter()
        .flat_map(|(_, stderr, _)| {
            String::from_utf8_lossy(&stderr).lines().map(str::to_owned).take(40).collect::<Vec<_>>()
        })
        .collect();
    prop_oneof![
        8 => proptest::sample::select(lines),
        1 => "[ -~\\t]{0,40}",
        1 => "\\PC{0,20}",
        1 => Just("\u{1b}[31m".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000), code: u8) {
        let _ = read(&tail(&bytes), Death::Exited(code));
        let _ = read(&tail(&bytes), killed(Signal::ABRT));
    }

    #[test]
    fn lines_of_all_runtimes_in_any_order_are_read_without_harm(
        pieces in proptest::collection::vec((piece(), "[\\n\\r \\t]{1,2}"), 0..60),
        code in proptest::sample::select(vec![0_u8, 1, 2, 3, 101, 134, 255]),
    ) {
        let text: String = pieces.iter().map(|(piece, end)| format!("{piece}{end}")).collect();
        let reading = reading(&text, Death::Exited(code));
        if let Some(found) = reading.found {
            prop_assert!(!found.exceptions.is_empty());
            for (i, exception) in found.exceptions.iter().enumerate() {
                prop_assert!(exception.mechanism.parent.is_none_or(|parent| parent > i && parent < found.exceptions.len()));
            }
        }
    }
}
