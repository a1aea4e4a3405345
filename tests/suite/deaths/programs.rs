//! The programs of the corpus: what builds them, once for a run of the suite, and what starts them.

use super::table::directory;
use crate::need::{Need, workshop};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// One program that dies in many ways.
pub struct Program {
    /// Of the table.
    pub name: &'static str,
    /// Where lines are marked.
    pub sources: &'static [&'static str],
    pub needs: &'static [Need],
    /// Builds into the directory and returns what starts it.
    build: fn(&Path) -> Vec<OsString>,
    built: OnceLock<Vec<OsString>>,
}

impl Program {
    const fn new(
        name: &'static str,
        sources: &'static [&'static str],
        needs: &'static [Need],
        build: fn(&Path) -> Vec<OsString>,
    ) -> Program {
        Program { name, sources, needs, build, built: OnceLock::new() }
    }

    /// The words that start it.
    pub fn command(&self) -> &[OsString] {
        self.built.get_or_init(|| {
            let into = workshop().join(format!("deaths-{}", self.name));
            std::fs::create_dir(&into).expect("a directory for the program");
            (self.build)(&into)
        })
    }
}

/// Tracing a child takes root here, as it does for [`capture`](crate::capture).
const ROOT: Need = Need::Root;

pub static PROGRAMS: [Program; 8] = [
    Program::new("native", &["native.c", "library.c"], &[ROOT], native),
    Program::new("cpp", &["cpp.cc"], &[ROOT, Need::Tool("c++")], cpp),
    Program::new("rust", &["rust.rs"], &[ROOT, Need::Tool("rustc")], rust),
    Program::new("rust-abort", &["rust.rs"], &[ROOT, Need::Tool("rustc")], rust_abort),
    Program::new("go", &["go/main.go", "go/shop/shop.go"], &[ROOT, Need::Tool("go")], go),
    Program::new("python", &["python.py"], &[ROOT, Need::Tool("python3")], python),
    Program::new("node", &["node.js"], &[ROOT, Need::Tool("node")], node),
    Program::new("java", &["Deaths.java"], &[ROOT, Need::Tool("java"), Need::Tool("javac")], java),
];

fn made(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// These programs do what compilers warn of, each version of others.
const NO_WARNINGS: &str = "-w";

fn native(into: &Path) -> Vec<OsString> {
    let program = into.join("native");
    let cc = || {
        let mut cc = Command::new("cc");
        cc.args(["-g", "-O1", NO_WARNINGS]);
        cc
    };
    made(cc().arg("-o").arg(&program).arg(directory().join("native.c")).arg("-pthread"));
    made(cc().args(["-shared", "-fPIC", "-o"]).arg(into.join("liblibrary.so")).arg(directory().join("library.c")));
    vec![program.into()]
}

fn cpp(into: &Path) -> Vec<OsString> {
    let program = into.join("cpp");
    let mut cpp = Command::new("c++");
    cpp.args(["-std=c++17", "-g", "-O1", "-pthread", NO_WARNINGS]);
    made(cpp.arg("-o").arg(&program).arg(directory().join("cpp.cc")));
    vec![program.into()]
}

fn rustc(into: &Path, panic: &str) -> Vec<OsString> {
    let program = into.join("rust");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2021", "-g", "-C", "opt-level=1", "-C", "overflow-checks=on", "-C"]);
    made(rustc.arg(format!("panic={panic}")).arg("-o").arg(&program).arg(directory().join("rust.rs")));
    vec![program.into()]
}

fn rust(into: &Path) -> Vec<OsString> {
    rustc(into, "unwind")
}

fn rust_abort(into: &Path) -> Vec<OsString> {
    rustc(into, "abort")
}

fn go(into: &Path) -> Vec<OsString> {
    let program = into.join("go");
    let mut go = Command::new("go");
    go.current_dir(directory().join("go")).env("GOCACHE", into.join("cache"));
    made(go.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg("."));
    vec![program.into()]
}

/// A program by its own path, as it is called where what PATH names is not to be seen.
fn on_path(name: &str) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find_map(|directory| std::fs::canonicalize(directory.join(name)).ok());
    found.unwrap_or_else(|| panic!("no {name} on PATH")).into()
}

/// The interpreter itself: what is on PATH may be a script that looks for it.
fn python(_: &Path) -> Vec<OsString> {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
    let executable = String::from_utf8(asked.stdout).expect("a path");
    vec![executable.trim().into(), directory().join("python.py").into()]
}

fn node(_: &Path) -> Vec<OsString> {
    vec![on_path("node"), directory().join("node.js").into()]
}

fn java(into: &Path) -> Vec<OsString> {
    made(Command::new("javac").args(["-nowarn", "-g", "-d"]).arg(into).arg(directory().join("Deaths.java")));
    let options = ["-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-Xmx32m", "-cp"];
    let options = options.into_iter().map(Into::into).chain([into.into(), "Deaths".into()]);
    std::iter::once(on_path("java")).chain(options).collect()
}
