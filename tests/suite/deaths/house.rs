//! Two other houses to die in: a container, and a machine whose kernel gives cores to a program.

use super::programs::Program;
use crate::bed::{Bed, Ended};
use crate::docker::{self, APP, docker};
use crate::need::Need;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the image has it.
pub const OBIT: &str = "/sbin/obit";
/// It changes what the whole machine does with cores, for as long as it runs; so it must be asked for.
pub const PIPE: &[Need] = &[
    Need::Root,
    Need::Prepared { variable: "OBIT_TEST_CORE_PATTERN", what: "leave to change the machine's core_pattern" },
];
const PATTERN: &str = "/proc/sys/kernel/core_pattern";
/// What programs that were built here are linked with, or run by. Nothing of it can be written to.
const OURS: [(&str, &str); 4] =
    [("/usr", "/usr"), ("/usr/bin", "/bin"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")];
/// Of the C library's own debug information nothing here should depend.
const DEBUG_FILES: &str = "/usr/lib/debug";

/// A container that stays until it is dropped, with this machine's runtimes in it.
pub struct Container<'a> {
    bed: &'a Bed,
    container: docker::Container<'a>,
}

impl<'a> Container<'a> {
    pub fn open(bed: &'a Bed, program: &Program) -> Container<'a> {
        let _ = program.command();
        let ours = OURS.iter().filter(|(here, _)| Path::new(here).is_dir());
        let mut mounts: Vec<String> = ours.map(|(here, there)| format!("{here}:{there}:ro")).collect();
        let same = [crate::need::workshop().to_owned(), env!("CARGO_MANIFEST_DIR").into()];
        mounts.extend(same.into_iter().chain(runtimes()).map(|path| format!("{0}:{0}:ro", path.display())));
        mounts.push(format!("{0}:{0}", bed.path("").display()));
        let mut options: Vec<String> = mounts.into_iter().flat_map(|mount| ["-v".to_owned(), mount]).collect();
        options.extend(["--user", "0", "--entrypoint", "/bin/sleep", "--tmpfs", "/tmp:exec"].map(str::to_owned));
        if Path::new(DEBUG_FILES).is_dir() {
            options.extend(["--tmpfs".to_owned(), DEBUG_FILES.to_owned()]);
        }
        let container = docker::Container::new(bed).with(options);
        container.detached(APP, &["infinity"]);
        Container { bed, container }
    }

    /// A command in it, behind a few words of a shell.
    pub fn run(
        &self,
        directory: &Path,
        environment: impl Iterator<Item = String>,
        script: &str,
        words: impl Iterator<Item = OsString>,
    ) -> Ended {
        let path = std::env::var("PATH").expect("needed");
        let environment = environment.chain([format!("PATH={path}")]).flat_map(|pair| ["-e".to_owned(), pair]);
        let script = format!("set -e; cd \"$0\"\n{script}\nexec env --ignore-signal=28 --block-signal=40 \"$@\"");
        let exec = docker(self.bed, ["exec"]).args(environment).args([self.container.name(), "/bin/sh", "-c", &script]);
        exec.args([directory]).args(words).within(Duration::from_secs(120)).end()
    }
}

/// Where a runtime keeps more of itself: its configuration, and a user's own versions of it.
fn runtimes() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_ones = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "alternatives" || name == "ssl" || name.starts_with("java-")
    };
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_used = |home: &PathBuf| std::env::split_paths(&path).any(|dir| dir.starts_with(home));
    entries.filter(is_ones).chain(home.filter(is_used)).collect()
}

/// The machine's core_pattern, which is again what it was when this is dropped.
pub struct Pattern(String);

impl Pattern {
    pub fn set(pattern: &str) -> Pattern {
        let before = std::fs::read_to_string(PATTERN).expect("procfs");
        std::fs::write(PATTERN, pattern).expect("root");
        Pattern(before)
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        let _ = std::fs::write(PATTERN, self.0.trim_end());
    }
}
