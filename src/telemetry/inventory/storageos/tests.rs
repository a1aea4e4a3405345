//! The samples of the v1 API, served as the product serves them and as it does on bad days.

#![forbid(unsafe_code)]

use super::*;
use crate::config::Settings;
use crate::report::daily::Value;
use crate::telemetry::inventory::gather;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the API asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Nothing,
    Basic,
    Token,
}

/// An API on a port of its own: path to status and body.
struct Product {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn product(wants: Wants, spoil: &[(&str, u16, &str)]) -> Product {
    let mut answers: HashMap<String, (u16, String)> = HashMap::new();
    for (path, sample) in [
        ("/version", "version"),
        ("/v1/licencing", "licencing"),
        ("/v1/nodes", "nodes"),
        ("/v1/volumes", "volumes"),
        ("/v1/namespaces", "namespaces"),
        ("/v1/pools", "pools"),
        ("/v1/rules", "rules"),
        ("/v1/logs/cluster/config", "logs_config"),
    ] {
        answers.insert(path.to_owned(), (200, sample_body(sample)["body"].to_string()));
    }
    for (path, status, body) in spoil {
        answers.insert((*path).to_owned(), (*status, (*body).to_owned()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let served = Product { address: listener.local_addr().unwrap().to_string(), asked: Arc::default() };
    let asked = served.asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answers, asked) = (answers.clone(), asked.clone());
            std::thread::spawn(move || while answer(&stream, wants, &answers, &asked).is_some() {});
        }
    });
    served
}

fn sample_body(name: &str) -> serde_json::Value {
    let path = format!("{}/fixtures/telemetry/storageos/v1_{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// One request on a connection.
fn answer(
    mut stream: &TcpStream,
    wants: Wants,
    answers: &HashMap<String, (u16, String)>,
    asked: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.lock().unwrap().push(head.lines().next()?.to_owned());
    let path = head.split(' ').nth(1)?;
    // storageos:storageos
    let basic = head.contains("authorization: Basic c3RvcmFnZW9zOnN0b3JhZ2Vvcw==");
    let allowed = match wants {
        Wants::Nothing => true,
        Wants::Basic => basic,
        Wants::Token => head.contains("authorization: Bearer sample-token"),
    };
    let login = sample_body("auth_login");
    let (status, text) = if path == "/v1/auth/login" {
        let good = serde_json::from_slice::<serde_json::Value>(&body).ok()? == login["request"];
        if good { (200, login["response_200"].to_string()) } else { (401, "{}".to_owned()) }
    } else if !allowed {
        (401, "{\"message\":\"no\"}".to_owned())
    } else {
        answers.get(path).cloned().unwrap_or((404, String::new()))
    };
    if status == 0 {
        // Never answered.
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{text}", text.len()).ok()
}

fn asked_of(product: &Product, user: Option<&str>, password: &str) -> Known {
    gather(&Settings {
        inventory: Some(format!("storageos:http://{}", product.address)),
        inventory_user: user.map(str::to_owned),
        inventory_password: Some(password.to_owned()),
        ..Settings::default()
    })
}

#[test]
fn the_samples_come_out_as_they_are_expected() {
    let expect = sample_body("volumes")["_expect"].clone();
    for wants in [Wants::Basic, Wants::Token, Wants::Nothing] {
        let known = asked_of(&product(wants, &[]), Some("storageos"), "storageos");
        let text = |fact| match known.facts.get(&fact) {
            Some(Value::Text(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        let count = |fact| match known.facts.get(&fact) {
            Some(Value::Count(count)) => *count,
            other => panic!("{fact:?}: {other:?}"),
        };
        assert_eq!(
            [Fact::ApiVersion, Fact::GoVersion, Fact::Os, Fact::Arch, Fact::BuildRef, Fact::Version].map(text),
            ["1", "go1.13.4", "linux", "amd64", "0a1b2c3d", "1.5.3"]
        );
        assert_eq!(
            [Fact::LicenseType, Fact::LoggingLevel, Fact::LoggingUser].map(text),
            ["basic", "info", "storageos"]
        );
        assert_eq!([Fact::Nodes, Fact::Pools, Fact::Namespaces, Fact::Rules].map(count), [3, 1, 1, 1]);
        assert_eq!(count(Fact::Volumes), expect["volume_count"]);
        assert_eq!(count(Fact::VolumeSizeGb), expect["total_volume_size_gb"]);
        for (health, fact) in BUCKETS {
            assert_eq!(count(fact), expect[health], "{health}");
        }
        assert_eq!(known.cluster_id.as_deref(), Some("5e9c7b1e-0000-4000-8000-000000000001"));
        assert!(known.unknown.is_empty(), "{:?}", known.unknown);
    }
}

#[test]
fn a_login_happens_once_and_wrong_credentials_are_told() {
    let strict = product(Wants::Token, &[]);
    asked_of(&strict, Some("storageos"), "storageos");
    let logins = strict.asked.lock().unwrap().iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(logins, 1);
    let known = asked_of(&product(Wants::Basic, &[]), Some("storageos"), "wrong");
    assert_eq!(known.unknown[&Fact::Nodes], "/v1/nodes: the inventory wants other credentials (401)");
    let known = asked_of(&product(Wants::Basic, &[]), None, "");
    assert_eq!(known.unknown[&Fact::LoggingUser], "no user of the API is configured");
}

#[test]
fn what_fails_takes_nothing_else_with_it() {
    let spoilt = product(
        Wants::Nothing,
        &[
            ("/v1/volumes", 503, ""),
            ("/v1/pools", 200, "{\"not\": \"a list\"}"),
            ("/v1/rules", 200, "null"),
            ("/v1/logs/cluster/config", 500, ""),
            ("/version", 302, ""),
        ],
    );
    let known = asked_of(&spoilt, None, "");
    assert_eq!(known.facts[&Fact::Nodes], Value::Count(3));
    assert_eq!(known.facts[&Fact::Rules], Value::Count(0), "Go's empty list");
    assert_eq!(known.facts[&Fact::LoggingLevel], Value::Text("info".to_owned()), "from the nodes");
    let why = |fact: &Fact| known.unknown[fact].as_str();
    assert!(VOLUME_FACTS.iter().all(|fact| why(fact) == "/v1/volumes: the inventory answered 503"));
    assert!(VERSION_FACTS.iter().all(|fact| why(fact) == "/version: the inventory answered 302"));
    assert_eq!(why(&Fact::Pools), "/v1/pools: the answer is not of the v1 API");
    let unreachable = Product { address: "127.0.0.1:1".to_owned(), asked: Arc::default() };
    let known = asked_of(&unreachable, None, "");
    assert_eq!(known.unknown[&Fact::Rules], "/v1/rules: the inventory cannot be reached");
}

#[test]
fn who_never_answers_is_waited_for_within_the_deadline() {
    let slow = product(Wants::Nothing, &[("/v1/nodes", 0, "")]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let base = Url::parse(&format!("http://{}", slow.address)).unwrap();
    let known =
        runtime.block_on(async { ask(base, None, Instant::now() + std::time::Duration::from_millis(500)).await });
    assert_eq!(known.facts[&Fact::LicenseType], Value::Text("basic".to_owned()));
    for fact in [Fact::Nodes, Fact::Rules, Fact::Volumes] {
        assert!(known.unknown[&fact].ends_with("the inventory did not answer in time"), "{:?}", known.unknown);
    }
}
