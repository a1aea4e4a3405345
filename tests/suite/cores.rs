//! Cores of real crashes: `obit core` beside gdb, and what becomes of a core beside a report.

use crate::bed::{Bed, program, trial, trial_with};
use crate::need::Need;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const GDB: &[Need] = &[Need::Tool("gdb"), Need::PlainCores];
const CORES: &[Need] = &[Need::PlainCores];
const CUT: &[Need] = &[Need::Tool("strace"), Need::PlainCores];

/// How a program is built.
const BUILDS: [(&str, &[&str]); 6] = [
    ("with debug information", &["-g", "-O1"]),
    ("optimised, without frame pointers", &["-g", "-O2", "-fomit-frame-pointer"]),
    ("stripped", &["-O2", "-s"]),
    ("static", &["-g", "-O1", "-static"]),
    ("static and position-independent", &["-g", "-O1", "-static-pie"]),
    ("not position-independent", &["-g", "-O1", "-no-pie"]),
];
const WAYS: [&str; 12] = [
    "nested",
    "inlined",
    "abort",
    "assert",
    "free",
    "divide",
    "call",
    "handler",
    "altstack",
    "again",
    "again-siginfo",
    "threads",
];

pub fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = BUILDS
        .into_iter()
        .map(|(name, flags)| {
            let name = format!("every call of every thread is where gdb finds it, in a program that is {name}");
            trial_with(&name, GDB, move |bed| beside_gdb(bed, flags))
        })
        .collect();
    trials.extend([
        trial("a stack that overflowed is told by its two ends", CORES, overflow),
        trial("a core that is cut short is read as far as it goes, and noise is refused", CORES, cut),
        trial("the core of a crash is in its report where nobody could trace", CORES, in_report),
        trial("a link named core and the core of another process are left alone", CORES, not_ours),
        trial("what is no core is refused with a sentence", &[], no_core),
        trial("a fault whose handler raises it again is told by its address", CORES, again),
        trial("the calls of a fiber end where it was made", CORES, fiber),
        trial("a core of another process is refused though it lies where ours would", CORES, of_another),
        trial("the core of a program that changed its directory is found where it went", CORES, moved),
        trial("a crash in a library that was deleted meanwhile is told as far as its memory goes", CORES, deleted),
        trial("a core that is cut while it is read is told in a sentence", CUT, cut_meanwhile),
        trial("a FIFO where the program was is not waited for", CORES, fifo),
    ]);
    trials
}

fn compile(bed: &Bed, name: &str, flags: &[&str]) -> PathBuf {
    let made = bed.path(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cores/crash.c");
    let output =
        Command::new("cc").args(flags).arg("-Wno-infinite-recursion").arg("-o").arg(&made).arg(source).output();
    let output = output.expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    made
}

/// The core that the program leaves in a directory of its own.
fn core_of(bed: &Bed, program: &Path, way: &str) -> PathBuf {
    let directory = bed.path(format!("{}-{}", way.replace(' ', "-"), crate::bed::fresh_number()));
    std::fs::create_dir(&directory).unwrap();
    let script = format!("cd {} && ulimit -c unlimited && exec {} {way}", directory.display(), program.display());
    bed.command("sh").args(["-c", &script]).env("LANG", "C").end();
    let entries = std::fs::read_dir(&directory).unwrap().flatten();
    let core = entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("/core"));
    core.unwrap_or_else(|| panic!("{way} left no core in {}", directory.display()))
}

fn read(bed: &Bed, core: &Path) -> Value {
    let shown = bed.obit(["core".as_ref(), core.as_os_str(), "--json".as_ref()]).end();
    shown.code(0);
    serde_json::from_str(&shown.stdout()).unwrap_or_else(|error| panic!("{error}: {}", shown.stderr()))
}

/// One call: its program counter, function and line, as far as they are told.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    pub pc: u64,
    function: String,
    line: Option<u64>,
}

