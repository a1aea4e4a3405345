//! Live capture: what is learnt of a program as it dies, and that it lives and dies as it would without.

use crate::bed::{Bed, Fate, Setup, both, first, fresh_number, program, trial};
use crate::need::Need;
use crate::server::{Mood, Server};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;

/// The kernel lets a parent trace its child, and the trials run as root: `.ci/run` does.
const RIGHTS: &[Need] = &[Need::Root];
const WATCHED: &[Need] = &[Need::Root, Need::Tool("strace")];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("what abort said is its value, and who called it is in the stack", RIGHTS, asserted),
        trial("the program that another one executed is the one that is told of", RIGHTS, executed),
        trial("a death is told before its memory is given back", WATCHED, early),
        trial("a thread that dies while its leader is gone is told of", RIGHTS, leaderless),
        trial("thousands of threads that come and go end the capture, and the report says so", RIGHTS, let_go),
        trial("a thousand threads at once are afforded", RIGHTS, afforded),
        trial("with capture off nobody traces, and the report says so", RIGHTS, off),
        trial("a tracer that is no user's business leaves a user's program alone", RIGHTS, as_a_user),
        trial("a minidump goes along only where it was asked for", RIGHTS, minidump),
        trial("equal stacks are one group at Sentry, whatever the addresses", RIGHTS, alike),
    ];
    trials.extend(both("a crash has its calls with files and lines, and where the fault was", RIGHTS, nested));
    trials.extend(both("every thread is told of, and the one that crashed is marked", RIGHTS, threads));
    trials.extend(both("a handler that raises again has the frames of the fault below its own", RIGHTS, raised));
    trials.extend(both("a signal that the program handles is none of ours", RIGHTS, survived));
    trials.extend(both("a crash handler that traces the crashed program can", RIGHTS, helped));
    trials.extend(both("a process that is made by clone is none of ours", RIGHTS, cloned));
    trials.extend(both("a program that looks for leaks ends as without us", RIGHTS, leaks));
    trials.extend(both("a program that became another user is looked at", RIGHTS, switched));
    trials.extend(both("a program that does not end when asked is killed, and where it hung is told", RIGHTS, hung));
    trials.extend(both("a program that is being taken down is not waited for in vain", RIGHTS, large));
    trials.extend(both("two threads that crash at once are one death", RIGHTS, twice));
    trials.extend(both("on request the program is let go, and then others can trace it", RIGHTS, detached));
    trials.extend(both("a child of vfork and a child that dies go their ways", RIGHTS, children));
    trials.push(first("a program that is traced is stopped and continued as ever", RIGHTS, stopped));
    trials
}

fn fall(bed: &Bed, way: &[&str]) -> Setup {
    let mut command = vec![program("fall").into_os_string()];
    command.extend(way.iter().map(Into::into));
    bed.run(&["--capture", "auto"], command)
}

fn report(bed: &Bed) -> Value {
    let shown = bed.obit(["crashes", "show", "--json"]).end();
    serde_json::from_str(&shown.stdout()).unwrap_or_else(|error| panic!("{error}: {}", shown.stderr()))
}

fn crashed(report: &Value) -> &Value {
    let threads = report["threads"].as_array().unwrap_or_else(|| panic!("no threads: {report}"));
    let crashed: Vec<&Value> = threads.iter().filter(|thread| thread["crashed"] == true).collect();
    assert_eq!(crashed.len(), 1, "{report}");
    crashed[0]
}

/// `function:line` of the program's own calls, innermost first.
fn own_calls(thread: &Value) -> Vec<String> {
    let frames = thread["stack"]["frames"].as_array().expect("frames").iter();
    let own = frames.filter(|frame| frame["in_app"] == true && frame["file"].is_string());
    own.map(|frame| format!("{}:{}", frame["function"].as_str().unwrap_or("?"), frame["line"])).collect()
}

/// The line of fall.c that is marked so.
fn line(mark: &str) -> usize {
    let source = include_str!("../../fixtures/programs/fall.c");
    source.lines().position(|line| line.ends_with(&format!("// {mark}"))).expect("the mark") + 1
}

fn fault_calls() -> Vec<String> {
    ["inner", "middle", "outer"].iter().map(|name| format!("{name}:{}", line(name))).collect()
}

fn exception(report: &Value) -> (&str, &str) {
    let last = report["exceptions"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null);
    (last["kind"].as_str().unwrap_or_default(), last["value"].as_str().unwrap_or_default())
}

