//! The errors are real ones: each server here does what its clause tells.

#![forbid(unsafe_code)]

use super::super::go_url::GoUrl;
use super::super::transport::assemble;
use super::*;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Long enough for whatever happens at once.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

/// A server of one connection.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, std::thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// A port where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What somebody learns who asks for the URL, with or without a proxy.
fn clause(url: &str, proxy: Option<&str>, whole: Duration, trusted: Option<&CertifiedIssuer<'_, KeyPair>>) -> String {
    let route = proxy.map_or(Route::Direct, |proxy| Route::Proxy(GoUrl::parse(proxy).unwrap()));
    let mut roots = rustls::RootCertStore::empty();
    trusted.into_iter().for_each(|issuer| roots.add(issuer.der().clone()).unwrap());
    let way = Way { url: Url::parse(url).unwrap(), route, connect: LONG, whole };
    let client = assemble(&way, roots).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async { client.post(url).body("x".repeat(100)).send().await }).unwrap_err();
    let clause = way.clause(&error.without_url());
    assert!(!clause.contains("error") && !clause.contains("sesame") && clause.len() < 160, "{clause}");
    clause
}

/// Reads a request's head.
fn read_head(stream: &mut impl std::io::Read) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
}

#[test]
fn a_port_that_nobody_listens_on_refuses() {
    let address = nobody();
    assert_eq!(
        clause(&format!("http://{address}/"), None, LONG, None),
        format!("no connection to {address} (connection refused)")
    );
}

#[test]
fn a_name_that_is_none_cannot_be_resolved() {
    let clause = clause("https://sentry.invalid/", None, LONG, None);
    assert!(clause.starts_with("the name of sentry.invalid cannot be resolved ("), "{clause}");
}

#[test]
fn who_says_nothing_did_not_answer_in_time() {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (address, serving) = server(move |stream| {
        let _ = wait.recv();
        drop(stream);
    });
    assert_eq!(
        clause(&format!("http://{address}/"), None, SHORT, None),
        format!("{address} did not answer within 100 ms")
    );
    drop(done);
    serving.join().unwrap();
}

#[test]
fn who_resets_or_closes_the_connection_did_not_answer() {
    // What has not been read when a socket is closed makes the kernel reset the connection.
    let (address, serving) = server(|stream| {
        stream.peek(&mut [0]).unwrap();
        drop(stream);
    });
    let reset = clause(&format!("http://{address}/"), None, LONG, None);
    assert_eq!(reset, format!("{address} broke off before it answered (connection reset by peer)"));
    serving.join().unwrap();
    let (address, serving) = server(|mut stream| {
        read_head(&mut stream);
        stream.read_exact(&mut [0; 100]).unwrap();
    });
    assert_eq!(
        clause(&format!("http://{address}/"), None, LONG, None),
        format!("{address} closed the connection before it answered")
    );
    serving.join().unwrap();
}

/// A server with a certificate for that name.
fn tls_server(issuer: &CertifiedIssuer<'_, KeyPair>, name: &str) -> (SocketAddr, JoinHandle<()>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    server(move |mut stream| {
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        while tls.complete_io(&mut stream).is_ok() && tls.is_handshaking() {}
    })
}

#[test]
fn a_certificate_that_is_not_accepted_is_told_with_its_fault() {
    let issuer = authority();
    let (address, serving) = tls_server(&issuer, "other.test");
    let wrong = clause(&format!("https://{address}/"), None, LONG, Some(&issuer));
    assert_eq!(wrong, format!("no TLS with {address}: its certificate is for other.test, not for 127.0.0.1"));
    serving.join().unwrap();
    let (address, serving) = tls_server(&issuer, "127.0.0.1");
    let unknown = clause(&format!("https://{address}/"), None, LONG, Some(&authority()));
    assert!(unknown.starts_with(&format!("no TLS with {address}: its certificate is signed by nobody")), "{unknown}");
    serving.join().unwrap();
    let (address, serving) = server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 1024]);
    });
    let plain = clause(&format!("https://{address}/"), None, LONG, None);
    assert_eq!(plain, format!("no TLS with {address}: it does not speak TLS on that port"));
    serving.join().unwrap();
    // One that takes the first message and says nothing to it.
    let (address, serving) = server(|mut stream| {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        stream.read_exact(&mut hello).unwrap();
    });
    let silent = clause(&format!("https://{address}/"), None, LONG, None);
    assert_eq!(silent, format!("no TLS with {address}: it closed the connection before TLS was agreed on"));
    serving.join().unwrap();
}

#[test]
fn what_a_proxy_does_is_told_of_the_proxy() {
    let answering = |answer: &'static str| {
        server(move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
        })
    };
    let table = [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
            "wants a name and a password (407)",
        ),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "does not let us through to sentry.test:443"),
        ("", "closed the connection before it led to sentry.test:443"),
    ];
    for (answer, told) in table {
        let (address, serving) = answering(answer);
        let proxy = format!("http://user:sesame@{address}");
        let clause = clause("https://sentry.test/", Some(&proxy), LONG, None);
        assert!(clause.starts_with("the proxy http://") && clause.ends_with(told), "{clause}");
        serving.join().unwrap();
    }
    for url in ["https://sentry.test/", "http://sentry.test/"] {
        let address = nobody();
        let clause = clause(url, Some(&format!("http://{address}")), LONG, None);
        assert_eq!(clause, format!("no connection to the proxy http://{address} (connection refused)"));
    }
    let clause = clause("http://sentry.test/", Some("http://proxy.invalid:3128"), LONG, None);
    assert!(clause.starts_with("the name of the proxy http://proxy.invalid cannot be resolved ("), "{clause}");
    let address = nobody();
    let clause = self::clause("http://sentry.test/", Some(&format!("socks5h://{address}")), LONG, None);
    assert!(
        clause.starts_with(&format!("the proxy socks5h://{address} ")) || clause.contains("connection refused"),
        "{clause}"
    );
}
