//! What the program forks: a crash of it is told with its stack while its parent lives on, and the parent sees of all that what it
//! would see without us.

use crate::bed::{self, Bed, Running, Setup, both, program, trial};
use crate::need::Need;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

/// Root of the trials has CAP_SYS_PTRACE, so what is forked is followed.
const RIGHTS: &[Need] = &[Need::Root];
const PYTHON: &[Need] = &[Need::Root, Need::Tool("python3")];
const GDB: &[Need] = &[Need::Root, Need::Tool("gdb")];
const STRACE: &[Need] = &[Need::Root, Need::Tool("strace")];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("every thread of a worker that crashed is told of", RIGHTS, threads),
        trial("workers that crash at the same moment are told of, each once", RIGHTS, together),
        trial("a worker that is spawned and crashes has its own program's stack", RIGHTS, spawned),
        trial("a worker of a language's own pool that crashes is told of", PYTHON, prefork),
        trial("a crash that its parent leaves uncollected is told once", RIGHTS, uncollected),
        trial("workers that crash again and again are soon only counted", RIGHTS, again),
        trial("a program that forks much is let go of with what it forks, and is traced itself", RIGHTS, much),
        trial("what another program forks after the first one's many is followed anew", RIGHTS, anew),
        trial("who traces others is let go of when it is executed, with what it forks", GDB, gdb),
        trial("another obit is let go of, and tells of its own program alone", RIGHTS, nested),
        trial("strace of a child works as without us", STRACE, strace),
        trial("a child that looks for leaks ends as without us", RIGHTS, leaks),
        trial("a set-user-id program that a child executes has its rights", RIGHTS, set_user_id),
        trial("without the capability nobody is followed, and the report says so", RIGHTS, unable),
        trial("who lives in a PID namespace of its own is let go of", RIGHTS, elsewhere),
        trial("on request what was forked is let go, too", RIGHTS, on_request),
    ];
    trials.extend(both("a worker that crashes while its master lives is told with its calls", RIGHTS, worker));
    trials.extend(both("who ends while it is looked at holds up nobody who waits for it", RIGHTS, race));
    trials.extend(both("an orphan that crashes is told once, with its calls", RIGHTS, orphan));
    trials.extend(both("when a pidfd tells of an end it can be collected at once", RIGHTS, pidfd));
    trials.extend(both("a worker is stopped and continued as ever, and its master is told", RIGHTS, stops));
    trials
}

fn family(bed: &Bed, way: &[&str]) -> Setup {
    let mut command = vec![program("family").into_os_string()];
    command.extend(way.iter().map(Into::into));
    bed.run(&["--capture", "auto"], command)
}

/// All that is kept, newest first.
fn reports(bed: &Bed) -> Vec<Value> {
    let json = |arguments: &[&str]| -> Value {
        let shown = bed.obit(arguments).end();
        serde_json::from_str(&shown.stdout()).unwrap_or_else(|error| panic!("{error}: {}", shown.stderr()))
    };
    let list = json(&["crashes", "list", "--json"]);
    let ids = list.as_array().expect("an array").iter().filter_map(|row| row["event_id"].as_str());
    ids.map(|id| json(&["crashes", "show", id, "--json"])).collect()
}

/// A stop that was asked for does not wait for a report.
fn kept(bed: &Bed, run: &Running) {
    let pending = bed.state().join("spool/pending");
    run.until("the report is kept", || std::fs::read_dir(&pending).ok()?.next().map(drop));
}

fn only(bed: &Bed) -> Value {
    let mut reports = reports(bed);
    assert_eq!(reports.len(), 1, "{reports:?}");
    reports.remove(0)
}

fn crashed(report: &Value) -> &Value {
    let threads = report["threads"].as_array().unwrap_or_else(|| panic!("no threads: {report}"));
    threads.iter().find(|thread| thread["crashed"] == true).unwrap_or_else(|| panic!("nobody crashed: {report}"))
}