fn nested(bed: &Bed) {
    fall(bed, &["nested"]).end().code(139);
    let report = report(bed);
    assert_eq!(exception(&report), ("SIGSEGV", "SEGV_MAPERR at 0x0"));
    assert_eq!(own_calls(crashed(&report))[..3], fault_calls());
    assert_eq!(report["exit"]["core_dumped"], false);
    assert!(report["images"].as_array().is_some_and(|images| !images.is_empty()), "{report}");
    let page = bed.obit(["crashes", "show"]).end().stdout();
    assert!(page.contains("SIGSEGV: SEGV_MAPERR at 0x0") && page.contains("inner"), "{page}");
}

/// The kernel gives it back before there is a zombie, so what init does of all its calls before it sees one is early.
fn early(bed: &Bed) {
    let calls = bed.path("calls");
    let crash = |way: &str| {
        let traced = bed.command("strace").args(["-s", "200", "-e", "trace=write,clone,waitid", "-o"]).args([&calls]);
        let obit = traced.args([crate::bed::binary()]).args(["run", "--capture", "auto", "--"]);
        obit.args([program("fall").as_os_str(), way.as_ref()]).end().code(139);
        std::fs::read_to_string(&calls).expect("what strace wrote")
    };
    for way in ["nested", "thread"] {
        let calls = crash(way);
        let place = |what: &str| calls.find(what).unwrap_or_else(|| panic!("no {what}: {calls}"));
        assert!(place("SIGSEGV") < place("CLD_KILLED"), "{calls}");
        let told = &calls[place("SIGSEGV")..place("CLD_KILLED")];
        assert!(told.contains("clone"), "an examiner: {calls}");
    }
    let report = report(bed);
    assert!(report["process"]["usage"]["max_rss_kib"].as_u64().is_some_and(|kib| kib > 0), "{report}");
}

fn threads(bed: &Bed) {
    fall(bed, &["thread", "12"]).end().code(139);
    let report = report(bed);
    assert_eq!(report["threads"].as_array().map(Vec::len), Some(13), "{report}");
    let crashed = crashed(&report);
    assert_eq!(own_calls(crashed)[..3], fault_calls());
    assert_ne!(crashed["tid"], report["process"]["pid"], "not the leader");
    let waiting = report["threads"].as_array().unwrap().iter().filter(|thread| thread["crashed"] == false);
    let is_known =
        |thread: &&Value| ["wait_here", "\"main\""].iter().any(|name| thread["stack"].to_string().contains(name));
    assert_eq!(waiting.filter(is_known).count(), 12, "{report}");
}

fn asserted(bed: &Bed) {
    fall(bed, &["assert"]).env("LANG", "C").end().code(134);
    let report = report(bed);
    assert!(exception(&report).1.contains("a shelf"), "{report}");
    let calls = crashed(&report)["stack"]["frames"].to_string();
    assert!(calls.contains("abort") && calls.contains("\"main\""), "{calls}");
}

fn raised(bed: &Bed) {
    let ended = fall(bed, &["raises"]).end();
    ended.code(139);
    assert_eq!(ended.stdout(), "handled\n");
    let report = report(bed);
    let frames = crashed(&report)["stack"]["frames"].as_array().expect("frames").clone();
    let functions: Vec<&str> = frames.iter().filter_map(|frame| frame["function"].as_str()).collect();
    let place = |name: &str| functions.iter().position(|found| *found == name);
    let order = [place("tell_and_raise"), place("<signal handler called>"), place("inner"), place("outer")];
    assert!(order.is_sorted() && order.iter().all(Option::is_some), "{functions:?}");
    let value = report["exceptions"][0]["value"].as_str();
    assert_eq!(value, Some("SEGV_MAPERR at 0x0, raised again by the program's own handler"));
}

fn survived(bed: &Bed) {
    let ended = fall(bed, &["survives"]).end();
    ended.code(0).quiet();
    assert_eq!(ended.stdout(), "survived\n");
}

fn executed(bed: &Bed) {
    fall(bed, &["exec"]).end().code(139);
    assert_eq!(own_calls(crashed(&report(bed)))[..3], fault_calls());
}

fn leaderless(bed: &Bed) {
    fall(bed, &["leader"]).end().code(139);
    assert_eq!(own_calls(crashed(&report(bed)))[..3], fault_calls());
}

