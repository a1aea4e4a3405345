//! What real programs say as they die is in the report: the exception, where it was, and nothing that was not so.

use crate::bed::{Bed, Setup, both, program, trial};
use crate::need::Need;
use libtest_mimic::Trial;
use serde_json::Value;

const PYTHON: Need = Need::Tool("python3");

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a Python exception is told with its cause, its calls and its place", &[PYTHON], python),
        trial("an exception that was logged and survived is not the cause of another end", &[PYTHON], survived),
        trial("a SIGKILL has no exception, whatever was printed before", &[PYTHON], killed),
        trial("a thread that dies alone is an error though the code is 0", &[PYTHON], thread),
        trial("a good end with a traceback of something caught is no report", &[PYTHON], caught_and_well),
        trial("a stop that was asked for makes no report of a thread that died before", &[PYTHON], stopped),
        trial("a failed assertion is told in its own words", &[], assertion),
        trial("what the allocator found is told", &[], allocator),
        trial("a Rust panic has its place and its message", &[Need::Tool("rustc")], rust),
        trial("a JVM's fatal error log is found where it was left", &[], java_log),
        trial("secrets in an exception are masked", &[PYTHON], masked),
        trial("a secret of the command line is masked where the program prints it", &[], masked_argument),
        trial("the page shows the exception before everything else", &[PYTHON], page),
    ];
    trials.extend(both("a signal that a shell tells as a code is told for what it was", &[], shell));
    trials
}

/// The newest report.
fn report(bed: &Bed) -> Value {
    let shown = bed.obit(["crashes", "show", "--json"]).end();
    serde_json::from_str(&shown.stdout()).unwrap_or_else(|error| panic!("{error}: {}", shown.stderr()))
}

fn reports(bed: &Bed) -> usize {
    let list: Value = serde_json::from_str(&bed.obit(["crashes", "list", "--json"]).end().stdout()).expect("an array");
    list.as_array().expect("an array").len()
}

