//! The child's view: it cannot tell that obit is there, but for its parent and its group.

use crate::bed::{Bed, Ended, Fate, Room, Setup, both, first, program, trial};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(both("the program sees exactly what its caller gave", &[], same_view));
    trials.extend(both("an ignored SIGPIPE stays ignored and a default one stays default", &[], sigpipe));
    trials.extend(both("with the stderr tail off not even stderr is another file", &[], same_stderr));
    trials.extend(both("closed standard streams stay closed for the program", &[], closed_streams));
    trials.extend(both("the program has a group of its own", &[], own_group));
    trials.extend(both("a hundred thousand environment variables pass", &[], crowd));
    trials.extend(both("a working directory that is gone passes", &[], lost_directory));
    trials.extend(both("obit itself works in the root directory", &[], pins_no_mount));
    trials.extend(both("relative paths mean what lay where obit was called", &[], relative_paths));
    trials.extend(both("without /proc everything works", &[], no_proc));
    trials.extend(both("stdin is the program's", &[], stdin));
    trials.push(first("obit inside obit works", &[], nested));
    trials.push(trial("obit inside obit inside obit works as a guest", &[], nested));
    trials
}

/// Lines of a view that may differ: stderr is a pipe of obit's, and the room's own parent-death signal is not the program's.
fn facts(ended: &Ended) -> Vec<String> {
    let told = ended.stdout();
    let may_differ = |line: &str| line.starts_with("fd 2 ") || line.starts_with("parent-death signal ");
    told.lines().filter(|l| !may_differ(l)).map(str::to_owned).collect()
}

#[track_caller]
fn compare(direct: &Ended, under: &Ended) {
    direct.code(0);
    under.code(0);
    assert_eq!(facts(direct), facts(under));
    assert_eq!(under.stderr(), "");
}

fn same_view(bed: &Bed) {
    let view = program("view");
    let all = (1..=64).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let ignorable = (1..=64).filter(|n| ![9, 19].contains(n)).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let callers: [&[&str]; 6] = [
        &[],
        &["--block", "12,20,21,22,34,64", "--ignore", "1,13,10,40"],
        &["--block", &all],
        &["--ignore", &ignorable],
        &["--open", "3", "--open", "7", "--open", "100"],
        &["--cwd", "/usr/bin", "--block", "15"],
    ];
    for caller in callers {
        let direct = bed.command(&view).args(["one", "t w o", ""]).room(caller).end();
        let under = bed.under([view.to_str().unwrap(), "one", "t w o", ""]).room(caller).end();
        compare(&direct, &under);
    }
    let shell = |rest: &str| {
        let limits = "ulimit -S -n 77; ulimit -c 0; ulimit -s 4096; umask 027; exec nice -n 5 setpriv --no-new-privs";
        [String::from("-c"), format!("{limits} {rest}")]
    };
    let direct = bed.command("sh").args(shell(view.to_str().unwrap())).end();
    let obit = format!("{} -- {}", crate::bed::binary().display(), view.display());
    compare(&direct, &bed.command("sh").args(shell(&obit)).end());
}

/// The Rust runtime ignores SIGPIPE before main: rust-lang/rust#62569.
fn sigpipe(bed: &Bed) {
    let view = program("view");
    for (caller, ignored) in [(&[] as &[&str], "0000000000000000"), (&["--ignore", "13"], "0000000000001000")] {
        let ended = bed.under([&view]).room(caller).end();
        assert!(ended.stdout().contains(&format!("ignored {ignored}\n")), "{}", ended.stdout());
    }
}

fn same_stderr(bed: &Bed) {
    let script = "stat -L -c %t:%T:%i /proc/self/fd/2";
    let direct = bed.command("sh").args(["-c", &format!("exec 2>&1; {script}; {script}")]).end().stdout();
    let lines: Vec<&str> = direct.lines().collect();
    assert_eq!(lines[0], lines[1]);
    let obit = crate::bed::binary();
    let under = format!("exec 2>&1; {script}; exec {} run --stderr-tail off -- sh -c '{script}'", obit.display());
    by_option_or_variable(bed.command("sh").args(["-c", &under]));
    let under = format!("exec 2>&1; {script}; exec {} -- sh -c '{script}'", obit.display());
    by_option_or_variable(bed.command("sh").args(["-c", &under]).env("OBIT_STDERR_TAIL", "off"));
}

fn by_option_or_variable(setup: Setup) {
    let told = setup.end().stdout();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], lines[1], "{told}");
}

