//! Delivery through a proxy: the way that Go programs would take, and never around it.

use crate::bed::{Bed, Setup, trial};
use crate::delivery::states;
use crate::proxy::Proxy;
use crate::server::{Mood, Server};
use crate::tls::Authority;
use libtest_mimic::Trial;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("an http destination is asked for at the proxy by its whole URL", &[], plain),
        trial("an https destination is reached by CONNECT, and its certificate is its own", &[], connect),
        trial("a proxy does not make a wrong certificate right", &[], connect_to_an_impostor),
        trial("a proxy's password is sent to it and shown nowhere", &[], password),
        trial("a proxy that wants credentials keeps the report here", &[], wants_credentials),
        trial("a proxy that wants credentials for CONNECT keeps the report here", &[], connect_wants_credentials),
        trial("a proxy that is not there keeps the report here", &[], dead),
        trial("what NO_PROXY lists is reached directly", &[], no_proxy),
        trial("a proxy variable of a CGI program is refused with a sentence", &[], cgi),
        trial("a name that nobody knows keeps the report here", &[], no_name),
    ]
}

/// A name that exists nowhere, in the DSN of the server.
fn elsewhere(server: &Server) -> String {
    server.dsn.replace(&server.address.to_string(), "sentry.invalid")
}

fn crash(bed: &Bed, wait: &str, dsn: &str) -> Setup {
    bed.run(&["--report-wait", wait], ["sh", "-c", "exit 9"]).env("OBIT_DSN", dsn)
}

