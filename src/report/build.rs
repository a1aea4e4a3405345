//! From a case and what was learnt about it to the report: pure, so that each kind of death is a row in a test.

#![forbid(unsafe_code)]

use super::scrub::Scrubber;
use super::{
    Exit, FORMAT, Gap, Host, Level, Oom, Process, Report, RunFacts, Session, SessionStatus, StderrTail, StopFacts,
    UsageFacts, group,
};
use crate::case::{Case, Reason, Run, Subject};
use crate::death::Death;
use crate::evidence::oom;
use std::collections::BTreeMap;

/// What was learnt besides the case.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    pub host: Host,
    pub build_id: Option<String>,
    pub oom: Option<Oom>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub ns_pids: Vec<i32>,
    pub cgroup: Option<String>,
    pub gaps: Vec<Gap>,
}

/// The minimum: what the case alone says. Made durable before anything is parsed.
pub fn minimal(case: &Case) -> Report {
    Report { complete: false, ..build(case, Learnt::default(), &[], 0) }
}

/// The whole report; `environment` is the program's.
pub fn build(case: &Case, learnt: Learnt, environment: &[(String, String)], suppressed: u64) -> Report {
    let variables = || environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut scrubber = Scrubber::new(variables());
    let argv: Vec<String> = case.run.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let argv = scrubber.argv(&argv);
    let env = scrubber.environment(variables());
    let spawn_error = case.spawn_error.as_deref().map(|sentence| scrubber.text(sentence));
    let before_tail = scrubber.masked;
    let stderr_tail = case.stderr_tail.as_ref().map(|tail| {
        let text = String::from_utf8_lossy(whole_lines(&tail.bytes, tail.total_bytes));
        let text = scrubber.text(&text);
        let kept_bytes = tail.bytes.len() as u64;
        StderrTail { text, total_bytes: tail.total_bytes, kept_bytes, masked: scrubber.masked - before_tail }
    });
    let mut gaps = learnt.gaps;
    gaps.extend(case.gaps.iter().map(|gap| {
        let (what, why) = gap.split_once(": ").unwrap_or((gap, ""));
        Gap { what: what.to_owned(), why: why.to_owned() }
    }));
    let kubernetes: BTreeMap<String, String> = environment
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "POD_NAME" | "POD_NAMESPACE" | "POD_UID" | "NODE_NAME"))
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        .collect();
    let signal = case.death.and_then(Death::signal);
    let descendant = match &case.subject {
        Subject::Main => None,
        Subject::Descendant { comm } => Some(comm.as_str()),
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
            signal: signal.map(|signal| signal.name()),
            signal_number: signal.map(|signal| signal.number()),
            code: case.death.map(Death::exit_status),
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
            argv: if descendant.is_some() { Vec::new() } else { argv },
            exe: case.run.exe.as_ref().filter(|_| descendant.is_none()).map(|exe| exe.display().to_string()),
            build_id: learnt.build_id,
            cwd: case.run.cwd.as_ref().map(|cwd| cwd.display().to_string()),
            env,
            usage: case.usage.map(|usage| UsageFacts {
                user_us: usage.user_us,
                system_us: usage.system_us,
                max_rss_kib: usage.max_rss_kib,
                major_faults: usage.major_faults,
                minor_faults: usage.minor_faults,
            }),
            uid: learnt.uid,
            gid: learnt.gid,
            ns_pids: learnt.ns_pids,
            threads_at_death: None,
            cgroup: learnt.cgroup,
            spawn_error,
        },
        oom: learnt.oom,
        stop: case.stop.map(|stop| StopFacts {
            signal: stop.signal.name(),
            sender_pid: stop.sender_pid,
            sender_uid: stop.sender_uid,
            before_death_ms: case.at_unix_ms.saturating_sub(stop.at_unix_ms),
        }),
        stderr_tail,
        host: learnt.host,
        kubernetes,
        fingerprint: group::fingerprint(case),
        suppressed,
        gaps,
        obit_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Without the line whose beginning was lost: half a line may be half a secret.
fn whole_lines(bytes: &[u8], total: u64) -> &[u8] {
    if bytes.len() as u64 >= total {
        return bytes;
    }
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => &bytes[end + 1..],
        None => &[],
    }
}

