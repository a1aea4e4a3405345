//! The loop: wait for the next event, let the pure parts decide, do what they say. From here on init may not fail.

#![forbid(unsafe_code)]

mod ending;
mod reap;

use super::component::{self, State};
use super::forward::{self, Verdict};
use super::last_resort::{self, Noted};
use super::manners::{Farewell, Moment, Placement};
use super::phase::{self, Phase, Situation};
use super::setup::{self, Caller};
use super::stderr::Stderr;
use super::terminal::Foreground;
use super::trace::Tracer;
use super::whereabouts::Whereabouts;
use super::workers::{Roles, Workers};
use super::{Launch, left};
use crate::case::{Run, Stop};
use crate::config::Settings;
use crate::consent::{self, Channel, Sources};
use crate::death::{self, Death};
use crate::evidence::oom;
use crate::limits;
use crate::panel::door;
use crate::say::Level;
use crate::spool::marker::{self, RunMarker};
use crate::spool::place;
use crate::sys::poll::{Waiting, Want};
use crate::sys::signal::{Set, Signal};
use crate::sys::signalfd::{Arrival, SignalFd};
use crate::sys::spawn::ExecError;
use crate::sys::{clock, fd, process, wait};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Signals that may wait for exec; more than that is a flood.
const HELD: usize = 256;

/// The one component of `obit run`.
struct Child {
    pid: i32,
    pidfd: Option<OwnedFd>,
    /// Open until exec is confirmed.
    verdict: Option<OwnedFd>,
    exec_error: Option<ExecError>,
    state: State,
    held: Vec<Arrival>,
    started: Duration,
    death: Option<Death>,
    /// The death that was told already, before there was a zombie.
    told: Option<Death>,
    /// The last signal passed on that asks for an end without a core.
    passed_on: Option<Signal>,
    stop_passed_on: Option<Signal>,
    /// The last signal of any kind that was passed on, as if it were a stop: it may be what the program dies of.
    last_passed_on: Option<Stop>,
    run: Run,
    whereabouts: Whereabouts,
}

struct Init {
    launch: Launch,
    own_pid: i32,
    signals: SignalFd,
    stderr: Stderr,
    tail_gap: Option<String>,
    foreground: Option<Foreground>,
    gave_up_terminal: bool,
    child: Child,
    tracer: Tracer,
    workers: Workers,
    marker: Option<RunMarker>,
    /// The marker may go: what it stands for is on disk, or there was nothing to tell.
    marker_settled: bool,
    oom: Option<oom::Counter>,
    oom_before: Option<Vec<u8>>,
    stop: Option<Stop>,
    stop_deadline: Option<Duration>,
    phase: Phase,
    anyone_left: bool,
    reporting_until: Option<Duration>,
    /// However short that is, a report may be written until then.
    writing_until: Duration,
    flushing_until: Option<Duration>,
}

/// Runs the program until it and all it left behind are gone; returns what init ends with.
pub fn run(launch: Launch, caller: Caller, roles: Roles) -> u8 {
    last_resort::prepare();
    launch.settings.configure_lines();
    match Init::start(launch, caller, roles) {
        Ok(mut init) => init.live(),
        Err(status) => status,
    }
}

