//! A server that takes envelopes and answers as it is told: what no well-behaved server would show. What it takes has to be
//! right to the byte.

use flate2::read::GzDecoder;
use serde_json::Value;
use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is done with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Answered with this status.
    Status(u16),
    /// With this status and this header line.
    Says(u16, &'static str),
    /// 413 for what is larger than this, uncompressed.
    NoLargerThan(usize),
    /// 500 for what holds this text.
    ChokesOn(&'static str),
    /// The connection is closed in the middle of the body.
    Reset,
    /// Taken, and the connection closed without an answer.
    TakeAndReset,
    /// Never read.
    Hang,
    /// Read, and the answer stops within its head.
    HangInHead,
    /// Taken, and the answer stops within its body.
    HangInBody,
    /// Read, and the answer comes byte by byte, too slowly for anybody.
    Drip,
}

/// Between two bytes of a drip.
const DRIP: Duration = Duration::from_millis(500);

/// What came in one request.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Header and payload of each item.
    pub items: Vec<(Value, Vec<u8>)>,
    /// The whole of it, unzipped.
    pub text: Vec<u8>,
}

impl Envelope {
    pub fn item(&self, kind: &str) -> Option<&[u8]> {
        self.items.iter().find(|(header, _)| header["type"] == kind).map(|(_, payload)| &**payload)
    }

    /// The content of an attachment of that name.
    pub fn attachment(&self, filename: &str) -> Option<&[u8]> {
        self.items.iter().find(|(header, _)| header["filename"] == filename).map(|(_, payload)| &**payload)
    }

    pub fn json(&self, kind: &str) -> Option<Value> {
        self.item(kind).map(|payload| serde_json::from_slice(payload).expect("JSON"))
    }
}

/// Fields of JSON in an envelope: what stands before their values, and what ends them.
pub const SENT_AT: (&str, u8) = ("\"sent_at\":\"", b'"');
pub const EVENT_ID: (&str, u8) = ("\"event_id\":\"", b'"');
pub const TIMESTAMP: (&str, u8) = ("\"timestamp\":", b',');
pub const LENGTH: (&str, u8) = ("\"length\":", b'}');

/// The text of an envelope without the values of these fields; each is there.
pub fn without(text: &[u8], fields: &[(&str, u8)]) -> Vec<u8> {
    let mut text = text.to_vec();
    for (before, end) in fields {
        let mut rest = 0;
        while let Some(at) = text[rest..].windows(before.len()).position(|window| window == before.as_bytes()) {
            let begin = rest + at + before.len();
            let length = text[begin..].iter().position(|byte| byte == end).expect("its end");
            text.drain(begin..begin + length);
            rest = begin;
        }
        assert!(rest > 0, "no {before} in {}", String::from_utf8_lossy(&text));
    }
    text
}

/// Listens on a port of its own for as long as the trial runs.
pub struct Server {
    pub dsn: String,
    pub address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: usize,
    taken: Vec<Envelope>,
    mistakes: Vec<String>,
}

impl Server {
    pub fn new(mood: Mood) -> Server {
        Server::at(Ipv4Addr::LOCALHOST.into(), mood, None)
    }

    /// The same behind TLS.
    pub fn with_tls(mood: Mood, tls: Arc<rustls::ServerConfig>) -> Server {
        Server::at(Ipv4Addr::LOCALHOST.into(), mood, Some(tls))
    }

    /// At another address of this machine.
    pub fn at(ip: IpAddr, mood: Mood, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let listener = TcpListener::bind((ip, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let dsn = format!("{scheme}://0123456789abcdef@{address}/7");
        let server = Server { dsn, address, mood: Arc::new(Mutex::new(mood)), seen: Arc::default() };
        let (mood, seen) = (server.mood.clone(), server.seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                seen.lock().unwrap().connections += 1;
                let (mood, seen, tls) = (*mood.lock().unwrap(), seen.clone(), tls.clone());
                std::thread::spawn(move || connection(stream, tls, mood, &seen));
            }
        });
        server
    }

    pub fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// What was taken, in order.
    pub fn taken(&self) -> Vec<Envelope> {
        let seen = self.seen.lock().unwrap();
        assert_eq!(seen.mistakes, [""; 0]);
        seen.taken.clone()
    }

    /// The events among it, without the repeats that a server folds into one.
    pub fn reports(&self) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        for event in self.taken().iter().filter_map(|envelope| envelope.json("event")) {
            if !events.iter().any(|known| known["event_id"] == event["event_id"]) {
                events.push(event);
            }
        }
        events
    }

    /// Their ids.
    pub fn events(&self) -> Vec<String> {
        self.reports().iter().map(|event| event["event_id"].as_str().expect("an id").to_owned()).collect()
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Those that were read in full.
    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().requests
    }
}