fn arrived(bed: &Bed, server: &Server) {
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn plain(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let proxy = Proxy::new(server.address, None);
    let dsn = elsewhere(&server);
    crash(bed, "30s", &dsn).env("http_proxy", proxy.address.to_string()).end().code(9);
    assert_eq!(proxy.asked(), ["POST http://sentry.invalid/api/7/envelope/ HTTP/1.1"]);
    arrived(bed, &server);
}

fn connect(bed: &Bed) {
    let authority = Authority::new("CA");
    let server = Server::with_tls(Mood::Status(200), authority.server("sentry.invalid"));
    let proxy = Proxy::new(server.address, None);
    let run = crash(bed, "30s", &elsewhere(&server)).env("HTTPS_PROXY", format!("http://{}", proxy.address));
    run.env("SSL_CERT_FILE", authority.file(bed, "ca.pem")).env("HTTP_PROXY", "http://127.0.0.1:1").end().code(9);
    assert_eq!(proxy.asked(), ["CONNECT sentry.invalid:443 HTTP/1.1"]);
    arrived(bed, &server);
}

fn connect_to_an_impostor(bed: &Bed) {
    let authority = Authority::new("CA");
    let server = Server::with_tls(Mood::Status(200), authority.server("impostor.invalid"));
    let proxy = Proxy::new(server.address, None);
    let run = crash(bed, "2s", &elsewhere(&server)).env("HTTPS_PROXY", proxy.address.to_string());
    run.env("SSL_CERT_FILE", authority.file(bed, "ca.pem"))
        .end()
        .code(9)
        .complains("its certificate is for impostor.invalid, not for sentry.invalid");
    assert_eq!((server.requests(), states(bed)), (0, vec!["pending".to_owned()]));
}

/// `user:s%40same` in base64.
const CREDENTIALS: &str = "Basic dXNlcjpzQHNhbWU=";

fn password(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let proxy = Proxy::new(server.address, Some(CREDENTIALS));
    let value = format!("http://user:s%40same@{}", proxy.address);
    let dsn = elsewhere(&server);
    let ended = crash(bed, "30s", &dsn).env("HTTP_PROXY", &value).end();
    ended.code(9);
    arrived(bed, &server);
    // The program's environment is in the report, which is on the disk and at the server.
    let mut said = vec![ended.stderr(), server.reports()[0].to_string()];
    for words in
        [&["crashes", "show"][..], &["crashes", "show", "--json"], &["doctor"], &["config", "show"], &["flush"]]
    {
        let ended = bed.obit(words).env("OBIT_DSN", &dsn).env("HTTP_PROXY", &value).end();
        said.extend([ended.stdout(), ended.stderr()]);
    }
    let route = bed.obit(["doctor", "--proxy-for", "http://sentry.invalid/"]).env("HTTP_PROXY", &value).end();
    assert_eq!(route.stdout(), format!("proxy http://user:xxxxx@{}\n", proxy.address));
    for text in said {
        assert!(!text.contains("same"), "{text}");
    }
}

fn wants_credentials(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let proxy = Proxy::new(server.address, Some(CREDENTIALS));
    let value = format!("http://user:wrong@{}", proxy.address);
    let ended = crash(bed, "2s", &elsewhere(&server)).env("HTTP_PROXY", value).end();
    ended.code(9).complains("the proxy wants other credentials (407)");
    assert!(!ended.stderr().contains("wrong"), "{}", ended.stderr());
    assert_eq!((server.connections(), states(bed)), (0, vec!["pending".to_owned()]));
    bed.obit(["flush"]).env("OBIT_DSN", &server.dsn).end().code(0);
    arrived(bed, &server);
}

fn connect_wants_credentials(bed: &Bed) {
    let authority = Authority::new("CA");
    let server = Server::with_tls(Mood::Status(200), authority.server("sentry.invalid"));
    let proxy = Proxy::new(server.address, Some(CREDENTIALS));
    let value = format!("http://user:wrong@{}", proxy.address);
    let ended = crash(bed, "2s", &elsewhere(&server)).env("HTTPS_PROXY", value).end();
    ended.code(9).complains("@").complains("wants a name and a password (407)");
    assert!(!ended.stderr().contains("wrong"), "{}", ended.stderr());
    assert_eq!((server.connections(), states(bed)), (0, vec!["pending".to_owned()]));
    let right = format!("http://user:s%40same@{}", proxy.address);
    let flush = bed.obit(["flush"]).env("OBIT_DSN", elsewhere(&server)).env("HTTPS_PROXY", right);
    flush.env("SSL_CERT_FILE", authority.file(bed, "ca.pem")).end().code(0);
    arrived(bed, &server);
}

fn dead(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let dsn = elsewhere(&server);
    let ended = crash(bed, "2s", &dsn).env("HTTP_PROXY", "http://127.0.0.1:1").end();
    ended.code(9).complains("no connection to the proxy http://127.0.0.1:1 (connection refused)");
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!(states(bed), ["pending"]);
    let proxy = Proxy::new(server.address, None);
    let next = bed.run(&["--report-wait", "30s"], ["true"]).env("OBIT_DSN", dsn);
    next.env("HTTP_PROXY", proxy.address.to_string()).end().code(0);
    arrived(bed, &server);
}

fn no_proxy(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let run = crash(bed, "30s", &server.dsn).env("HTTP_PROXY", "http://proxy.invalid:3128");
    // Loopback is never proxied, listed or not.
    run.end().code(9);
    arrived(bed, &server);
    let listed = bed.obit(["doctor", "--proxy-for", "https://o1.sentry.invalid/api/7/envelope/"]);
    let listed = listed.env("HTTPS_PROXY", "http://proxy.invalid").env("NO_PROXY", ".sentry.invalid").end();
    assert_eq!(listed.stdout(), "direct\n");
}

fn cgi(bed: &Bed) {
    let run = crash(bed, "2s", "http://key@sentry.invalid/7").env("HTTP_PROXY", "127.0.0.1:1");
    run.env("REQUEST_METHOD", "GET").end().code(9).complains("refusing to use HTTP_PROXY value in CGI environment");
    assert_eq!(states(bed), ["pending"]);
}

fn no_name(bed: &Bed) {
    let ended = crash(bed, "2s", "http://key@sentry.invalid/7").end();
    ended.code(9).complains("the name of sentry.invalid cannot be resolved (");
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!(states(bed), ["pending"]);
}
