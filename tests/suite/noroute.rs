//! Delivery from a network without a route out: the proxy is the only way, and NO_PROXY decides who is not sent that way.

use crate::bed::{Bed, Setup, trial, trial_with};
use crate::daily;
use crate::delivery::states;
use crate::need::Need;
use crate::network;
use crate::panel;
use crate::proxy::Proxy;
use crate::server::{Mood, Server};
use crate::tls::Authority;
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc;

/// The destination's host, what NO_PROXY says (PORT is the destination's), and whether the request goes by the proxy.
type Row = (&'static str, &'static str, bool);

const TABLE: [Row; 29] = [
    ("sentry.example", "", true),
    ("sentry.example", "sentry.example", false),
    ("sentry.example", "SENTRY.Example", false),
    ("sentry.example", "example", false),
    ("sentry.example", ".example", false),
    ("sentry.example", "*.example", false),
    ("sentry.example", ".sentry.example", true),
    ("sentry.example", "entry.example", true),
    ("sentry.example", "other.example", true),
    ("sentry.example", " other.example , sentry.example ", false),
    ("sentry.example", "sentry.example:PORT", false),
    ("sentry.example", "sentry.example:1", true),
    ("sentry.example", "example:PORT", false),
    ("sentry.example", "*", false),
    ("sentry.example", "other.example,*", false),
    // A name is not looked up for it.
    ("sentry.example", "10.7.0.0/24", true),
    ("sentry.example", "10.7.0.1", true),
    ("10.7.0.1", "", true),
    ("10.7.0.1", "10.7.0.1", false),
    ("10.7.0.1", "10.7.0.2", true),
    ("10.7.0.1", "10.7.0.0/24", false),
    ("10.7.0.1", "10.8.0.0/16", true),
    ("10.7.0.1", "10.7.0.1:PORT", false),
    ("10.7.0.1", "10.7.0.1:1", true),
    ("10.7.0.1", "*", false),
    ("[fd07::1]", "fd07::/16", false),
    // Loopback needs no list; a name that only leads there does.
    ("localhost", "", false),
    ("127.9.9.9", "", false),
    ("loop.example", "127.0.0.0/8", true),
];

pub fn trials() -> Vec<Trial> {
    let rows = TABLE.into_iter().map(|row| {
        let (host, list, by_proxy) = row;
        let way = if by_proxy { "go by the proxy" } else { "go directly" };
        let name = format!("with NO_PROXY={list:?} crash and daily report to {host} {way}, by http and https");
        trial_with(&name, network::NEEDS, move |bed| network::inside(|| goes(bed, &["http", "https"], row)))
    });
    let others = [
        trial("crash and daily report to an IPv6 address go by the proxy, by http", network::NEEDS, |bed| {
            network::inside(|| goes(bed, &["http"], ("[fd07::1]", "", true)));
        }),
        trial("https to an IPv6 address by a proxy is refused with what to do, and nothing is lost", &[], ipv6),
        trial(
            "crash and daily report arrive where a CONNECT proxy is the only way, its password nowhere",
            ONLY,
            |bed| {
                only_way(bed, "https");
            },
        ),
        trial(
            "crash and daily report by http arrive where a proxy is the only way, its password nowhere",
            ONLY,
            |bed| {
                only_way(bed, "http");
            },
        ),
    ];
    rows.chain(others).collect()
}

const ONLY: &[Need] = network::NEEDS;

fn goes(bed: &Bed, schemes: &[&str], (host, list, by_proxy): Row) {
    network::replace(bed, "/etc/hosts", "127.0.0.1 localhost loop.example\n::1 localhost\n10.7.0.1 sentry.example\n");
    let authority = Authority::new("CA");
    let roots = authority.file(bed, "ca.pem");
    for scheme in schemes {
        let tls = (*scheme == "https").then(|| authority.server(host.trim_matches(['[', ']'])));
        // At every address there is.
        let server = Server::at(Ipv6Addr::UNSPECIFIED.into(), Mood::Status(200), tls);
        let port = server.address.port();
        let proxy = Proxy::new(SocketAddr::from(([127, 0, 0, 1], port)), None);
        let at_server = |setup: Setup| {
            setup
                .env("OBIT_DSN", format!("{scheme}://0123456789abcdef@{host}:{port}/7"))
                .env("HTTP_PROXY", proxy.address.to_string())
                .env("HTTPS_PROXY", format!("http://{}", proxy.address))
                .env("NO_PROXY", list.replace("PORT", &port.to_string()))
                .env("SSL_CERT_FILE", &roots)
        };
        at_server(bed.run(&["--report-wait", "30s"], ["sh", "-c", "exit 9"])).end().code(9);
        at_server(bed.obit(["heartbeat", "--now"])).end().code(0);
        let kinds: Vec<_> = server.reports().iter().map(|event| event["tags"]["report"].clone()).collect();
        assert_eq!(kinds, [serde_json::Value::Null, "daily".into()], "{scheme}: a crash and a daily report");
        let asked = match (by_proxy, *scheme) {
            (false, _) => vec![],
            (true, "https") => vec![format!("CONNECT {host}:{port} HTTP/1.1"); proxy.asked().len().max(1)],
            (true, _) => {
                vec![format!("POST http://{host}:{port}/api/7/envelope/ HTTP/1.1"); proxy.asked().len().max(1)]
            }
        };
        assert_eq!(proxy.asked(), asked, "{scheme}");
        // By the proxy all of it or nothing.
        assert!(!by_proxy || proxy.asked().len() == server.connections(), "{scheme}: {:?}", proxy.asked());
    }
}

