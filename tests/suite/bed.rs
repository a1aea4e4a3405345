//! The test bed: the real binary in a room from which nothing escapes, and everything a trial needs to watch it.
//!
//! A room (`fixtures/programs/room.c`) is a PID namespace that dies with the trial. In it obit is PID 1
//! ([`Room::First`]), or a guest beside another PID 1 ([`Room::Guest`]). Trials wait for conditions, never for an amount of
//! time; [`DEADLINE`] is there for what would otherwise hang, and is the same for all.
//!
//! What a trial needs and the machine lacks is a [`Need`]: the trial counts as ignored and says why, or fails with
//! `OBIT_TEST_STRICT=1`. `OBIT_TEST_INIT=/usr/bin/tini` puts another init in obit's place, for trials that hold for any.

use crate::need::Need;
use libtest_mimic::{Completion, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// For everything that should happen at once; only a hang takes longer, on the slowest machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition that nobody can tell us of.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What obit is in its PID namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// PID 1.
    First,
    /// Not PID 1: some other process is.
    Guest,
}

/// One trial as a guest, which is how the people-facing commands are tried too.
pub fn trial(name: &str, needs: &'static [Need], body: fn(&Bed)) -> Trial {
    make(name.to_owned(), Room::Guest, needs, body)
}

/// One trial of many that differ in what they are given.
pub fn trial_with(name: &str, needs: &'static [Need], body: impl Fn(&Bed) + Send + 'static) -> Trial {
    make(name.to_owned(), Room::Guest, needs, body)
}

/// One trial as PID 1.
pub fn first(name: &str, needs: &'static [Need], body: fn(&Bed)) -> Trial {
    make(format!("as PID 1, {name}"), Room::First, needs, body)
}

/// One trial as a guest during which no other runs: its program measures time by its own clock.
pub fn alone(name: &str, needs: &'static [Need], body: fn(&Bed)) -> Trial {
    make_in_turn(name.to_owned(), Room::Guest, Company::None, needs, body)
}

/// The same trial twice: as PID 1, and as a guest.
pub fn both(name: &str, needs: &'static [Need], body: fn(&Bed)) -> [Trial; 2] {
    [first(name, needs, body), make(format!("as a guest, {name}"), Room::Guest, needs, body)]
}

/// Whether other trials may run meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    Others,
    None,
}

/// Held for reading by each trial, for writing by one that runs alone.
static TURN: RwLock<()> = RwLock::new(());

fn make(name: String, room: Room, needs: &'static [Need], body: impl Fn(&Bed) + Send + 'static) -> Trial {
    make_in_turn(name, room, Company::Others, needs, body)
}

fn make_in_turn(
    name: String,
    room: Room,
    company: Company,
    needs: &'static [Need],
    body: impl Fn(&Bed) + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(why) = [Need::Room].iter().chain(needs).find_map(|need| need.missing()) {
            return missing(why);
        }
        // A trial that failed is caught below, so nobody leaves the lock poisoned.
        let _alone = (company == Company::None).then(|| TURN.write().expect("no panic"));
        let _among_others = (company == Company::Others).then(|| TURN.read().expect("no panic"));
        caught(|| body(&Bed::new(room)))
    })
}

fn missing(why: String) -> Result<Completion, libtest_mimic::Failed> {
    if std::env::var_os("OBIT_TEST_STRICT").is_some_and(|v| v == "1") {
        return Err(format!("missing: {why}").into());
    }
    Ok(Completion::ignored_with(why))
}

/// A failed assertion has already printed where and what; its text goes into the closing list as well.
fn caught(body: impl FnOnce()) -> Result<Completion, libtest_mimic::Failed> {
    catch_unwind(AssertUnwindSafe(body)).map(|()| Completion::Completed).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default().into()
    })
}

/// The program under test.
pub fn binary() -> PathBuf {
    std::env::var_os("OBIT_TEST_INIT").map_or_else(|| env!("CARGO_BIN_EXE_obit").into(), PathBuf::from)
}

/// A test program of `fixtures/programs`, compiled once for all runs from the same source, statically, so that it runs in an
/// empty image.
pub fn program(name: &str) -> PathBuf {
    crate::need::program(name).unwrap_or_else(|why| panic!("{why}"))
}

/// One trial's place: a directory that goes when it ends, and the kind of room.
pub struct Bed {
    pub room: Room,
    directory: tempfile::TempDir,
}

impl Bed {
    fn new(room: Room) -> Bed {
        Bed {
            room,
            directory: tempfile::Builder::new().prefix("obit-trial-").tempdir().expect("a temporary directory"),
        }
    }

