//! Between obit and a real server that listens on a Unix socket: each request is passed on as it came, and what was in it is kept.

use crate::server::{field, read_head};
use flate2::read::GzDecoder;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Listens on a port of its own for as long as the trial runs.
pub struct Bridge {
    pub address: SocketAddr,
    passed: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Bridge {
    pub fn to(socket: &Path) -> Bridge {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let bridge = Bridge { address: listener.local_addr().expect("its address"), passed: Arc::default() };
        let (socket, passed) = (socket.to_owned(), bridge.passed.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (socket, passed): (PathBuf, _) = (socket.clone(), passed.clone());
                std::thread::spawn(move || pass_on(stream, &socket, &passed));
            }
        });
        bridge
    }

    /// The bodies that the server has answered, unzipped, in order.
    pub fn passed(&self) -> Vec<Vec<u8>> {
        self.passed.lock().unwrap().clone()
    }
}

fn pass_on(stream: TcpStream, socket: &Path, passed: &Mutex<Vec<Vec<u8>>>) {
    let (Ok(mut out), mut client) = (stream.try_clone(), BufReader::new(stream)) else { return };
    let Some(mut head) = read_head(&mut client) else { return };
    let mut body = vec![0; field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
    let Ok(()) = client.read_exact(&mut body) else { return };
    // One request, so that the answer ends with the connection.
    head.retain(|line| !line.to_lowercase().starts_with("connection:"));
    head.push("connection: close".to_owned());
    let mut server = UnixStream::connect(socket).expect("the server listens");
    let head: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    server.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| server.write_all(&body)).expect("it reads");
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).expect("it answers");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let mut text = Vec::new();
    GzDecoder::new(&body[..]).read_to_end(&mut text).expect("gzip");
    passed.lock().unwrap().push(text);
    let _ = out.write_all(&answer);
    let _ = io::copy(&mut client, &mut io::sink());
}