fn level(case: &Case) -> Level {
    let killed_by_other =
        case.death.and_then(Death::signal).is_some_and(|signal| signal == crate::sys::signal::Signal::KILL);
    match case.reason {
        Reason::Oom => Level::Fatal,
        Reason::Signal if !killed_by_other && case.subject == Subject::Main => Level::Fatal,
        _ => Level::Error,
    }
}

fn kind(case: &Case) -> String {
    match (case.reason, case.death) {
        (Reason::Oom, _) => "OOM kill".to_owned(),
        (Reason::SpawnFailed, _) => "spawn failed".to_owned(),
        (Reason::StopTimeout, _) => "stop timeout".to_owned(),
        (Reason::Unclean, _) => "unclean end".to_owned(),
        (_, Some(Death::Killed { signal, .. })) => signal.name(),
        (_, Some(Death::Exited(code))) => format!("exit code {code}"),
        (_, None) => case.reason.as_str().to_owned(),
    }
}

fn summary(case: &Case, spawn_error: Option<&str>) -> String {
    let after = case.uptime_ms.map(|ms| format!(", {} after the start", super::text::duration(ms))).unwrap_or_default();
    let what = match (case.reason, case.death) {
        (Reason::SpawnFailed, _) => return spawn_error.unwrap_or("the program could not be started").to_owned(),
        (Reason::Unclean, _) => {
            return "the last run left no word of its end: the container or the node was killed".to_owned();
        }
        (Reason::Oom, _) => "killed by the kernel: the memory limit of its cgroup was reached".to_owned(),
        (Reason::StopTimeout, _) => "did not end within the grace of a stop and was killed".to_owned(),
        (_, Some(Death::Killed { signal, core })) => {
            format!("{}{}", signal.description(), if core { ", core dumped" } else { "" })
        }
        (_, Some(Death::Exited(code))) => format!("ended with exit code {code}"),
        (_, None) => "its end was not seen".to_owned(),
    };
    what + &after
}

/// The counters of the case, read; `None` where there are none.
pub fn oom_facts(case: &Case, source: &str, limit_bytes: Option<u64>, peak_bytes: Option<u64>) -> Option<Oom> {
    let kills_before = case.oom_before.as_deref().and_then(oom::kills)?;
    let kills_after = case.oom_after.as_deref().and_then(oom::kills)?;
    Some(Oom { source: source.to_owned(), kills_before, kills_after, limit_bytes, peak_bytes })
}

