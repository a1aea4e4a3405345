//! Terminals: with one or without, in its foreground or not, leader of its session or not.
//!
//! Each trial has a pty of its own. tty_ioctl(4), credentials(7) on sessions, "Job Control Signals" of the libc manual.

use crate::bed::{Bed, Fate, Running, binary, both, first, program, trial, wait_for};
use crate::need::Need;
use libtest_mimic::Trial;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::Signal;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub fn trials() -> Vec<Trial> {
    let bash = &[Need::Tool("bash")];
    let mut trials = Vec::new();
    trials.extend(both("on a terminal the program has the foreground and reads what is typed", &[], reads));
    trials.extend(both("Ctrl-C reaches the program once", &[], interrupt_once));
    trials.extend(both("Ctrl-C ends a program that does not expect it, and that is no news", &[], interrupted));
    trials.extend(both("Ctrl-Z where nobody could continue the program is undone", &[], suspend_undone));
    trials.extend(both("a hang-up reaches the program", &[], hang_up));
    trials.extend(both("a change of the window's size reaches the program once", &[], window));
    trials.push(trial("under a shell Ctrl-Z stops the job and fg continues it", bash, suspend_and_continue));
    trials.push(trial("under a shell Ctrl-C ends the job alone", bash, shell_survives));
    trials.push(trial("in the background the terminal stays with the shell", bash, background));
    trials.push(trial("in the background reading stops the job until it is in front", bash, background_reads));
    trials.push(trial("a shell's script has the terminal back afterwards", &[], given_back));
    trials.push(first("the program may lead a session of its own on our terminal", &[], own_session));
    trials
}

/// A terminal, and what was written on it so far.
struct Screen {
    master: Option<Arc<File>>,
    reader: Option<JoinHandle<()>>,
    unplugged: Arc<AtomicBool>,
    text: Arc<Mutex<String>>,
    path: PathBuf,
    /// Without anybody on the other side reading would be the end before obit has opened it.
    _slave: File,
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.unplugged.store(true, Ordering::Relaxed);
    }
}

impl Screen {
    fn new() -> Screen {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).expect("a pty");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let path = PathBuf::from(ptsname_r(&master).expect("its name"));
        let flags = OFlag::O_NOCTTY.bits();
        let slave = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path).expect("the slave");
        let master = Arc::new(File::from(OwnedFd::from(master)));
        let (text, unplugged) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
        let (its, end, from) = (Arc::clone(&text), Arc::clone(&unplugged), Arc::clone(&master));
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                let mut wait = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
                if poll(&mut wait, 20u8).is_ok_and(|ready| ready > 0) {
                    let Ok(n @ 1..) = (&*from).read(&mut piece) else { break };
                    its.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..n]));
                }
            }
        });
        Screen { master: Some(master), reader: Some(reader), unplugged, text, path, _slave: slave }
    }

    fn types(&mut self, keys: &str) {
        let mut master: &File = self.master.as_ref().expect("plugged in");
        master.write_all(keys.as_bytes()).expect("the keys are taken");
    }

    /// The other end goes away, as when a connection is lost.
    fn unplug(&mut self) {
        self.unplugged.store(true, Ordering::Relaxed);
        let _ = self.reader.take().expect("plugged in").join();
        self.master = None;
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let shown = wait_for(|| self.text().contains(text).then_some(()));
        assert!(shown.is_some(), "no {text:?} on the screen:\n{}", self.text());
    }
}

/// obit as the leader of the session of a terminal, as under `docker run -t`.
fn leading(bed: &Bed, command: &[&str]) -> (Screen, Running) {
    let screen = Screen::new();
    let run = bed.under(command).room(["--tty".as_ref(), screen.path.as_os_str()]).start();
    (screen, run)
}

/// An interactive shell on a terminal.
fn shell(bed: &Bed) -> (Screen, Running) {
    let mut screen = Screen::new();
    let bash = bed.command("bash").args(["--norc", "--noprofile", "-i"]).env("obit", binary()).env("PS1", "$ ");
    let run = bash.room(["--tty".as_ref(), screen.path.as_os_str()]).start();
    screen.types("echo up-$((1+1))\n");
    screen.shows("up-2");
    (screen, run)
}

fn reads(bed: &Bed) {
    let script = "read line; echo \"[$line]\"; ps -o pgid=,tpgid= -p $$ | { read group front; \
                  test $group = $front && echo in front; }; exit 4";
    let (mut screen, run) = leading(bed, &["sh", "-c", script]);
    screen.types("words\n");
    screen.shows("[words]");
    run.end().code(4);
    screen.shows("in front");
}

/// The kernel tells the whole foreground group; passing it on as well would tell the program twice.
fn interrupt_once(bed: &Bed) {
    let (mut screen, run) = leading(bed, &[program("listen").to_str().unwrap(), "3", "7"]);
    screen.shows("ready");
    screen.types("\x03");
    screen.shows("got 2 ");
    screen.types("\x1c");
    run.end().code(7);
    screen.shows("got 3 ");
    assert_eq!(screen.text().matches("got 2 ").count(), 1, "{}", screen.text());
}

