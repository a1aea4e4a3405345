//! `obit doctor`: what this environment allows, and what would happen at a crash.

#![forbid(unsafe_code)]

use super::output;
use crate::config::Loaded;
use crate::config::value::mask_dsn;
use crate::consent::{self, Channel};
use crate::deliver::dsn::Dsn;
use crate::deliver::proxy::{self, Environment};
use crate::evidence::core_limit::{self, Raise};
use crate::evidence::{core_file, oom};
use crate::init::trace::{self, decision};
use crate::limits;
use crate::report::{names, text};
use crate::spool::place::{self, Lasting};
use crate::sys::{memory, process};
use std::io::Write as _;

/// How a finding is to be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Note,
    Bad,
}

struct Finding {
    mark: Mark,
    what: &'static str,
    says: String,
}

/// Prints the findings. An error, once they are printed, says how many of them are problems.
pub fn carry_out(loaded: &Loaded, json: bool) -> Result<(), String> {
    let findings = findings(loaded);
    print(&findings, json);
    match findings.iter().filter(|finding| finding.mark == Mark::Bad).count() {
        0 => Ok(()),
        1 => Err("1 problem was found".to_owned()),
        n => Err(format!("{n} problems were found")),
    }
}

fn print(findings: &[Finding], json: bool) {
    let mut out = output::stdout();
    if json {
        let rows: Vec<_> = findings
            .iter()
            .map(|finding| {
                let mark = match finding.mark {
                    Mark::Good => "ok",
                    Mark::Note => "note",
                    Mark::Bad => "problem",
                };
                serde_json::json!({"check": finding.what, "state": mark, "says": finding.says})
            })
            .collect();
        let _ = writeln!(out, "{}", serde_json::Value::Array(rows));
        return;
    }
    for finding in findings {
        let mark = match finding.mark {
            Mark::Good => "✓",
            Mark::Note => "!",
            Mark::Bad => "✗",
        };
        let _ = writeln!(out, "{mark} {:<16} {}", finding.what, finding.says);
    }
}

/// One line: `direct`, `proxy URL` or `error TEXT`.
pub fn proxy_for(url: &str) -> String {
    let environment = Environment::from(|name| std::env::var_os(name));
    proxy::decide(&environment, url).map_or_else(|error| format!("error {error}"), |route| route.to_string())
}