fn children(bed: &Bed) {
    fall(bed, &["vfork"]).end().code(6);
    fall(bed, &["child"]).end().code(7);
}

fn let_go(bed: &Bed) {
    fall(bed, &["many", "9000"]).end().code(139);
    let report = report(bed);
    let gaps = report["gaps"].to_string();
    assert!(gaps.contains("let go, for its signals and its threads that come and go"), "{gaps}");
    assert_eq!(report["threads"], Value::Null);
}

fn afforded(bed: &Bed) {
    fall(bed, &["many", "200"]).end().code(139);
    assert_eq!(own_calls(crashed(&report(bed)))[..3], fault_calls());
}

fn helped(bed: &Bed) {
    for way in ["starts", "sends"] {
        let ended = bed.run(&["--capture", "auto"], [program("help").as_os_str(), way.as_ref()]).end();
        ended.code(139);
        assert_eq!(ended.stdout(), "looked at\n", "{way}");
        let report = report(bed);
        assert!(report["gaps"].to_string().contains("the program's own crash handler"), "{way}: {report}");
    }
}

fn cloned(bed: &Bed) {
    let ended = bed.run(&["--capture", "auto"], [program("help").as_os_str(), "clones".as_ref()]).end();
    ended.code(7);
    assert_eq!(ended.stdout(), "it crashed\n");
    assert!(ended.stderr().contains("exited with code 7") && !ended.stderr().contains("SIGSEGV"), "{}", ended.stderr());
}

fn hung(bed: &Bed) {
    let run = bed.run(&["--stop-grace", "50ms"], [program("help").as_os_str(), "hangs".as_ref()]).start();
    run.says("up");
    run.signal(Signal::SIGTERM);
    run.end().code(137);
    let report = report(bed);
    assert_eq!((&report["reason"], exception(&report).0), (&"stop_timeout".into(), "stop timeout"), "{report}");
    let threads = report["threads"].as_array().unwrap_or_else(|| panic!("no threads: {report}"));
    assert_eq!(threads.len(), 2);
    for (thread, call) in threads.iter().zip(["main", "sleep_here"]) {
        assert!(own_calls(thread).iter().any(|own| own.starts_with(&format!("{call}:"))), "{call}: {thread}");
    }
}

/// Its end is under way when obit would look where it hangs.
fn large(bed: &Bed) {
    for grace in ["5ms", "10ms", "20ms", "40ms"] {
        let run = bed.run(&["--stop-grace", grace], [program("fall").as_os_str(), "large".as_ref()]).start();
        run.says("up");
        run.signal(Signal::SIGTERM);
        let ended = run.end();
        // By its own hand, or by obit's before that.
        assert!([15, 137].map(Fate::Exited).contains(&ended.fate), "{:?}: {}", ended.fate, ended.stderr());
    }
}

fn twice(bed: &Bed) {
    for _ in 0..5 {
        let directory = bed.path(format!("cores-{}", fresh_number()));
        std::fs::create_dir(&directory).unwrap();
        let script = format!("cd {} && ulimit -c unlimited && exec \"$0\" both", directory.display());
        let ended = bed
            .run(&["--capture", "auto"], ["sh".as_ref(), "-c".as_ref(), script.as_ref(), program("fall").as_os_str()]);
        let ended = ended.end();
        ended.code(139);
        assert_eq!(ended.stderr().matches("; report ").count(), 1, "{}", ended.stderr());
    }
}

fn detached(bed: &Bed) {
    let run = bed.under([program("help").as_os_str(), "hangs".as_ref()]).start();
    run.says("up");
    let status = || std::fs::read_to_string(format!("/proc/{}/status", run.child())).unwrap_or_default();
    assert!(!status().contains("TracerPid:\t0\n"), "{}", status());
    let obit = run.pid().to_string();
    let nobody = std::process::Command::new(crate::bed::binary()).args(["detach", "2147483647"]).output().unwrap();
    assert!(!nobody.status.success() && String::from_utf8_lossy(&nobody.stderr).contains("there is no process"));
    // Whoever asks knows the program, as a rule.
    let program = run.child().to_string();
    let said = std::process::Command::new(crate::bed::binary()).args(["detach", &program]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stdout).contains("is not traced any more"), "{said:?}");
    assert!(status().contains("TracerPid:\t0\n"), "{}", status());
    let again = std::process::Command::new(crate::bed::binary()).args(["detach", &obit]).output().unwrap();
    assert!(String::from_utf8_lossy(&again.stdout).contains("traces nobody"), "{again:?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(run.child()), Signal::SIGSEGV).unwrap();
    run.end().code(139);
    assert!(report(bed)["gaps"].to_string().contains("let go on request"), "{}", report(bed));
}

