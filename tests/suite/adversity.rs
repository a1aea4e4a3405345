//! Bad input and bad surroundings: the right exit code, one clear line, nothing durable lost, nothing hangs.

use crate::bed::{self, Bed, Fate, Setup, binary, both, program, trial};
use crate::server::{Mood, Server};
use libtest_mimic::Trial;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(both(
        "a state directory that is a file is one line, and the report goes elsewhere",
        &[],
        state_is_file,
    ));
    trials.extend(both(
        "a state directory that is read-only is one line, and the report goes elsewhere",
        &[],
        read_only,
    ));
    trials.extend(both("a full disk is one line, and the report is delivered from memory", &[], full_disk));
    trials.extend(both("what a full disk refuses is kept in another place, and delivered from there", &[], refuge));
    trials.extend(both("a nearly full disk keeps what fits, and it is delivered", &[], nearly_full_disk));
    trials.extend(both("with nowhere to write the report is delivered from memory", &[], nowhere));
    trials.push(trial("what is no state directory at all inside does no harm", &[], noise_inside));
    trials.push(trial("a report cut short or overwritten is set aside and the others arrive", &[], noise_in_spool));
    trials.push(trial("reports of a clock that was wrong arrive", &[], wrong_clock));
    trials.push(trial("two obits on one state directory deliver everything once", &[], two_at_once));
    trials.extend(both("a crash without any standard stream is reported", &[], no_streams));
    trials.extend(both("where no file may be written the program ends as it would", &[], no_file));
    trials.extend(both("with a dozen fds the program runs as it would", &[], few_fds));
    trials.extend(both("with hardly an fd the program runs in obit's place", &[], no_fds));
    trials.extend(both("where no end can be heard of the program runs in obit's place", &[], no_wait));
    trials.extend(both("where no process can be made the program runs in obit's place", &[], no_process));
    trials.extend(both("a crash among a hundred thousand environment variables is reported", &[], crowd));
    trials
}

/// A crash with a server to tell.
fn crash(bed: &Bed, server: &Server) -> Setup {
    bed.run(&["--report-wait", "30s"], ["sh", "-c", "echo last words >&2; exit 9"]).env("OBIT_DSN", &server.dsn)
}

/// obit's own lines, without the one about the death and the notice before the first send.
fn complaints(stderr: &str) -> Vec<&str> {
    let expected = |line: &&str| line.contains("exited with code") || line.contains("from now on; see them with");
    stderr.lines().filter(|line| line.starts_with("obit: ") && !expected(line)).collect()
}

/// Places of the machine's own are hidden, so that nothing of the trial lands there; then the script runs, with `$state` in
/// a file system of its own.
fn in_its_own_mounts(bed: &Bed, script: &str, server: &Server) -> Setup {
    let state = bed.path("mount");
    std::fs::create_dir(&state).unwrap();
    let hide = "for place in /var/lib /dev/shm; do mount -t tmpfs none $place; done; export HOME=/var/lib/home";
    bed.command("sh")
        .args(["-c", &format!("{hide}\n{script}")])
        .env("state", state)
        .env("obit", binary())
        .env("OBIT_DSN", &server.dsn)
        .env("OBIT_REPORT_WAIT", "30s")
}

fn state_is_file(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let script = ": >$state/file; exec $obit run --state-dir $state/file -- sh -c 'exit 9'";
    let ended = in_its_own_mounts(bed, script, &server).end();
    ended.code(9);
    let stderr = ended.stderr();
    let told = complaints(&stderr);
    assert!(told.len() == 1 && told[0].contains("cannot be used (it is a symbolic link or no directory)"), "{stderr}");
    assert_eq!(server.events().len(), 1);
}

fn read_only(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let script = "mount -t tmpfs -o ro none $state; exec $obit run --state-dir $state -- sh -c 'exit 9'";
    let ended = in_its_own_mounts(bed, script, &server).end();
    ended.code(9);
    let stderr = ended.stderr();
    let told = complaints(&stderr);
    assert!(told.len() == 1 && told[0].contains("cannot be used"), "{stderr}");
    assert_eq!(server.events().len(), 1);
}

fn full_disk(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let script = "mount -t tmpfs -o size=64k none $state; $obit run --state-dir $state -- true
                  head -c 100000 /dev/zero >$state/filler 2>/dev/null
                  for place in /var/lib /dev/shm; do mount -t tmpfs -o ro none $place; done; export HOME=/var/lib/home
                  exec $obit run --state-dir $state -- sh -c 'exit 9'";
    let ended = in_its_own_mounts(bed, script, &server).end();
    ended.code(9);
    let stderr = ended.stderr();
    assert!(stderr.contains("No space left on device"), "{stderr}");
    assert!(stderr.contains("kept in memory until it is delivered or we end"), "{stderr}");
    assert!(complaints(&stderr).len() <= 3, "{stderr}");
    assert_eq!(server.events().len(), 1, "{stderr}");
}

