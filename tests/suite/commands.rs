//! The commands that people type: what they print is for eyes, and with `--json` for programs.

use crate::bed::{Bed, trial};
use libtest_mimic::Trial;
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("every command of the help has a help of its own, and prints nothing on stderr for it", &[], help),
        trial("an unknown command or option is named with its nearest kin", &[], nearest),
        trial("each value of the configuration is shown with where it came from", &[], origins),
        trial("a configuration that cannot be used is refused by the check, each value by name", &[], unsound),
        trial("the copy that install makes is the same program and can be executed", &[], install),
        trial("completions name every command, and the manual every command and option", &[], completions),
        trial("doctor says what would happen here, to people and to programs", &[], doctor),
        trial("reports are listed, shown, purged, and then there are none", &[], crashes),
        trial("a part of an id is enough where it names one report", &[], short_id),
        trial("a command whose output is lost does not end well, and says so", &[], lost_output),
        trial("the configuration that is looked at can be named", &[], named_configuration),
        trial(
            "what is left undelivered is an end that is not well, and what was switched off is not",
            &[],
            undelivered,
        ),
        trial("an option that is no text is refused, and not taken for the program", &[], no_text),
        trial("credentials in a FIFO are not waited for", &[], fifo),
        trial("why a state directory does not count, or delivers nothing, is said", &[], no_place),
        trial("a colour reaches nobody but a terminal", &[], colourless),
    ]
}

const COMMANDS: [&str; 13] = [
    "run",
    "crashes",
    "status",
    "flush",
    "doctor",
    "core",
    "telemetry",
    "upgrade",
    "heartbeat",
    "config",
    "install",
    "completions",
    "man",
];

fn help(bed: &Bed) {
    let all = bed.obit(["--help"]).end();
    all.code(0);
    for command in COMMANDS {
        assert!(all.stdout().contains(&format!("\n  {command} ")), "{command}: {}", all.stdout());
        let own = bed.obit([command, "--help"]).end();
        own.code(0);
        assert!(own.stdout().contains("Usage: obit "), "{command}: {}", own.stdout());
        assert_eq!(own.stderr(), "", "{command}");
        let widest = own.stdout().lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{command}: a line of {widest:?} characters");
    }
}

fn nearest(bed: &Bed) {
    bed.obit(["run", "--stop-grac", "3s", "--", "true"]).end().code(125).complains("did you mean \"--stop-grace\"?");
    bed.obit(["crash", "list"]).end().code(125).complains("'crashes'");
    bed.obit(["crashes", "list", "--jsn"]).end().code(125).complains("'--json'");
}

fn origins(bed: &Bed) {
    let file = bed.path("obit.toml");
    std::fs::write(&file, "stop_grace = \"3s\"\ncomponent = \"shop\"\n").unwrap();
    let show = || bed.obit(["config", "show", "--json"]).env("OBIT_CONFIG", &file).env("OBIT_COMPONENT", "till");
    let shown: Value = serde_json::from_str(&show().end().stdout()).expect("an object");
    let row = |name: &str| (shown[name]["value"].as_str().unwrap_or("?").to_owned(), shown[name]["origin"].to_string());
    assert_eq!(row("component"), ("till".to_owned(), "\"OBIT_COMPONENT\"".to_owned()));
    assert_eq!(row("stop_grace").0, "3s");
    assert!(row("stop_grace").1.contains("obit.toml"), "{}", row("stop_grace").1);
    assert_eq!(row("report_wait"), ("5s".to_owned(), "\"default\"".to_owned()));
    bed.obit(["config", "check"]).env("OBIT_CONFIG", &file).end().code(0);
}

fn unsound(bed: &Bed) {
    let check = |name: &str, value: &str, sentence: &str| {
        let ended = bed.obit(["config", "check"]).env(name, value).end();
        assert_ne!(ended.fate, crate::bed::Fate::Exited(0), "{name}={value}");
        ended.complains(sentence);
    };
    check("OBIT_DSN", "https://nokey.test/1", "the DSN has no key before the @");
    check("OBIT_STOP_GRACE", "soon", "OBIT_STOP_GRACE");
    check("OBIT_CONFIG", "/no/such/file", "/no/such/file");
    check("OBIT_REWRITE", "KILL:TERM", "nobody can catch SIGKILL");
    check("OBIT_DNS_ZONE", "a..b", "a..b");
    check("OBIT_DNS_KEYS", "12", "is no Ed25519 public key");
    check("OBIT_DNS_RESOLVER", "dns.example.com", "is no name server");
    check("OBIT_INVENTORY", "nodes.json", "the inventory \"nodes.json\"");
    check("OBIT_INVENTORY_MAP", "nodez=/a", "did you mean \"nodes\"?");
    check("OBIT_CLUSTER_SPEC", "/no/such/spec", "the cluster spec /no/such/spec cannot be used");
    check("OBIT_CLUSTER_SECRET", "/no/such/secret", "the cluster secret /no/such/secret cannot be used");
    check("OBIT_API", "0.0.0.0:5705", "no password was chosen");
}

