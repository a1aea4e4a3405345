//! Each way of switching off, and each channel: what must be closed is not one packet, the others still work. One trial each.

use crate::bed::{Bed, Setup, binary, trial, trial_with};
use crate::daily;
use crate::nameserver::{Mood as Answers, NameServer};
use crate::need::Need;
use crate::network::{self, NEEDS, packets};
use crate::panel;
use crate::server::{Mood, Server};
use crate::upgrade;
use libtest_mimic::Trial;

/// Channels that a switch closes.
#[derive(Clone, Copy)]
struct Closes {
    errors: bool,
    daily: bool,
    dns: bool,
}

const ERRORS: Closes = Closes { errors: true, daily: false, dns: false };
const DAILY: Closes = Closes { errors: false, daily: true, dns: false };
const DNS: Closes = Closes { errors: false, daily: false, dns: true };
const TELEMETRY: Closes = Closes { errors: false, daily: true, dns: true };
const ALL: Closes = Closes { errors: true, daily: true, dns: true };
const NONE: Closes = Closes { errors: false, daily: false, dns: false };

/// How it is thrown.
#[derive(Clone, Copy)]
enum Switch {
    Nobody,
    Variable(&'static str, &'static str),
    /// Of `obit run`; commands know its twin, the variable.
    Flag(&'static str, &'static str),
    Choice(&'static [&'static str]),
    /// The body of the page's PUT.
    Api(&'static str),
    /// A field of the spec.
    Spec(&'static str),
}
use Switch::{Api, Choice, Flag, Nobody, Spec, Variable};

const SWITCHES: [(Switch, Closes); 30] = [
    (Nobody, NONE),
    (Variable("DISABLE_TELEMETRY", "true"), TELEMETRY),
    (Variable("DISABLE_ERROR_REPORTING", "true"), ERRORS),
    (Variable("DISABLE_CRASH_REPORTING", "1"), ERRORS),
    (Variable("DISABLE_VERSION_CHECK", "1"), DNS),
    (Variable("DO_NOT_TRACK", "1"), ALL),
    (Variable("OBIT_DO_NOT_TRACK", "1"), ALL),
    (Variable("OBIT_DISABLE_TELEMETRY", "yes"), TELEMETRY),
    (Variable("OBIT_DISABLE_ERROR_REPORTING", "on"), ERRORS),
    (Variable("OBIT_DISABLE_CRASH_REPORTING", "1"), ERRORS),
    (Variable("OBIT_DISABLE_VERSION_CHECK", "1"), DNS),
    // What cannot be read is taken for off.
    (Variable("DISABLE_TELEMETRY", "perhaps"), TELEMETRY),
    (Variable("DISABLE_ERROR_REPORTING", "perhaps"), ERRORS),
    (Variable("DISABLE_TELEMETRY", "false"), NONE),
    (Variable("DISABLE_ERROR_REPORTING", "0"), NONE),
    (Flag("--no-telemetry", "OBIT_NO_TELEMETRY"), TELEMETRY),
    (Flag("--no-error-reporting", "OBIT_NO_ERROR_REPORTING"), ERRORS),
    (Flag("--no-version-check", "OBIT_NO_VERSION_CHECK"), DNS),
    (Choice(&[]), ALL),
    (Choice(&["--channel", "errors"]), ERRORS),
    (Choice(&["--channel", "daily"]), DAILY),
    (Choice(&["--channel", "dns"]), DNS),
    (Api(r#"{"telemetryEnabled": false}"#), TELEMETRY),
    (Api(r#"{"reportErrors": false}"#), ERRORS),
    (Api(r#"{"telemetryEnabled": false, "reportErrors": false}"#), ALL),
    (Api(r#"{"versionCheck": false}"#), DNS),
    (Spec("disableTelemetry"), ALL),
    (Spec("disableErrorReporting"), ERRORS),
    (Spec("disableCrashReporting"), ERRORS),
    (Spec("disableVersionCheck"), DNS),
];

pub fn trials() -> Vec<Trial> {
    SWITCHES
        .into_iter()
        .map(|(switch, closes)| {
            let name = format!("{} {}", told(switch), tells(closes));
            trial_with(&name, NEEDS, move |bed| network::inside(|| thrown(bed, switch, closes)))
        })
        .chain([
            trial("with every channel off not one network socket is made", &[Need::Tool("strace")], no_socket),
            trial(
                "with every channel off not one packet leaves, be everything due and every host a name",
                NEEDS,
                |bed| {
                    network::inside(|| no_packet(bed));
                },
            ),
        ])
        .collect()
}

fn told(switch: Switch) -> String {
    match switch {
        Nobody => "with nothing switched off".to_owned(),
        Variable(name, value) => format!("{name}={value}"),
        Flag(flag, _) => format!("the option {flag}"),
        Choice(words) => ["the command telemetry disable", &words.join(" ")].join(" ").trim_end().to_owned(),
        Api(body) => format!("the API's PUT of {body}"),
        Spec(field) => format!("the cluster spec's {field}"),
    }
}

fn tells(closes: Closes) -> String {
    let names = [(closes.errors, "crash reports"), (closes.daily, "the daily report"), (closes.dns, "the DNS query")];
    let closed: Vec<&str> = names.iter().filter(|(is_closed, _)| *is_closed).map(|(_, name)| *name).collect();
    match closed.as_slice() {
        [] => "leaves everything on".to_owned(),
        closed => format!("is not one packet for {}", closed.join(" and ")),
    }
}

fn thrown(bed: &Bed, switch: Switch, closes: Closes) {
    match switch {
        Choice(words) => {
            bed.obit(["telemetry", "disable"]).args(words).end().code(0);
        }
        Api(body) => panel::switched(bed, body),
        Spec(field) => std::fs::write(bed.path("spec.yaml"), format!("spec:\n  {field}: true\n")).unwrap(),
        Nobody | Variable(..) | Flag(..) => {}
    }
    let with = |setup: Setup| match switch {
        Variable(name, value) => setup.env(name, value),
        Flag(_, twin) => setup.env(twin, "true"),
        Spec(_) => setup.env("OBIT_CLUSTER_SPEC", bed.path("spec.yaml")),
        Nobody | Choice(_) | Api(_) => setup,
    };
    // What may not be sent is not waited for.
    let wait = if closes.errors { "1s" } else { "30s" };
    let crashes = Server::new(Mood::Status(200));
    let before = packets();
    let die = ["sh", "-c", "exit 9"];
    let run = match switch {
        Flag(flag, _) => bed.run(&["--report-wait", wait, flag], die),
        _ => with(bed.run(&["--report-wait", wait], die)),
    };
    run.env("OBIT_DSN", &crashes.dsn).end().code(9);
    assert_eq!((crashes.connections() == 0, packets() == before), (closes.errors, closes.errors), "crash reports");

    let days = Server::new(Mood::Status(200));
    let before = packets();
    let told = with(bed.obit(["heartbeat", "--now"])).env("OBIT_DSN", &days.dsn).end();
    assert_eq!(told.fate == crate::bed::Fate::Exited(0), !closes.daily, "{}", told.stderr());
    let none = (days.connections() == 0, packets() == before);
    assert_eq!(none, (closes.daily, closes.daily), "the daily report: {}", told.stderr());

    let names = NameServer::new(Answers::says(&upgrade::record(bed, "1.6.0", "available")));
    let asks = with(upgrade::asks(bed, &names));
    let before = packets();
    asks.end();
    assert_eq!((names.asked().is_empty(), packets() == before), (closes.dns, closes.dns), "the DNS query");
}

/// Each switch that closes everything, after the control.
const ALL_OFF: [(&str, Switch); 6] = [
    ("nobody", Nobody),
    ("variable", Variable("DO_NOT_TRACK", "1")),
    ("twin", Variable("OBIT_DO_NOT_TRACK", "1")),
    ("choice", Choice(&[])),
    ("api", Api(r#"{"telemetryEnabled": false, "reportErrors": false}"#)),
    ("spec", Spec("disableTelemetry")),
];

/// A program that lives long enough for the first look, with a daily report and a question that are due, and that crashes; then
/// every command that could send. Names are looked up where nobody answers, so that even the look-up would be seen.
fn no_packet(bed: &Bed) {
    network::replace(bed, "/etc/resolv.conf", "nameserver 10.7.0.1\noptions timeout:1 attempts:1\n");
    for (name, switch) in ALL_OFF {
        let state = bed.path(name);
        daily::due_in(&state);
        upgrade::due_in(&state);
        let with = |setup: Setup| {
            let setup = setup
                .env("OBIT_STATE_DIR", &state)
                .env("OBIT_DSN", "http://0123456789abcdef@sentry.example/7")
                .env("OBIT_DNS_ZONE", "updates.example.test")
                .env("OBIT_PRODUCT_VERSION", "1.5.3");
            match switch {
                Variable(name, value) => setup.env(name, value),
                Spec(_) => setup.env("OBIT_CLUSTER_SPEC", bed.path("spec.yaml")),
                _ => setup,
            }
        };
        match switch {
            Choice(words) => drop(with(bed.obit(["telemetry", "disable"])).args(words).end()),
            Api(body) => panel::switched_in(bed, &state, body),
            Spec(field) => std::fs::write(bed.path("spec.yaml"), format!("spec:\n  {field}: true\n")).unwrap(),
            _ => {}
        }
        let before = packets();
        with(bed.run(&["--report-wait", "1s"], ["sh", "-c", "sleep 3; kill -SEGV $$"])).end().code(139);
        let by_the_run = packets() - before;
        for words in [&["flush"][..], &["heartbeat", "--now"], &["upgrade", "check"], &["telemetry", "show"]] {
            with(bed.obit(words)).end();
        }
        let all = packets() - before;
        match switch {
            Nobody => assert!(by_the_run > 0 && all > by_the_run, "what is on is seen: {by_the_run} of {all}"),
            _ => assert_eq!((by_the_run, all), (0, 0), "{name}"),
        }
    }
}

/// What strace sees of all that obit does about a death, a day and a question: sockets of the internet families.
fn sockets(bed: &Bed, off: bool) -> usize {
    let words: [&[&str]; 5] = [
        &["run", "--report-wait", "2s", "--", "sh", "-c", "exit 9"],
        &["run", "--report-wait", "2s", "--", "sh", "-c", "kill -SEGV $$"],
        &["flush"],
        &["heartbeat", "--now"],
        &["upgrade", "check"],
    ];
    let mut seen = 0;
    for (i, words) in words.iter().enumerate() {
        let log = bed.path(format!("calls-{off}-{i}"));
        let setup = bed
            .command("strace")
            .args(["-f", "-qq", "-e", "trace=socket", "-o"])
            .args([log.as_os_str(), binary().as_os_str()])
            .args(*words)
            .env("OBIT_DSN", "http://key@sentry.invalid/7")
            .env("OBIT_DNS_ZONE", "updates.invalid")
            .env("OBIT_DNS_RESOLVER", "127.0.0.1:9")
            .env("OBIT_PRODUCT_VERSION", "1.5.3");
        let setup = if off { setup.env("DO_NOT_TRACK", "1") } else { setup };
        setup.end();
        let calls = std::fs::read_to_string(log).expect("what strace saw");
        seen += calls.lines().filter(|call| call.contains("AF_INET")).count();
    }
    seen
}

fn no_socket(bed: &Bed) {
    assert!(sockets(bed, false) > 0, "there is something to be seen");
    assert_eq!(sockets(bed, true), 0);
}
