//! A proxy that does what proxies do, and what they do to those who have no credentials. Whatever host it is asked for, it
//! leads to one server: so a name that exists nowhere shows that the way led through here.

use crate::server::{field, read_head};
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

/// Listens on a port of its own for as long as the trial runs.
pub struct Proxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// To one server, for whoever shows these credentials (`Basic …`), or for all.
    pub fn new(target: SocketAddr, credentials: Option<&'static str>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (door, handed) = mpsc::channel();
        let proxy = Proxy::behind(listener.local_addr().expect("its address"), handed, target, credentials);
        door.send(listener).expect("it waits");
        proxy
    }

    /// Between two networks: its clients come by a listener that is handed to it from another one, and its servers are in this.
    pub fn behind(
        address: SocketAddr,
        door: mpsc::Receiver<TcpListener>,
        target: SocketAddr,
        credentials: Option<&'static str>,
    ) -> Proxy {
        let proxy = Proxy { address, asked: Arc::default() };
        let asked = proxy.asked.clone();
        std::thread::spawn(move || {
            let Ok(listener) = door.recv() else { return };
            for stream in listener.incoming().flatten() {
                let asked = asked.clone();
                std::thread::spawn(move || pass_on(stream, target, credentials, &asked));
            }
        });
        proxy
    }

    /// The request lines, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn pass_on(stream: TcpStream, target: SocketAddr, credentials: Option<&str>, asked: &Mutex<Vec<String>>) {
    let (Ok(mut out), mut client) = (stream.try_clone(), BufReader::new(stream)) else { return };
    let Some(head) = read_head(&mut client) else { return };
    asked.lock().unwrap().push(head[0].clone());
    if credentials.is_some() && field(&head, "proxy-authorization") != credentials {
        let length = field(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let _ = io::copy(&mut client.take(length), &mut io::sink());
        let _ = out.write_all(b"HTTP/1.1 407 x\r\nproxy-authenticate: Basic realm=\"x\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    }
    let Ok(mut server) = TcpStream::connect(target) else { return };
    if head[0].starts_with("CONNECT ") {
        let _ = out.write_all(b"HTTP/1.1 200 x\r\n\r\n");
    } else {
        // What is for the proxy alone is not passed on.
        let lines = head.iter().filter(|line| !line.to_lowercase().starts_with("proxy-"));
        let head: String = lines.map(|line| format!("{line}\r\n")).collect();
        let _ = server.write_all(format!("{head}\r\n").as_bytes());
    }
    let Ok(mut back) = server.try_clone() else { return };
    std::thread::spawn(move || {
        let _ = io::copy(&mut back, &mut out);
        let _ = out.shutdown(std::net::Shutdown::Both);
    });
    let _ = io::copy(&mut client, &mut server);
}
