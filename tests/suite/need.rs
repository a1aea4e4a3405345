//! What a trial needs of the machine, and the sentence for when it is not there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, OnceLock};

/// Something that not every machine has. `.ci/run` brings all of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Need {
    /// A PID namespace of our own and a C compiler for the programs in it: every trial with a bed needs it.
    Room,
    /// A program on PATH.
    Tool(&'static str),
    /// core_pattern names a file in the process's own directory.
    PlainCores,
    /// Registers of x86-64, by which a process is lent system calls.
    X86,
    /// We are root: then obit may trace whatever it starts.
    Root,
    /// obit itself with the fault points of a debug build.
    FaultPoints,
    /// A path named by an environment variable that `.ci/run` sets.
    Prepared { variable: &'static str, what: &'static str },
}

impl Need {
    /// Why it is missing; `None` when it is there.
    pub fn missing(self) -> Option<String> {
        static KNOWN: LazyLock<Mutex<HashMap<Need, Option<String>>>> = LazyLock::new(Mutex::default);
        if let Some(known) = KNOWN.lock().expect("no panic").get(&self) {
            return known.clone();
        }
        let found = self.look();
        KNOWN.lock().expect("no panic").insert(self, found.clone());
        found
    }

    fn look(self) -> Option<String> {
        match self {
            Need::Room => room_missing(),
            Need::PlainCores => {
                let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
                let is_plain = pattern.starts_with("core") && !pattern.contains('/');
                (!is_plain).then(|| format!("core_pattern is {:?}, no plain file", pattern.trim()))
            }
            Need::X86 => (!cfg!(target_arch = "x86_64")).then(|| "needs x86-64".to_owned()),
            Need::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".to_owned()),
            Need::Tool(name) => (!on_path(name)).then(|| format!("no {name} on PATH")),
            Need::FaultPoints => (!cfg!(debug_assertions) || std::env::var_os("OBIT_TEST_INIT").is_some())
                .then(|| "needs the debug build of obit, which has fault points".to_owned()),
            Need::Prepared { variable, what } => match std::env::var_os(variable) {
                None => Some(format!("needs {what}, which .ci/run prepares ({variable} is not set)")),
                Some(path) if !Path::new(&path).exists() => Some(format!("{variable} names no file: {path:?}")),
                Some(_) => None,
            },
        }
    }
}

fn on_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(name).is_file()))
}

fn room_missing() -> Option<String> {
    let room = match program("room") {
        Ok(room) => room,
        Err(why) => return Some(why),
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let status = directory.path().join("status");
    let run = Command::new(room).arg("--first").arg(&status).args(["--", "true"]).output();
    let told = std::fs::read_to_string(status).unwrap_or_default();
    if run.is_ok_and(|o| o.status.success()) && told.contains("exited 0") {
        return None;
    }
    Some(format!("no PID namespace of our own here: {}", told.trim()))
}

/// The compiled program of that name; an error says why there is none.
pub fn program(name: &str) -> Result<PathBuf, String> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Result<PathBuf, String>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().expect("no panic");
    compiled.entry(name.to_owned()).or_insert_with(|| compile(name)).clone()
}

/// Where this run of the suite keeps its programs; never shared with another run, so nobody executes a half-written file.
pub fn workshop() -> &'static Path {
    static WORKSHOP: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = WORKSHOP.get_or_init(|| {
        tempfile::Builder::new()
            .prefix("programs-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a directory for the test programs")
    });
    made.path()
}

/// Statics are not dropped at the end of a process: this removes what [`program`] made.
pub fn clean_up() {
    let _ = std::fs::remove_dir_all(workshop());
}

fn compile(name: &str) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/programs").join(format!("{name}.c"));
    let made = workshop().join(name);
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let run = Command::new(&compiler)
        .args(["-static", "-g", "-O1", "-Wall", "-Werror", "-Wno-infinite-recursion", "-o"])
        .arg(&made)
        .arg(&source)
        .output();
    match run {
        Err(e) => Err(format!("no C compiler ({}: {e})", compiler.to_string_lossy())),
        Ok(o) if !o.status.success() => Err(format!("{name}.c: {}", String::from_utf8_lossy(&o.stderr))),
        Ok(_) => Ok(made),
    }
}
