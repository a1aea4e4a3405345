//! From a case to a report: the words of each kind of death, and that no secret comes along.

use super::*;
use crate::case::{Id, Tail, Zombie};
use crate::sys::signal::Signal;

#[test]
fn a_release_that_was_not_given_is_that_of_the_build() {
    let built = || BuildFacts {
        module: Some("example.com/shop".to_owned()),
        module_version: Some("v1.2.3".to_owned()),
        ..BuildFacts::default()
    };
    let mut case = case(Reason::Code, Some(Death::Exited(2)));
    let mut told = |release: Option<&str>| {
        case.run.release = release.map(str::to_owned);
        let learnt = Learnt { built: Some(built()), ..Learnt::default() };
        build(&case, learnt, &[], &mut Scrubber::new([])).run.release
    };
    assert_eq!(told(None).as_deref(), Some("shop@1.2.3"));
    assert_eq!(told(Some("mine@2")).as_deref(), Some("mine@2"));
}

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
        told_code: death.map(Death::exit_status),
        uptime_ms: Some(3_200),
        spawn_error: None,
        usage: None,
        zombie: Zombie::default(),
        oom_before: None,
        oom_after: None,
        stop: None,
        last_directory: None,
        stderr_tail: None,
        gaps: vec!["stderr tail: switched off".to_owned()],
    }
}

/// What the examiner reads of this text, said before this death.
fn with_words(text: &str, death: Death) -> Report {
    let mut case = case(Reason::Code, Some(death));
    let tail = Tail { bytes: text.as_bytes().to_vec(), total_bytes: text.len() as u64 };
    let said = crate::evidence::panic::read(&tail, death);
    case.stderr_tail = Some(tail);
    build(&case, Learnt { said, ..Learnt::default() }, &[], &mut Scrubber::new([("DB_PASSWORD", "s3cr3t-value")]))
}

#[test]
fn an_exception_is_in_the_report_masked_and_makes_its_fingerprint() {
    let text =
        "Traceback (most recent call last):\n  File \"shop.py\", line 7, in load\n    x\nValueError: no s3cr3t-value\n";
    let report = with_words(text, Death::Exited(1));
    let exception = report.exceptions.last().unwrap();
    assert_eq!((exception.kind.as_str(), exception.value.as_str()), ("ValueError", "no [masked]"));
    assert_eq!(report.fingerprint, ["obit", "app", "code", "1", "ValueError", "shop.load"]);
    assert!(!serde_json::to_string(&report).unwrap().contains("s3cr3t"));
}

#[test]
fn a_report_without_an_exception_says_why_where_one_was_printed() {
    let text = "\nthread 'main' (7) panicked at src/main.rs:2:5:\nboom\n";
    let report = with_words(text, Death::Exited(3));
    assert_eq!(report.exceptions, []);
    let why = "panic (Rust) on stderr does not go with a process that ended with 3";
    assert!(report.gaps.contains(&Gap { what: "exception".to_owned(), why: why.to_owned() }), "{:?}", report.gaps);
    assert_eq!(report.fingerprint, ["obit", "app", "code", "3"]);
}

#[test]
fn a_signal_that_a_shell_tells_as_a_code_is_told_as_such() {
    let summary = |code, tells_signals| {
        let learnt = Learnt { tells_signals, ..Learnt::default() };
        build(&case(Reason::Code, Some(Death::Exited(code))), learnt, &[], &mut Scrubber::new([])).summary
    };
    assert_eq!(
        summary(139, true),
        "ended with exit code 139, as a shell tells a child's SIGSEGV (segmentation fault), 3.2 s after the start"
    );
    assert_eq!(summary(139, false), "ended with exit code 139, 3.2 s after the start");
    assert_eq!(summary(128, true), "ended with exit code 128, 3.2 s after the start");
    assert_eq!(summary(255, true), "ended with exit code 255, 3.2 s after the start");
}

fn killed(signal: Signal, core: bool) -> Option<Death> {
    Some(Death::Killed { signal, core })
}

fn told(case: &Case) -> Report {
    build(case, Learnt::default(), &[], &mut Scrubber::new([]))
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
            "killed; whether for memory is not known, 3.2 s after the start",
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
            "the last run left no word of its end: obit was killed, alone or with its container or node",
            Level::Error,
            None,
        ),
    ];
    for (reason, death, kind, summary, level, code) in table {
        let report = told(&case(reason, death));
        assert_eq!(
            (report.kind.as_str(), report.summary.as_str(), report.level, report.exit.code),
            (kind, summary, level, code)
        );
    }
}

#[test]
fn a_signal_whose_stacks_nobody_saw_says_why() {
    let killed = |signal| Some(Death::Killed { signal, core: false });
    let with = |subject, death, gap: &str| {
        let case = Case { subject, gaps: vec![gap.to_owned()], ..case(Reason::Signal, death) };
        let report = build(&case, Learnt::default(), &[], &mut Scrubber::new([]));
        report.gaps.into_iter().find(|gap| gap.what == "stacks").map(|gap| gap.why)
    };
    let descendant = || Subject::Descendant { comm: "worker".to_owned() };
    let table = [
        (Subject::Main, killed(Signal::TERM), "SIGTERM ends"),
        (Subject::Main, killed(Signal::KILL), "no moment"),
        (Subject::Main, killed(Signal::SEGV), "see it stop"),
        (descendant(), killed(Signal::SEGV), "nobody traced the process"),
    ];
    for (subject, death, words) in table {
        let why = with(subject, death, "oom counter: none").unwrap_or_default();
        assert!(why.contains(words), "{death:?}: {why}");
    }
    assert_eq!(with(Subject::Main, killed(Signal::SEGV), "live capture: switched off"), None);
    assert_eq!(with(Subject::Main, Some(Death::Exited(3)), "oom counter: none"), None);
}

