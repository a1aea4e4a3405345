//! What every measure stands on: the contenders, a board and a fresh state directory for each launch, the turns, the notes.

#![forbid(unsafe_code)]

use crate::board::Board;
use crate::clock::{self, Deadline};
use crate::contender::{Aim, Contender, NONE};
use crate::namespace::{Ended, Proc, Running};
use crate::plan::Plan;
use crate::proc;
use crate::server::Server;
use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// For anything that takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A contender that fails so often in one measure takes no further part in it.
const FAILURES_MAX: usize = 3;

pub struct Bed {
    pub contenders: Vec<Contender>,
    pub plan: Plan,
    pub server: Server,
    probe: PathBuf,
    boards: TempDir,
    states: TempDir,
    launches: Cell<u32>,
    notes: RefCell<Vec<String>>,
}

/// An init with its program, running. Fields drop in this order: first the processes end.
pub struct Bout {
    pub running: Running,
    pub board: Board,
    _state: TempDir,
}

impl Bed {
    pub fn new(contenders: Vec<Contender>, plan: Plan, probe: PathBuf, server: Server) -> std::io::Result<Bed> {
        let shm = Path::new("/dev/shm");
        Ok(Bed {
            contenders,
            plan,
            server,
            probe,
            boards: if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() }?,
            states: TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?,
            launches: Cell::new(0),
            notes: RefCell::default(),
        })
    }

    /// A fresh state directory; goes when dropped.
    pub fn state(&self) -> std::io::Result<TempDir> {
        TempDir::new_in(&self.states)
    }

    /// The program in `role` under this init, all features of obit on; `Ok(None)` when the init has no such `aim`.
    pub fn start(
        &self,
        contender: &Contender,
        aim: Aim,
        proc: Proc,
        role: &str,
        numbers: &[u64],
    ) -> Result<Option<Bout>, String> {
        let state = self.state().map_err(|e| format!("no state directory: {e}"))?;
        self.start_in(state, contender, aim, proc, role, numbers)
    }

    /// As [`Bed::start`], with a state directory that somebody has prepared.
    pub fn start_in(
        &self,
        state: TempDir,
        contender: &Contender,
        aim: Aim,
        proc: Proc,
        role: &str,
        numbers: &[u64],
    ) -> Result<Option<Bout>, String> {
        self.launches.set(self.launches.get() + 1);
        let board = Board::create(&self.boards.path().join(self.launches.get().to_string()));
        let board = board.map_err(|e| format!("no board for the program to write on: {e}"))?;
        let mut program = vec![OsString::from(role), board.path().into()];
        program.extend(numbers.iter().map(|number| number.to_string().into()));
        let environment = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("OBIT_STATE_DIR".into(), state.path().into()),
            ("SENTRY_DSN".into(), self.server.dsn().into()),
            ("SENTRY_RELEASE".into(), "bench@1".into()),
        ];
        let Some(launch) = contender.launch(aim, &self.probe, program, environment, proc) else { return Ok(None) };
        let running = launch.start(&board).map_err(|e| format!("no process in a new PID namespace: {e}"))?;
        Ok(Some(Bout { running, board, _state: state }))
    }

    /// As [`Bed::start`], until the program is ready and init has gone to sleep.
    pub fn start_settled(&self, contender: &Contender, role: &str, numbers: &[u64]) -> Result<Bout, String> {
        self.start_shipped(contender, role, numbers)?.settled()
    }

    /// As [`Bed::start`], in the way every init has.
    pub fn start_shipped(&self, contender: &Contender, role: &str, numbers: &[u64]) -> Result<Bout, String> {
        let bout = self.start(contender, Aim::Shipped, Proc::Outer, role, numbers)?;
        bout.ok_or_else(|| format!("{} has no usual mode", contender.name))
    }

    /// `rounds` rounds, in each every contender once, in order: what disturbs the machine disturbs them all.
    pub fn turns(
        &self,
        measure: &str,
        rounds: usize,
        takes_part: impl Fn(&Contender) -> bool,
        mut turn: impl FnMut(usize, &Contender) -> Result<(), String>,
    ) {
        let mut failures = vec![0; self.contenders.len()];
        for _ in 0..rounds {
            for (i, contender) in self.contenders.iter().enumerate() {
                if failures[i] == FAILURES_MAX || !takes_part(contender) {
                    continue;
                }
                if let Err(why) = turn(i, contender) {
                    failures[i] += 1;
                    let note = format!("{measure}: {}: {why}", contender.name);
                    eprintln!("{note}");
                    self.notes.borrow_mut().push(note);
                }
            }
        }
    }

    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }
}

/// For measures whose subject is an init: not the bare program.
pub fn is_init(contender: &Contender) -> bool {
    contender.name != NONE
}

impl Bout {
    pub fn settled(self) -> Result<Bout, String> {
        let deadline = Deadline::after(PATIENCE);
        if !self.board.until_ready(deadline) {
            return Err(self.failure("the program did not start"));
        }
        let mut before = None;
        // Asleep at two looks with no wake-up in between: it has done what it had to do after the exec.
        let asleep = clock::until(deadline, || {
            let now = proc::status(self.running.pid).ok().filter(|status| status.asleep);
            let now = now.map(|status| status.context_switches);
            let so = now.is_some() && now == before;
            before = now;
            so
        });
        if asleep { Ok(self) } else { Err(self.failure("init did not go to sleep")) }
    }

    /// The sentence, with what init had said; ends it.
    pub fn failure(self, what: &str) -> String {
        let words = self.running.last_words();
        if words.is_empty() { what.to_owned() } else { format!("{what}; it said: {words}") }
    }

    /// Waits for the end, which must come with this code.
    pub fn ends_with(&mut self, code: i32) -> Result<Ended, String> {
        match self.running.ended(Deadline::after(PATIENCE)) {
            None => Err(format!("still there after {} s", PATIENCE.as_secs())),
            Some(ended) if ended.code != code => Err(format!("ended with {}, not {code}", ended.code)),
            Some(ended) => Ok(ended),
        }
    }
}
