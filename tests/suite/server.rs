//! A server that takes envelopes and answers as it is told: what no well-behaved server would show.

use flate2::read::GzDecoder;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is done with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Answered with this status.
    Status(u16),
    /// The connection is closed in the middle of the body.
    Reset,
    /// Taken, and the connection closed without an answer.
    TakeAndReset,
    /// Never answered.
    Hang,
}

/// Listens on a port of its own for as long as the trial runs.
pub struct Server {
    pub dsn: String,
    mood: Arc<Mutex<Mood>>,
    taken: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    pub fn new(mood: Mood) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let dsn = format!("http://0123456789abcdef@{}/7", listener.local_addr().expect("its address"));
        let server =
            Server { dsn, mood: Arc::new(Mutex::new(mood)), taken: Arc::default(), connections: Arc::default() };
        let (mood, taken, connections) = (server.mood.clone(), server.taken.clone(), server.connections.clone());
        std::thread::spawn(move || {
            // What hangs must stay open until the trial is over.
            let mut hanging = Vec::new();
            for stream in listener.incoming().flatten() {
                *connections.lock().unwrap() += 1;
                let mood = *mood.lock().unwrap();
                if mood == Mood::Hang {
                    hanging.push(stream);
                } else if let Some(envelope) = serve(stream, mood) {
                    taken.lock().unwrap().push(envelope);
                }
            }
        });
        server
    }

    pub fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Event ids of what was taken, in order, without the repeats that a server folds into one.
    pub fn events(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        for envelope in self.taken.lock().unwrap().iter().filter(|envelope| envelope.contains("\"type\":\"event\"")) {
            let head: serde_json::Value = serde_json::from_str(envelope.lines().next().unwrap()).expect("a header");
            let id = head["event_id"].as_str().expect("an id").to_owned();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

/// One request; the envelope if it was taken.
fn serve(mut stream: TcpStream, mood: Mood) -> Option<String> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    if mood == Mood::Reset {
        return None;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut envelope = String::new();
    GzDecoder::new(body.as_slice()).read_to_string(&mut envelope).ok()?;
    match mood {
        Mood::Status(code) => {
            let _ = write!(stream, "HTTP/1.1 {code} x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            (200..300).contains(&code).then_some(envelope)
        }
        _ => Some(envelope),
    }
}
