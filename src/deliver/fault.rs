//! obit's own faults as Sentry events, in the same spool and under the same consent as everything else.
//!
//! Only in the roles that are short-lived (courier, commands for people): they may allocate, and nobody waits for them. The
//! event is made by the crate `sentry`; its transport here writes a file. Where it goes, how often it is tried and whether
//! it may go at all is decided like for any other entry.

#![forbid(unsafe_code)]

use crate::case::Id;
use crate::config::Settings;
use crate::consent::{self, Channel};
use crate::report::scrub::Scrubber;
use crate::say::{Level, say};
use crate::spool::{Kind, Spool, State};
use crate::sys::clock;
use sentry::protocol::{EnvelopeItem, Event, Exception, Frame, Mechanism, Stacktrace};
use sentry::{Client, ClientOptions, Envelope, Transport, TransportFactory};
use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// More of our own faults than this never wait beside the reports.
const WAITING_MAX: usize = 5;

/// From here on a panic in this process is one line on stderr, and an event if somebody agreed to receive it.
pub fn watch(role: &'static str, settings: &Settings, state_dir: Option<&Path>) {
    let watch = Watch { role, settings: settings.clone(), state_dir: state_dir.map(Path::to_owned) };
    std::panic::set_hook(Box::new(move |info| watch.panicked(info)));
}

/// Something that only a fault of ours, or of the machine below us, explains.
pub fn tell(role: &'static str, settings: &Settings, state_dir: Option<&Path>, what: &str) {
    say(Level::Error, &format!("a fault of obit's own, in the {role}: {what}"));
    let watch = Watch { role, settings: settings.clone(), state_dir: state_dir.map(Path::to_owned) };
    watch.keep(event(role, "error", what, None));
}

struct Watch {
    role: &'static str,
    settings: Settings,
    state_dir: Option<PathBuf>,
}

impl Watch {
    fn panicked(&self, info: &PanicHookInfo<'_>) {
        /// A panic while a panic is told: the first one is enough.
        static TOLD: AtomicBool = AtomicBool::new(false);
        if TOLD.swap(true, Ordering::Relaxed) {
            return;
        }
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let what = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        say(Level::Error, &format!("a fault of obit's own, in the {}: {what} ({place})", self.role));
        let backtrace = Backtrace::force_capture().to_string();
        let stacktrace = stacktrace(&place, &backtrace);
        self.keep(event(self.role, "panic", what, Some((place, stacktrace))));
    }

    /// Hands the event to the client, whose transport is the spool.
    fn keep(&self, event: Event<'static>) {
        let Some(state_dir) = self.state_dir.as_deref().filter(|_| self.settings.dsn.is_some()) else { return };
        if consent::current(&self.settings, Some(state_dir)).grant(Channel::Errors).is_err() {
            return;
        }
        let Ok(spool) = Spool::open(state_dir) else { return };
        let dsn = self.settings.dsn.as_deref().and_then(|dsn| dsn.trim().parse().ok());
        let mut options = ClientOptions::new()
            .default_integrations(false)
            .release(concat!("obit@", env!("CARGO_PKG_VERSION")))
            .transport(ToSpool(Arc::new(spool)));
        options.dsn = dsn;
        options.environment = self.settings.environment.clone().map(Into::into);
        options.server_name =
            self.settings.server_name.clone().filter(|_| !self.settings.hide_server_name).map(Into::into);
        Client::with_options(options).capture_event(event, None);
    }
}

/// The event, without what the environment keeps secret. Of one place there is one issue.
fn event(role: &'static str, kind: &str, what: &str, place: Option<(String, Stacktrace)>) -> Event<'static> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let mut scrubber = Scrubber::new(environment.iter().map(|(name, value)| (&**name, &**value)));
    let (group, stacktrace) = match place {
        Some((place, stacktrace)) => (place, Some(stacktrace)),
        None => (role.to_owned(), None),
    };
    let handled = Some(stacktrace.is_none());
    let exception = Exception {
        ty: kind.to_owned(),
        value: Some(scrubber.text(what)),
        stacktrace,
        mechanism: Some(Mechanism { ty: kind.to_owned(), handled, ..Mechanism::default() }),
        ..Exception::default()
    };
    let tags = [("component", "obit"), ("obit.role", role), ("obit.version", env!("CARGO_PKG_VERSION"))];
    Event {
        platform: "native".into(),
        level: sentry::Level::Fatal,
        logger: Some("obit".to_owned()),
        exception: vec![exception].into(),
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        fingerprint: ["obit", kind, &group].map(|part| part.to_owned().into()).to_vec().into(),
        ..Event::default()
    }
}