fn closed_streams(bed: &Bed) {
    let view = program("view");
    let callers: [&[&str]; 4] = [
        &["--close", "0"],
        &["--close", "2"],
        &["--close", "0", "--close", "2"],
        &["--close", "0", "--open", "5", "--close", "2"],
    ];
    for caller in callers {
        let direct = bed.command(&view).room(caller).end();
        let under = bed.under([&view]).room(caller).end();
        compare(&direct, &under);
        let fd2 = |e: &Ended| e.stdout().lines().any(|l| l.starts_with("fd 2 "));
        assert_eq!(fd2(&direct), fd2(&under), "{caller:?}: {}", under.stdout());
    }
    let file = bed.path("said");
    let script = format!("exec {} >{}", view.display(), file.display());
    bed.under(["sh", "-c", &script]).room(["--close", "0", "--close", "1", "--close", "2"]).end().code(0);
    let told = std::fs::read_to_string(file).unwrap();
    assert!(!told.contains("fd 0 ") && !told.contains("fd 2 "), "{told}");
    bed.under([program("die").to_str().unwrap(), "null"])
        .room(["--close", "0", "--close", "1", "--close", "2"])
        .end()
        .code(139);
}

fn own_group(bed: &Bed) {
    let ended = bed.under(["sh", "-c", "exec ps -o pid=,pgid= -p $$"]).end();
    let told = ended.stdout();
    let ids: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(ids[0], ids[1], "{told}");
}

fn crowd(bed: &Bed) {
    let (crowd, view, obit) = (program("crowd"), program("view"), crate::bed::binary());
    // 100 000 strings and their pointers need more than the 2 MiB that an 8 MiB stack allows.
    let run = |rest: &str| {
        let script = format!("ulimit -s 65536; exec {} 100000 {rest}", crowd.display());
        bed.command("sh").args(["-c", &script]).end()
    };
    let direct = run(&view.display().to_string());
    compare(&direct, &run(&format!("{} -- {}", obit.display(), view.display())));
    assert!(direct.stdout().contains("environment 1000"), "{}", direct.stdout());
}

fn lost_directory(bed: &Bed) {
    let gone = bed.path("gone");
    std::fs::create_dir(&gone).unwrap();
    let obit = crate::bed::binary();
    let script = format!("cd {0} && rmdir {0} && exec {1} -- sh -c 'exit 6'", gone.display(), obit.display());
    bed.command("sh").args(["-c", &script]).end().code(6);
}

/// openSUSE/catatonit#28: the init's working directory keeps a volume from being unmounted.
fn pins_no_mount(bed: &Bed) {
    let script = "readlink /proc/$PPID/cwd; readlink /proc/$$/cwd";
    let ended = bed.script(script).room(["--cwd", "/usr/bin"]).end();
    ended.code(0);
    assert_eq!(ended.stdout(), "/\n/usr/bin\n");
}

fn relative_paths(bed: &Bed) {
    let here = bed.path("");
    let log = bed.path("termination");
    std::fs::write(&log, "").unwrap();
    std::fs::copy(program("die"), bed.path("die")).unwrap();
    let options = ["run", "--state-dir", "kept", "--termination-log", "termination", "--", "./die", "null"];
    bed.obit(options).room(["--cwd".as_ref(), here.as_os_str()]).end().code(139);
    assert_eq!(std::fs::read_dir(bed.path("kept/spool/pending")).unwrap().count(), 1);
    assert!(std::fs::read_to_string(log).unwrap().contains("SIGSEGV"));
}

/// A `chroot` or an early boot has none.
fn no_proc(bed: &Bed) {
    let view = program("view");
    let direct = bed.command(&view).room(["--no-proc"]).end();
    compare(&direct, &bed.under([&view]).room(["--no-proc"]).end());
    bed.under([program("die").to_str().unwrap(), "abort"]).room(["--no-proc"]).end().code(134);
    let ended = bed.script("setsid sleep 1000 & exit 4").room(["--no-proc"]).end();
    assert_eq!(ended.fate, Fate::Exited(4));
    assert!(ended.took.as_secs() < 30, "{:?}", ended.took);
    // A guest without /proc cannot know whom to ask to end; it leaves them to the next PID 1.
    assert_eq!(ended.left, bed.room == Room::Guest);
}

fn stdin(bed: &Bed) {
    let ended = bed.under(["cat"]).stdin("one\ntwo\n").end();
    ended.code(0).quiet();
    assert_eq!(ended.stdout(), "one\ntwo\n");
}

fn nested(bed: &Bed) {
    let obit = crate::bed::binary();
    let obit = obit.to_str().unwrap();
    bed.under([obit, "--", obit, "--", program("die").to_str().unwrap(), "exit", "44"]).end().code(44);
    let run = bed.under([obit, "--", obit, "--", program("listen").to_str().unwrap(), "15", "45"]).start();
    run.says("ready\n");
    run.queue(["15"]);
    run.end().code(45);
}