fn findings(loaded: &Loaded) -> Vec<Finding> {
    let settings = &loaded.settings;
    let mut list = Vec::new();
    let mut add = |mark, what, says: String| list.push(Finding { mark, what, says });
    for warning in &loaded.warnings {
        add(Mark::Bad, "configuration", warning.clone());
    }
    match process::own_pid() {
        1 => add(Mark::Good, "place", "PID 1: orphans come to us".to_owned()),
        pid => add(Mark::Good, "place", format!("pid {pid}, not PID 1: obit run makes itself a subreaper")),
    }
    let place = place::foresee(settings);
    for refused in &place.refused {
        add(Mark::Bad, "state directory", refused.clone());
    }
    for passed in &place.passed_over {
        add(Mark::Note, "state directory", format!("not {passed}"));
    }
    if let Some(dir) = &place.dir {
        let (mark, lasts) = match place::lasting(dir) {
            Lasting::Volume => (Mark::Good, "on a mount of its own, which outlives the container"),
            Lasting::Disk => (Mark::Good, "on the machine's disk"),
            Lasting::ContainerLayer => {
                (Mark::Note, "in the container's layer: gone with the container, so mount a volume there")
            }
            Lasting::No => {
                (Mark::Note, "in memory: gone with the container, so mount a volume and name it with --state-dir")
            }
        };
        let made = if dir.exists() { "" } else { " (to be made)" };
        add(mark, "state directory", format!("{}{made}, {lasts}", dir.display()));
        let room = place::room(dir).filter(|room| *room < limits::ENTRY_BYTES);
        if let Some(room) = room {
            let says = format!("only {} free there: reports may have to go to another place", text::size(room));
            add(Mark::Note, "state directory", says);
        }
    }
    let consent = consent::current(settings, place.dir.as_deref());
    for warning in &consent.warnings {
        add(Mark::Bad, "consent", warning.clone());
    }
    match (&settings.dsn, consent.grant(Channel::Errors)) {
        (None, _) => {
            add(Mark::Note, "destination", "no DSN: reports stay here; set SENTRY_DSN to receive them".to_owned())
        }
        (Some(dsn), Err(by)) => add(Mark::Note, "destination", format!("{}, but switched off by {by}", mask_dsn(dsn))),
        (Some(dsn), Ok(_)) => match Dsn::parse(dsn) {
            Ok(parsed) => {
                add(Mark::Good, "destination", mask_dsn(dsn));
                add(Mark::Good, "way", proxy_for(parsed.envelope_url().as_str()));
            }
            Err(sentence) => add(Mark::Bad, "destination", format!("{sentence}; nothing can be sent")),
        },
    }
    if let Some(name) = settings.release.as_deref().filter(|name| names::release(name).is_none()) {
        let says = format!("{name:?} is no release to Sentry: events go without it, and there are no sessions");
        add(Mark::Bad, "release", says);
    }
    if let Some(name) = settings.environment.as_deref().filter(|name| names::environment(name).is_none()) {
        add(Mark::Bad, "environment", format!("{name:?} is no environment to Sentry: events go without it"));
    }
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    match core_file::pattern() {
        None => add(Mark::Note, "core_pattern", "cannot be read here".to_owned()),
        Some(pattern) => add(Mark::Good, "core_pattern", pattern.in_words()),
    }
    if let Ok((soft, hard)) = process::core_limits() {
        let shown = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
        let says = format!("soft {}, hard {}", shown(soft), shown(hard));
        let raise = if settings.raise_core_limit { core_limit::here() } else { Raise::Needless };
        match (raise, soft) {
            (Raise::To(limit), _) => add(
                Mark::Good,
                "RLIMIT_CORE",
                format!("{says}: the program gets {} (--raise-core-limit)", shown(limit)),
            ),
            (Raise::Refused(why), _) => {
                add(Mark::Bad, "RLIMIT_CORE", format!("{says}: it stays as it is for all of --raise-core-limit, {why}"))
            }
            (Raise::Needless, 0) => {
                add(Mark::Note, "RLIMIT_CORE", format!("{says}: obit leaves it alone, so no core file is written"))
            }
            (Raise::Needless, _) => add(Mark::Good, "RLIMIT_CORE", format!("{says}: obit leaves it alone")),
        }
    }
    let scope = read("/proc/sys/kernel/yama/ptrace_scope").filter(|scope| !matches!(scope.as_str(), "0" | "1"));
    let circumstances = trace::circumstances(settings.capture, None, false);
    match (decision::may_trace(settings.capture, circumstances), scope) {
        (Err(why), _) => add(Mark::Note, "ptrace", format!("no stacks without a core: {why}")),
        (Ok(()), Some(scope)) => {
            add(Mark::Note, "ptrace", format!("yama ptrace_scope is {scope}: a parent may not trace its child"))
        }
        (Ok(()), None) => {
            add(Mark::Good, "ptrace", "a crash has the stacks of all threads, with or without a core".to_owned());
            match decision::may_follow(settings.capture, circumstances) {
                Err(why) => add(Mark::Note, "forks", format!("of what the program forks a crash has no stack: {why}")),
                Ok(()) if memory::stay_resident().is_err() => add(
                    Mark::Note,
                    "forks",
                    format!("of what the program forks a crash has no stack: {}", trace::UNLOCKED),
                ),
                Ok(()) => add(Mark::Good, "forks", "followed: a worker's crash is told with its stacks".to_owned()),
            }
        }
    }
    match oom::counter() {
        Some(counter) => {
            add(Mark::Good, "OOM kills", format!("counted in {}/{}", counter.dir, counter.version.counter_file()))
        }
        None => {
            add(Mark::Note, "OOM kills", "no counter is visible: a SIGKILL cannot be told from an OOM kill".to_owned())
        }
    }
    match &settings.termination_log {
        Some(path) if path.exists() => add(Mark::Good, "termination log", path.display().to_string()),
        Some(path) => {
            add(Mark::Good, "termination log", format!("{} is not there, so nothing is written", path.display()))
        }
        None => add(Mark::Good, "termination log", "switched off".to_owned()),
    }
    list
}