impl Init {
    /// An error is the status to end with; why has been said.
    fn start(mut launch: Launch, caller: Caller, roles: Roles) -> Result<Init, u8> {
        // The child starts where we were; we go to `/` before it does.
        for path in [&mut launch.settings.state_dir, &mut launch.settings.api_credentials].into_iter().flatten() {
            *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
        }
        let settings = &launch.settings;
        let own_pid = process::own_pid();
        let in_our_place = |why: &str| setup::in_our_place(&launch.command, &launch.manners, caller, why);
        let signals = SignalFd::new(Set::FULL)
            .map_err(|error| in_our_place(&format!("signals cannot be received (signalfd: {error})")))?;
        wait::is_allowed().map_err(|error| in_our_place(&format!("ends cannot be heard of (wait: {error})")))?;
        if launch.manners.subreaper {
            let _ = process::become_subreaper();
        }
        if let Some(signal) = settings.parent_death_signal {
            let _ = process::on_parent_death(signal);
        }
        let (mut stderr, child_end, tail_gap) = Stderr::new(settings.stderr_tail_bytes, caller.closed_stdio);
        for warning in &launch.warnings {
            stderr.say(Level::Warning, warning);
        }
        let narrate = launch.manners.narrator;
        if let Some(line) =
            narrate.and_then(|narrate| narrate(Moment::Starting { reaping: own_pid == 1 || process::is_subreaper() }))
        {
            stderr.write_line(&line);
        }
        let oom = oom::counter();
        let oom_before = oom.as_ref().and_then(|counter| fd::reread(&counter.file, oom::COUNTER_BYTES));
        let (started, tracer) = setup::start(&launch.command, settings, &launch.manners, caller, child_end)
            .map_err(|error| in_our_place(&format!("no process can be made (fork: {error})")))?;
        last_resort::note(Noted {
            own_pid,
            main: started.spawned.pid,
            signals,
            stderr: stderr.source(),
            group: settings.group,
            rewrite: settings.rewrite,
            stop_grace: settings.stop_grace,
            map_exit: settings.map_exit,
        });
        if let Some(why) = &started.core_limit_refused {
            stderr.say(Level::Warning, &format!("RLIMIT_CORE stays as it is: {why}"));
        }
        let now = clock::monotonic();
        let place = place::resolve(settings);
        for refused in &place.refused {
            stderr.say(Level::Warning, refused);
        }
        let marker = place.dir.as_deref().and_then(|dir| {
            let created = RunMarker::create(dir, &started.run);
            created.inspect_err(|error| stderr.say(Level::Warning, &error.to_string())).ok()
        });
        let mut sources = Sources::at_hand(settings, |name| std::env::var_os(name));
        if settings.dsn.is_some() {
            sources = sources.with_names(std::env::vars_os().map(|(name, _)| name));
        }
        let consent = consent::decide(&sources);
        for warning in consent.warnings.iter().filter(|_| settings.dsn.is_some()) {
            stderr.say(Level::Warning, warning);
        }
        let may_send = settings.dsn.is_some() && consent.grant(Channel::Errors).is_ok();
        let door = match door::open(settings, place.dir.as_deref()) {
            Some(Ok((door, where_it_is))) => {
                stderr.say(Level::Info, &where_it_is);
                Some(door)
            }
            Some(Err(why_not)) => {
                stderr.say(Level::Error, &why_not);
                None
            }
            None => None,
        };
        // Once a day there is something to tell; whether now is the time is the courier's to find out, for it may read files.
        let tells = |destination: bool, channel| destination && consent.grant(channel).is_ok();
        let may_tell = place.dir.is_some()
            && (tells(settings.dsn.is_some(), Channel::Daily) || tells(settings.dns_zone.is_some(), Channel::Dns));
        let left = place.dir.as_deref().map(|dir| marker::attention(dir, marker.as_ref())).unwrap_or_default();
        let workers = Workers::new(roles, place.dir, started.run.cwd.clone(), may_send);
        let pid = started.spawned.pid;
        let mut init = Init {
            own_pid,
            signals,
            stderr,
            tail_gap,
            foreground: started.foreground,
            gave_up_terminal: started.gave_up_terminal.is_some(),
            child: Child {
                pid,
                pidfd: process::pidfd(pid),
                verdict: Some(started.spawned.verdict),
                exec_error: None,
                state: State::Starting,
                held: Vec::new(),
                started: now,
                death: None,
                told: None,
                passed_on: None,
                stop_passed_on: None,
                last_passed_on: None,
                run: started.run,
                whereabouts: Whereabouts::default(),
            },
            tracer,
            workers,
            marker,
            marker_settled: false,
            oom,
            oom_before,
            stop: None,
            stop_deadline: None,
            phase: Phase::Living,
            anyone_left: true,
            reporting_until: None,
            writing_until: Duration::ZERO,
            flushing_until: None,
            launch,
        };
        if let Some(door) = door {
            init.workers.open(door);
        }
        init.narrate(Moment::Spawned { pid });
        if let Some(was_session_leader) = started.gave_up_terminal {
            init.narrate(Moment::DetachedTerminal { was_session_leader });
        }
        if init.launch.manners.placement == Placement::OwnSession {
            init.narrate(Moment::SessionMade);
        }
        init.reporting_until = Some(now + init.launch.settings.report_wait);
        init.workers.take_up(left, &init.launch.settings, now);
        if may_tell {
            init.workers.call_courier(now + limits::FIRST_LOOK);
        }
        process::trim_heap();
        Ok(init)
    }

    fn live(&mut self) -> u8 {
        loop {
            let now = clock::monotonic();
            self.tick(now);
            let so = self.situation(now);
            let (phase, effect) = self.phase.step(so);
            self.phase = phase;
            match effect {
                phase::Effect::Leave => return self.leave(),
                phase::Effect::TermRest => self.signal_rest(Signal::TERM),
                phase::Effect::KillRest => self.signal_rest(Signal::KILL),
                phase::Effect::Nothing => self.wait(so, now),
            }
        }
    }

