//! Who runs: no init, the reference, the peers that are installed, and obit.

#![forbid(unsafe_code)]

use crate::namespace::{Launch, Proc};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const NONE: &str = "none";
pub const REFERENCE: &str = "reference";
pub const TINI: &str = "tini";
pub const OBIT: &str = "obit";

pub struct Contender {
    pub name: &'static str,
    pub version: String,
    /// The program itself when there is no init.
    pub binary: PathBuf,
    shipped: &'static [&'static str],
    /// Its arguments to signal only the program, and to signal its whole group; `None` where it cannot.
    single: Option<&'static [&'static str]>,
    group: Option<&'static [&'static str]>,
    /// To look at a program that dies; `None` where it cannot.
    looks: Option<&'static [&'static str]>,
}

/// In which way the init is asked to work.
#[derive(Clone, Copy)]
pub enum Aim {
    /// As it does unless told otherwise.
    Shipped,
    /// Signals are for the program alone.
    Single,
    /// Signals are for the program's group.
    Group,
    /// The program is traced.
    Looking,
}

impl Contender {
    fn new(name: &'static str, shipped: &'static [&'static str]) -> Contender {
        let (version, binary) = (String::new(), PathBuf::new());
        Contender { name, version, binary, shipped, single: Some(shipped), group: None, looks: None }
    }

    fn at(self, binary: PathBuf) -> Contender {
        Contender { binary, ..self }
    }

    fn versioned(self) -> Contender {
        Contender { version: version(&self.binary), ..self }
    }

    fn groups(mut self, group: &'static [&'static str]) -> Contender {
        self.group = Some(group);
        self
    }

    fn looks(mut self, looks: &'static [&'static str]) -> Contender {
        self.looks = Some(looks);
        self
    }

    fn arguments(&self, aim: Aim) -> Option<&'static [&'static str]> {
        match aim {
            Aim::Shipped => Some(self.shipped),
            Aim::Single => self.single,
            Aim::Group => self.group,
            Aim::Looking => self.looks,
        }
    }

    /// None when this init has no such way of passing signals on.
    pub fn launch(
        &self,
        aim: Aim,
        probe: &Path,
        program: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        proc: Proc,
    ) -> Option<Launch> {
        let mut arguments: Vec<OsString> = self.arguments(aim)?.iter().map(OsString::from).collect();
        if self.name != NONE {
            arguments.push(probe.into());
        }
        arguments.extend(program);
        Some(Launch { program: self.binary.clone(), arguments, environment, proc })
    }
}

/// The contenders in the order in which they run, and a line for each that cannot.
///
/// obit runs from a copy in `programs`: a linker writes its output through a mapping, which leaves the page cache in small
/// pieces and costs each start a tenth; what was copied, as into an image, lies in large ones, as the peers' packages do.
pub fn all(probe: &Path, reference: PathBuf, programs: &Path) -> io::Result<(Vec<Contender>, Vec<String>)> {
    let mut contenders = vec![Contender::new(NONE, &[]).at(probe.into()), Contender::new(REFERENCE, &[]).at(reference)];
    let mut missing = Vec::new();
    // dumb-init's group mode is the one it ships with.
    let dumb_init = Contender { single: Some(&["-c", "--"]), ..Contender::new("dumb-init", &["--"]).groups(&["--"]) };
    for peer in [
        Contender::new(TINI, &["--"]).groups(&["-g", "--"]),
        dumb_init,
        Contender::new("catatonit", &["--"]).groups(&["-g", "--"]),
    ] {
        match on_path(peer.name) {
            Some(path) => contenders.push(peer.at(path).versioned()),
            None => {
                missing.push(format!("{0} is not installed and was left out (Debian has a package {0})", peer.name));
            }
        }
    }
    let built = obit_binary();
    if built.is_file() {
        let copy = programs.join(OBIT);
        std::fs::copy(&built, &copy)?;
        let obit = Contender::new(OBIT, &["run", "--"]).groups(&["run", "--group", "--"]);
        contenders.push(obit.looks(&["run", "--capture", "auto", "--"]).at(copy).versioned());
    } else {
        missing.push(format!(
            "obit itself was left out: {} does not exist; build it with packaging/build-static, or name a binary in \
             OBIT_BENCH_BINARY",
            built.display()
        ));
    }
    Ok((contenders, missing))
}

fn static_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn obit_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OBIT_BENCH_BINARY") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join(static_target()).join("release/obit")
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

/// The first word with a dot in the first line that `--version` gives, on whichever stream.
fn version(binary: &Path) -> String {
    let Ok(said) = Command::new(binary).arg("--version").output() else { return String::new() };
    let text = [said.stdout, said.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
    let word = line.split_whitespace().find(|word| word.contains('.')).unwrap_or_default();
    // catatonit says that it is "tini version 0.1.7_catatonit".
    word.trim_start_matches('v').trim_end_matches("_catatonit").to_owned()
}