/// Thread by thread; inlined calls share their caller's program counter.
pub fn calls(core: &Value) -> Vec<(u64, Vec<Call>)> {
    let hex = |value: &Value| u64::from_str_radix(value.as_str()?.trim_start_matches("0x"), 16).ok();
    let call = |frame: &Value| Call {
        pc: hex(&frame["pc"]).expect("a pc"),
        function: frame["function"].as_str().unwrap_or_default().to_owned(),
        line: frame["line"].as_u64(),
    };
    let stack = |thread: &Value| thread["frames"].as_array().expect("frames").iter().map(call).collect();
    let threads = core["threads"].as_array().expect("threads").iter();
    let mut threads: Vec<_> = threads.map(|thread| (thread["tid"].as_u64().expect("a tid"), stack(thread))).collect();
    threads.sort_by_key(|(tid, _)| *tid);
    threads
}

/// The same of gdb, with further options: its Python says what its text leaves out.
pub fn by_gdb(program: &Path, core: &Path, options: &[&str]) -> Vec<(u64, Vec<Call>)> {
    const SCRIPT: &str = "python
for t in gdb.selected_inferior().threads():
    t.switch()
    f = gdb.newest_frame()
    try: f.pc()
    # A leader that ended before its threads has no registers.
    except gdb.error: continue
    while f is not None:
        s = f.find_sal()
        # Guesses of gdb's about calls that left no trace on the stack.
        if f.type() != gdb.TAILCALL_FRAME: print('CALL', t.ptid[1], f.pc(), s.line if s.symtab else 0, 'signal' if f.type() == gdb.SIGTRAMP_FRAME else 'call', f.name() or '-')
        f = f.older()
";
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("calls.gdb");
    std::fs::write(&script, SCRIPT).unwrap();
    let output = Command::new("gdb")
        .args(["-batch", "-nx", "-iex", "set debuginfod enabled off", "-iex", "set auto-load off"])
        .args(["-iex", "set backtrace past-main on", "-iex", "set backtrace past-entry on"])
        .args(options)
        .arg("-x")
        .args([&script, program, core])
        .output()
        .expect("gdb");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut threads: Vec<(u64, Vec<Call>)> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("CALL ")) {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [tid, pc, line, kind, function] = words[..] else { panic!("{line}") };
        let function = if kind == "signal" { "<signal handler called>" } else { function };
        let (tid, pc) = (tid.parse().expect("a tid"), pc.parse().expect("a pc"));
        let call = Call { pc, function: function.to_owned(), line: line.parse().ok().filter(|line| *line > 0) };
        match threads.last_mut().filter(|(last, _)| *last == tid) {
            Some((_, calls)) => calls.push(call),
            None => threads.push((tid, vec![call])),
        }
    }
    assert!(!threads.is_empty(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    threads.sort_by_key(|(tid, _)| *tid);
    threads
}

fn beside_gdb(bed: &Bed, flags: &[&str]) {
    let program = compile(bed, "crash", flags);
    for way in WAYS {
        let core = core_of(bed, &program, way);
        let told = read(bed, &core);
        let (ours, theirs) = (calls(&told), by_gdb(&program, &core, &[]));
        let tids = |threads: &[(u64, Vec<Call>)]| threads.iter().map(|(tid, _)| *tid).collect::<Vec<_>>();
        assert_eq!(tids(&ours), tids(&theirs), "{way}");
        let threads = told["threads"].as_array().expect("threads");
        let crashed = threads.iter().find(|thread| thread["crashed"] == true).and_then(|thread| thread["tid"].as_u64());
        for ((tid, ours), (_, theirs)) in ours.iter().zip(&theirs) {
            let pcs = |calls: &[Call]| calls.iter().map(|call| call.pc).collect::<Vec<_>>();
            if crashed == Some(*tid) {
                assert_eq!(pcs(ours), pcs(theirs), "{way}, thread {tid}\n{ours:#x?}\n{theirs:#x?}");
                for (ours, theirs) in ours.iter().zip(theirs) {
                    // Only of code with debug information gdb knows the line; libc has it where its package is installed.
                    if theirs.line.is_some() {
                        assert_eq!((ours.line, &ours.function), (theirs.line, &theirs.function), "{way}, {theirs:#x?}");
                    }
                }
                continue;
            }
            // Where libc has it the others are told in brief: by the symbol, and without what was inlined.
            let (ours, theirs) = (innermost(ours), innermost(theirs));
            assert_eq!(pcs(&ours), pcs(&theirs), "{way}, thread {tid}\n{ours:#x?}\n{theirs:#x?}");
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert!(theirs.line.is_none() || theirs.line == ours.line, "{way}, {ours:#x?} {theirs:#x?}");
            }
        }
    }
}

