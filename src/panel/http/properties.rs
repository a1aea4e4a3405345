//! What holds of every connection, whoever is at its other end: no panic, and nothing but whole HTTP answers or a close.

#![forbid(unsafe_code)]

use super::super::door;
use super::*;
use crate::config::Settings;
use crate::consent::{Channel, stored};
use data_encoding::BASE64;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What is on its way in the pipe between the two ends: less than a body, so that each waits for the other.
const PIPE_BYTES: usize = 8 * 1024;
/// For what is over at once.
const SOON: Duration = Duration::from_secs(60);

/// Whether the client lets go of its writing end when it has written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Ends,
    Waits,
}

struct Place {
    dir: TempDir,
    desk: Rc<Desk>,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        api: Some("127.0.0.1:0".parse().unwrap()),
        api_username: Some("me".to_owned()),
        api_password: Some("sesame".to_owned()),
        ..Settings::default()
    };
    let (door, _) = door::open(&settings, Some(dir.path())).unwrap().unwrap();
    Place { desk: Rc::new(Desk::new(&settings, Some(dir.path()), &door)), dir }
}

/// Everything that the server says to these pieces, each written when the one before it is.
fn said(place: &Place, pieces: &[&[u8]], then: Then) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let everything = async {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (mut reader, mut writer) = tokio::io::split(ours);
        let served = async {
            // An error is a connection that was closed, which it may be.
            let _ = connection(theirs, "192.0.2.1".parse().unwrap(), Rc::clone(&place.desk)).await;
        };
        let written = async {
            for piece in pieces {
                // Nobody has to read what comes behind an answer that closes.
                if writer.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            if then == Then::Ends {
                let _ = writer.shutdown().await;
            }
            writer
        };
        let mut answer = Vec::new();
        let heard = async { reader.read_to_end(&mut answer).await.map(drop) };
        let ((), _writer, heard) = tokio::join!(served, written, heard);
        heard.unwrap();
        answer
    };
    runtime.block_on(async { timeout(SOON, everything).await.expect("it is over soon") })
}

struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// The answers one after another; a panic where they are none.
fn responses(mut bytes: &[u8]) -> Vec<Response> {
    let mut responses = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).expect("a head in ASCII");
        let mut lines = head.split("\r\n");
        let (version, rest) = lines.next().unwrap().split_once(' ').expect("a status line");
        assert!(matches!(version, "HTTP/1.1" | "HTTP/1.0"), "{head}");
        let status = rest.get(..3).and_then(|status| status.parse().ok()).expect("a status");
        let headers: Vec<_> = lines
            .map(|line| line.split_once(':').expect("a header"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Response { status, headers, body: Vec::new() };
        let length: usize = match response.header("content-length") {
            Some(length) => length.parse().expect("a length"),
            None => 0,
        };
        bytes = &bytes[end + 4..];
        response.body = bytes.get(..length).expect("all of the body").to_vec();
        bytes = &bytes[length..];
        if response.status != 100 {
            responses.push(response);
        }
    }
    responses
}

/// The same bytes in pieces.
fn cut<'a>(bytes: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let ends = places.iter().copied().chain([bytes.len()]);
    let begins = std::iter::once(0).chain(places.iter().copied());
    begins.zip(ends).map(|(from, to)| &bytes[from..to]).collect()
}

fn authorization(password: &str) -> String {
    format!("authorization: Basic {}\r\n", BASE64.encode(format!("me:{password}").as_bytes()))
}

/// A request with a body of the length that it says it has.
fn put(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "PUT /v1/telemetry HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{}\r\n",
        body.len(),
        authorization("sesame")
    );
    [head.as_bytes(), body].concat()
}

/// The one answer there is.
fn only(said: &[u8]) -> Response {
    let mut responses = responses(said);
    assert_eq!(responses.len(), 1, "{}", String::from_utf8_lossy(said));
    responses.remove(0)
}

fn switched(place: &Place) -> bool {
    let stored = stored::read(place.dir.path()).unwrap();
    Channel::ALL.into_iter().any(|channel| stored.choice(channel).is_some())
}

const WISH: &str = r#"{"telemetryEnabled": true, "reportErrors": false, "versionCheck": null}"#;

#[test]
fn a_body_that_ends_too_soon_changes_nothing() {
    let place = place();
    for length in 0..WISH.len() {
        let answer = only(&said(&place, &[&put(&WISH.as_bytes()[..length])], Then::Waits));
        assert_eq!(answer.status, 400, "{}", &WISH[..length]);
        // The length is that of the whole, and the rest never comes.
        let request = put(WISH.as_bytes());
        let end = request.len() - WISH.len() + length;
        let answers = responses(&said(&place, &[&request[..end]], Then::Ends));
        assert!(answers.iter().all(|answer| answer.status == 400), "{length}");
        assert!(!switched(&place), "{}", &WISH[..length]);
    }
    assert_eq!(only(&said(&place, &[&put(WISH.as_bytes())], Then::Waits)).status, 200);
    assert!(switched(&place));
}