fn ipv6(bed: &Bed) {
    let server = Server::at(Ipv6Addr::LOCALHOST.into(), Mood::Status(200), None);
    let proxy = Proxy::new(server.address, None);
    let run = bed.run(&["--report-wait", "5s"], ["sh", "-c", "exit 9"]);
    let run = run.env("OBIT_DSN", "https://0123456789abcdef@[2001:db8::1]/7");
    let ended = run.env("HTTPS_PROXY", proxy.address.to_string()).end();
    ended.code(9).complains("give the server a name, or list the address in NO_PROXY");
    assert_eq!((proxy.asked(), states(bed)), (vec![], vec!["pending".to_owned()]));
    bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).end().code(0);
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

/// `user:sesame/open`, as it is given, and what a program could make of it.
const GIVEN: &str = "user:sesame%2Fopen";
const CREDENTIALS: &str = "Basic dXNlcjpzZXNhbWUvb3Blbg==";
const SECRETS: [&str; 2] = ["sesame", "dXNlcjpzZXNhbWUvb3Blbg"];
const DOOR: &str = "127.0.0.1:3128";

fn only_way(bed: &Bed, scheme: &str) {
    let authority = Authority::new("CA");
    let server = match scheme {
        "https" => Server::with_tls(Mood::Status(200), authority.server("sentry.invalid")),
        _ => Server::new(Mood::Status(200)),
    };
    let (door, handed) = mpsc::channel();
    let proxy = Proxy::behind(DOOR.parse().expect("an address"), handed, server.address, Some(CREDENTIALS));
    let at_server = |setup: Setup| {
        let value = format!("http://{GIVEN}@{DOOR}");
        let setup = setup.env("HTTP_PROXY", &value).env("HTTPS_PROXY", &value).env("NO_PROXY", "10.0.0.0/8,.example");
        setup
            .env("OBIT_DSN", format!("{scheme}://0123456789abcdef@sentry.invalid/7"))
            .env("SSL_CERT_FILE", authority.file(bed, "ca.pem"))
    };
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    network::inside(|| {
        door.send(TcpListener::bind(DOOR).expect("a port of our own")).expect("it waits");
        daily::due(bed);
        // The daily report of a running init, then the death of its program.
        let options = ["--log", "debug", "--report-wait", "30s", "--api", "127.0.0.1:0"];
        let run = at_server(bed.run(&options, ["sleep", "1000"]));
        let run = run.env("USERNAME", "storageos").env("PASSWORD", "storageos").start();
        run.until("the daily report", || (server.events().len() == 1).then_some(()));
        let address = panel::address(&run);
        for path in ["/", "/metrics", "/v1/telemetry", "/v1/components", "/v1/upgrade"] {
            let answer = panel::get(&address, path);
            assert_eq!(answer.status, 200, "{path}");
            said.push((path.to_owned(), answer.body.into_bytes()));
        }
        kill(Pid::from_raw(run.child()), Signal::SIGSEGV).expect("it lives");
        let ended = run.end();
        ended.code(139);
        said.push(("stderr of the run".to_owned(), ended.stderr));
        for words in [
            &["status"][..],
            &["status", "--json"],
            &["doctor"],
            &["doctor", "--json"],
            &["doctor", "--proxy-for", "http://sentry.invalid/"],
            &["config", "show"],
            &["crashes", "list"],
            &["crashes", "show"],
            &["crashes", "show", "--json"],
            &["heartbeat", "--json"],
            &["telemetry", "status", "--json"],
            &["telemetry", "show"],
            &["telemetry", "log"],
            &["telemetry", "log", "--json"],
            &["flush", "--log", "debug"],
        ] {
            let ended = at_server(bed.obit(words)).end();
            assert!(!ended.stderr().contains("usage"), "{words:?}: {}", ended.stderr());
            said.push((format!("{words:?}"), [ended.stdout, ended.stderr].concat()));
        }
    });
    let reports = server.reports();
    let kinds: Vec<_> = reports.iter().map(|event| (&event["tags"]["report"], &event["tags"]["exit.signal"])).collect();
    assert_eq!(kinds, [(&"daily".into(), &serde_json::Value::Null), (&serde_json::Value::Null, &"SIGSEGV".into())]);
    assert!(!proxy.asked().is_empty());
    let words = ["CONNECT sentry.invalid:443 HTTP/1.1", "POST http://sentry.invalid/api/7/envelope/ HTTP/1.1"];
    let expected = if scheme == "https" { words[0] } else { words[1] };
    assert!(proxy.asked().iter().all(|asked| asked == expected), "{:?}", proxy.asked());
    assert_eq!(proxy.asked().len(), server.connections());
    // The proxy itself is told where it is of use.
    let told = |part: &str| said.iter().any(|(_, text)| String::from_utf8_lossy(text).contains(part));
    assert!(told(&format!("http://user:xxxxx@{DOOR}")), "the way is in the log, without its password");
    for envelope in server.taken() {
        said.extend(envelope.items.into_iter().map(|(header, payload)| (format!("sent: {header}"), payload)));
    }
    files(&bed.state(), &mut said);
    assert!(said.iter().any(|(name, _)| name.ends_with("audit.log")), "the state directory was read");
    for (name, text) in &said {
        for secret in SECRETS {
            let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {name}: {}", String::from_utf8_lossy(text));
        }
    }
}

fn files(directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        match entry.path() {
            path if path.is_dir() => files(&path, found),
            path if path.is_file() => found.push((path.display().to_string(), std::fs::read(&path).expect("a file"))),
            _ => {}
        }
    }
}
