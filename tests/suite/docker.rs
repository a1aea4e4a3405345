//! Containers of a real engine, from the images that packaging/ makes.
//!
//! `.ci/containers` starts the engine and says where it is. An image is built once for a run of the suite, as a user would build it;
//! a container is gone with its trial, however that ends.

use crate::bed::{Bed, Ended, Running, Setup, program};
use crate::need::Need;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// What every trial in a container needs.
pub const CONTAINERS: &[Need] = &[
    Need::Tool("docker"),
    Need::Tool("busybox"),
    Need::Prepared { variable: "OBIT_TEST_ENGINE", what: "a Docker engine" },
    Need::Prepared { variable: "OBIT_TEST_STATIC", what: "the static binary" },
];

/// Of packaging/Dockerfile: the binary alone, not root.
pub const OBIT: &str = "obit-trial";
/// A shell and the test program, without obit.
pub const BASE: &str = "obit-trial-base";
/// Of packaging/app.Dockerfile on that base; `die` is its application.
pub const APP: &str = "obit-trial-app";

/// The user of the images.
pub const USER: u32 = 65532;

/// A container that is being described, and that ends with its trial.
pub struct Container<'a> {
    bed: &'a Bed,
    name: String,
    options: Vec<String>,
}

impl<'a> Container<'a> {
    pub fn new(bed: &'a Bed) -> Container<'a> {
        build_images();
        let name = format!("trial-{}-{}", std::process::id(), crate::bed::fresh_number());
        Container { bed, name, options: Vec::new() }
    }

    /// Options of docker run.
    pub fn with<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Container<'a> {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// A directory of the trial at a path in the container, for this user to write in.
    pub fn volume(self, directory: &Path, at: &str, user: u32) -> Container<'a> {
        std::fs::create_dir_all(directory).expect("a directory");
        std::os::unix::fs::chown(directory, Some(user), Some(user)).expect("root");
        self.with(["-v".to_owned(), format!("{}:{at}", directory.display())])
    }

    /// The trial's state directory, where the image expects it.
    pub fn state(self) -> Container<'a> {
        let state = self.bed.state();
        self.volume(&state, "/var/lib/obit", USER)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// docker run to its end.
    pub fn run(&self, image: &str, words: &[&str]) -> Ended {
        self.setup(&["--rm"], image, words).end()
    }

    /// docker run, still running.
    pub fn start(&self, image: &str, words: &[&str]) -> Running {
        self.setup(&["--rm"], image, words).start()
    }

    /// docker run in the background; the container stays until the trial ends.
    pub fn detached(&self, image: &str, words: &[&str]) {
        self.setup(&["-d"], image, words).end().code(0);
    }

    fn setup(&self, more: &[&str], image: &str, words: &[&str]) -> Setup {
        let run = docker(self.bed, ["run", "--name", &self.name]).within(Duration::from_secs(120));
        run.args(more).args(&self.options).args([image]).args(words)
    }

    /// Another command of docker on it.
    pub fn docker(&self, verb: &[&str]) -> Ended {
        docker(self.bed, verb).args([&self.name]).end()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let gone = command().args(["rm", "-f", "-v", &self.name]).output();
        drop(gone);
    }
}

/// The client, in the trial's room.
pub fn docker<S: AsRef<OsStr>>(bed: &Bed, words: impl IntoIterator<Item = S>) -> Setup {
    bed.command("docker").args(words).env("DOCKER_HOST", host())
}

fn host() -> String {
    format!("unix://{}", std::env::var("OBIT_TEST_ENGINE").expect("needed"))
}

fn command() -> Command {
    let mut command = Command::new("docker");
    // The builder that every version has.
    command.env("DOCKER_HOST", host()).env("DOCKER_BUILDKIT", "0");
    command
}

fn build_images() {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    if let Err(why) = BUILT.get_or_init(|| {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        let binary = std::env::var("OBIT_TEST_STATIC").expect("needed");
        let mut image = Command::new(packaging.join("build-image"));
        carry_out(image.env("DOCKER_HOST", host()).env("DOCKER_BUILDKIT", "0").args([OBIT, &binary]))?;
        let context = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| context.path().join(name);
        let places = std::env::var_os("PATH").expect("needed");
        let busybox = std::env::split_paths(&places).map(|dir| dir.join("busybox")).find(|path| path.is_file());
        std::fs::copy(busybox.expect("needed"), path("busybox")).expect("a copy");
        std::fs::copy(program("die"), path("app")).expect("a copy");
        std::fs::write(path("Dockerfile"), "FROM scratch\nCOPY busybox /bin/sh\nCOPY app /bin/die\n").expect("a file");
        carry_out(command().args(["build", "-q", "-t", BASE]).arg(context.path()))?;
        let arguments = [format!("OBIT={OBIT}"), format!("BASE={BASE}")];
        let mut app = command();
        app.args(["build", "-q", "-t", APP, "-f"]).arg(packaging.join("app.Dockerfile"));
        app.args(arguments.iter().flat_map(|argument| ["--build-arg", argument.as_str()]));
        carry_out(app.arg(context.path()))
    }) {
        panic!("{why}");
    }
}

fn carry_out(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