/// Of each program counter the first call.
fn innermost(calls: &[Call]) -> Vec<Call> {
    let mut calls = calls.to_vec();
    calls.dedup_by_key(|call| call.pc);
    calls
}

fn overflow(bed: &Bed) {
    let program = compile(bed, "crash", &["-g", "-O1"]);
    let core = read(bed, &core_of(bed, &program, "deep"));
    let thread = &core["threads"][0];
    let frames = thread["frames"].as_array().expect("frames");
    assert!((150..400).contains(&frames.len()), "{}", frames.len());
    assert_eq!((frames[0]["function"].as_str(), frames[0]["trust"].as_str()), (Some("deeper"), Some("context")));
    assert!(frames.iter().any(|frame| frame["function"] == "main"), "{thread}");
    assert!(thread["omitted"]["frames"].as_u64() > Some(10_000), "{}", thread["omitted"]);
}

fn cut(bed: &Bed) {
    let program = compile(bed, "crash", &["-g", "-O1"]);
    let core = std::fs::read(core_of(bed, &program, "threads")).unwrap();
    let piece = bed.path("piece");
    for eighth in 0..8 {
        let len = core.len() * eighth / 8;
        std::fs::write(&piece, &core[..len]).unwrap();
        let ended = bed.obit(["core".as_ref(), piece.as_os_str(), "--json".as_ref()]).end();
        match len {
            0 => ended.code(1).complains("cannot be read as a core"),
            _ => ended.code(0),
        };
        if len > 0 {
            let read: Value = serde_json::from_str(&ended.stdout()).unwrap();
            assert_eq!(read["threads"].as_array().map(Vec::len), Some(9), "{len}");
            assert!(read["gaps"].to_string().contains("memory: "), "{len}: {}", read["gaps"]);
        }
    }
    let mut noise = core;
    let mut state = 88_172_645_463_325_252u64;
    for _ in 0..20 {
        for _ in 0..64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = state as usize % 8192.min(noise.len());
            noise[at] ^= (state >> 32) as u8;
        }
        std::fs::write(&piece, &noise).unwrap();
        let fate = bed.obit(["core".as_ref(), piece.as_os_str()]).end().fate;
        assert!(matches!(fate, crate::bed::Fate::Exited(0 | 1)), "{fate:?}");
    }
}

fn crash_with_core(bed: &Bed, directory: &Path, way: &str) -> Value {
    let fall = program("fall");
    let script = format!(
        "cd {} && ulimit -c unlimited && exec {} run --capture off -- {} {way}",
        directory.display(),
        crate::bed::binary().display(),
        fall.display()
    );
    bed.command("sh").args(["-c", &script]).end();
    serde_json::from_str(&bed.obit(["crashes", "show", "--json"]).end().stdout()).expect("a report")
}

fn in_report(bed: &Bed) {
    let directory = bed.path("place");
    std::fs::create_dir(&directory).unwrap();
    let report = crash_with_core(bed, &directory, "nested");
    let threads = report["threads"].to_string();
    assert!(threads.contains("inner") && threads.contains("fall.c"), "{report}");
    let path = report["process"]["core_file"].as_str().expect("its core");
    assert!(Path::new(path).exists() && path.starts_with(directory.to_str().unwrap()), "{path}");
    assert_eq!(report["exceptions"][0]["value"], "SEGV_MAPERR at 0x0");
}