    /// A path in the trial's own directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where obit keeps its state in this trial.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// `obit -- COMMAND`.
    pub fn under<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Setup {
        self.obit(["--"]).args(command)
    }

    /// `obit run OPTIONS -- COMMAND`.
    pub fn run<S: AsRef<OsStr>>(&self, options: &[&str], command: impl IntoIterator<Item = S>) -> Setup {
        self.obit(["run"]).args(options).args(["--"]).args(command)
    }

    /// `obit -- sh -c SCRIPT`.
    pub fn script(&self, script: &str) -> Setup {
        self.under(["sh", "-c", script])
    }

    /// obit with these arguments.
    pub fn obit<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Setup {
        self.command(binary()).args(arguments)
    }

    /// Any program in obit's place.
    pub fn command(&self, program: impl Into<OsString>) -> Setup {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        Setup {
            room: self.room,
            room_options: Vec::new(),
            argv: vec![program.into()],
            environment: vec![
                ("PATH".into(), path),
                ("HOME".into(), self.directory.path().into()),
                ("OBIT_STATE_DIR".into(), self.state().into()),
                // With the tracer everything must hold that holds without, but for what README names.
                ("OBIT_CAPTURE".into(), "auto".into()),
            ],
            stdin: Vec::new(),
            slow_stderr: false,
            patience: DEADLINE,
            status: self.path(format!("status-{}", fresh_number())),
        }
    }
}

/// Numbers that differ within this run of the suite.
pub fn fresh_number() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A run that has not been started.
pub struct Setup {
    room: Room,
    room_options: Vec<OsString>,
    argv: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    slow_stderr: bool,
    patience: Duration,
    status: PathBuf,
}

