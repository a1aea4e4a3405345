//! From a case and what was learnt about it to the report: pure, so that each kind of death is a row in a test.

#![forbid(unsafe_code)]

use super::scrub::Scrubber;
use super::{
    BuildFacts, Exit, FORMAT, Gap, Host, Level, Oom, ParentFacts, Process, Report, RunFacts, Session, SessionStatus,
    StderrTail, StopFacts, UsageFacts, group, names, native, said, text,
};
use crate::case::{Case, Reason, Run, Subject, Tail};
use crate::death::Death;
use crate::evidence::autopsy::Autopsy;
use crate::evidence::panic::{Reading, shell_signal};
use crate::evidence::{oom, zombie};
use crate::limits;
use crate::sys::signal::Signal;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What was learnt besides the case.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    pub host: Host,
    pub build_id: Option<String>,
    pub built: Option<BuildFacts>,
    pub oom: Option<Oom>,
    pub process: zombie::Facts,
    /// What its last words were read for.
    pub said: Reading,
    /// It is a shell or another program that tells a child's signal n as 128+n.
    pub tells_signals: bool,
    /// What its memory was read for, of a core or as it died.
    pub autopsy: Option<Autopsy>,
    /// Where its core lies.
    pub core_file: Option<PathBuf>,
    pub gaps: Vec<Gap>,
}

/// The minimum: what the case alone says, without a byte that the program wrote. Made durable before anything is parsed.
pub fn minimal(case: &Case, scrubber: &mut Scrubber) -> Report {
    let unfinished = "the examiner did not get further than the facts that were at hand at once";
    let gaps = vec![Gap { what: "everything else".to_owned(), why: unfinished.to_owned() }];
    Report { complete: false, gaps, ..facts(case, scrubber) }
}