fn install(bed: &Bed) {
    let place = bed.path("tools");
    std::fs::create_dir(&place).unwrap();
    bed.obit(["install".as_ref(), place.as_os_str()]).end().code(0);
    let copy = place.join("obit");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(crate::bed::binary()).unwrap());
    bed.command(copy).args(["--", "sh", "-c", "exit 7"]).end().code(7);
    let taken = bed.path("taken");
    std::fs::write(&taken, "").unwrap();
    bed.obit(["install".as_ref(), taken.as_os_str()]).end().complains("taken");
}

fn completions(bed: &Bed) {
    for shell in ["bash", "zsh", "fish"] {
        let script = bed.obit(["completions", shell]).end();
        script.code(0);
        for command in COMMANDS {
            assert!(script.stdout().contains(command), "{shell}: {command}");
        }
    }
    let page = bed.obit(["man"]).end();
    page.code(0);
    let text = page.stdout().replace('\\', "");
    for command in COMMANDS {
        assert!(text.contains(&format!(".TH obit-{command} 1")), "{command}: {text}");
    }
    for option in ["--stop-grace", "--dsn", "--report-wait", "--state-dir", "--no-telemetry"] {
        assert!(text.contains(option), "{option}");
    }
}

fn doctor(bed: &Bed) {
    let people = bed.obit(["doctor"]).end();
    people.code(0);
    let answer: Value = serde_json::from_str(&bed.obit(["doctor", "--json"]).end().stdout()).expect("JSON");
    let text = answer.to_string();
    for subject in ["state directory", "destination", "core_pattern", "RLIMIT_CORE", "ptrace", "termination log"] {
        assert!(people.stdout().contains(subject), "{subject}: {}", people.stdout());
        assert!(text.contains(subject), "{subject}: {text}");
    }
    assert!(people.stdout().contains("no DSN: reports stay here"), "{}", people.stdout());
    // A problem is its exit status, in either form, and the help says so.
    for (words, sign) in [(&["doctor"][..], "✗ destination"), (&["doctor", "--json"], "\"state\":\"problem\"")] {
        let ended = bed.obit(words).env("OBIT_DSN", "https://key@sentry.test/").end();
        ended.code(1).complains("1 problem was found");
        assert!(ended.stdout().contains(sign), "{}", ended.stdout());
    }
    let pages = [["doctor", "--help"].as_slice(), &["man"]].map(|words| bed.obit(words).end().stdout());
    assert!(pages.iter().all(|page| page.contains("Exit status: 0 if no finding is a problem")), "{}", pages[0]);
    assert_eq!(bed.obit(["doctor", "--proxy-for", "https://sentry.test/"]).end().stdout(), "direct\n");
}

fn list(bed: &Bed) -> Vec<Value> {
    serde_json::from_str(&bed.obit(["crashes", "list", "--json"]).end().stdout()).expect("an array")
}

fn no_text(bed: &Bed) {
    let option = OsStr::from_bytes(b"--component=\xff");
    for before in [&["run"][..], &[]] {
        bed.obit(before).args([option]).args(["--", "true"]).end().code(125).complains("is not UTF-8");
    }
    bed.obit(["run", "--component"]).args([OsStr::from_bytes(b"\xff")]).args(["--", "true"]).end().code(125);
}

