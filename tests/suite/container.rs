//! In containers of a real engine: the end is the one that the engine would have seen without obit, and the report is kept,
//! whatever is taken away from the container.

use crate::bed::{Bed, trial};
use crate::docker::{APP, BASE, CONTAINERS, Container, OBIT, USER};
use libtest_mimic::Trial;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<Trial> {
    [
        ("the exit code is the program's", exit_codes as fn(&Bed)),
        ("a crash ends with 139 and leaves a complete report under the default seccomp profile", crash),
        ("docker kill ends with 137 and the next start on the volume tells of it", killed),
        ("docker stop ends with the program's answer and at once", stopped),
        ("a program that ignores SIGTERM is killed before Docker would do it", deaf),
        ("an OOM kill is told from a SIGKILL", out_of_memory),
        ("the termination log gets one line when it is there", termination_log),
        ("under --init it is a guest that works the same", under_init),
        ("without a writable root, capabilities, privileges or a known user a crash is still reported", stripped),
        ("with no place to write at all the exit code is right", nowhere_to_write),
        ("in a shared PID namespace the neighbours are left alone", shared_pids),
        ("on a terminal nothing is interposed", on_a_terminal),
        ("an init container installs it into an image that knows nothing of it", installed),
        ("without a network the end is on time and the report is kept", no_network),
        ("a restarted container goes on with its own reports", restarted),
        ("the doctor finds nothing wrong", doctor),
    ]
    .map(|(name, body)| trial(&format!("in a container, {name}"), CONTAINERS, body))
    .into()
}

/// What is kept in the trial's state directory, newest first.
fn kept(bed: &Bed) -> Vec<Value> {
    let list = bed.obit(["crashes", "list", "--json"]).end();
    serde_json::from_str(&list.stdout()).unwrap_or_else(|e| panic!("{e}: {}{}", list.stdout(), list.stderr()))
}

fn last(bed: &Bed) -> Value {
    let shown = bed.obit(["crashes", "show", "--json"]).end();
    serde_json::from_str(&shown.stdout()).unwrap_or_else(|e| panic!("{e}: {}{}", shown.stdout(), shown.stderr()))
}

fn reason(report: &Value) -> &str {
    report["reason"].as_str().expect("a reason")
}

fn exit_codes(bed: &Bed) {
    Container::new(bed).run(APP, &["/bin/die", "exit", "0"]).code(0).quiet();
    Container::new(bed).run(APP, &["/bin/die", "exit", "7"]).code(7);
    Container::new(bed).run(APP, &["/nowhere"]).code(127).complains("/nowhere");
    Container::new(bed).run(APP, &["/bin"]).code(126).complains("/bin");
    // The application of the image, without a word.
    Container::new(bed).run(APP, &[]).code(91);
}

fn crash(bed: &Bed) {
    let ended = Container::new(bed).state().run(APP, &["/bin/die", "null"]);
    ended.code(139).complains("die: null, password=hunter2\n").complains("obit: ");
    let report = last(bed);
    assert_eq!((reason(&report), &report["complete"]), ("signal", &Value::Bool(true)), "{report}");
    assert_eq!((&report["exit"]["signal"], &report["exit"]["code"]), (&"SIGSEGV".into(), &139.into()), "{report}");
    assert!(report["stderr_tail"]["text"].as_str().is_some_and(|text| text.starts_with("die: null, ")), "{report}");
}

fn killed(bed: &Bed) {
    let container = Container::new(bed).state();
    let run = container.start(APP, &["/bin/die", "wait"]);
    run.says("ready");
    container.docker(&["kill"]).code(0);
    run.end().code(137);
    Container::new(bed).state().run(APP, &["/bin/die", "exit", "0"]).code(0);
    let kept = kept(bed);
    assert_eq!(kept.iter().map(reason).collect::<Vec<_>>(), ["unclean"]);
}

fn stopped(bed: &Bed) {
    let deliberate = ["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"];
    let answers = [(&["/bin/die", "wait"][..], 143), (&deliberate, 5)];
    for (words, code) in answers {
        let container = Container::new(bed).state().with(["-e", "OBIT_EXPECTED_EXIT=5"]);
        let run = container.start(APP, words);
        run.says("ready");
        let begun = Instant::now();
        container.docker(&["stop", "-t", "30"]).code(0);
        run.end().code(code).quiet();
        assert!(begun.elapsed() < Duration::from_secs(8), "the stop took {:?}", begun.elapsed());
    }
    assert_eq!(kept(bed), [] as [Value; 0]);
}

fn deaf(bed: &Bed) {
    let container = Container::new(bed).state().with(["-e", "OBIT_STOP_GRACE=500ms"]);
    let run = container.start(APP, &["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]);
    run.says("ready");
    let begun = Instant::now();
    container.docker(&["stop", "-t", "60"]).code(0);
    run.end().code(137);
    assert!(begun.elapsed() < Duration::from_secs(30), "the stop took {:?}", begun.elapsed());
    assert_eq!(reason(&last(bed)), "stop_timeout");
}

fn out_of_memory(bed: &Bed) {
    let limited = Container::new(bed).state().with(["--memory", "32m", "--memory-swap", "32m"]);
    limited.run(APP, &["/bin/die", "hog"]).code(137);
    let report = last(bed);
    assert_eq!((reason(&report), &report["exit"]["signal"]), ("oom", &"SIGKILL".into()), "{report}");
}

fn termination_log(bed: &Bed) {
    let log = bed.path("termination-log");
    std::fs::write(&log, "").expect("a file");
    std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o666)).expect("ours");
    let mount = format!("{}:/dev/termination-log", log.display());
    Container::new(bed).state().with(["-v", &mount]).run(APP, &["/bin/die", "abort"]).code(134);
    let line = std::fs::read_to_string(&log).expect("still there");
    assert_eq!(line.lines().count(), 1, "{line:?}");
    assert!(line.contains("SIGABRT") && !line.contains("hunter2"), "{line:?}");
}