#[test]
fn nothing_secret_is_in_a_report_and_gaps_are_named() {
    let mut case = case(Reason::Code, Some(Death::Exited(1)));
    case.stderr_tail = Some(Tail { bytes: b"ret-half\nlogin s3cr3t-value\n".to_vec(), total_bytes: 99 });
    let environment = [("API_KEY".to_owned(), "s3cr3t-value".to_owned())];
    let pairs = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut scrubber = Scrubber::new(pairs);
    let report = build(&case, Learnt::default(), &environment, &mut scrubber);
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains("s3cr3t") && !text.contains("abc") && !text.contains("ret-half"), "{text}");
    assert_eq!(report.stderr_tail.unwrap().text, "login [masked]\n");
    assert_eq!(report.gaps, [Gap { what: "stderr tail".to_owned(), why: "switched off".to_owned() }]);
    assert_eq!(report.fingerprint, ["obit", "app", "code", "1"]);
}

#[test]
fn a_report_reads_back_from_its_json() {
    let report = minimal(&case(Reason::Signal, killed(Signal::ABRT, false)), &mut Scrubber::new([]));
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
    let named = |release: &str, environment: &str| {
        let run = Run { release: Some(release.to_owned()), environment: Some(environment.to_owned()), ..run.clone() };
        session(&run, None, 9).map(|session| (session.release, session.environment))
    };
    assert_eq!(named(" app@1 ", "prod"), Some(("app@1".to_owned(), Some("prod".to_owned()))));
    assert_eq!(named("app@1", "eu/prod"), Some(("app@1".to_owned(), None)));
    assert_eq!(named("feature/x", "prod"), None);
    assert_eq!(session(&Run { release: None, ..run }, None, 9), None);
}

#[test]
fn a_sigkill_is_for_memory_only_where_the_kernel_counted_one() {
    let counted = |before, after| {
        let oom = Oom { kills_before: before, kills_after: after, limit_bytes: Some(1 << 29), ..Oom::default() };
        Learnt { oom: Some(oom), ..Learnt::default() }
    };
    let summary = |reason, death, learnt| build(&case(reason, death), learnt, &[], &mut Scrubber::new([])).summary;
    let kill = killed(Signal::KILL, false);
    assert_eq!(
        summary(Reason::Oom, kill, counted(0, 1)),
        "killed by the kernel at the memory limit of 512.0 MiB, 3.2 s after the start"
    );
    assert_eq!(
        summary(Reason::Signal, kill, counted(1, 1)),
        "killed by somebody, the kernel counted no OOM kill, 3.2 s after the start"
    );
    assert_eq!(
        summary(Reason::Code, Some(Death::Exited(137)), counted(1, 2)),
        "ended with exit code 137, 3.2 s after the start; the kernel killed for memory during the run"
    );
}

#[test]
fn the_minimum_says_that_it_is_one_and_has_nothing_that_the_program_wrote() {
    let mut case = case(Reason::Code, Some(Death::Exited(1)));
    case.stderr_tail = Some(Tail { bytes: b"words".to_vec(), total_bytes: 5 });
    let report = minimal(&case, &mut Scrubber::new([]));
    assert!(!report.complete);
    assert_eq!(report.stderr_tail, None);
    assert_eq!(report.process.argv, ["app", "--token=[masked]"]);
    assert_eq!(report.gaps.last().map(|gap| gap.what.as_str()), Some("everything else"));
}

#[test]
fn a_tail_of_any_bytes_fits_into_an_entry() {
    for byte in [0, b'"', b'x', 0xff, b'\n'] {
        let mut case = case(Reason::Code, Some(Death::Exited(1)));
        let bytes = vec![byte; limits::STDERR_TAIL_MAX_BYTES];
        case.stderr_tail = Some(Tail { total_bytes: bytes.len() as u64, bytes });
        let json = serde_json::to_vec(&told(&case)).unwrap();
        assert!((json.len() as u64) < limits::ENTRY_BYTES, "{byte}: {}", json.len());
        let short = serde_json::to_vec(&shortened(told(&case))).unwrap();
        assert!(short.len() < 8 * 1024, "{byte}: {}", short.len());
    }
}

#[test]
fn a_pod_is_told_by_the_downward_api_or_by_its_host_name() {
    let env = |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let shown = |list: &[(&str, &str)]| {
        let found = kubernetes(&env(list), "web-0");
        found.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(shown(&[("HOME", "/")]), [""; 0]);
    assert_eq!(shown(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]), ["pod_name=web-0"]);
    assert_eq!(shown(&[("POD_NAME", "web-1"), ("POD_NAMESPACE", "shop")]), ["pod_name=web-1", "pod_namespace=shop"]);
}