/// The whole report; `environment` is the program's.
pub fn build(case: &Case, learnt: Learnt, environment: &[(String, String)], scrubber: &mut Scrubber) -> Report {
    let env = scrubber.environment(environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let stderr_tail = case.stderr_tail.as_ref().map(|tail| stderr_tail(tail, scrubber));
    let mut report = facts(case, scrubber);
    report.gaps.extend(learnt.gaps);
    if scrubber.left_out > 0 {
        report.gaps.push(Gap {
            what: "environment".to_owned(),
            why: format!("{} more variables than a report lists", scrubber.left_out),
        });
    }
    if scrubber.withholds() {
        report.gaps.push(Gap {
            what: "texts".to_owned(),
            why: "environment and arguments hold more secrets than can be looked for, so texts are masked as a whole"
                .to_owned(),
        });
    }
    if let (Reason::Oom, Some(limit)) = (case.reason, learnt.oom.as_ref().and_then(|oom| oom.limit_bytes)) {
        report.summary = format!("killed by the kernel at the memory limit of {}{}", text::size(limit), after(case));
    }
    let moved = learnt.oom.as_ref().map(|oom| oom.kills_after.saturating_sub(oom.kills_before));
    if let (Reason::Signal, Some(Death::Killed { signal: Signal::KILL, .. })) = (case.reason, case.death) {
        report.summary = match moved {
            Some(_) => format!("killed by somebody, the kernel counted no OOM kill{}", after(case)),
            None => format!("killed; whether for memory is not known{}", after(case)),
        };
    }
    if let (Some(signal), true) = (told_signal(case), learnt.tells_signals) {
        let what = format!("ended with exit code {}", 128 + signal.number());
        report.summary =
            format!("{what}, as a shell tells a child's {signal} ({}){}", signal.description(), after(case));
    }
    // What a shell makes of its child's SIGKILL.
    if let (Some(Death::Exited(137)), Some(1..)) = (case.death, moved) {
        report.summary += "; the kernel killed for memory during the run";
    }
    report.process.build_id = learnt.build_id;
    // A release that was given is the operator's word.
    report.run.release = report.run.release.or_else(|| learnt.built.as_ref()?.release());
    report.process.built = learnt.built;
    report.process.uid = learnt.process.uid;
    report.process.gid = learnt.process.gid;
    report.process.ns_pids = learnt.process.ns_pids;
    report.process.cgroup = learnt.process.cgroup;
    report.kubernetes = kubernetes(&env, &learnt.host.name);
    report.host = learnt.host;
    report.host.container_id = report.host.container_id.or(learnt.process.container_id);
    report.oom = learnt.oom;
    report.process.env = env;
    report.stderr_tail = stderr_tail;
    said::put(&mut report, learnt.said, scrubber);
    report.process.core_file = learnt.core_file.map(|path| scrubber.text(&path.display().to_string()));
    match learnt.autopsy {
        Some(autopsy) => native::put(&mut report, autopsy, scrubber),
        None => report.gaps.extend(unseen(case, &report.gaps)),
    }
    report
}

/// Why nobody looked into a process that a signal ended, where no other gap says it.
fn unseen(case: &Case, gaps: &[Gap]) -> Option<Gap> {
    const SAID: [&str; 4] = ["live capture", "core file", "stacks", "evidence"];
    let Some(Death::Killed { signal, .. }) = case.death else { return None };
    if gaps.iter().any(|gap| SAID.contains(&gap.what.as_str())) {
        return None;
    }
    let why = match signal {
        Signal::KILL => "SIGKILL leaves no moment to look".to_owned(),
        _ if case.subject != Subject::Main => "nobody traced the process, or saw it stop".to_owned(),
        signal if signal.dumps_core() => "the kernel let nobody see it stop, and wrote no core".to_owned(),
        signal => {
            format!("a process that {signal} ends is not looked into: it is no fault, and the kernel writes no core")
        }
    };
    Some(Gap { what: "stacks".to_owned(), why })
}

/// The signal that its exit code tells of, if it is one.
fn told_signal(case: &Case) -> Option<Signal> {
    match case.death? {
        Death::Exited(code) => shell_signal(code),
        Death::Killed { .. } => None,
    }
}

/// What both reports say.
fn facts(case: &Case, scrubber: &mut Scrubber) -> Report {
    let argv: Vec<String> = case.run.argv.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let spawn_error = case.spawn_error.as_deref().map(|sentence| scrubber.text(sentence));
    let signal = case.death.and_then(Death::signal);
    let descendant = case.subject.comm();
    let (exe, parent) = match &case.subject {
        Subject::Main => (case.run.exe.as_ref(), None),
        Subject::Descendant { .. } => (None, None),
        Subject::Child { exe, parent, .. } => {
            (exe.as_ref(), Some(ParentFacts { pid: parent.pid, comm: parent.comm.clone() }))
        }
    };
    Report {
        format: FORMAT,
        event_id: case.event_id.to_string(),
        at_unix_ms: case.at_unix_ms,
        complete: true,
        reason: case.reason,
        level: level(case),
        component: descendant.filter(|comm| !comm.is_empty()).unwrap_or(&case.run.component).to_owned(),
        kind: kind(case),
        summary: summary(case, spawn_error.as_deref()),
        exit: Exit {
            signal: signal.map(Signal::name),
            signal_number: signal.map(Signal::number),
            code: case.death.map(Death::exit_status),
            told_code: case.told_code,
            core_dumped: case.death.map(Death::core_dumped),
        },
        run: RunFacts {
            id: case.run.id.to_string(),
            started_unix_ms: case.run.started_unix_ms,
            uptime_ms: case.uptime_ms,
            release: case.run.release.clone(),
            environment: case.run.environment.clone(),
        },
        process: Process {
            pid: case.pid,
            descendant: descendant.is_some(),
            argv: if descendant.is_some() { Vec::new() } else { scrubber.argv(&argv) },
            parent,
            exe: exe.map(|exe| exe.display().to_string()),
            cwd: case.run.cwd.as_ref().map(|cwd| cwd.display().to_string()),
            usage: case.usage.map(|usage| UsageFacts {
                user_us: usage.user_us,
                system_us: usage.system_us,
                max_rss_kib: usage.max_rss_kib,
                major_faults: usage.major_faults,
                minor_faults: usage.minor_faults,
            }),
            spawn_error,
            ..Process::default()
        },
        oom: None,
        stop: case.stop.map(|stop| StopFacts {
            signal: stop.signal.name(),
            sender_pid: stop.sender_pid,
            sender_uid: stop.sender_uid,
            before_death_ms: case.at_unix_ms.saturating_sub(stop.at_unix_ms),
            hurried: stop.hurried,
        }),
        stderr_tail: None,
        exceptions: Vec::new(),
        threads: Vec::new(),
        images: Vec::new(),
        minidump: None,
        host: Host::default(),
        kubernetes: BTreeMap::new(),
        fingerprint: group::fingerprint(case),
        suppressed: 0,
        gaps: case.gaps.iter().map(|sentence| Gap::of(sentence)).collect(),
        obit_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

impl Gap {
    /// From `what: why`.
    pub fn of(sentence: &str) -> Gap {
        let (what, why) = sentence.split_once(": ").unwrap_or((sentence, ""));
        Gap { what: what.to_owned(), why: why.to_owned() }
    }
}

fn stderr_tail(tail: &Tail, scrubber: &mut Scrubber) -> StderrTail {
    let kept_bytes = tail.bytes.len() as u64;
    let before = scrubber.masked;
    let text = scrubber.tail(&tail.bytes, kept_bytes < tail.total_bytes);
    let from = fitting(&text, limits::TAIL_JSON_BYTES);
    let text = if from == 0 { text } else { text[from..].to_owned() };
    StderrTail { text, total_bytes: tail.total_bytes, kept_bytes, masked: scrubber.masked - before }
}

/// The report for a disk that has no room for all of it: the last words, and names of variables no more.
pub fn shortened(mut report: Report) -> Report {
    const TAIL_JSON_BYTES: usize = 4 * 1024;
    report.process.env.clear();
    report.minidump = None;
    if let Some(tail) = &mut report.stderr_tail {
        tail.text = tail.text.split_off(fitting(&tail.text, TAIL_JSON_BYTES));
    }
    report.gaps.push(Gap::of("environment, older stderr, minidump: the disk has no room for them"));
    report
}

/// Where the longest end of the text begins that takes no more than `limit` bytes as JSON: a NUL takes six.
fn fitting(text: &str, limit: usize) -> usize {
    let mut bytes = 0;
    for (at, c) in text.char_indices().rev() {
        bytes += match c {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            c if c.is_ascii_control() => 6,
            c => c.len_utf8(),
        };
        if bytes > limit {
            return at + c.len_utf8();
        }
    }
    0
}

/// What the downward API was asked to put into the environment, under the usual names; a pod's host name is its own.
fn kubernetes(env: &BTreeMap<String, String>, host_name: &str) -> BTreeMap<String, String> {
    const NAMES: [&str; 6] = ["POD_NAME", "POD_NAMESPACE", "POD_UID", "POD_IP", "NODE_NAME", "HOST_IP"];
    let given = NAMES.iter().filter_map(|name| Some((name.to_lowercase(), env.get(*name)?.clone())));
    let mut kubernetes: BTreeMap<String, String> = given.filter(|(_, value)| !value.is_empty()).collect();
    if env.contains_key("KUBERNETES_SERVICE_HOST") && !host_name.is_empty() {
        kubernetes.entry("pod_name".to_owned()).or_insert_with(|| host_name.to_owned());
    }
    kubernetes
}

fn level(case: &Case) -> Level {
    let killed_by_other = case.death.and_then(Death::signal) == Some(Signal::KILL);
    match case.reason {
        Reason::Oom => Level::Fatal,
        Reason::Signal if !killed_by_other && case.subject == Subject::Main => Level::Fatal,
        _ => Level::Error,
    }
}

fn kind(case: &Case) -> String {
    match (case.reason, case.death) {
        (Reason::Oom, _) => "OOM kill".to_owned(),
        (Reason::SpawnFailed, _) => "could not be started".to_owned(),
        (Reason::StopTimeout, _) => "stop timeout".to_owned(),
        (Reason::Unclean, _) => "unclean end".to_owned(),
        (_, Some(Death::Killed { signal, .. })) => signal.name(),
        (_, Some(Death::Exited(0))) => "dying thread".to_owned(),
        (_, Some(Death::Exited(code))) => format!("exit code {code}"),
        (_, None) => case.reason.as_str().to_owned(),
    }
}

fn summary(case: &Case, spawn_error: Option<&str>) -> String {
    let what = match (case.reason, case.death) {
        (Reason::SpawnFailed, _) => return spawn_error.unwrap_or("the program could not be started").to_owned(),
        (Reason::Unclean, _) => {
            let how = "obit was killed, alone or with its container or node";
            return format!("the last run left no word of its end: {how}");
        }
        (Reason::Oom, _) => "killed by the kernel: the memory limit of its cgroup was reached".to_owned(),
        (Reason::StopTimeout, _) if case.stop.is_some_and(|stop| stop.hurried) => {
            "was asked to stop, and killed when it was asked again".to_owned()
        }
        (Reason::StopTimeout, _) => "did not end within the grace of a stop and was killed".to_owned(),
        (_, Some(Death::Killed { signal, core })) => {
            format!("{}{}", signal.description(), if core { ", core dumped" } else { "" })
        }
        (_, Some(Death::Exited(0))) => "a thread died, the program went on and ended with exit code 0".to_owned(),
        (_, Some(Death::Exited(code))) => format!("ended with exit code {code}"),
        (_, None) => "its end was not seen".to_owned(),
    };
    what + &after(case)
}

fn after(case: &Case) -> String {
    let after = case.uptime_ms.map(|ms| format!(", {} after the start", text::duration(ms))).unwrap_or_default();
    match &case.subject {
        Subject::Child { parent, .. } => format!("{after}; its parent {} (pid {}) lives on", parent.comm, parent.pid),
        Subject::Main | Subject::Descendant { .. } => after,
    }
}

/// The counters of the case, read; `None` where there are none.
pub fn oom_facts(case: &Case, source: &str, limit_bytes: Option<u64>, peak_bytes: Option<u64>) -> Option<Oom> {
    let kills_before = case.oom_before.as_deref().and_then(oom::kills)?;
    let kills_after = case.oom_after.as_deref().and_then(oom::kills)?;
    Some(Oom { source: source.to_owned(), kills_before, kills_after, limit_bytes, peak_bytes })
}

/// How a run ended, for release health; `None` without a release that Sentry takes: it would refuse the session each time.
pub fn session(run: &Run, death: Option<Death>, ended_unix_ms: u64) -> Option<Session> {
    let (status, errors) = match death {
        Some(Death::Exited(0) | Death::Killed { signal: Signal::TERM, .. }) => (SessionStatus::Exited, 0),
        Some(Death::Exited(_)) => (SessionStatus::Exited, 1),
        // For memory, by an operator, after our own grace: none of it is the program's crash.
        Some(Death::Killed { signal: Signal::KILL, .. }) | None => (SessionStatus::Abnormal, 1),
        Some(Death::Killed { .. }) => (SessionStatus::Crashed, 1),
    };
    Some(Session {
        format: FORMAT,
        sid: run.id.to_string(),
        started_unix_ms: run.started_unix_ms,
        ended_unix_ms: ended_unix_ms.max(run.started_unix_ms),
        status,
        errors,
        release: names::release(run.release.as_deref()?)?.to_owned(),
        environment: run.environment.as_deref().and_then(names::environment).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests;
