//! The helpers that init forks for what it must not do itself: examine a death, deliver what is in the spool.
//!
//! At most one examiner and one courier run at a time; cases wait their turn in a short queue, and what does not fit is
//! counted. An examiner that dies before it has something on disk is started again with the same case.

#![forbid(unsafe_code)]

use crate::case::{Capture, Case, Held, Id, Run};
use crate::config::Settings;
use crate::death::Death;
use crate::limits;
use crate::panel::door::Door;
use crate::spool::marker::Attention;
use crate::sys::poll::Waiting;
use crate::sys::signal::Signal;
use crate::sys::{clock, fd, memory, process, wait};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A case, where reports are kept, the memory file for where they cannot be, and what was seen at the death.
type Examine = fn(Case, &Settings, Option<&Path>, Option<OwnedFd>, Option<Capture>) -> u8;

/// The roles, as functions: init forks, they run in the copy, their result is the exit status.
#[derive(Clone, Copy)]
pub struct Roles {
    /// Turns a case into a report; see [`Outcome`].
    pub examine: Examine,
    /// Looks at a process that stands still.
    pub capture: fn(Held, &Settings) -> u8,
    /// Turns what earlier runs left behind into reports.
    pub recover: fn(&Settings, &Path) -> u8,
    /// Writes down how a run ended, for release health.
    pub session: fn(&Run, Option<Death>, u64, &Settings, &Path) -> u8,
    /// Delivers; told when this init started. 0: nothing is left to do, n: call again in n minutes.
    pub courier: fn(&Settings, Option<&Path>, Vec<OwnedFd>, u64) -> u8,
    /// Serves whoever comes by the door, until nobody comes any more.
    pub panel: fn(&Settings, Option<&Path>, &Door) -> u8,
}

/// What an examiner's exit status says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The report is on disk.
    Durable,
    /// No disk took it; it is in the memory file.
    InMemory,
    /// A crash loop: counted, and said with the next report.
    Counted,
    /// The examiner died or could do nothing.
    Failed,
}

impl Outcome {
    pub const DURABLE: u8 = 0;
    pub const IN_MEMORY: u8 = 3;
    pub const COUNTED: u8 = 4;

    fn from_death(death: Death) -> Outcome {
        match death {
            Death::Exited(Outcome::DURABLE) => Outcome::Durable,
            Death::Exited(Outcome::IN_MEMORY) => Outcome::InMemory,
            Death::Exited(Outcome::COUNTED) => Outcome::Counted,
            _ => Outcome::Failed,
        }
    }
}

/// Cases that may wait for an examiner; a storm of crashing orphans is counted beyond that.
const QUEUE: usize = 16;
/// Processes that are looked at at one time, beside the program itself.
const CAPTURING: usize = 4;
/// The unit in which a courier says when it wants to be called again.
const MINUTE: Duration = Duration::from_secs(60);
/// The longest pause after couriers that died; it starts at a second and doubles.
const COURIER_PAUSE_MAX: Duration = Duration::from_secs(64);

/// After one who served died: whoever makes it die cannot make us fork without end.
const PANEL_PAUSE: Duration = Duration::from_secs(1);

/// What init learns when a worker has ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The case, what became of it.
    Examined {
        event_id: Id,
        about_main: bool,
        outcome: Outcome,
    },
    /// The examiner died with nothing on disk; another one has the case now.
    Retried,
    Recovered,
    Captured,
    Served,
    SessionWritten,
    Delivered {
        settled: bool,
    },
}

#[derive(Debug)]
enum Job {
    Examine { case: Box<Case>, memory: Option<OwnedFd>, capture: Option<Capture>, attempts: u32, about_main: bool },
    Recover,
    Session,
}