fn fifo(bed: &Bed) {
    let path = bed.path("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let setup = |words: &[&str]| bed.obit(words).env("OBIT_API", "127.0.0.1:0").env("OBIT_API_CREDENTIALS", &path);
    setup(&["run", "--", "true"]).end().code(0).complains("not a regular file");
    setup(&["config", "check"]).end().code(1).complains("not a regular file");
}

/// What is not taken for a state directory, and what takes no lock.
fn no_place(bed: &Bed) {
    let (real, link, file) = (bed.path("real"), bed.path("link"), bed.path("file"));
    std::fs::create_dir_all(real.join("spool/sender.lock")).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    std::fs::write(&file, "").unwrap();
    let list = |dir: &Path| bed.obit(["crashes", "list"]).env("OBIT_STATE_DIR", dir).end();
    list(&link).complains("(which is a symbolic link; name what it leads to)");
    list(&file).complains("(which is no directory)");
    let run = bed.script("kill -SEGV $$").env("OBIT_STATE_DIR", &real).env("OBIT_DSN", "http://key@127.0.0.1:9/1");
    let ended = run.end();
    ended.code(139);
    ended.complains("so nothing is delivered from this state directory: remove it");
    assert_eq!(std::fs::read_dir(real.join("spool/pending")).unwrap().count(), 1);
}

fn crashes(bed: &Bed) {
    bed.obit(["crashes", "list", "--json"]).end().complains("there is no state directory at ");
    bed.script("exit 0").end().code(0);
    assert_eq!(list(bed), Vec::<Value>::new());
    bed.script("echo last words >&2; exit 3").end().code(3);
    bed.script("exit 4").end().code(4);
    let listed = list(bed);
    assert_eq!(listed.len(), 2);
    for one in &listed {
        assert_eq!(one["event_id"].as_str().map(str::len), Some(32), "{one}");
        assert_eq!((one["state"].as_str(), one["reason"].as_str()), (Some("pending"), Some("code")), "{one}");
        assert_eq!(one["component"], "sh");
    }
    let id = listed.iter().find(|one| one["kind"] == "exit code 3").and_then(|one| one["event_id"].as_str()).unwrap();
    let page = bed.obit(["crashes", "show", id]).end();
    page.code(0);
    assert!(page.stdout().contains("last words") && page.stdout().contains("exit code 3"), "{}", page.stdout());
    // Both still wait to be delivered.
    bed.obit(["crashes", "purge"]).end().code(0);
    assert_eq!(list(bed).len(), 2);
    bed.obit(["crashes", "purge", "--all"]).end().code(0);
    assert_eq!(list(bed), Vec::<Value>::new());
}

fn short_id(bed: &Bed) {
    bed.script("exit 3").end().code(3);
    let listed = list(bed);
    let id = listed[0]["event_id"].as_str().unwrap();
    let shown: Value =
        serde_json::from_str(&bed.obit(["crashes", "show", &id[..8], "--json"]).end().stdout()).expect("a report");
    assert_eq!(shown["event_id"], id);
    bed.obit(["crashes", "show", "zz"]).end().complains("there is no report \"zz\"");
}

fn lost_output(bed: &Bed) {
    bed.script("exit 3").end().code(3);
    let commands: [&[&str]; 10] = [
        &["--help"],
        &["run", "--help"],
        &["crashes", "list"],
        &["crashes", "show", "--json"],
        &["status"],
        &["doctor", "--json"],
        &["config", "show"],
        &["telemetry", "status"],
        &["completions", "bash"],
        &["man"],
    ];
    for words in commands {
        let line = format!("{} {} >/dev/full", crate::bed::binary().display(), words.join(" "));
        let ended = bed.command("sh").args(["-c", &line]).end();
        ended.code(1);
        ended.complains("the output could not be written: No space left on device");
        assert_eq!(ended.stderr().lines().count(), 1, "{words:?}: {}", ended.stderr());
    }
}

fn named_configuration(bed: &Bed) {
    let file = bed.path("other.toml");
    std::fs::write(&file, "stop_grace = \"3s\"\n").unwrap();
    let named = |command: &str| bed.obit(["config".as_ref(), command.as_ref(), "--config".as_ref(), file.as_os_str()]);
    let shown = named("show").end();
    assert!(shown.stdout().contains("other.toml"), "{}", shown.stdout());
    named("check").end().code(0);
    std::fs::write(&file, "stop_grace = \"soon\"\ngruop = true\n").unwrap();
    let checked = named("check").end();
    checked.code(1);
    checked.complains("did you mean \"group\"?");
    checked.complains("\"soon\" is no time");
}

fn undelivered(bed: &Bed) {
    bed.script("exit 3").end().code(3);
    bed.script("exit 4").end().code(4);
    let flush = |name: &str, value: &str| bed.obit(["flush"]).env(name, value).end();
    let nowhere = flush("NOTHING", "");
    nowhere.code(1);
    nowhere.complains("not everything was delivered: there is no DSN");
    assert_eq!(nowhere.stdout(), "0 sent, 0 refused, 2 waiting\n");
    let unheard = flush("OBIT_DSN", "http://key@127.0.0.1:1/7");
    unheard.code(1);
    assert_eq!(unheard.stdout(), "0 sent, 0 refused, 2 waiting\n");
    let off = bed.obit(["flush"]).env("OBIT_DSN", "http://key@127.0.0.1:1/7").env("DO_NOT_TRACK", "1").end();
    off.code(0);
    assert_eq!(off.stdout(), "0 sent, 0 refused, 2 waiting, 2 of them switched off\n");
}

fn colourless(bed: &Bed) {
    bed.script("printf '\\033[31mred\\033[0m' >&2; exit 3").end().code(3);
    for words in [&["crashes", "show"][..], &["crashes", "list"], &["doctor"], &["status"], &["telemetry", "status"]] {
        let ended = bed.obit(words).end();
        assert!(!ended.stdout().contains('\x1b'), "{words:?}: {}", ended.stdout());
    }
}