fn refuge(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let script = "mount -t tmpfs -o size=64k none $state; $obit run --state-dir $state -- true
                  for place in /var/lib /dev/shm; do mount -t tmpfs none $place; done; export HOME=/var/lib/home
                  head -c 100000 /dev/zero >$state/filler 2>/dev/null
                  OBIT_DSN= $obit run --state-dir $state -- sh -c 'exit 9'; echo code $?
                  $obit crashes list --state-dir $state 2>&1 >/dev/null
                  $obit crashes show --state-dir /var/lib/obit/instead-of-* | grep ' exit '
                  exec $obit flush --state-dir $state";
    let ended = in_its_own_mounts(bed, script, &server).end();
    ended.code(0);
    let (stdout, stderr) = (ended.stdout(), ended.stderr());
    assert!(stderr.contains("it is kept in /var/lib/obit/instead-of-"), "{stderr}");
    assert!(stdout.contains("what it refused is read with --state-dir /var/lib/obit/instead-of-"), "{stdout}{stderr}");
    assert!(stdout.contains("exit         code 9\n1 sent, 0 refused, 0 waiting\n"), "{stdout}{stderr}");
    assert_eq!(server.events().len(), 1, "{stderr}");
}

/// Room for the marker and the minimal report, and no more: the tail alone is larger.
fn nearly_full_disk(bed: &Bed) {
    let server = Server::new(Mood::Status(503));
    let script = "mount -t tmpfs -o size=64k none $state; $obit run --state-dir $state -- true
                  head -c 20000 /dev/zero >$state/filler
                  crash='head -c 60000 /dev/urandom | od -x >&2; exit 9'
                  OBIT_REPORT_WAIT=1s $obit run --state-dir $state -- sh -c \"$crash\" 2>/dev/null; echo code $?
                  while ! [ -e $go ]; do sleep 0.02; done
                  exec $obit flush --state-dir $state";
    let go = bed.path("go");
    let run = in_its_own_mounts(bed, script, &server).env("go", &go).start();
    run.says("code 9\n");
    server.becomes(Mood::Status(200));
    std::fs::write(go, "").unwrap();
    let ended = run.end();
    assert_eq!((ended.fate, server.events().len()), (Fate::Exited(0), 1), "{}{}", ended.stdout(), ended.stderr());
}

/// Read-only root, no volume, nothing in memory: what a hardened pod is.
fn nowhere(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let script = "for place in /var/lib /dev/shm; do mount -o remount,ro $place; done
                  exec $obit run --state-dir /proc/nothing -- sh -c 'exit 9'";
    let ended = in_its_own_mounts(bed, script, &server).end();
    ended.code(9).complains("no state directory is writable");
    assert_eq!(server.events().len(), 1, "{}", ended.stderr());
}

fn noise_inside(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    for name in ["spool", "runs", "spool/pending", "quota"] {
        let _ = std::fs::remove_dir_all(bed.state());
        std::fs::create_dir_all(bed.state().join(name).parent().unwrap()).unwrap();
        std::fs::write(bed.state().join(name), [0xff; 5000]).unwrap();
        crash(bed, &server).end().code(9);
    }
    assert_eq!(server.events().len(), 4);
    let _ = std::fs::remove_dir_all(bed.state());
    std::fs::create_dir_all(bed.state().join("runs")).unwrap();
    std::fs::write(bed.state().join("runs/0123456789abcdef0123456789abcdef.run"), [0xff; 5000]).unwrap();
    std::fs::write(bed.state().join("runs/x"), [0xff; 5000]).unwrap();
    crash(bed, &server).end().code(9);
    assert!(server.events().len() >= 5);
}

/// Files of the spool's `pending/`.
fn pending(bed: &Bed) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(bed.state().join("spool/pending"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

fn states(bed: &Bed) -> Vec<String> {
    let list: Value = serde_json::from_str(&bed.obit(["crashes", "list", "--json"]).end().stdout()).expect("an array");
    let mut states: Vec<String> =
        list.as_array().expect("an array").iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect();
    states.sort();
    states
}

fn noise_in_spool(bed: &Bed) {
    for code in 1..=4 {
        bed.run(&[], ["sh", "-c", &format!("exit {code}")]).end().code(code);
    }
    let files = pending(bed);
    let content = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &content[..content.len() / 2]).unwrap();
    std::fs::write(&files[1], [0xff; 70_000]).unwrap();
    std::fs::write(&files[2], "").unwrap();
    let server = Server::new(Mood::Status(200));
    let next = bed.run(&["--report-wait", "30s"], ["true"]).env("OBIT_DSN", &server.dsn).end();
    next.code(0);
    assert_eq!(next.stderr().matches("is corrupt on disk and cannot be delivered").count(), 3, "{}", next.stderr());
    assert_eq!(
        (server.events().len(), states(bed)),
        (1, ["corrupt", "corrupt", "corrupt", "sent"].map(str::to_owned).into())
    );
}

/// A machine that starts in 1970 and is set right later, or was a century ahead: neither loses what it wrote meanwhile.
fn wrong_clock(bed: &Bed) {
    for code in 1..=3 {
        bed.run(&[], ["sh", "-c", &format!("exit {code}")]).end().code(code);
    }
    for (file, time) in pending(bed).iter().zip(["7", "4999999999999"]) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (_, rest) = name.split_once('-').unwrap();
        std::fs::rename(file, file.with_file_name(format!("{time}-{rest}"))).unwrap();
    }
    let server = Server::new(Mood::Status(200));
    bed.run(&["--report-wait", "30s"], ["true"]).env("OBIT_DSN", &server.dsn).end().code(0);
    assert_eq!((server.events().len(), states(bed)), (3, vec!["sent".to_owned(); 3]));
}

