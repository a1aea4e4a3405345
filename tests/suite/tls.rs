//! Delivery over TLS: only to a server that proves who it is, by roots that the operator may name.

use crate::bed::{Bed, trial, trial_with};
use crate::delivery::states;
use crate::server::{Mood, Server};
use libtest_mimic::Trial;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub fn trials() -> Vec<Trial> {
    let distrusted = [
        ("of another host", "other.test", Validity::Now, "CA", "its certificate is for other.test, not for 127.0.0.1"),
        (
            "of an unknown authority",
            "127.0.0.1",
            Validity::Now,
            "another CA",
            "its certificate is signed by nobody that is trusted here (see SSL_CERT_FILE)",
        ),
        ("that is expired", "127.0.0.1", Validity::Past, "CA", "its certificate has expired"),
        (
            "that is not valid yet",
            "127.0.0.1",
            Validity::Future,
            "CA",
            "its certificate is not valid yet (is the clock right?)",
        ),
    ];
    let distrusted = distrusted.into_iter().map(|(name, host, validity, issuer, why)| {
        let name = format!("a server with a certificate {name} gets nothing, and nothing is lost");
        trial_with(&name, &[], move |bed| distrusts(bed, host, validity, issuer, why))
    });
    distrusted
        .chain([
            trial("a server that SSL_CERT_FILE vouches for gets the report", &[], by_file),
            trial("a server that SSL_CERT_DIR vouches for gets the report", &[], by_directory),
            trial("SSL_CERT_FILE without a certificate trusts nobody and says so", &[], no_roots),
            trial("a server that does not speak TLS gets nothing", &[], plain),
            trial("a server that hangs in the handshake holds nobody up", &[], hangs),
        ])
        .collect()
}

/// When a certificate is good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Validity {
    Past,
    Now,
    Future,
}

/// An authority of the trial's own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("a root") }
    }

    /// Its certificate, as a file that can be named in SSL_CERT_FILE.
    pub fn file(&self, bed: &Bed, name: &str) -> PathBuf {
        let path = bed.path(name);
        std::fs::write(&path, self.issuer.pem()).expect("a file");
        path
    }

    /// What a server of this name needs.
    pub fn server(&self, host: &str) -> Arc<rustls::ServerConfig> {
        self.server_in(host, Validity::Now)
    }

    fn server_in(&self, host: &str, validity: Validity) -> Arc<rustls::ServerConfig> {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        let (from, to) = match validity {
            Validity::Past => (2001, 2002),
            Validity::Now => (2001, 2200),
            Validity::Future => (2199, 2200),
        };
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        Arc::new(config.expect("a configuration"))
    }
}

const CRASH: [&str; 3] = ["sh", "-c", "exit 9"];

fn distrusts(bed: &Bed, host: &str, validity: Validity, issuer: &str, why: &str) {
    let known = Authority::new("CA");
    let issuer = if issuer == "CA" { &known } else { &Authority::new(issuer) };
    let server = Server::with_tls(Mood::Status(200), issuer.server_in(host, validity));
    let run = bed.run(&["--report-wait", "2s"], CRASH).env("OBIT_DSN", &server.dsn);
    let ended = run.env("SSL_CERT_FILE", known.file(bed, "ca.pem")).end();
    ended.code(9).complains(why);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!((server.requests(), states(bed)), (0, vec!["pending".to_owned()]));
    let right = Server::with_tls(Mood::Status(200), known.server("127.0.0.1"));
    let flush = bed.obit(["flush"]).env("OBIT_DSN", &right.dsn).env("SSL_CERT_FILE", known.file(bed, "ca.pem"));
    flush.end().code(0);
    assert_eq!((right.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn by_file(bed: &Bed) {
    let authority = Authority::new("CA");
    let server = Server::with_tls(Mood::Status(200), authority.server("127.0.0.1"));
    let run = bed.run(&["--report-wait", "30s"], CRASH).env("OBIT_DSN", &server.dsn);
    run.env("SSL_CERT_FILE", authority.file(bed, "ca.pem")).end().code(9).complains("exited with code 9");
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn by_directory(bed: &Bed) {
    let authority = Authority::new("CA");
    let server = Server::with_tls(Mood::Status(200), authority.server("127.0.0.1"));
    let run = bed.run(&["--report-wait", "30s"], CRASH).env("OBIT_DSN", &server.dsn);
    std::fs::create_dir(bed.path("certs")).expect("a directory");
    // By its hash, as c_rehash(1) does it.
    authority.file(bed, "certs/0a0b0c0d.0");
    run.env("SSL_CERT_DIR", bed.path("certs")).end().code(9);
    assert_eq!((server.events().len(), states(bed)), (1, vec!["sent".to_owned()]));
}

fn no_roots(bed: &Bed) {
    let server = Server::with_tls(Mood::Status(200), Authority::new("CA").server("127.0.0.1"));
    let run = bed.run(&["--report-wait", "5s"], CRASH).env("OBIT_DSN", &server.dsn);
    let ended = run.env("SSL_CERT_FILE", bed.path("missing.pem")).end();
    ended.code(9).complains("SSL_CERT_FILE names no certificate that can be read");
    assert_eq!((server.connections(), states(bed)), (0, vec!["pending".to_owned()]));
    let plain = Server::new(Mood::Status(200));
    let flush = bed.obit(["flush"]).env("OBIT_DSN", &plain.dsn).env("SSL_CERT_FILE", bed.path("missing.pem"));
    flush.end().code(0);
    assert_eq!(plain.events().len(), 1, "without TLS nobody has to be trusted");
}

fn plain(bed: &Bed) {
    let server = Server::new(Mood::Status(200));
    let dsn = server.dsn.replace("http:", "https:");
    let ended = bed.run(&["--report-wait", "5s"], CRASH).env("OBIT_DSN", dsn).end();
    // Whether its answer or the end of the connection is seen first is the network's affair; each has its words in `cause`.
    ended.code(9).complains(&format!("no TLS with {}: it ", server.address));
    assert_eq!((server.requests(), states(bed)), (0, vec!["pending".to_owned()]));
}

fn hangs(bed: &Bed) {
    let server = Server::with_tls(Mood::Hang, Authority::new("CA").server("127.0.0.1"));
    let ended = bed.run(&["--report-wait", "1s"], CRASH).env("OBIT_DSN", &server.dsn).end();
    ended.code(9);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!(states(bed), ["pending"]);
}
