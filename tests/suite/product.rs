//! The page's product, as far as its v1 API goes: the samples of `fixtures/telemetry/storageos`, behind Basic.

use crate::server::{field, read_head};
use serde_json::Value;
use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Listens on a port of its own for as long as the suite runs.
pub struct Product {
    /// For `--inventory`.
    pub source: String,
    requests: Arc<AtomicUsize>,
}

/// Each path and its sample.
const SAMPLES: [(&str, &str); 8] = [
    ("/version", "version"),
    ("/v1/licencing", "licencing"),
    ("/v1/nodes", "nodes"),
    ("/v1/volumes", "volumes"),
    ("/v1/namespaces", "namespaces"),
    ("/v1/pools", "pools"),
    ("/v1/rules", "rules"),
    ("/v1/logs/cluster/config", "logs_config"),
];
/// storageos:storageos
const CREDENTIALS: &str = "Basic c3RvcmFnZW9zOnN0b3JhZ2Vvcw==";

impl Product {
    pub fn new() -> Product {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let source = format!("storageos:http://{}", listener.local_addr().expect("its address"));
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(&stream);
                    while let Some(head) = read_head(&mut reader) {
                        count.fetch_add(1, Ordering::SeqCst);
                        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
                        let body = answer(path).filter(|_| field(&head, "authorization") == Some(CREDENTIALS));
                        let (status, body) = body.map_or((401, String::new()), |body| (200, body));
                        let _ = write!(&stream, "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    }
                });
            }
        });
        Product { source, requests }
    }

    /// How often it was asked for anything.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(path: &str) -> Option<String> {
    let (_, name) = SAMPLES.iter().find(|(sample, _)| *sample == path)?;
    let file = format!("{}/fixtures/telemetry/storageos/v1_{name}.json", env!("CARGO_MANIFEST_DIR"));
    let sample: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    Some(sample["body"].to_string())
}