/// `function:line` of the innermost calls.
fn calls(report: &Value) -> Vec<String> {
    let frames = crashed(report)["stack"]["frames"].as_array().expect("frames").iter().take(3);
    frames.map(|frame| format!("{}:{}", frame["function"].as_str().unwrap_or("?"), frame["line"])).collect()
}

/// The lines of family.c that are marked so.
fn fault_calls() -> Vec<String> {
    let source = include_str!("../../fixtures/programs/family.c");
    let line =
        |mark: &str| source.lines().position(|line| line.ends_with(&format!("// {mark}"))).expect("the mark") + 1;
    ["inner", "middle", "outer"].iter().map(|name| format!("{name}:{}", line(name))).collect()
}

fn worker(bed: &Bed) {
    let ended = family(bed, &["worker"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "worker killed by 11\nmaster lives\n");
    let report = only(bed);
    assert_eq!(calls(&report), fault_calls());
    let process = &report["process"];
    let (parent, master) = (&process["parent"], process["parent"]["pid"].as_i64());
    assert_eq!((&parent["comm"], &process["descendant"]), (&"family".into(), &true.into()), "{report}");
    assert!(master.is_some() && process["pid"].as_i64() > master, "{report}");
    assert_eq!(process["exe"].as_str(), program("family").to_str());
    assert_eq!((&report["level"], &report["exit"]["signal"]), (&"error".into(), &"SIGSEGV".into()));
    let summary = format!("segmentation fault; its parent family (pid {}) lives on", parent["pid"]);
    assert_eq!(report["summary"].as_str(), Some(summary.as_str()));
    let said = format!(
        "family (pid {}), a child of family (pid {}) in family, killed by SIGSEGV",
        process["pid"], parent["pid"]
    );
    assert!(ended.stderr().contains(&said), "{}", ended.stderr());
    let page = bed.obit(["crashes", "show"]).end().stdout();
    assert!(
        page.contains(&format!("family, a child of family (pid {})", parent["pid"])) && page.contains("inner"),
        "{page}"
    );
}

fn threads(bed: &Bed) {
    let ended = family(bed, &["threads"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "worker killed by 11\n");
    let report = only(bed);
    assert_eq!(calls(&report), fault_calls());
    assert_eq!(report["threads"].as_array().map(Vec::len), Some(8), "{report}");
}

fn together(bed: &Bed) {
    let ended = family(bed, &["together", "4"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "worker killed by 11\n".repeat(4));
    let reports = reports(bed);
    assert_eq!(reports.len(), 4, "{reports:?}");
    for report in &reports {
        assert_eq!(calls(report), fault_calls());
    }
    let mut pids: Vec<i64> = reports.iter().filter_map(|report| report["process"]["pid"].as_i64()).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 4);
}

/// One that is looked at is ended by its other thread, in execve(2); who waits for its turn must not stand there for ever. Twenty
/// are afforded.
fn race(bed: &Bed) {
    let ended = family(bed, &["race", "10"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "all ended\n");
    assert!(reports(bed).len() > 1);
}

fn spawned(bed: &Bed) {
    let ended = family(bed, &["spawned"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "spawned killed by 11\n");
    assert_eq!(calls(&only(bed)), fault_calls());
}

fn prefork(bed: &Bed) {
    let script = "
import ctypes, multiprocessing
pool = multiprocessing.get_context('fork')
worker = pool.Process(target=ctypes.string_at, args=(0,))
worker.start()
worker.join()
print(worker.exitcode, flush=True)
raise SystemExit(0)";
    let ended = bed.run(&["--capture", "auto"], ["python3", "-c", script]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "-11\n");
    let report = only(bed);
    assert!(crashed(&report).to_string().contains("string_at"), "{report}");
}

fn uncollected(bed: &Bed) {
    let ended = family(bed, &["uncollected"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "master leaves\n");
    let reports = reports(bed);
    let crashes: Vec<_> = reports.iter().filter(|report| report["exit"]["signal"] == "SIGSEGV").collect();
    assert_eq!(crashes.len(), 1, "{reports:?}");
}

/// Ten of a kind, the twentieth, the fortieth.
fn again(bed: &Bed) {
    let ended = family(bed, &["again", "40"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "worker killed by 11\n".repeat(40));
    let reports = reports(bed);
    let stacks = reports.iter().filter(|report| report["threads"].is_array()).count();
    assert!(reports.len() <= 12 && stacks >= 10, "{} reports, {stacks} with stacks", reports.len());
}

fn orphan(bed: &Bed) {
    let run = family(bed, &["orphan"]).start();
    run.says("the orphan is gone\n");
    run.complains("left by family");
    kept(bed, &run);
    run.signal(Signal::SIGTERM);
    let ended = run.end();
    ended.code(143);
    assert_eq!(ended.stdout(), "parent exited with 0\nthe orphan is gone\n");
    let report = only(bed);
    assert_eq!(calls(&report), fault_calls());
    assert_eq!(report["process"]["parent"], Value::Null);
}

/// tokio panics where it is not so, other runtimes wait for ever.
fn pidfd(bed: &Bed) {
    let ended = family(bed, &["pidfd", "150"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "all ends were there\n");
    assert_eq!(reports(bed), [] as [Value; 0]);
}

fn stops(bed: &Bed) {
    let ended = family(bed, &["stops"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "stopped\ncontinued\nworker exited with 0\n");
}

/// Who traces whom, as a child and the program itself see it.
const TRACED: &str = "grep TracerPid /proc/self/status; grep TracerPid /proc/$$/status";

fn traced(stdout: &str) -> Vec<bool> {
    let tracers = stdout.lines().filter_map(|line| line.strip_prefix("TracerPid:\t"));
    tracers.map(|tracer| tracer != "0").collect()
}

fn much(bed: &Bed) {
    let many = "i=0; while [ $i -lt 300 ]; do (exit 3); i=$((i+1)); done";
    let script = format!("{TRACED}; {many}; {TRACED}; sh -c 'kill -SEGV $$'; exit 0");
    let ended = bed.run(&["--capture", "auto"], ["sh", "-c", &script]).end();
    ended.code(0);
    assert_eq!(traced(&ended.stdout()), [true, true, false, true], "{}", ended.stdout());
    assert_eq!(reports(bed), [] as [Value; 0], "nobody sees it any more");
}

fn anew(bed: &Bed) {
    let many = "i=0; while [ $i -lt 300 ]; do (exit 3); i=$((i+1)); done";
    let script = format!("{many}; exec \"$0\" worker");
    let ended = bed.run(&["--capture", "auto"], ["sh", "-c", &script, program("family").to_str().unwrap()]).end();
    ended.code(0);
    let told: Vec<_> = reports(bed).into_iter().filter(|report| report["exit"]["signal"] == "SIGSEGV").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(calls(&told[0]), fault_calls());
}

fn gdb(bed: &Bed) {
    let script = format!("gdb -nx -batch -ex run -ex bt --args {} crash; echo code $?", program("family").display());
    let ended = bed.run(&["--capture", "auto"], ["sh", "-c", &script]).end();
    ended.code(0);
    let stdout = ended.stdout();
    assert!(stdout.contains("received signal SIGSEGV") && stdout.contains("middle"), "{stdout}\n{}", ended.stderr());
    assert_eq!(reports(bed), [] as [Value; 0]);
}

fn nested(bed: &Bed) {
    let script = "\"$0\" run --capture auto -- \"$1\" crash; echo code $?";
    let words =
        [bed::binary().into_os_string(), program("family").into_os_string()].map(|word| word.into_string().unwrap());
    let ended = bed.run(&["--capture", "auto"], ["sh", "-c", script, &words[0], &words[1]]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "code 139\n");
    let told = reports(bed);
    assert_eq!(told.len(), 1, "{}", ended.stderr());
    assert_eq!(calls(&told[0]), fault_calls());
}

fn strace(bed: &Bed) {
    let out = bed.path("calls");
    let script = "strace -f -o \"$0\" sh -c 'true; exit 5'; echo code $?";
    let ended = bed.run(&["--capture", "auto"], ["sh", "-c", script, out.to_str().unwrap()]).end();
    ended.code(0).quiet();
    assert_eq!(ended.stdout(), "code 5\n");
    assert!(std::fs::read_to_string(out).is_ok_and(|calls| calls.contains("exited with 5")));
}

fn leaks(bed: &Bed) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/programs/help.c");
    let made = bed.path("checked");
    let arguments = ["-fsanitize=address", "-o", made.to_str().unwrap(), source];
    let compiled = std::process::Command::new("cc").args(arguments).output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let made = made.to_str().unwrap();
    let script = "\"$0\" clean; echo code $?; \"$0\" leaks; echo code $?";
    let ended = bed.run(&["--capture", "auto"], ["sh", "-c", script, made]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "code 0\ncode 1\n");
    assert!(ended.stderr().contains("100 byte(s) leaked"), "{}", ended.stderr());
}

/// A copy of id(1) that belongs to root and is executed by nobody, below a shell that nobody executes.
fn as_root_by_nobody(bed: &Bed) -> String {
    let id = bed.path("id");
    std::fs::copy(which("id"), &id).unwrap();
    std::fs::set_permissions(&id, std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(bed.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    // By a shell that forks it, and in place of the process that gave its rights up.
    format!("{user} sh -c '{0} -u; true'; {user} {0} -u", id.display())
}

fn which(name: &str) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()).expect("on PATH")
}

fn set_user_id(bed: &Bed) {
    let script = format!("{}; sh -c 'kill -SEGV $$'; exit 0", as_root_by_nobody(bed));
    let alone = bed.command("sh").args(["-c", &script]).end().stdout();
    let ended = bed.run(&["--capture", "auto"], ["sh", "-c", &script]).end();
    assert_eq!((alone.as_str(), ended.stdout().as_str()), ("0\n0\n", "0\n0\n"));
    assert!(only(bed)["threads"].is_array(), "it was followed");
}

/// As root is in a container, by default.
fn unable(bed: &Bed) {
    let script = format!("{}; exec {} orphan", as_root_by_nobody(bed), program("family").display());
    let limited = ["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    let obit = [crate::bed::binary().into_os_string(), "run".into(), "--capture".into(), "auto".into(), "--".into()];
    let run = bed.command("setpriv").args(limited).args(&obit).args(["sh", "-c", &script]).start();
    run.says("the orphan is gone\n");
    run.complains("left by sh");
    kept(bed, &run);
    run.signal(Signal::SIGTERM);
    let ended = run.end();
    assert!(ended.stdout().starts_with("0\n0\n"), "{}", ended.stdout());
    let report = only(bed);
    assert!(report["gaps"].to_string().contains("without CAP_SYS_PTRACE"), "{report}");
}

fn elsewhere(bed: &Bed) {
    let script = "unshare --pid --fork --mount-proc grep TracerPid /proc/self/status; grep TracerPid /proc/self/status";
    let ended = bed.run(&["--capture", "auto"], ["sh", "-c", script]).end();
    ended.code(0).quiet();
    assert_eq!(traced(&ended.stdout()), [false, true], "{}", ended.stdout());
}

fn on_request(bed: &Bed) {
    let run = bed.under(["sh", "-c", "sleep 1000 & echo $!; wait"]).start();
    run.says("\n");
    let child = run.until("it has a child", || crate::bed::children_of(run.child()).first().copied());
    let status = || std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
    assert!(!status().contains("TracerPid:\t0\n"), "{}", status());
    let said =
        std::process::Command::new(crate::bed::binary()).args(["detach", &run.pid().to_string()]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert!(status().contains("TracerPid:\t0\n"), "{}", status());
    run.signal(Signal::SIGTERM);
    run.end().code(143);
}