/// The workers that are there and the work that waits.
pub struct Workers {
    roles: Roles,
    state_dir: Option<PathBuf>,
    /// Where our caller was: relative paths of the settings and of the program mean what lies there.
    directory: Option<PathBuf>,
    started_unix_ms: u64,
    /// Consent and a destination exist: without them no courier is ever started.
    may_send: bool,
    /// On disk and in order: an examiner, or one of its kind.
    current: Option<(i32, Job, Duration)>,
    waiting: VecDeque<Job>,
    /// Who look at a process that stands still or stood so, and when that must be over.
    capturing: Vec<(i32, Duration)>,
    courier: Option<i32>,
    courier_wanted: bool,
    courier_due: Option<Duration>,
    courier_pause: Duration,
    /// Less than a minute, of this run alone, added to the minutes that a courier asks for: machines that start in the same
    /// second would otherwise send in the same seconds.
    courier_part: Duration,
    /// The listening socket; whoever serves has a copy.
    door: Option<Door>,
    panel: Option<i32>,
    /// Nobody is let in before: the last one who served died.
    door_shut_until: Option<Duration>,
    memory_reports: Vec<OwnedFd>,
    /// How the run ended, once it has.
    session: Option<(Run, Option<Death>, u64)>,
    pub dropped_cases: u64,
}

fn part_of_a_minute() -> Duration {
    let mut random = [0; 16];
    memory::random(&mut random);
    MINUTE.mul_f64(f64::from(u16::from_ne_bytes([random[0], random[1]])) / 65_536.0)
}

impl Workers {
    pub fn new(roles: Roles, state_dir: Option<PathBuf>, directory: Option<PathBuf>, may_send: bool) -> Workers {
        Workers {
            roles,
            state_dir,
            directory,
            started_unix_ms: clock::unix_ms(),
            may_send,
            current: None,
            waiting: VecDeque::new(),
            capturing: Vec::new(),
            courier: None,
            courier_wanted: false,
            courier_due: None,
            courier_pause: Duration::ZERO,
            courier_part: part_of_a_minute(),
            door: None,
            panel: None,
            door_shut_until: None,
            memory_reports: Vec::new(),
            session: None,
            dropped_cases: 0,
        }
    }

    /// Pids of the workers, which the drain must spare.
    pub fn pids(&self) -> Vec<i32> {
        let capturing = self.capturing.iter().map(|(pid, _)| *pid);
        self.current.iter().map(|(pid, ..)| *pid).chain(self.courier).chain(self.panel).chain(capturing).collect()
    }

    /// From now on somebody may come.
    pub fn open(&mut self, door: Door) {
        self.door = Some(door);
    }