/// Type, value, and the first call of the program's own: function, file name, line.
fn last(report: &Value) -> (String, String, String) {
    let exception = report["exceptions"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let frames = exception["stack"]["frames"].as_array().cloned().unwrap_or_default();
    let own = frames.iter().find(|frame| frame["in_app"] == true).cloned().unwrap_or_default();
    let file = text(&own["file"]);
    let place = format!("{} {}:{}", text(&own["function"]), file.rsplit('/').next().unwrap_or_default(), own["line"]);
    (text(&exception["kind"]), text(&exception["value"]), place)
}

fn in_python(bed: &Bed, script: &str) -> Setup {
    let file = bed.path("shop.py");
    std::fs::write(&file, script).unwrap();
    bed.under(["python3".as_ref(), file.as_os_str()])
}

const CHAIN: &str = "def take(shelf):
    return shelf['book']
def open_shop():
    try:
        take({})
    except KeyError as e:
        raise RuntimeError('no book') from e
open_shop()
";

fn python(bed: &Bed) {
    in_python(bed, CHAIN).end().code(1);
    let report = report(bed);
    assert_eq!(last(&report), ("RuntimeError".into(), "no book".into(), "open_shop shop.py:7".into()));
    let first = &report["exceptions"][0];
    assert_eq!((first["kind"].as_str(), first["mechanism"]["source"].as_str()), (Some("KeyError"), Some("__cause__")));
    let fingerprint: Vec<&str> = report["fingerprint"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(fingerprint.ends_with(&["RuntimeError", "shop.open_shop", "shop.<module>"]), "{fingerprint:?}");
}

fn survived(bed: &Bed) {
    let script = "import logging, sys
try:
    {}['book']
except KeyError:
    logging.exception('request failed')
for n in range(50):
    logging.warning('request %d served', n)
sys.exit(1)
";
    in_python(bed, script).end().code(1);
    let report = report(bed);
    assert_eq!(report["exceptions"], Value::Null);
    let gaps = report["gaps"].to_string();
    assert!(gaps.contains("KeyError (Python) on stderr was followed by 50 ordinary lines"), "{gaps}");
}

fn killed(bed: &Bed) {
    let script = "import os, signal, traceback
try:
    {}['book']
except KeyError:
    traceback.print_exc()
os.kill(os.getpid(), signal.SIGKILL)
";
    in_python(bed, script).end().code(137);
    let report = report(bed);
    assert_eq!((report["kind"].as_str(), &report["exceptions"]), (Some("SIGKILL"), &Value::Null));
}

const DYING_THREAD: &str = "import threading
def work():
    raise ValueError('in a thread')
t = threading.Thread(target=work)
t.start()
t.join()
";

fn thread(bed: &Bed) {
    let told = "a thread died, the program went on and ended with exit code 0";
    in_python(bed, DYING_THREAD).end().code(0).complains("dying thread, ValueError: in a thread").complains(told);
    let report = report(bed);
    assert_eq!(last(&report), ("ValueError".into(), "in a thread".into(), "work shop.py:3".into()));
    assert_eq!((report["level"].as_str(), report["exit"]["code"].as_u64()), (Some("error"), Some(0)));
}

fn caught_and_well(bed: &Bed) {
    let script = "import traceback
try:
    {}['book']
except KeyError:
    traceback.print_exc()
import sys
print('nobody panicked at this', file=sys.stderr)
";
    in_python(bed, script).end().code(0);
    assert_eq!(reports(bed), 0);
}

fn stopped(bed: &Bed) {
    let script = format!(
        "{DYING_THREAD}import signal, sys\nsignal.signal(15, lambda *_: sys.exit(0))\nprint('ready', flush=True)\nsignal.pause()\n"
    );
    let run = in_python(bed, &script).start();
    run.says("ready");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.end().code(0);
    assert_eq!(reports(bed), 0);
}

fn assertion(bed: &Bed) {
    bed.under([program("abort").as_os_str(), "assert".as_ref()]).end().code(134);
    let (kind, value, place) = last(&report(bed));
    assert_eq!((kind.as_str(), value.as_str()), ("assertion failed", "shelf > 0 && \"a shelf\""));
    assert!(place.starts_with("take abort.c:"), "{place}");
}

fn allocator(bed: &Bed) {
    bed.under([program("abort").as_os_str(), "free".as_ref()]).end().code(134);
    let (kind, value, _) = last(&report(bed));
    assert_eq!(kind, "SIGABRT");
    assert!(value.contains("double free"), "{value}");
}

fn rust(bed: &Bed) {
    let (source, made) = (bed.path("shop.rs"), bed.path("shop"));
    std::fs::write(&source, "fn main() {\n    let shelf: Vec<u8> = Vec::new();\n    println!(\"{}\", shelf[2]);\n}\n")
        .unwrap();
    let rustc = std::process::Command::new("rustc").arg("-o").arg(&made).arg(&source).output().expect("rustc runs");
    assert!(rustc.status.success(), "{}", String::from_utf8_lossy(&rustc.stderr));
    for (backtrace, function) in [("0", ""), ("1", "shop::main")] {
        bed.under([&made]).env("RUST_BACKTRACE", backtrace).end().code(101);
        let (kind, value, place) = last(&report(bed));
        assert_eq!(kind, "panic");
        assert_eq!(value, "index out of bounds: the len is 0 but the index is 2");
        assert_eq!(place, format!("{function} shop.rs:3"));
    }
}

/// The log is a recorded one: a JVM is not everywhere.
fn java_log(bed: &Bed) {
    let log = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/panics/java/17-native-hs_err.txt");
    let die = format!("sed s/pid=11387/pid=$$/ {log} >hs_err_pid$$.log; kill -ABRT $$");
    let script = format!("cd {} && exec {} -- sh -c '{die}'", bed.path("").display(), crate::bed::binary().display());
    bed.command("sh").args(["-c", &script]).end().code(134);
    let (kind, value, place) = last(&report(bed));
    assert_eq!((kind.as_str(), value.as_str()), ("SIGSEGV", "Unsafe_PutLong in libjvm.so"));
    assert!(place.starts_with("Crash.main"), "{place}");
}

fn shell(bed: &Bed) {
    let die = program("die");
    bed.script(&format!("{} signal 11; exit $?", die.display())).end().code(139);
    let report = report(bed);
    let summary = report["summary"].as_str().unwrap();
    let told = "ended with exit code 139, as a shell tells a child's SIGSEGV (segmentation fault)";
    assert!(summary.starts_with(told), "{summary}");
}

/// The examiner knows the command line, too.
fn masked_argument(bed: &Bed) {
    let script = "echo cannot log in with $2 >&2; exit 9";
    bed.under(["sh", "-c", script, "shop", "--password", "hunter2x"]).end().code(9);
    let report = report(bed);
    assert_eq!(report["stderr_tail"]["text"], "cannot log in with [masked]\n");
    assert!(!report.to_string().contains("hunter2x"), "{report:#}");
}

fn masked(bed: &Bed) {
    let script = "import os\nraise ValueError('cannot log in with ' + os.environ['DB_PASSWORD'])\n";
    in_python(bed, script).env("DB_PASSWORD", "hunter2-hunter2").end().code(1);
    let report = report(bed);
    assert_eq!(last(&report).1, "cannot log in with [masked]");
    assert!(!report.to_string().contains("hunter2"));
}

fn page(bed: &Bed) {
    in_python(bed, CHAIN).end().code(1);
    let shown = bed.obit(["crashes", "show"]).end().stdout();
    let said = shown.find("RuntimeError: no book\n    at open_shop").expect("the exception");
    assert!(said < shown.find("  when ").expect("the rows"), "{shown}");
    assert!(shown.contains("  because of KeyError: 'book'\n    at take "), "{shown}");
    let list = bed.obit(["crashes", "list"]).end().stdout();
    assert!(list.contains("exit code 1: RuntimeError: no book"), "{list}");
}