fn not_ours(bed: &Bed) {
    // Where the kernel cannot write its own, whatever lies under the name is not the core of this death.
    let directory = bed.path("place");
    std::fs::create_dir(&directory).unwrap();
    let name = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let other = core_of(bed, &compile(bed, "crash", &["-g", "-O1"]), "nested");
    let planted = directory.join(name.trim());
    std::fs::create_dir(&planted).unwrap();
    let report = crash_with_core(bed, &directory, "nested");
    assert_eq!(report["process"]["core_file"], Value::Null);
    assert_eq!(report["threads"], Value::Null, "{report}");
    std::fs::remove_dir(&planted).unwrap();
    std::os::unix::fs::symlink(&other, &planted).unwrap();
    let before = std::fs::read(&other).unwrap();
    crash_with_core(bed, &directory, "nested");
    // The kernel replaces the link; what it pointed to is as it was.
    assert_eq!(std::fs::read(&other).unwrap(), before);
}

fn no_core(bed: &Bed) {
    let refused = |path: &Path, sentence: &str| {
        bed.obit(["core".as_ref(), path.as_os_str()]).end().code(1).complains(sentence);
    };
    refused(Path::new("/bin/sh"), "it is an ELF file, but no core");
    refused(Path::new("/no/such/core"), "cannot read /no/such/core");
    refused(Path::new("/proc"), "not a regular file");
    let text = bed.path("text");
    std::fs::write(&text, "core").unwrap();
    refused(&text, "it is no 64-bit little-endian ELF file");
}

fn fifo(bed: &Bed) {
    let program = compile(bed, "crash", &["-g", "-O1"]);
    let core = core_of(bed, &program, "nested");
    let whole = read(bed, &core);
    let moved = bed.path("moved");
    std::fs::rename(&program, &moved).unwrap();
    assert!(Command::new("mkfifo").arg(&program).status().expect("mkfifo").success());
    let blind = read(bed, &core);
    assert!(blind["gaps"].to_string().contains("crash: the file is not there"), "{}", blind["gaps"]);
    for refused in [
        vec!["core".as_ref(), core.as_os_str(), "--exe".as_ref(), program.as_os_str()],
        vec!["core".as_ref(), program.as_os_str()],
    ] {
        bed.obit(refused).end().code(1).complains("crash: not a regular file");
    }
    // A person may name the program by a link.
    let link = bed.path("link");
    std::os::unix::fs::symlink(&moved, &link).unwrap();
    let named = bed.obit(["core".as_ref(), core.as_os_str(), "--exe".as_ref(), link.as_os_str(), "--json".as_ref()]);
    let named: Value = serde_json::from_str(&named.end().stdout()).unwrap();
    assert_eq!(calls(&named), calls(&whole));
}

fn again(bed: &Bed) {
    let program = compile(bed, "crash", &["-g", "-O1"]);
    for way in ["again", "again-siginfo", "again-later", "again-later-siginfo"] {
        let core = core_of(bed, &program, way);
        let told = read(bed, &core);
        assert_eq!((&told["signal"]["code_name"], &told["signal"]["sender_pid"]), (&"SI_TKILL".into(), &told["pid"]));
        assert_eq!(
            (&told["fault"]["code_name"], &told["fault"]["fault_address"]),
            (&"SEGV_MAPERR".into(), &"0x0".into())
        );
        let page = bed.obit(["core".as_ref(), core.as_os_str()]).end().stdout();
        let sentence = "raised again by its own handler of SIGSEGV (segmentation fault), SEGV_MAPERR at 0x0";
        assert!(page.contains(sentence), "{page}");
        // A handler that was called for a signal that somebody sent has no fault to tell of.
        assert_eq!(read(bed, &core_of(bed, &program, &format!("{way} sent")))["fault"], Value::Null, "{way}");
    }
    assert_eq!(read(bed, &core_of(bed, &program, "nested"))["fault"], Value::Null);
}

