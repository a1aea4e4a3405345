//! What can be asked, and the answers: made anew for each request from what is on disk, so nothing is ever stale.

#![forbid(unsafe_code)]

use super::door::Door;
use super::guard::Guard;
use super::{metrics, page, switches};
use crate::config::Settings;
use crate::consent::{self, Consent};
use crate::limits;
use crate::report::kept::{self, Kept};
use crate::report::text;
use crate::spool::{Spool, marker};
use crate::telemetry::check::{self, Standing};
use crate::telemetry::preview;
use hyper::body::Bytes;
use hyper::header::HeaderName;
use hyper::{Method, StatusCode, header};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A request that came through the guard.
#[derive(Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// What it gets.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    pub headers: Vec<(HeaderName, String)>,
}

impl Answer {
    fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status: StatusCode::OK, content_type, body: body.into(), headers: Vec::new() }
    }

    pub fn json(value: &Value) -> Answer {
        Answer::ok("application/json", format!("{value}\n"))
    }

    fn html(page: maud::Markup) -> Answer {
        Answer::ok("text/html; charset=utf-8", page.into_string())
    }

    /// As the v1 API tells what went wrong.
    pub fn message(status: StatusCode, sentence: &str) -> Answer {
        Answer { status, ..Answer::json(&json!({ "message": sentence })) }
    }

    pub fn with(mut self, name: HeaderName, value: String) -> Answer {
        self.headers.push((name, value));
        self
    }
}

/// Where requests are answered.
pub struct Desk {
    pub guard: Guard,
    pub settings: Settings,
    pub state_dir: Option<PathBuf>,
    /// Whoever comes in has this name.
    pub user: String,
    /// Held by whoever asks it.
    inventory: tokio::sync::Mutex<()>,
}

impl Desk {
    pub fn new(settings: &Settings, state_dir: Option<&Path>, door: &Door) -> Desk {
        Desk {
            guard: Guard::new(door.credentials(), &settings.api_hosts),
            settings: settings.clone(),
            state_dir: state_dir.map(Path::to_owned),
            user: door.credentials().name.clone(),
            inventory: tokio::sync::Mutex::default(),
        }
    }

    /// A probe has no password.
    pub fn is_open_to_all(path: &str) -> bool {
        path == "/v1/health"
    }

    /// The inventory is asked only for whoever asks to see what it makes of the daily report, and only as often as one waits
    /// for the other.
    pub async fn answer(&self, asked: &Asked) -> Answer {
        if asked.path == "/preview" && matches!(asked.method, Method::GET | Method::HEAD) {
            let _one_at_a_time = self.inventory.lock().await;
            let (settings, dir) = (self.settings.clone(), self.state_dir.clone());
            // It has a runtime of its own, and waits.
            let made: Result<page::Shown, _> =
                tokio::task::spawn_blocking(move || preview::report(&settings, dir.as_deref())).await;
            let report = made.unwrap_or_else(|error| Err(format!("it could not be made ({error})")));
            return Answer::html(page::overview(self, Some(report)));
        }
        self.answer_at_once(asked)
    }

    fn answer_at_once(&self, asked: &Asked) -> Answer {
        let words: Vec<&str> = asked.path.strip_prefix('/').unwrap_or(&asked.path).split('/').collect();
        let reading = matches!(asked.method, Method::GET | Method::HEAD);
        match (words.as_slice(), reading) {
            (["v1", "telemetry"], false) if asked.method == Method::PUT => switches::put(self, asked),
            (words, true) => self
                .read(words)
                .unwrap_or_else(|| Answer::message(StatusCode::NOT_FOUND, "there is nothing of that name")),
            (words, false) if self.read(words).is_some() => {
                let may = if words == ["v1", "telemetry"] { "GET, HEAD, PUT" } else { "GET, HEAD" };
                Answer::message(StatusCode::METHOD_NOT_ALLOWED, "this can only be read")
                    .with(header::ALLOW, may.to_owned())
            }
            _ => Answer::message(StatusCode::NOT_FOUND, "there is nothing of that name"),
        }
    }

    fn read(&self, words: &[&str]) -> Option<Answer> {
        Some(match words {
            [""] | ["preview"] => Answer::html(page::overview(self, None)),
            ["crashes", id] => match self.crash(id) {
                Ok((kept, _)) => Answer::html(page::crash(&kept)),
                Err(answer) => answer,
            },
            ["panel.css"] => Answer::ok("text/css; charset=utf-8", page::STYLE),
            ["panel.svg"] => Answer::ok("image/svg+xml", page::ICON),
            ["panel.js"] => Answer::ok("text/javascript; charset=utf-8", page::SCRIPT),
            ["metrics"] => Answer::ok("text/plain; version=0.0.4; charset=utf-8", metrics::text(self)),
            ["v1", "health"] => Answer::json(&json!({ "status": "ok" })),
            ["v1", "version"] => Answer::json(&self.version()),
            ["v1", "components"] => Answer::json(&Value::Array(self.components())),
            ["v1", "crashes"] => Answer::json(&Value::Array(self.crashes().iter().map(Kept::row).collect())),
            ["v1", "crashes", id] => match self.crash(id) {
                Ok((_, json)) => Answer::ok("application/json", json),
                Err(answer) => answer,
            },
            ["v1", "telemetry"] => Answer::json(&switches::state(self)),
            ["v1", "upgrade"] => Answer::json(&self.upgrade().json()),
            ["v1", "openapi.json"] => Answer::ok("application/json", OPENAPI),
            _ => return None,
        })
    }

    fn version(&self) -> Value {
        json!({ "version": env!("CARGO_PKG_VERSION"), "apiVersion": "1", "release": self.settings.release })
    }

    /// The runs that are going on; a component's name is its program's.
    pub fn components(&self) -> Vec<Value> {
        let living = self.state_dir.as_deref().map(marker::living).unwrap_or_default();
        let component = |run: &crate::case::Run| {
            json!({
                "name": run.component,
                "run": run.id.to_string(),
                "started": text::utc(run.started_unix_ms),
                "exe": run.exe.as_ref().map(|exe| exe.to_string_lossy()),
                "release": run.release,
                "environment": run.environment,
            })
        };
        living.iter().map(component).collect()
    }

    /// The newest ones.
    pub fn crashes(&self) -> Vec<Kept> {
        self.spool().map(|spool| kept::all(&spool).take(limits::API_CRASHES).collect()).unwrap_or_default()
    }

    pub fn spool(&self) -> Option<Spool> {
        Spool::open(self.state_dir.as_deref()?).ok()
    }

    /// One crash by the first digits of its id, with the JSON it is kept as.
    fn crash(&self, id: &str) -> Result<(Kept, Vec<u8>), Answer> {
        let missing = |sentence: String| Answer::message(StatusCode::NOT_FOUND, &sentence);
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing("an id is 32 hex digits, or the first of them".to_owned()));
        }
        let spool = self.spool().ok_or_else(|| missing("nothing is kept here".to_owned()))?;
        let entry = kept::find(&spool, Some(id)).map_err(missing)?;
        kept::read(&spool, entry).map_err(missing)
    }

    /// What is known of newer releases; nobody is asked for it.
    pub fn upgrade(&self) -> Standing {
        check::standing(&self.settings, self.state_dir.as_deref())
    }

    /// Who may be told what at this moment.
    pub fn consent(&self) -> Consent {
        consent::current(&self.settings, self.state_dir.as_deref())
    }
}

/// Served as it is, and held to the truth by the tests.
const OPENAPI: &str = include_str!("openapi.json");