    /// Sleeps until something happens or a moment comes, then takes in what happened.
    fn wait(&mut self, so: Situation, now: Duration) {
        let dues = [self.child.state.due(), self.phase.due(so), self.workers.due(), self.tracer.due()];
        let due = dues.into_iter().flatten().min();
        let mut waiting = Waiting::default();
        let signals = waiting.add(self.signals.as_fd(), Want::Readable);
        let verdict = self.child.verdict.as_ref().map(|fd| waiting.add(fd.as_fd(), Want::Readable));
        let stderr = self.stderr.wait_for(&mut waiting);
        let looked_at = self.tracer.waits_for().map(|fd| waiting.add(fd, Want::Readable));
        let door = self.workers.unattended_door().filter(|_| self.phase == Phase::Living);
        let door = door.map(|fd| waiting.add(fd, Want::Readable));
        let ready = waiting.wait(due.map(|due| due.saturating_sub(now)));
        let (signals, verdict, stderr) = (ready.has(Some(signals)), ready.has(verdict), ready.has(stderr));
        let (someone_came, was_looked_at) = (ready.has(door), ready.has(looked_at));
        if was_looked_at {
            self.let_on();
        }
        if verdict {
            self.read_verdict();
        }
        if signals {
            for arrival in self.signals.read() {
                self.arrived(arrival);
            }
        }
        if someone_came {
            self.workers.attend(&self.launch.settings, clock::monotonic());
        }
        if stderr {
            if self.child.state != State::Ended {
                self.child.whereabouts.glance(self.child.pid, now);
            }
            if self.stderr.pump() && self.flushing_until.is_some() {
                self.flushing_until = Some(clock::monotonic() + limits::STDERR_FLUSH);
            }
        }
    }

    fn tick(&mut self, now: Duration) {
        let (state, effect) = self.child.state.tick(now, &self.launch.settings);
        self.child.state = state;
        self.apply(effect);
        if self.tracer.due().is_some_and(|due| now >= due) {
            self.let_on();
        }
        self.workers.tick(&self.launch.settings, now);
    }

    fn situation(&mut self, now: Duration) -> Situation {
        let ended = self.child.state == State::Ended;
        if ended && self.flushing_until.is_some_and(|until| until != Duration::ZERO) && self.stderr.is_idle() {
            self.flushing_until = Some(Duration::ZERO);
        }
        if self.reporting_until.is_some() && !self.workers.busy() {
            self.reporting_until = None;
        }
        Situation {
            now,
            components_ended: ended,
            anyone_left: self.anyone_left,
            drain: self.launch.manners.farewell == Farewell::Drain,
            stop_deadline: self.stop_deadline,
            reporting_until: match self.reporting_until {
                Some(until) if self.workers.examining() => Some(until.max(self.writing_until)),
                other => other,
            },
            flushing_until: self.flushing_until,
        }
    }

    fn read_verdict(&mut self) {
        let Some(pipe) = self.child.verdict.take() else { return };
        let mut bytes = [0; 8];
        let read = fd::read(pipe.as_fd(), &mut bytes).unwrap_or(0);
        self.child.exec_error = ExecError::from_verdict(&bytes[..read]);
        if self.child.state == State::Starting {
            self.child.state = State::Running;
        }
        if self.child.exec_error.is_none() {
            for arrival in std::mem::take(&mut self.child.held) {
                self.arrived(arrival);
            }
        }
    }

    fn arrived(&mut self, arrival: Arrival) {
        if arrival.signal == Signal::WINCH {
            crate::fault::strike();
        }
        let here = forward::Circumstances {
            own_pid: self.own_pid,
            child_has_terminal: self.foreground.as_ref().is_some_and(Foreground::is_childs),
            gave_up_terminal: self.gave_up_terminal,
        };
        let verdict = forward::decide(&arrival, &self.launch.settings, here);
        if self.child.state == State::Starting && matches!(verdict, Verdict::PassOn(_) | Verdict::Stop(_)) {
            if self.child.held.len() < HELD {
                self.child.held.push(arrival);
            }
            return;
        }
        if !matches!(verdict, Verdict::Reap | Verdict::LetGo) {
            self.narrate(Moment::Received { signal: arrival.signal });
        }
        match verdict {
            Verdict::Reap => self.reap(),
            Verdict::LetGo => {
                self.tracer.let_go_on_request();
                // It may stand for a child's end, too: of the same signal only one is told.
                self.reap();
            }
            Verdict::Swallow => {}
            Verdict::HandOff => self.narrate(Moment::HandedOff { signal: arrival.signal }),
            Verdict::PassOn(signal) => {
                if signal == Signal::CONT
                    && let Some(foreground) = &self.foreground
                {
                    foreground.hand_over_again();
                }
                self.pass_on(signal, &arrival);
            }
            Verdict::Stop(signal) => {
                // Who asks again hurries what the first one asked for.
                let stop = self.stop.get_or_insert_with(|| Stop::asked_by(&arrival));
                let now = clock::monotonic();
                if self.child.state == State::Ended {
                    self.phase = self.phase.hurry(now);
                    return;
                }
                let (state, effect) = self.child.state.stop(signal, now, &self.launch.settings);
                stop.hurried |= effect == component::Effect::Kill;
                self.child.state = state;
                self.stop_deadline = state.due();
                if let component::Effect::PassOn(signal) = effect {
                    self.child.stop_passed_on = Some(signal);
                    self.pass_on(signal, &arrival);
                } else {
                    self.apply(effect);
                }
            }
        }
        if self.launch.manners.suspends_itself && matches!(arrival.signal, Signal::TSTP | Signal::TTIN | Signal::TTOU) {
            process::stop_self();
        }
    }