fn two_at_once(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let runs: Vec<_> = (1..=8)
        .map(|code| {
            let command = ["sh".to_owned(), "-c".to_owned(), format!("exit {code}")];
            bed.run(&["--report-wait", "30s"], command).env("OBIT_DSN", &server.dsn).start()
        })
        .collect();
    for (code, run) in (1..).zip(runs) {
        run.end().code(code);
    }
    bed.run(&["--report-wait", "30s"], ["true"]).env("OBIT_DSN", &server.dsn).end().code(0);
    let sent = server.taken().iter().filter(|envelope| envelope.item("event").is_some()).count();
    assert_eq!((server.events().len(), sent, states(bed)), (8, 8, vec!["sent".to_owned(); 8]));
}

fn no_streams(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let ended = bed
        .run(&["--report-wait", "30s"], [program("die").to_str().unwrap(), "null"])
        .env("OBIT_DSN", &server.dsn)
        .room(["--close", "0", "--close", "1", "--close", "2"])
        .end();
    assert_eq!(ended.fate, Fate::Exited(139));
    assert_eq!(server.events().len(), 1);
}

/// The program finds its mask, its directory and its arguments as they were given to obit.
fn no_fds(bed: &Bed) {
    let script = format!(
        "ulimit -n 5; cd /usr; exec {} -- sh -c 'pwd; grep SigBlk /proc/self/status; exit 3'",
        binary().display()
    );
    let ended = bed.command("sh").args(["-c", &script]).end();
    ended.code(3).complains("sh runs in place of obit");
    assert_eq!(ended.stdout(), "/usr\nSigBlk:\t0000000000000000\n");
}

/// By a seccomp filter, which the program has, too.
fn no_wait(bed: &Bed) {
    for call in ["waitid", "wait4", "signalfd4"] {
        let refused = bed.command(program("refuse")).args([call.as_ref(), binary().as_os_str()]);
        let ended = refused.args(["--", "sh", "-c", "echo up; exit 3"]).end();
        ended.code(3).complains("sh runs in place of obit");
        assert_eq!(ended.stdout(), "up\n");
    }
}

/// Of a user of its own, who may have one process: setrlimit(2), RLIMIT_NPROC.
fn no_process(bed: &Bed) {
    let uid = 1_000_000 + bed::fresh_number();
    let obit = bed.path("obit");
    std::fs::copy(binary(), &obit).unwrap();
    std::fs::set_permissions(bed.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    for (command, code, told) in [
        ("cat /proc/self/comm", 0, "cat runs in place of obit"),
        ("/no/such", 127, "cannot execute /no/such: no such file"),
        ("/etc", 126, "cannot execute /etc: permission denied"),
    ] {
        let limited = format!("exec prlimit --nproc=1 {} -- {command}", obit.display());
        let user = ["--reuid", &uid.to_string(), "--regid", "65534", "--clear-groups", "sh", "-c", &limited]
            .map(str::to_owned);
        let ended = bed.command("setpriv").args(user).env("OBIT_STATE_DIR", "/nonexistent").end();
        ended.code(code).complains(told);
        assert_eq!(ended.stdout(), if code == 0 { "cat\n" } else { "" });
    }
}

fn crowd(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    // Not a shell: dash takes seconds for so many. 100 000 strings and their pointers need more than the 2 MiB that an 8 MiB stack allows.
    let script = format!(
        "ulimit -s 65536; exec {} 100000 {} run --report-wait 30s -- false",
        program("crowd").display(),
        binary().display()
    );
    let ended = bed.command("sh").args(["-c", &script]).env("OBIT_DSN", &server.dsn).end();
    ended.code(1);
    assert_eq!(server.events().len(), 1, "{}", ended.stderr());
}

/// The kernel tells init of its own write by the signal that would end the program, if it were passed on.
fn no_file(bed: &Bed) {
    for (end, code) in [("exit 3", 3), ("kill -SEGV $$", 139)] {
        let script = format!("ulimit -f 0; exec {} -- sh -c '{end}'", binary().display());
        bed.command("sh").args(["-c", &script]).end().code(code);
    }
}

fn few_fds(bed: &Bed) {
    let script = format!("ulimit -n 12; exec {} -- sh -c 'exit 3'", binary().display());
    bed.command("sh").args(["-c", &script]).end().code(3).complains("exited with code 3");
}