impl Setup {
    pub fn args<S: AsRef<OsStr>>(mut self, more: impl IntoIterator<Item = S>) -> Setup {
        self.argv.extend(more.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What the room does before the exec: see the head of room.c.
    pub fn room<S: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = S>) -> Setup {
        self.room_options.extend(options.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// What stdin holds before its end; less than a pipe takes.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Setup {
        self.stdin = bytes.into();
        self
    }

    /// Nobody reads stderr until [`Running::read_stderr`].
    pub fn unread_stderr(mut self) -> Setup {
        self.slow_stderr = true;
        self
    }

    /// In another kind of room than the trial's.
    pub fn in_room(mut self, room: Room) -> Setup {
        self.room = room;
        self
    }

    /// A deadline of its own, for what has much to do.
    pub fn within(mut self, patience: Duration) -> Setup {
        self.patience = patience;
        self
    }

    /// Runs it to its end.
    pub fn end(self) -> Ended {
        self.start().end()
    }

    pub fn start(self) -> Running {
        let mut command = Command::new(program("room"));
        if self.room == Room::First {
            command.arg("--first");
        }
        command.args(&self.room_options).arg(&self.status).arg("--").args(&self.argv);
        command.env_clear().envs(self.environment.iter().map(|(n, v)| (n, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let begun = Instant::now();
        let mut outer = command.spawn().expect("the room starts");
        // A program that ends without reading it is no mistake.
        let _ = outer.stdin.take().expect("piped").write_all(&self.stdin);
        let stdout = Stream::of(outer.stdout.take().expect("piped"), false);
        let stderr = Stream::of(outer.stderr.take().expect("piped"), self.slow_stderr);
        let what = self.argv.iter().take(12).map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Running { outer, stdout, stderr, status: self.status, begun, patience: self.patience, what }
    }
}

/// A run under way. Dropping it ends everything in its room.
pub struct Running {
    outer: Child,
    stdout: Stream,
    stderr: Stream,
    status: PathBuf,
    begun: Instant,
    patience: Duration,
    what: String,
}

impl Running {
    /// The pid of obit as we see it.
    pub fn pid(&self) -> i32 {
        self.until("obit is started", || {
            let status = std::fs::read_to_string(&self.status).ok()?;
            if let Some(why) = status.lines().find_map(|l| l.strip_prefix("failed ")) {
                panic!("no room: {why}");
            }
            status.lines().find_map(|l| l.strip_prefix("pid ")).and_then(|n| n.parse().ok())
        })
    }

    /// Its living children, as we see them.
    pub fn children(&self) -> Vec<i32> {
        children_of(self.pid())
    }

    /// The one child it has, once it has it.
    pub fn child(&self) -> i32 {
        self.until("obit has a child", || self.children().first().copied())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap_or_else(|e| panic!("{signal} to {}: {e}", self.what));
    }

    /// Signals of any number, with `n:value` for a payload, in this order.
    pub fn queue<S: AsRef<OsStr>>(&self, signals: impl IntoIterator<Item = S>) {
        let sent = Command::new(program("queue")).arg(self.pid().to_string()).args(signals).status();
        assert!(sent.is_ok_and(|s| s.success()), "signals to {}", self.what);
    }

    /// Everything the program wrote to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until stdout holds the text.
    pub fn says(&self, text: &str) {
        self.until(&format!("{text:?} on stdout"), || self.stdout.text().contains(text).then_some(()))
    }

    /// Waits until stderr holds the text.
    pub fn complains(&self, text: &str) {
        self.until(&format!("{text:?} on stderr"), || self.stderr.text().contains(text).then_some(()))
    }

    /// From now on stderr is read.
    pub fn read_stderr(&self) {
        self.stderr.open();
    }

    /// Waits until `look` finds what it looks for.
    pub fn until<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        wait_for(look).unwrap_or_else(|| {
            panic!(
                "{what}: not within {DEADLINE:?}\n{}\nstdout: {}\nstderr: {}",
                self.what,
                self.stdout(),
                self.stderr()
            )
        })
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        self.stderr.open();
        let over = wait_within(self.patience, || self.outer.try_wait().ok().flatten());
        let took = self.begun.elapsed();
        if over.is_none() {
            let (stdout, stderr) = (self.stdout(), self.stderr());
            panic!("still running after {:?}: {}\nstdout: {stdout}\nstderr: {stderr}", self.patience, self.what);
        }
        let status = std::fs::read_to_string(&self.status).unwrap_or_default();
        let (stdout, stderr) = (self.stdout.drain(), self.stderr.drain());
        Ended {
            fate: Fate::read(&status),
            left: status.contains("left yes"),
            stdout,
            stderr,
            took,
            what: self.what.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.outer.try_wait() {
            let inner = std::fs::read_to_string(&self.status).unwrap_or_default();
            let pid = inner.lines().find_map(|l| l.strip_prefix("pid ")).and_then(|n| n.parse().ok());
            for pid in pid.into_iter().chain([self.outer.id() as i32]) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = self.outer.wait();
        }
    }
}

/// The living children of a process, from /proc.
pub fn children_of(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// Looks until there is something, for no longer than [`DEADLINE`].
pub fn wait_for<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    wait_within(DEADLINE, look)
}

fn wait_within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() > patience {
            return None;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// How it ended, as its parent saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Exited(u8),
    Killed(u8),
}

impl Fate {
    fn read(status: &str) -> Fate {
        for line in status.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next().and_then(|n| n.parse().ok())) {
                (Some("exited"), Some(code)) => return Fate::Exited(code),
                (Some("killed"), Some(signal)) => return Fate::Killed(signal),
                _ => {}
            }
        }
        panic!("the room told no end: {status:?}");
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    pub fate: Fate,
    /// As a guest: somebody was alive in the room when obit had ended.
    pub left: bool,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub took: Duration,
    what: String,
}

impl Ended {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// It ended with this code, and left nobody behind.
    #[track_caller]
    pub fn code(&self, code: u8) -> &Ended {
        assert_eq!(
            self.fate,
            Fate::Exited(code),
            "{}\nstdout: {}\nstderr: {}",
            self.what,
            self.stdout(),
            self.stderr()
        );
        assert!(!self.left, "somebody outlived obit: {}", self.what);
        self
    }

    /// Not a word of obit's own.
    #[track_caller]
    pub fn quiet(&self) -> &Ended {
        assert_eq!(self.stderr(), "", "{}", self.what);
        self
    }

    #[track_caller]
    pub fn complains(&self, text: &str) -> &Ended {
        assert!(self.stderr().contains(text), "no {text:?} on stderr of {}: {}", self.what, self.stderr());
        self
    }
}

/// What comes out of a pipe, read by a thread of its own as it comes.
struct Stream {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    bytes: Mutex<Vec<u8>>,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static, closed: bool) -> Stream {
        let shared = Arc::new(Shared { closed: Mutex::new(closed), ..Shared::default() });
        let its = Arc::clone(&shared);
        let reader = thread::spawn(move || {
            let mut piece = vec![0; 64 * 1024];
            drop(its.opened.wait_while(its.closed.lock().expect("no panic"), |closed| *closed));
            while let Ok(n) = pipe.read(&mut piece)
                && n > 0
            {
                its.bytes.lock().expect("no panic").extend_from_slice(&piece[..n]);
            }
        });
        Stream { shared, reader: Some(reader) }
    }

    fn open(&self) {
        *self.shared.closed.lock().expect("no panic") = false;
        self.shared.opened.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.bytes.lock().expect("no panic")).into_owned()
    }

    /// Everything to the end; the other side is closed, since everybody in the room is dead.
    fn drain(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        std::mem::take(&mut self.shared.bytes.lock().expect("no panic"))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.open();
    }
}