    fn apply(&mut self, effect: component::Effect) {
        match effect {
            component::Effect::Nothing => {}
            component::Effect::PassOn(signal) => {
                self.child.stop_passed_on = Some(signal);
                self.stop_deadline = self.child.state.due();
                let plain = Arrival { signal, code: libc::SI_USER, sender_pid: self.own_pid, sender_uid: 0, value: 0 };
                self.pass_on(signal, &plain);
            }
            component::Effect::Kill => self.kill_child(),
        }
    }

    /// First, if it is traced, where it hangs is looked at; that takes some milliseconds.
    fn kill_child(&mut self) {
        let pid = self.child.pid;
        self.stderr.say(
            Level::Warning,
            &format!("{} (pid {pid}) did not end when asked; killing it", self.child.run.component),
        );
        let held = self.tracer.look();
        let now = clock::monotonic();
        if !held.is_some_and(|held| self.workers.capture(held, &self.launch.settings, now)) {
            self.let_on();
        }
    }

    /// The program stood still to be looked at and goes on now: with what it was to die of, or by our hand.
    fn let_on(&mut self) {
        if self.child.state == State::Killed {
            self.send_kill();
        }
        self.tracer.release();
        self.next_is_looked_at();
    }

    fn send_kill(&self) {
        let pid = self.child.pid;
        let _ = match self.launch.settings.group {
            true => process::kill_group(pid, Signal::KILL),
            false => process::kill(pid, Signal::KILL),
        };
    }

    fn pass_on(&mut self, signal: Signal, arrival: &Arrival) {
        if self.child.state == State::Ended {
            return;
        }
        let pid = self.child.pid;
        if signal.dumps_core() {
            self.child.whereabouts.look(pid);
        }
        let outcome = if self.launch.settings.group {
            process::kill_group(pid, signal)
        } else {
            process::pass_on(pid, self.child.pidfd.as_ref().map(AsFd::as_fd), signal, arrival)
        };
        if outcome.is_ok() {
            self.narrate(Moment::Forwarded { signal });
            self.child.last_passed_on = Some(Stop { signal, ..Stop::asked_by(arrival) });
            if !signal.dumps_core() {
                self.child.passed_on = Some(signal);
            }
        }
    }

    fn signal_rest(&mut self, signal: Signal) {
        left::signal_all(signal, &self.workers.pids());
    }

    fn narrate(&mut self, moment: Moment<'_>) {
        if let Some(line) = self.launch.manners.narrator.and_then(|narrate| narrate(moment)) {
            self.stderr.write_line(&line);
        }
    }

    /// What we end with for that death of the program: a status, and rather than by it by that signal.
    fn leaving(&self, death: Death) -> (u8, Option<Signal>) {
        let settings: &Settings = &self.launch.settings;
        let status = match self.child.exec_error {
            Some(error) => (self.launch.manners.exec_failed)(error.is_not_found() && self.child.run.exe.is_none()),
            None => settings.map_exit[usize::from(death.exit_status())],
        };
        (status, death.signal().filter(|_| settings.re_raise && self.own_pid != 1))
    }

    fn leave(&mut self) -> u8 {
        let death = self.child.death.unwrap_or(Death::Exited(death::OWN_FAILURE));
        let (status, re_raise) = self.leaving(death);
        self.narrate(Moment::Ending { status });
        self.stderr.pump();
        self.workers.kill_all(clock::monotonic());
        if self.workers.dropped_cases > 0 {
            let dropped = self.workers.dropped_cases;
            self.stderr
                .say(Level::Warning, &format!("{dropped} more deaths have no report: too many came at one time"));
        }
        if self.marker_settled
            && let Some(marker) = self.marker.take()
        {
            marker.settle();
        }
        if let Some(signal) = re_raise {
            process::forbid_core();
            process::die_by(signal);
        }
        status
    }
}
