//! One HTTP request on a connection of its own, as it stands: nothing is added that a test did not ask for but a Host.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One request on a connection of its own. `head` is header lines.
pub fn ask(address: &str, method: &str, path: &str, head: &[&str], body: &str) -> Answer {
    let head: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    let host = if head.contains("host:") { String::new() } else { format!("host: {address}\r\n") };
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    raw(address, &format!("{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{length}{head}\r\n{body}"))
}

pub fn raw(address: &str, text: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(crate::bed::DEADLINE)).unwrap();
    let _ = stream.write_all(text.as_bytes());
    // Not everybody closes when asked to.
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !is_whole(&answer)
        && let Ok(n @ 1..) = stream.read(&mut piece)
    {
        answer.extend_from_slice(&piece[..n]);
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

/// Whether as much of a body has come as the head says there is.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}