fn fiber(bed: &Bed) {
    for flags in [["-g", "-O1"], ["-O2", "-s"]] {
        let program = compile(bed, "crash", &flags);
        let core = read(bed, &core_of(bed, &program, "fiber"));
        let frames = core["threads"][0]["frames"].as_array().expect("frames");
        // inner, middle, outer, on_a_fiber, as far as they were not inlined, and what it would return to.
        assert!((2..=5).contains(&frames.len()), "{flags:?} {frames:#?}");
        assert!(frames.iter().skip(1).all(|frame| frame["trust"] == "cfi"), "{flags:?} {frames:#?}");
        assert_eq!(frames[frames.len() - 1]["function"], "__start_context", "{frames:#?}");
    }
}

fn cut_meanwhile(bed: &Bed) {
    let core = core_of(bed, &compile(bed, "crash", &["-g", "-O1"]), "threads");
    let log = bed.path("strace.log");
    // Stopped where it looks at the second file, the program: by then it has the core's notes, and not its stacks.
    let obit = bed
        .command("strace")
        .args(["-o".as_ref(), log.as_os_str()])
        .args(["-e", "trace=fstatfs", "-e", "inject=fstatfs:signal=SIGSTOP:when=2"])
        .args([crate::bed::binary().as_os_str(), "core".as_ref(), core.as_os_str()])
        .start();
    obit.until("obit is stopped", || {
        std::fs::read_to_string(&log).ok().filter(|log| log.contains("--- stopped by SIGSTOP ---"))
    });
    std::fs::File::options().write(true).open(&core).unwrap().set_len(4096).unwrap();
    kill(Pid::from_raw(obit.child()), Signal::SIGCONT).unwrap();
    let ended = obit.end();
    ended.code(1).complains("was cut short while it was read");
    assert_eq!(ended.stdout(), "");
}

fn of_another(bed: &Bed) {
    // The program changes its directory, so its own core lies elsewhere; where it began lies that of another crash, new and ours.
    let (began, elsewhere) = (bed.path("began"), bed.path("elsewhere"));
    std::fs::create_dir(&began).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    let other = core_of(bed, &compile(bed, "crash", &["-g", "-O1"]), "nested");
    let name = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let planted = began.join(name.trim());
    let content = std::fs::read(&other).unwrap();
    let script = format!(
        "cd {} && ulimit -c unlimited && exec {} run --capture off -- sh -c 'cp {} {}; cd {} && exec {} nested'",
        began.display(),
        crate::bed::binary().display(),
        other.display(),
        planted.display(),
        elsewhere.display(),
        program("fall").display()
    );
    bed.command("sh").args(["-c", &script]).end();
    let report: Value = serde_json::from_str(&bed.obit(["crashes", "show", "--json"]).end().stdout()).unwrap();
    assert_eq!((&report["process"]["core_file"], &report["threads"]), (&Value::Null, &Value::Null), "{report}");
    let why = format!("{} is of another process", planted.display());
    assert!(report["gaps"].as_array().unwrap().iter().any(|gap| gap["why"] == why.as_str()), "{}", report["gaps"]);
    assert_eq!(std::fs::read(&planted).unwrap(), content);
    assert!(std::fs::read_dir(&elsewhere).unwrap().count() > 0, "the program left its own core");
}