fn interrupted(bed: &Bed) {
    let (mut screen, run) = leading(bed, &[program("die").to_str().unwrap(), "wait"]);
    screen.shows("ready");
    screen.types("\x03");
    run.end().code(130);
    assert!(!screen.text().contains("obit:"), "{}", screen.text());
}

/// A process that is stopped does not die of an interrupt: that it does shows that it was continued.
fn suspend_undone(bed: &Bed) {
    let (mut screen, run) = leading(bed, &[program("die").to_str().unwrap(), "wait"]);
    screen.shows("ready");
    screen.types("\x1a");
    screen.types("\x03");
    run.end().code(130);
}

fn hang_up(bed: &Bed) {
    let (mut screen, run) = leading(bed, &[program("listen").to_str().unwrap(), "1", "7"]);
    screen.shows("ready");
    screen.unplug();
    run.end().code(7);
}

fn window(bed: &Bed) {
    let (mut screen, run) = leading(bed, &[program("listen").to_str().unwrap(), "3", "7"]);
    screen.shows("ready");
    let size = nix::pty::Winsize { ws_row: 50, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    nix::ioctl_write_ptr_bad!(resize, libc::TIOCSWINSZ, nix::pty::Winsize);
    // SAFETY: the size is live for the call.
    unsafe { resize(screen.master.as_ref().unwrap().as_raw_fd(), &size) }.expect("TIOCSWINSZ");
    screen.shows("got 28 ");
    screen.types("\x1c");
    run.end().code(7);
    assert_eq!(screen.text().matches("got 28 ").count(), 1, "{}", screen.text());
}

fn suspend_and_continue(bed: &Bed) {
    let (mut screen, run) = shell(bed);
    screen.types("$obit -- sh -c 'echo be\"\"gin; read line; echo \"[$line]\"; exit 4'; echo code-$?\n");
    screen.shows("begin");
    screen.types("\x1a");
    screen.shows("Stopped");
    screen.types("fg; echo after-$?\n");
    screen.types("words\n");
    screen.shows("[words]");
    screen.shows("after-4");
    screen.types("exit 9\n");
    assert_eq!(run.end().fate, Fate::Exited(9));
}

fn shell_survives(bed: &Bed) {
    let (mut screen, run) = shell(bed);
    screen.types(&format!("$obit -- {} wait; echo code-$?\n", program("die").display()));
    screen.shows("ready");
    screen.types("\x03");
    screen.shows("code-130");
    screen.types("exit 9\n");
    assert_eq!(run.end().fate, Fate::Exited(9));
}

/// Whoever starts in the background must not take the terminal: the shell would lose its keyboard.
fn background(bed: &Bed) {
    let (mut screen, run) = shell(bed);
    screen.types("$obit -- sh -c 'echo be\"\"gin; exec sleep 1000' & sleep 0.2\n");
    screen.shows("begin");
    screen.types("echo still-$((2+2))\n");
    screen.shows("still-4");
    screen.types("kill %1; wait %1; echo code-$?\n");
    screen.shows("code-143");
    screen.types("exit 9\n");
    assert_eq!(run.end().fate, Fate::Exited(9));
}

fn background_reads(bed: &Bed) {
    let (mut screen, run) = shell(bed);
    screen.types("set -b; $obit -- sh -c 'read line; echo \"[$line]\"; exit 4' &\n");
    screen.shows("Stopped");
    screen.types("fg; echo after-$?\n");
    screen.types("words\n");
    screen.shows("[words]");
    screen.shows("after-4");
    screen.types("exit 9\n");
    assert_eq!(run.end().fate, Fate::Exited(9));
}

/// A script in the foreground that runs obit and then reads: without the terminal it would be stopped for ever.
fn given_back(bed: &Bed) {
    let mut screen = Screen::new();
    let script = format!("{} -- true; read line; echo \"[$line]\"; exit 4", binary().display());
    let run = bed.command("sh").args(["-c", &script]).room(["--tty".as_ref(), screen.path.as_os_str()]).start();
    screen.types("words\n");
    screen.shows("[words]");
    assert_eq!(run.end().fate, Fate::Exited(4));
}

/// As `dumb-init` the program leads a session of its own, with the terminal; the hang-up that this brings is not for it.
fn own_session(bed: &Bed) {
    let link = bed.path("dumb-init");
    std::fs::copy(binary(), &link).unwrap();
    let mut screen = Screen::new();
    let listen = program("listen");
    let setup = bed.command(link).args([listen.to_str().unwrap(), "3", "7"]);
    let run = setup.room(["--tty".as_ref(), screen.path.as_os_str()]).start();
    screen.shows("ready");
    screen.types("\x03");
    screen.shows("got 2 ");
    // Giving up the terminal makes a SIGHUP of its own; as long as it waits, another one is the same one: signal(7).
    run.until("obit has read its own hang-up", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).ok()?;
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:\t"))?;
        (u64::from_str_radix(pending, 16).ok()? & 1 == 0).then_some(())
    });
    run.signal(Signal::SIGHUP);
    screen.shows("got 1 ");
    screen.types("\x1c");
    run.end().code(7);
    assert_eq!(screen.text().matches("got 1 ").count(), 1, "{}", screen.text());
}