fn under_init(bed: &Bed) {
    let orphan = "(sleep 1000 &); exec /bin/die null";
    Container::new(bed).state().with(["--init"]).run(APP, &["sh", "-c", orphan]).code(139).complains("obit: ");
    assert_eq!(reason(&last(bed)), "signal");
    let container = Container::new(bed).with(["--init"]);
    let run = container.start(APP, &["/bin/die", "wait"]);
    run.says("ready");
    container.docker(&["stop", "-t", "30"]).code(0);
    run.end().code(143);
}

fn stripped(bed: &Bed) {
    let nobody = 12_345;
    let none = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "12345:12345"];
    let shm = bed.path("shm");
    let run = Container::new(bed).with(none).volume(&shm, "/dev/shm", nobody).run(APP, &["/bin/die", "null"]);
    run.code(139).complains("obit: ");
    let show = bed.obit(["crashes", "show", "--json", "--state-dir"]).args([shm.join("obit-12345")]).end();
    let report: Value = serde_json::from_str(&show.stdout()).unwrap_or_else(|e| panic!("{e}: {}", show.stderr()));
    assert_eq!((reason(&report), &report["complete"]), ("signal", &Value::Bool(true)), "{report}");
}

fn nowhere_to_write(bed: &Bed) {
    let shm = bed.path("shm");
    std::fs::create_dir(&shm).expect("a directory");
    let mount = format!("{}:/dev/shm:ro", shm.display());
    let container = Container::new(bed).with(["--read-only", "--user", "12345:12345", "-v", &mount]);
    container.run(APP, &["/bin/die", "null"]).code(139).complains("no state directory is writable");
}

fn shared_pids(bed: &Bed) {
    let neighbour = Container::new(bed);
    neighbour.detached(BASE, &["sh", "-c", "while :; do sleep 1; done"]);
    let namespace = format!("--pid=container:{}", neighbour.name());
    let ours = Container::new(bed).state().with([&namespace]);
    ours.run(APP, &["sh", "-c", "(sleep 1234 &); exec /bin/die null"]).code(139);
    assert_eq!(reason(&last(bed)), "signal");
    let running = neighbour.docker(&["inspect", "-f", "{{.State.Running}}"]);
    let living = neighbour.docker(&["top"]).stdout();
    assert_eq!(running.stdout(), "true\n");
    assert!(!living.contains("1234"), "it outlived obit: {living}");
}

fn on_a_terminal(bed: &Bed) {
    let script = "test -t 2 && echo stderr is a terminal >&2; exec /bin/die exit 3";
    let ended = Container::new(bed).state().with(["-t"]).run(APP, &["sh", "-c", script]);
    ended.code(3);
    assert!(ended.stdout().contains("stderr is a terminal"), "{ended:?}");
}

fn installed(bed: &Bed) {
    let shared = bed.path("shared");
    let install = Container::new(bed).volume(&shared, "/obit-bin", USER).with(["--entrypoint", "/obit"]);
    install.run(OBIT, &["install", "/obit-bin"]).code(0);
    let app = Container::new(bed).state().volume(&shared, "/obit-bin", USER).with(["--entrypoint", "/obit-bin/obit"]);
    app.run(BASE, &["--", "/bin/die", "abort"]).code(134);
    assert_eq!(last(bed)["exit"]["signal"], "SIGABRT");
}

fn no_network(bed: &Bed) {
    let dsn = "SENTRY_DSN=http://0123456789abcdef@sentry.test:9460/1";
    let alone = Container::new(bed).state().with(["--network", "none", "-e", dsn, "-e", "OBIT_REPORT_WAIT=1s"]);
    let ended = alone.run(APP, &["/bin/die", "exit", "9"]);
    ended.code(9);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!(kept(bed)[0]["state"], "pending");
}

fn restarted(bed: &Bed) {
    let container = Container::new(bed).with(["--restart", "on-failure:2"]);
    container.detached(APP, &["/bin/die", "exit", "9"]);
    let over = || {
        let state = container.docker(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}"]);
        (state.stdout() == "2 exited 9\n").then_some(())
    };
    crate::bed::wait_for(over).expect("three runs within the deadline");
    let copied = crate::docker::docker(bed, ["cp"])
        .args([format!("{}:/var/lib/obit", container.name())])
        .args([bed.state()])
        .end();
    copied.code(0);
    assert_eq!(kept(bed).iter().map(reason).collect::<Vec<_>>(), ["code"; 3]);
}

fn doctor(bed: &Bed) {
    let strict = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    for options in [&[][..], &strict] {
        let asked = Container::new(bed).with(options.iter().copied()).with(["--entrypoint", "/sbin/obit"]);
        let answer = asked.run(APP, &["doctor", "--json"]);
        answer.code(0);
        let findings: Vec<Value> = serde_json::from_str(&answer.stdout()).expect("an array");
        let wrong: Vec<&Value> = findings.iter().filter(|finding| finding["state"] == "problem").collect();
        assert!(wrong.is_empty() && findings.len() > 5, "{findings:?}");
    }
}