fn moved(bed: &Bed) {
    let (began, elsewhere) = (bed.path("began"), bed.path("elsewhere"));
    std::fs::create_dir(&began).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    let run = |command: &str| {
        let (began, elsewhere, obit) = (began.display(), elsewhere.display(), crate::bed::binary());
        let obit = obit.display();
        let script = format!(
            "cd {began} && ulimit -c unlimited && exec {obit} run --capture off -- sh -c 'cd {elsewhere} && {command}'"
        );
        bed.command("sh").args(["-c", &script]).start()
    };
    let is_told = |words: &str| {
        let report: Value = serde_json::from_str(&bed.obit(["crashes", "show", "--json"]).end().stdout()).unwrap();
        let path = report["process"]["core_file"].as_str().unwrap_or_else(|| panic!("{}", report["gaps"]));
        assert!(path.starts_with(elsewhere.to_str().unwrap()), "{path}");
        assert!(report["threads"].to_string().contains(words), "{report}");
        std::fs::remove_file(path).unwrap();
    };
    // It has said something there.
    let fall = program("fall");
    let go = bed.path("go");
    let run_on = format!("until [ -e {} ]; do sleep 0.01; done; exec {} nested", go.display(), fall.display());
    let talker = run(&format!("echo up >&2; {run_on}"));
    talker.complains("up");
    std::fs::write(&go, "").unwrap();
    talker.end();
    // Who read it was in a cage, from which only what lies beside sh can be seen.
    is_told("/fall");
    // It was told to dump there, and never said a word.
    let quiet = run("exec sleep 1000");
    let is_there = |pid: &i32| {
        let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
        link("cwd") == elsewhere && !link("exe").ends_with("sh") && !link("exe").ends_with("dash")
    };
    quiet.until("it sleeps", || quiet.children().into_iter().find(is_there));
    quiet.signal(Signal::SIGQUIT);
    quiet.end();
    is_told("\"name\":\"sleep\"");
    // It goes where its own file lies.
    let source = bed.path("home.c");
    let text = "#include <unistd.h>\nint main(int n, char **a) { return chdir(a[n - 1]) ? 9 : *(volatile int *)0; }\n";
    std::fs::write(&source, text).unwrap();
    let home = elsewhere.join("home");
    assert!(Command::new("cc").args(["-g", "-o"]).args([&home, &source]).status().expect("a C compiler").success());
    let script = format!(
        "cd {} && ulimit -c unlimited && exec {} run --capture off -- {} {}",
        began.display(),
        crate::bed::binary().display(),
        home.display(),
        elsewhere.display()
    );
    bed.command("sh").args(["-c", &script]).end();
    is_told("home.c");
}

fn deleted(bed: &Bed) {
    let program = compile(bed, "crash", &["-g", "-O1", "-rdynamic"]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cores/library.c");
    // By what the core holds: all that was mapped of files, or of unchanged pages the first alone (core(5), coredump_filter).
    for (filter, is_whole) in [("0x37", true), ("0x33", false)] {
        let library = bed.path("library.so");
        let built = Command::new("cc").args(["-O1", "-fPIC", "-shared", "-o"]).args([&library, &source]).status();
        assert!(built.expect("a C compiler").success());
        let directory = bed.path(format!("deleted-{filter}"));
        std::fs::create_dir(&directory).unwrap();
        let script = format!(
            "cd {} && ulimit -c unlimited && echo {filter} > /proc/self/coredump_filter && exec {} library {}",
            directory.display(),
            program.display(),
            library.display()
        );
        bed.command("sh").args(["-c", &script]).end();
        assert!(!library.exists(), "the program deletes it");
        let core = std::fs::read_dir(&directory).unwrap().flatten().next().expect("a core").path();
        let told = read(bed, &core);
        let frames = told["threads"][0]["frames"].as_array().expect("frames");
        let functions: Vec<&str> = frames.iter().filter_map(|frame| frame["function"].as_str()).collect();
        assert_eq!(frames[0]["module"], library.to_str().unwrap(), "{told}");
        // The program's own file is there, so its calls are.
        assert!(functions.contains(&"main"), "{filter} {frames:#?}");
        let gap = told["gaps"].to_string().contains("library.so: the file is not there, and not all of its memory");
        assert_eq!(gap, !is_whole, "{filter} {}", told["gaps"]);
        if is_whole {
            let place = |name: &str| functions.iter().position(|found| *found == name);
            let order = [place("fall_in_library"), place("library_begin"), place("main")];
            assert!(order.is_sorted() && order.iter().all(Option::is_some), "{frames:#?}");
            assert!(frames.iter().skip(1).all(|frame| frame["trust"] == "cfi"), "{frames:#?}");
        }
    }
}
