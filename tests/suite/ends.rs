//! How a run ends: the exit status outward, for every way a program can end or fail to begin.
//!
//! wait(2), POSIX shells for 126, 127 and 128+n, and the table in `src/death.rs`.

use crate::bed::{Bed, Fate, Room, both, first, program, trial};
use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(both("every exit code from 0 to 255 is passed on", &[], every_exit_code));
    trials.extend(both("every fatal signal n ends it with 128 plus n", &[], every_fatal_signal));
    trials.extend(both("real faults end it with 128 plus their signal", &[], real_faults));
    trials.extend(both("a command that does not exist is 127 and a sentence", &[], no_such_command));
    trials.extend(both("a path that does not exist is 127 and a sentence", &[], no_such_path));
    trials.extend(both("a file without the executable bit is 126 and a sentence", &[], not_executable));
    trials.extend(both("a directory as the command is 126 and a sentence", &[], a_directory));
    trials.extend(both(
        "a program of another machine is 126 and a sentence, and no shell reads it",
        &[],
        another_machine,
    ));
    trials.extend(both(
        "a script whose interpreter is missing is 127 and names the interpreter's script",
        &[],
        no_interpreter,
    ));
    trials.extend(both("a script without a first line is run by sh", &[], no_first_line));
    trials.extend(both("no command at all is 125 and a sentence", &[], no_command));
    trials.extend(both("an unknown option is 125 and names the nearest one", &[], unknown_option));
    trials.extend(both("map-exit turns one code into another and leaves the rest", &[], map_exit));
    trials.extend(both("map-exit turns the code of a signal into another", &[], map_exit_of_a_signal));
    trials.push(trial("re-raise ends obit by the program's own signal", &[], re_raise));
    trials.push(first("re-raise cannot be, and the code is 128 plus n", &[], re_raise_as_first));
    trials
}

fn every_exit_code(bed: &Bed) {
    for code in 0..=255 {
        bed.under([program("die").to_str().unwrap(), "exit", &code.to_string()]).end().code(code);
    }
}

/// signal(7): everything but CHLD CONT STOP TSTP TTIN TTOU URG WINCH ends a process by default.
fn every_fatal_signal(bed: &Bed) {
    for number in (1..=64u8).filter(|n| ![17, 18, 19, 20, 21, 22, 23, 28].contains(n)) {
        bed.under([program("die").to_str().unwrap(), "signal", &number.to_string()]).end().code(128 + number);
    }
}

fn real_faults(bed: &Bed) {
    let table = [
        ("null", libc::SIGSEGV),
        ("abort", libc::SIGABRT),
        ("trap", libc::SIGTRAP),
        ("illegal", libc::SIGILL),
        ("divide", libc::SIGFPE),
        ("stack", libc::SIGSEGV),
        ("bus", libc::SIGBUS),
    ];
    for (how, signal) in table {
        bed.under([program("die").to_str().unwrap(), how]).end().code(128 + signal as u8);
    }
}

fn no_such_command(bed: &Bed) {
    bed.under(["no-such-command-of-ours"]).end().code(127).complains("no-such-command-of-ours");
}

fn no_such_path(bed: &Bed) {
    bed.under(["/nowhere/at/all"]).end().code(127).complains("/nowhere/at/all");
}

fn not_executable(bed: &Bed) {
    let file = bed.path("plain");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    bed.under([&file]).end().code(126).complains("plain");
}

fn a_directory(bed: &Bed) {
    bed.under(["/usr"]).end().code(126).complains("/usr");
}

fn executable(bed: &Bed, name: &str, content: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let file = bed.path(name);
    std::fs::write(&file, content).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// execve(2) says ENOENT for a script's interpreter as well; the sentence must not claim that the script is missing.
fn no_interpreter(bed: &Bed) {
    let script = executable(bed, "script", "#!/nowhere/python\n");
    bed.under([&script]).end().code(126).complains("it exists, but its interpreter");
}

/// execvp(3): a file that the kernel does not know is given to sh.
fn no_first_line(bed: &Bed) {
    let script = executable(bed, "script", "echo $0 $1; exit 9\n");
    let ended = bed.under([script.as_os_str(), "a b".as_ref()]).end();
    ended.code(9);
    assert_eq!(ended.stdout(), format!("{} a b\n", script.display()));
}

fn no_command(bed: &Bed) {
    let ended = bed.obit(["run"]).end();
    ended.code(125);
    assert_eq!(ended.stdout(), "");
    assert!(ended.stderr().starts_with("obit: "), "{}", ended.stderr());
}

fn unknown_option(bed: &Bed) {
    bed.run(&["--stop-grase", "3s"], ["true"]).end().code(125).complains("--stop-grace");
}

fn map_exit(bed: &Bed) {
    let die = program("die");
    let die = die.to_str().unwrap();
    for (code, outward) in [(3, 0), (0, 0), (4, 4), (7, 9), (255, 255)] {
        bed.run(&["--map-exit", "3:0", "--map-exit", "7:9"], [die, "exit", &format!("{code}")]).end().code(outward);
    }
}

/// tini#69: a JVM ends with 143 when asked to stop; a supervisor may call that success.
fn map_exit_of_a_signal(bed: &Bed) {
    bed.run(&["--map-exit", "143:0"], [program("die").to_str().unwrap(), "signal", "15"]).end().code(0);
}

fn re_raise(bed: &Bed) {
    for signal in [9, 11, 15, 2, 6, 34] {
        let ended = bed.run(&["--re-raise"], [program("die").to_str().unwrap(), "signal", &format!("{signal}")]).end();
        assert_eq!(ended.fate, Fate::Killed(signal), "{}", ended.stderr());
    }
    bed.run(&["--re-raise"], [program("die").to_str().unwrap(), "exit", "5"]).end().code(5);
}

/// pid_namespaces(7): PID 1 cannot be killed by a signal with the default action, not even by its own.
fn re_raise_as_first(bed: &Bed) {
    assert_eq!(bed.room, Room::First);
    bed.run(&["--re-raise"], [program("die").to_str().unwrap(), "signal", "15"]).end().code(143);
}

fn another_machine(bed: &Bed) {
    let file = bed.path("other");
    let mut bytes = std::fs::read(program("die")).unwrap();
    // elf(5): e_machine; nobody has that one.
    bytes[18..20].copy_from_slice(&[0xff, 0x7f]);
    std::fs::write(&file, bytes).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ended = bed.under([&file]).end();
    ended.code(126).complains("made for another machine");
    assert_eq!(ended.stderr().lines().count(), 1, "{}", ended.stderr());
}