/// The frames of a backtrace's text below the machinery of the panic itself. A stripped binary has none with a name: then
/// the place alone.
fn stacktrace(place: &str, backtrace: &str) -> Stacktrace {
    let parsed = sentry_backtrace::parse_stacktrace(backtrace).map(|parsed| parsed.frames).unwrap_or_default();
    let is_named = |frame: &Frame| frame.function.as_deref().is_some_and(|function| function != "<unknown>");
    let is_machinery = |frame: &Frame| {
        let function = frame.function.as_deref().unwrap_or_default();
        ["rust_begin_unwind", "core::panicking::", "std::panicking::"].iter().any(|part| function.contains(part))
    };
    let mut frames: Vec<Frame> = parsed.into_iter().filter(is_named).collect();
    // Oldest first: what lies behind the first frame of the panic's machinery is ours of telling it.
    let below = frames.iter().position(is_machinery).unwrap_or(frames.len());
    frames.truncate(below);
    for frame in &mut frames {
        frame.in_app = Some(frame.function.as_deref().is_some_and(|function| function.contains("obit::")));
    }
    if frames.is_empty() {
        let mut parts = place.splitn(3, ':');
        frames.push(Frame {
            filename: parts.next().map(str::to_owned),
            lineno: parts.next().and_then(|line| line.parse().ok()),
            colno: parts.next().and_then(|column| column.parse().ok()),
            in_app: Some(true),
            ..Frame::default()
        });
    }
    Stacktrace { frames, ..Stacktrace::default() }
}

/// The transport: an entry of the spool.
#[derive(Clone)]
struct ToSpool(Arc<Spool>);

impl TransportFactory for ToSpool {
    fn create_transport_with_options(&self, _: sentry::TransportOptions) -> Arc<dyn Transport> {
        Arc::new(self.clone())
    }
}

impl Transport for ToSpool {
    fn send_envelope(&self, envelope: Envelope) {
        let waiting = self.0.entries_in(State::Pending);
        if waiting.iter().filter(|entry| entry.kind == Kind::Fault).count() >= WAITING_MAX {
            return;
        }
        for item in envelope.into_items() {
            let EnvelopeItem::Event(event) = item else { continue };
            let (id, json) = (Id(*event.event_id.as_bytes()), serde_json::to_vec(&event).unwrap_or_default());
            let kept = self.0.begin(Kind::Fault, id, clock::unix_ms(), &json).and_then(|open| self.0.settle(open));
            if let Err(error) = kept {
                say(Level::Warning, &error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const TEXT: &str = "\
   0: std::backtrace::Backtrace::force_capture
             at /rustc/abc/library/std/src/backtrace.rs:313:18
   1: obit::deliver::fault::Watch::panicked
             at ./src/deliver/fault.rs:50:25
   2: __rustc::rust_begin_unwind
             at /rustc/abc/library/std/src/panicking.rs:689:5
   3: core::panicking::panic_fmt
             at /rustc/abc/library/core/src/panicking.rs:80:14
   4: obit::courier::visit
             at ./src/courier.rs:77:9
   5: main
";

    #[test]
    fn a_backtrace_begins_at_the_panic() {
        let trace = stacktrace("src/courier.rs:77:9", TEXT);
        let told: Vec<_> =
            trace.frames.iter().map(|frame| (frame.function.as_deref(), frame.lineno, frame.in_app)).collect();
        assert_eq!(
            told,
            [(Some("main"), None, Some(false)), (Some("obit::courier::visit"), Some(77), Some(true))],
            "oldest first"
        );
    }

    #[test]
    fn a_stripped_binary_tells_the_place() {
        let trace = stacktrace("src/courier.rs:77:9", "   0: <unknown>\n   1: <unknown>\n");
        let frame = &trace.frames[0];
        assert_eq!((frame.filename.as_deref(), frame.lineno, frame.colno), (Some("src/courier.rs"), Some(77), Some(9)));
        assert_eq!(trace.frames.len(), 1);
    }

    /// Panics where the test below started it; alone it does nothing.
    #[test]
    fn panics_when_told_to() {
        let Some(dir) = std::env::var_os("OBIT_TEST_PANIC_IN") else { return };
        let settings = Settings { dsn: Some("http://key@127.0.0.1:1/7".to_owned()), ..Settings::default() };
        watch("courier", &settings, Some(Path::new(&dir)));
        panic!("the password is {}", std::env::var("SECRET_TOKEN").unwrap());
    }

    #[test]
    fn a_panic_is_an_entry_of_the_spool_without_secrets_and_only_with_consent() {
        for (off, kept) in [("0", 1), ("1", 0)] {
            let temp = tempfile::tempdir().unwrap();
            let run = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "deliver::fault::tests::panics_when_told_to"])
                .env("OBIT_TEST_PANIC_IN", temp.path())
                .env("SECRET_TOKEN", "opensesame-1234")
                .env("DO_NOT_TRACK", off)
                .output()
                .unwrap();
            assert!(!run.status.success());
            let entries = Spool::open(temp.path()).unwrap().entries_in(State::Pending);
            assert_eq!(entries.len(), kept, "{}", String::from_utf8_lossy(&run.stderr));
            for entry in entries {
                assert_eq!(entry.kind, Kind::Fault);
                let text = String::from_utf8(Spool::open(temp.path()).unwrap().read(&entry).unwrap()).unwrap();
                let event: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(event["event_id"].as_str(), Some(&*entry.id.to_string()), "{text}");
                assert!(text.contains("the password is") && !text.contains("opensesame"), "{text}");
                assert!(text.contains("panics_when_told_to"), "{text}");
                assert_eq!(event["release"], concat!("obit@", env!("CARGO_PKG_VERSION")));
            }
        }
    }
}