/// How a run ended, for release health; `None` without a release.
pub fn session(run: &Run, death: Option<Death>, ended_unix_ms: u64) -> Option<Session> {
    let status = match death {
        Some(Death::Exited(_)) => SessionStatus::Exited,
        Some(Death::Killed { signal, .. }) if signal == crate::sys::signal::Signal::KILL => SessionStatus::Abnormal,
        Some(Death::Killed { signal, .. }) if signal == crate::sys::signal::Signal::TERM => SessionStatus::Exited,
        Some(Death::Killed { .. }) => SessionStatus::Crashed,
        None => SessionStatus::Abnormal,
    };
    Some(Session {
        format: FORMAT,
        sid: run.id.to_string(),
        started_unix_ms: run.started_unix_ms,
        ended_unix_ms,
        status,
        errors: u32::from(death.is_none_or(|death| {
            death.exit_status() != 0 && status != SessionStatus::Exited || matches!(death, Death::Exited(1..))
        })),
        release: run.release.clone()?,
        environment: run.environment.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Id, Tail, Zombie};
    use crate::sys::signal::Signal;

    fn case(reason: Reason, death: Option<Death>) -> Case {
        Case {
            event_id: Id([7; 16]),
            reason,
            at_unix_ms: 10_000,
            run: Run {
                id: Id([1; 16]),
                component: "app".to_owned(),
                argv: vec!["app".into(), "--token=abc".into()],
                exe: Some("/bin/app".into()),
                cwd: None,
                started_unix_ms: 6_800,
                release: Some("app@1".to_owned()),
                environment: None,
            },
            subject: Subject::Main,
            pid: Some(7),
            death,
            uptime_ms: Some(3_200),
            spawn_error: None,
            usage: None,
            zombie: Zombie::default(),
            oom_before: None,
            oom_after: None,
            stop: None,
            stderr_tail: None,
            gaps: vec!["stderr tail: switched off".to_owned()],
        }
    }

    fn killed(signal: Signal, core: bool) -> Option<Death> {
        Some(Death::Killed { signal, core })
    }

    #[test]
    fn each_kind_of_death_has_its_words_and_its_level() {
        let table = [
            (
                Reason::Signal,
                killed(Signal::SEGV, true),
                "SIGSEGV",
                "segmentation fault, core dumped, 3.2 s after the start",
                Level::Fatal,
                Some(139),
            ),
            (
                Reason::Signal,
                killed(Signal::KILL, false),
                "SIGKILL",
                "killed, 3.2 s after the start",
                Level::Error,
                Some(137),
            ),
            (
                Reason::Code,
                Some(Death::Exited(3)),
                "exit code 3",
                "ended with exit code 3, 3.2 s after the start",
                Level::Error,
                Some(3),
            ),
            (
                Reason::Oom,
                killed(Signal::KILL, false),
                "OOM kill",
                "killed by the kernel: the memory limit of its cgroup was reached, 3.2 s after the start",
                Level::Fatal,
                Some(137),
            ),
            (
                Reason::StopTimeout,
                killed(Signal::KILL, false),
                "stop timeout",
                "did not end within the grace of a stop and was killed, 3.2 s after the start",
                Level::Error,
                Some(137),
            ),
            (
                Reason::Unclean,
                None,
                "unclean end",
                "the last run left no word of its end: the container or the node was killed",
                Level::Error,
                None,
            ),
        ];
        for (reason, death, kind, summary, level, code) in table {
            let report = build(&case(reason, death), Learnt::default(), &[], 0);
            assert_eq!(
                (report.kind.as_str(), report.summary.as_str(), report.level, report.exit.code),
                (kind, summary, level, code)
            );
        }
    }

    #[test]
    fn nothing_secret_is_in_a_report_and_gaps_are_named() {
        let mut case = case(Reason::Code, Some(Death::Exited(1)));
        case.stderr_tail = Some(Tail { bytes: b"ret-half\nlogin s3cr3t-value\n".to_vec(), total_bytes: 99 });
        let environment = [("API_KEY".to_owned(), "s3cr3t-value".to_owned())];
        let report = build(&case, Learnt::default(), &environment, 2);
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains("s3cr3t") && !text.contains("abc") && !text.contains("ret-half"), "{text}");
        assert_eq!(report.stderr_tail.unwrap().text, "login [masked]\n");
        assert_eq!(report.gaps, [Gap { what: "stderr tail".to_owned(), why: "switched off".to_owned() }]);
        assert_eq!(report.fingerprint, ["obit", "app", "code", "1"]);
        assert_eq!(report.suppressed, 2);
    }

    #[test]
    fn a_report_reads_back_from_its_json() {
        let report = minimal(&case(Reason::Signal, killed(Signal::ABRT, false)));
        assert!(!report.complete);
        let text = serde_json::to_vec(&report).unwrap();
        assert_eq!(serde_json::from_slice::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn a_session_says_how_the_run_ended() {
        let run = case(Reason::Code, None).run;
        let status = |death| session(&run, death, 9).map(|s| (s.status, s.errors));
        assert_eq!(status(Some(Death::Exited(0))), Some((SessionStatus::Exited, 0)));
        assert_eq!(status(Some(Death::Exited(2))), Some((SessionStatus::Exited, 1)));
        assert_eq!(status(killed(Signal::SEGV, false)), Some((SessionStatus::Crashed, 1)));
        assert_eq!(status(killed(Signal::KILL, false)), Some((SessionStatus::Abnormal, 1)));
        assert_eq!(status(killed(Signal::TERM, false)), Some((SessionStatus::Exited, 0)));
        assert_eq!(status(None), Some((SessionStatus::Abnormal, 1)));
        assert_eq!(session(&Run { release: None, ..run }, None, 9), None);
    }
}