    /// The socket to wait for: there is one, and nobody serves it.
    pub fn unattended_door(&self) -> Option<BorrowedFd<'_>> {
        self.door.as_ref().filter(|_| self.panel.is_none() && self.door_shut_until.is_none()).map(Door::as_fd)
    }

    /// Somebody is at the door.
    pub fn attend(&mut self, settings: &Settings, now: Duration) {
        let Some(door) = &self.door else { return };
        let (role, dir) = (self.roles.panel, self.state_dir.as_deref());
        let keep = [door.as_fd().as_raw_fd()];
        match process::fork_worker(c"obit-panel", &keep, || role(settings, dir, door)) {
            Ok(pid) => self.panel = Some(pid),
            Err(_) => self.door_shut_until = Some(now + PANEL_PAUSE),
        }
    }

    /// Release health is only for those who receive reports, and only from disk.
    pub fn wants_sessions(&self) -> bool {
        self.may_send && self.state_dir.is_some()
    }

    /// Whether a report is being made or delivered, or waits for it.
    pub fn busy(&self) -> bool {
        self.current.is_some()
            || !self.waiting.is_empty()
            || self.courier.is_some()
            || self.courier_wanted
            || self.courier_pause > Duration::ZERO && self.courier_due.is_some()
    }

    /// Whether something is still being written to the disk.
    pub fn examining(&self) -> bool {
        self.current.is_some() || !self.waiting.is_empty()
    }

    /// A death to be examined.
    pub fn examine(
        &mut self,
        case: Case,
        capture: Option<Capture>,
        about_main: bool,
        settings: &Settings,
        now: Duration,
    ) {
        if self.waiting.len() >= QUEUE && !about_main {
            self.dropped_cases += 1;
            return;
        }
        let memory = fd::memory_file(c"obit-report").ok();
        let job = Job::Examine { case: Box::new(case), memory, capture, attempts: 0, about_main };
        if about_main {
            self.waiting.push_front(job);
        } else {
            self.waiting.push_back(job);
        }
        self.next(settings, now);
    }

    /// Whether one more than the program itself can be looked at now.
    pub fn has_room(&self) -> bool {
        self.capturing.len() < CAPTURING
    }

    /// A process that stands still is looked at; if nobody can be found to do it, `false`.
    pub fn capture(&mut self, held: Held, settings: &Settings, now: Duration) -> bool {
        let role = self.roles.capture;
        let keep = [&held.mem, &held.maps, &held.auxv, &held.found, &held.done].map(|fd| fd.as_raw_fd());
        let begun = self.fork(c"obit-capture", &keep, move || role(held, settings));
        self.capturing.extend(begun.as_ref().ok().map(|pid| (*pid, now + limits::CAPTURE_DEADLINE)));
        begun.is_ok()
    }

    /// What earlier runs left in the state directory; without any of it, or without anybody to send it to, nothing is done.
    pub fn take_up(&mut self, left: Attention, settings: &Settings, now: Duration) {
        if left.untold {
            self.waiting.push_back(Job::Recover);
        }
        self.courier_wanted = self.may_send && (left.untold || left.pending);
        self.next(settings, now);
    }

    /// A courier is wanted at that time, unless one is called before.
    pub fn call_courier(&mut self, at: Duration) {
        self.courier_due.get_or_insert(at);
    }

    /// The run is over; written down for release health.
    pub fn session(&mut self, run: Run, death: Option<Death>, ended_unix_ms: u64, settings: &Settings, now: Duration) {
        self.session = Some((run, death, ended_unix_ms));
        self.waiting.push_back(Job::Session);
        self.next(settings, now);
    }

    /// Starts what waits, if there is room. Called whenever something has changed.
    pub fn next(&mut self, settings: &Settings, now: Duration) {
        if self.current.is_none()
            && let Some(mut job) = self.waiting.pop_front()
        {
            match self.start(&mut job, settings) {
                Ok(pid) => self.current = Some((pid, job, now + limits::EXAMINE_DEADLINE)),
                // No process can be made now; the run marker keeps the truth for the next start.
                Err(_) => self.dropped_cases += 1,
            }
        }
        let due = self.courier_due.is_some_and(|due| now >= due);
        if self.courier.is_none() && self.current.is_none() && (self.courier_wanted || due) {
            self.courier_wanted = false;
            self.courier_due = None;
            let (role, dir) = (self.roles.courier, self.state_dir.clone());
            let reports = std::mem::take(&mut self.memory_reports);
            let keep: Vec<_> = reports.iter().map(|fd| fd.as_raw_fd()).collect();
            let (settings, started) = (settings.clone(), self.started_unix_ms);
            let work = move || role(&settings, dir.as_deref(), reports, started);
            self.courier = self.fork(c"obit-courier", &keep, work).ok();
        }
    }

    fn start(&self, job: &mut Job, settings: &Settings) -> io::Result<i32> {
        let dir = self.state_dir.as_deref();
        let roles = self.roles;
        match job {
            Job::Examine { case, memory, capture, attempts, .. } => {
                *attempts += 1;
                let captured = capture.iter().flat_map(|capture| [&capture.found, &capture.done]);
                let keep: Vec<_> = memory.iter().chain(captured).map(|fd| fd.as_raw_fd()).collect();
                self.fork(c"obit-examine", &keep, || {
                    let (memory, capture) = (memory.take(), capture.take());
                    (roles.examine)((**case).clone(), settings, dir, memory, capture)
                })
            }
            Job::Recover => self.fork(c"obit-recover", &[], || dir.map_or(0, |dir| (roles.recover)(settings, dir))),
            Job::Session => self.fork(c"obit-session", &[], || match (&self.session, dir) {
                (Some((run, death, ended)), Some(dir)) => (roles.session)(run, *death, *ended, settings, dir),
                _ => 0,
            }),
        }
    }

    fn fork(&self, name: &CStr, keep: &[RawFd], work: impl FnOnce() -> u8) -> io::Result<i32> {
        process::fork_worker(name, keep, || {
            if let Some(directory) = &self.directory {
                let _ = std::env::set_current_dir(directory);
            }
            work()
        })
    }

    /// A child has ended; `None` when it was none of ours.
    pub fn ended(&mut self, pid: i32, death: Death, settings: &Settings, now: Duration) -> Option<Ended> {
        if let Some(place) = self.capturing.iter().position(|(capturing, _)| *capturing == pid) {
            self.capturing.swap_remove(place);
            return Some(Ended::Captured);
        }
        if self.panel == Some(pid) {
            self.panel = None;
            self.door_shut_until = (death != Death::Exited(0)).then(|| now + PANEL_PAUSE);
            return Some(Ended::Served);
        }
        if self.courier == Some(pid) {
            self.courier = None;
            let settled = death == Death::Exited(0);
            if matches!(death, Death::Exited(_)) {
                // It did what it could, so nobody waits for another one.
                self.courier_pause = Duration::ZERO;
            }
            self.courier_due = match death {
                Death::Exited(0) => None,
                Death::Exited(minutes) => Some(now + MINUTE * u32::from(minutes) + self.courier_part),
                Death::Killed { .. } => {
                    self.courier_pause = (self.courier_pause * 2).clamp(Duration::from_secs(1), COURIER_PAUSE_MAX);
                    Some(now + self.courier_pause)
                }
            };
            self.next(settings, now);
            return Some(Ended::Delivered { settled });
        }
        if self.current.as_ref().is_none_or(|(current, ..)| *current != pid) {
            return None;
        }
        let (_, job, _) = self.current.take()?;
        let ended = match job {
            Job::Examine { case, memory, capture, attempts, about_main } => {
                let (event_id, outcome) = (case.event_id, Outcome::from_death(death));
                match outcome {
                    Outcome::Durable => self.courier_wanted = self.may_send,
                    Outcome::InMemory => {
                        self.memory_reports.extend(memory);
                        self.courier_wanted = self.may_send;
                    }
                    Outcome::Counted => {}
                    Outcome::Failed if attempts < limits::EXAMINE_ATTEMPTS => {
                        self.waiting.push_front(Job::Examine { case, memory, capture, attempts, about_main });
                        self.next(settings, now);
                        return Some(Ended::Retried);
                    }
                    // The next courier adopts what minimal entry there may be.
                    Outcome::Failed => self.courier_wanted = self.may_send,
                }
                Ended::Examined { event_id, about_main, outcome }
            }
            Job::Recover => Ended::Recovered,
            Job::Session => Ended::SessionWritten,
        };
        self.next(settings, now);
        Some(ended)
    }

    /// Kills an examiner that is over its deadline.
    pub fn tick(&mut self, settings: &Settings, now: Duration) {
        if let Some((pid, _, deadline)) = &mut self.current
            && now >= *deadline
        {
            let _ = process::kill(*pid, Signal::KILL);
            *deadline = Duration::MAX;
        }
        for (pid, deadline) in self.capturing.iter_mut().filter(|(_, deadline)| now >= *deadline) {
            let _ = process::kill(*pid, Signal::KILL);
            *deadline = Duration::MAX;
        }
        self.door_shut_until = self.door_shut_until.filter(|until| now < *until);
        self.next(settings, now);
    }

    /// When `tick` will have something to do.
    pub fn due(&self) -> Option<Duration> {
        let deadline =
            self.current.as_ref().map(|(.., deadline)| *deadline).filter(|deadline| *deadline != Duration::MAX);
        let courier = self.courier_due.filter(|_| self.courier.is_none());
        let capturing =
            self.capturing.iter().map(|(_, deadline)| *deadline).filter(|deadline| *deadline != Duration::MAX);
        deadline.into_iter().chain(capturing).chain(courier).chain(self.door_shut_until).min()
    }

    /// Ends whoever is still there, and sees that they are gone, before we leave.
    pub fn kill_all(&self, now: Duration) {
        for pid in self.pids() {
            let _ = process::kill(pid, Signal::KILL);
            while wait::reap(pid).is_none() && clock::monotonic() < now + limits::WORKERS_GONE {
                Waiting::default().wait(Some(Duration::from_millis(1)));
            }
        }
    }
}