#[test]
fn a_body_over_the_limit_is_refused_in_whatever_way_it_comes() {
    let place = place();
    let padded = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2)).into_bytes();
    for (bytes, status) in [(limits::API_BODY_BYTES, 200), (limits::API_BODY_BYTES + 1, 413), (1024 * 1024, 413)] {
        assert_eq!(only(&said(&place, &[&put(&padded(bytes))], Then::Waits)).status, status, "{bytes}");
        let mut chunked = format!(
            "PUT /v1/telemetry HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n{}\r\n",
            authorization("sesame")
        )
        .into_bytes();
        for chunk in padded(bytes).chunks(1000) {
            chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\n\r\n");
        assert_eq!(only(&said(&place, &[&chunked], Then::Waits)).status, status, "{bytes} in chunks");
    }
}

/// Bytes that are nearly a request.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let word = || {
        select(vec![
            "GET",
            "PUT",
            "HEAD",
            "POST",
            " ",
            "/",
            "/v1/telemetry",
            "/v1/crashes/",
            "%00",
            "HTTP/1.1",
            "HTTP/1.0",
            "HTTP/2",
            "\r\n",
            "\n",
            "\r\n\r\n",
            "host: localhost",
            "host:",
            "content-length: ",
            "content-length: 5",
            "-1",
            "18446744073709551616",
            "transfer-encoding: chunked",
            "connection: close",
            "connection: keep-alive",
            "expect: 100-continue",
            "upgrade: websocket",
            "authorization: Basic bWU6c2VzYW1l",
            "authorization: Basic",
            "content-type: application/json",
            "{}",
            "{\"reportErrors\":",
            "0\r\n\r\n",
            "5\r\nhello\r\n",
            "fffffffffffffffff\r\n",
            ":",
        ])
        .prop_map(|word| word.as_bytes().to_vec())
    };
    let piece = prop_oneof![8 => word(), 1 => vec(any::<u8>(), 0..20)];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Login {
    Right,
    Wrong,
    None,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_get_whole_answers_or_a_close(bytes in vec(any::<u8>(), 0..3000), places in vec(any::<Index>(), 0..8)) {
        for answer in responses(&said(&place(), &cut(&bytes, &places), Then::Ends)) {
            prop_assert!((400..500).contains(&answer.status), "{}", answer.status);
        }
    }

    /// A HEAD's answer has the length of a body that does not come; nothing follows it, for it closes.
    #[test]
    fn what_is_nearly_a_request_gets_whole_answers_or_a_close(bytes in nearly(), places in vec(any::<Index>(), 0..8)) {
        let said = said(&place(), &cut(&bytes, &places), Then::Ends);
        if !bytes.windows(4).any(|word| word == b"HEAD") {
            for answer in responses(&said) {
                prop_assert!((200..600).contains(&answer.status) && answer.status != 500, "{}", answer.status);
            }
        }
    }

    #[test]
    fn a_request_is_answered_alike_in_whatever_pieces_it_comes(
        method in select(vec!["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"]),
        path in prop_oneof![
            select(vec!["/", "/v1/health", "/v1/telemetry", "/v1/crashes", "/v1/crashes/00", "/metrics", "/panel.css", "/preview"])
                .prop_map(str::to_owned),
            "/[!-\"$->@-~]{0,40}",
        ],
        host in select(vec!["localhost", "127.0.0.1:5705", "evil.test"]),
        login in select(vec![Login::Right, Login::Wrong, Login::None]),
        body in prop_oneof![Just(WISH.as_bytes().to_vec()), Just(b"{}".to_vec()), "\\PC{0,60}".prop_map(String::into_bytes), vec(any::<u8>(), 0..60)],
        places in vec(any::<Index>(), 0..12),
    ) {
        let place = place();
        let login_line = match login {
            Login::Right => authorization("sesame"),
            Login::Wrong => authorization("guess"),
            Login::None => String::new(),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{login_line}\r\n",
            body.len()
        );
        let request = [head.as_bytes(), &body].concat();
        let answer = only(&said(&place, &cut(&request, &places), Then::Waits));
        let is_probe = path.split('?').next() == Some("/v1/health");
        let is_wish = serde_json::from_slice::<Value>(&body).is_ok_and(|value| {
            let known = ["telemetryEnabled", "reportErrors", "versionCheck"];
            value.as_object().is_some_and(|object| {
                object.iter().all(|(name, on)| known.contains(&&**name) && (on.is_boolean() || on.is_null()))
            })
        });
        let expected: &[u16] = match (host, login, method, &*path) {
            // What the library takes for no request at all.
            _ if answer.header("content-security-policy").is_none() => &[400],
            ("evil.test", ..) => &[421],
            (_, Login::Wrong | Login::None, ..) if !is_probe => &[401],
            (_, _, "PUT", "/v1/telemetry") if is_wish => &[200],
            (_, _, "PUT", "/v1/telemetry") => &[400],
            (_, _, "GET", _) => &[200, 404],
            _ => &[404, 405],
        };
        prop_assert!(expected.contains(&answer.status), "{} to {method} {path}", answer.status);
        let was_believed = answer.status == 200 && method == "PUT" && body == WISH.as_bytes();
        prop_assert_eq!(switched(&place), was_believed);
        if answer.status >= 400 && answer.header("content-type") == Some("application/json") {
            let message: Value = serde_json::from_slice(&answer.body).expect("JSON");
            prop_assert!(message["message"].is_string());
        }
    }
}