/// From its start, and when another program executes it.
fn leaks(bed: &Bed) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/programs/help.c");
    for (sanitizer, code) in [("address", 1), ("leak", 23)] {
        let made = bed.path(sanitizer);
        let option = format!("-fsanitize={sanitizer}");
        let compiled = std::process::Command::new("cc").arg(option).arg("-o").arg(&made).arg(source).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let made = made.to_str().unwrap();
        bed.run(&["--capture", "auto"], [made, "clean"]).end().code(0).quiet();
        bed.run(&["--capture", "auto"], ["sh", "-c", "exec \"$0\" clean", made]).end().code(0).quiet();
        let ended = bed.run(&["--capture", "auto"], [made, "leaks"]).end();
        ended.code(code).complains("100 byte(s) leaked");
    }
}

/// As an entrypoint does that begins as root. In a container root has not every capability, so by itself it may not look at others.
fn switched(bed: &Bed) {
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let dies = [program("fall").into_os_string(), "nested".into()];
    let limited = ["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    let obit = [crate::bed::binary().into_os_string(), "run".into(), "--capture".into(), "auto".into(), "--".into()];
    bed.command("setpriv").args(limited).args(&obit).args(user).args(&dies).end().code(139);
    assert_eq!(own_calls(crashed(&report(bed)))[..3], fault_calls());
}

fn off(bed: &Bed) {
    let command = [program("fall").into_os_string(), "nested".into()];
    bed.run(&["--capture", "off"], command).end().code(139);
    let report = report(bed);
    assert!(report["gaps"].to_string().contains("switched off (--capture)"), "{report}");
    assert_eq!(report["threads"], Value::Null);
}

fn as_a_user(bed: &Bed) {
    let state = bed.state();
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    let obit = bed.path("obit");
    std::fs::copy(crate::bed::binary(), &obit).unwrap();
    let at = bed.path("");
    std::fs::set_permissions(&at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let dies = [obit.as_os_str(), "--".as_ref(), program("fall").as_os_str(), "nested".as_ref()].map(ToOwned::to_owned);
    bed.command("setpriv").args(user).args(&dies).end().code(139);
    assert!(report(bed)["gaps"].to_string().contains("set-user-id program would lose its privilege"));
    bed.command("setpriv").args(user).args(["--no-new-privs"]).args(&dies).end().code(139);
    assert_eq!(own_calls(crashed(&report(bed)))[..3], fault_calls());
}

fn minidump(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let command = || [program("fall").into_os_string(), "nested".into()];
    bed.run(&["--report-wait", "30s"], command()).env("OBIT_DSN", &server.dsn).end().code(139);
    bed.run(&["--report-wait", "30s", "--minidump"], command()).env("OBIT_DSN", &server.dsn).end().code(139);
    let taken = server.taken();
    let dumps: Vec<_> = taken.iter().map(|envelope| envelope.attachment("minidump.dmp")).collect();
    assert!(dumps[0].is_none() && dumps[1].as_ref().is_some_and(|dump| dump.starts_with(b"MDMP")), "{dumps:?}");
}

fn alike(bed: &Bed) {
    let fingerprint = |way: &[&str]| {
        fall(bed, way).end().code(139);
        report(bed)["fingerprint"].clone()
    };
    let one = fingerprint(&["nested"]);
    assert_eq!(one, fingerprint(&["nested"]));
    assert!(one.to_string().contains("inner"), "{one}");
    assert_ne!(one, fingerprint(&["thread"]));
}

fn stopped(bed: &Bed) {
    let run = fall(bed, &["threads", "0"]).args(["x"]).end();
    run.code(139);
    let run = bed.run(&["--capture", "auto"], ["sh", "-c", "echo up; while :; do sleep 0.01; done"]).start();
    run.says("up");
    let child = run.child();
    let state = |wanted: &[char]| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).filter(|state| wanted.contains(state))
    };
    for _ in 0..3 {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGSTOP).unwrap();
        run.until("it is stopped", || state(&['T', 't']));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGCONT).unwrap();
        run.until("it goes on", || state(&['S', 'R', 'D']));
    }
    run.signal(Signal::SIGTERM);
    run.end().code(143);
}