fn connection(stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>, mood: Mood, seen: &Mutex<Seen>) {
    if mood == Mood::Hang {
        return wait_for_the_end(stream);
    }
    match tls {
        None => serve(stream, mood, seen),
        Some(config) => {
            let Ok(session) = rustls::ServerConnection::new(config) else { return };
            serve(rustls::StreamOwned::new(session, stream), mood, seen);
        }
    }
}

/// Open until the other side has had enough.
fn wait_for_the_end(mut stream: impl Read) {
    let _ = io::copy(&mut stream, &mut io::sink());
}

/// One request.
fn serve(stream: impl Read + Write, mood: Mood, seen: &Mutex<Seen>) {
    let mut stream = BufReader::new(stream);
    let Some(head) = read_head(&mut stream) else { return };
    if mood == Mood::Reset {
        return;
    }
    let length = field(&head, "content-length").and_then(|value| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    let envelope = parse(&head, &body);
    let text = envelope.as_ref().map(|envelope| envelope.text.clone()).unwrap_or_default();
    let holds = |what: &str| text.windows(what.len()).any(|window| window == what.as_bytes());
    let (code, line) = match mood {
        Mood::Status(code) => (code, "x-nothing: 1"),
        Mood::Says(code, line) => (code, line),
        Mood::NoLargerThan(limit) => (if text.len() > limit { 413 } else { 200 }, "x-nothing: 1"),
        Mood::ChokesOn(text) => (if holds(text) { 500 } else { 200 }, "x-nothing: 1"),
        _ => (200, "x-nothing: 1"),
    };
    let is_taken = (200..300).contains(&code) && !matches!(mood, Mood::HangInHead | Mood::Drip);
    {
        let mut seen = seen.lock().unwrap();
        seen.requests += 1;
        match envelope {
            Ok(envelope) if is_taken => seen.taken.push(envelope),
            Ok(_) => {}
            Err(mistake) => seen.mistakes.push(mistake),
        }
    }
    let answer = format!("HTTP/1.1 {code} x\r\n{line}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
    let stop = match mood {
        Mood::TakeAndReset => return,
        Mood::HangInHead => 20,
        Mood::HangInBody => answer.len() - 1,
        _ => answer.len(),
    };
    let out = stream.get_mut();
    if mood == Mood::Drip {
        for byte in answer.bytes() {
            if out.write_all(&[byte]).and_then(|()| out.flush()).is_err() {
                return;
            }
            std::thread::sleep(DRIP);
        }
    }
    let _ = out.write_all(&answer.as_bytes()[..stop]).and_then(|()| out.flush());
    if stop < answer.len() {
        wait_for_the_end(stream);
    }
}

/// Request line and header lines; `None` if the connection ends before their end.
pub fn read_head(stream: &mut impl io::BufRead) -> Option<Vec<String>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
        match line.trim_end() {
            "" => return Some(head),
            line => head.push(line.to_owned()),
        }
    }
}

/// The value of a header line; `name` in lower case.
pub fn field<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let lines = head.iter().filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

/// The envelope and its text, or what is wrong with it.
fn parse(head: &[String], body: &[u8]) -> Result<Envelope, String> {
    let expected = [
        ("content-type", "application/x-sentry-envelope"),
        ("content-encoding", "gzip"),
        ("user-agent", concat!("obit/", env!("CARGO_PKG_VERSION"))),
    ];
    for (name, value) in expected {
        if field(head, name) != Some(value) {
            return Err(format!("{name} is {:?}", field(head, name)));
        }
    }
    let auth = field(head, "x-sentry-auth").unwrap_or_default();
    if !(auth.starts_with("Sentry ")
        && auth.contains("sentry_version=7")
        && auth.contains("sentry_key=0123456789abcdef"))
    {
        return Err(format!("x-sentry-auth is {auth:?}"));
    }
    if !head[0].starts_with("POST ") || !head[0].contains("/api/7/envelope/ HTTP/1.1") {
        return Err(head[0].clone());
    }
    let mut text = Vec::new();
    GzDecoder::new(body).read_to_end(&mut text).map_err(|error| format!("the body is no gzip: {error}"))?;
    let mut rest = &text[..];
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or("a header without an end")?;
    let header: Value = serde_json::from_slice(&rest[..end]).map_err(|error| format!("no JSON: {error}"))?;
    rest = &rest[end + 1..];
    let mut items = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or("an item's header without an end")?;
        let item: Value = serde_json::from_slice(&rest[..end]).map_err(|error| format!("no JSON: {error}"))?;
        let length = item["length"].as_u64().ok_or("an item without a length")? as usize;
        let payload = rest.get(end + 1..end + 1 + length).ok_or("an item shorter than it says")?;
        if rest.get(end + 1 + length) != Some(&b'\n') {
            return Err("an item that does not end where it says".to_owned());
        }
        items.push((item, payload.to_vec()));
        rest = &rest[end + 2 + length..];
    }
    if header["sent_at"].as_str().is_none_or(|at| at.len() != 24) || items.is_empty() {
        return Err(format!("the envelope begins {header}"));
    }
    Ok(Envelope { items, text })
}
