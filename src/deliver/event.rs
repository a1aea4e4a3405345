//! The Sentry event of a death, by the rules of Relay's schema: unknown keys at the top are rejected, tags take no newline
//! and 200 characters, and what is too long is cut without a word.
//!
//! It is written as JSON, not with the types of the crate `sentry`: those know no `debug_meta` image of type `elf`, no
//! `trust` of a frame, no state of a thread and no parent of an exception, which is half of what there is to say.

#![forbid(unsafe_code)]

use super::envelope::{Size, precise};
use super::sender::Sender;
use super::stack;
use crate::report::{Report, names};
use serde_json::{Map, Value, json};

/// Tag values and server name.
const SHORT_BYTES: usize = 200;
/// exception.value and the like.
pub(super) const LONG_BYTES: usize = 8192;
/// Breadcrumbs made of the last lines of stderr.
const BREADCRUMBS: usize = 30;

/// The event, without its larger parts if it has to be small.
pub fn event(report: &Report, sender: &Sender, size: Size) -> Value {
    let mut tags = Map::new();
    let mut tag = |key: &str, value: Option<String>| {
        if let Some(value) = value.map(|value| tag_value(&value)).filter(|value| !value.is_empty()) {
            tags.insert(key.to_owned(), value.into());
        }
    };
    tag("exit.signal", report.exit.signal.clone());
    tag("exit.code", report.exit.code.map(|code| code.to_string()));
    tag("exit.reason", Some(report.reason.as_str().to_owned()));
    tag("exit.core_dumped", report.exit.core_dumped.map(|core| core.to_string()));
    tag("component", Some(report.component.clone()));
    tag("obit.version", Some(report.obit_version.clone()));
    let mut event = json!({
        "event_id": report.event_id,
        "timestamp": report.at_unix_ms as f64 / 1000.0,
        "platform": "native",
        "level": report.level,
        "logger": "obit",
        "tags": tags,
        "fingerprint": report.fingerprint,
        "exception": {"values": stack::exceptions(report, size)},
        "contexts": contexts(report, size),
        "sdk": {"name": "obit", "version": env!("CARGO_PKG_VERSION")},
    });
    if size != Size::Trimmed {
        event["breadcrumbs"] = json!({"values": breadcrumbs(report)});
        event["threads"] = json!({"values": stack::threads(report)});
    }
    event["debug_meta"] = json!({"images": stack::images(report)});
    if let Some(event) = event.as_object_mut() {
        let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        event.retain(|_, value| !(is_empty(&value["values"]) || is_empty(&value["images"])));
    }
    if let Some(name) = known(sender.server_name.as_deref().unwrap_or(&report.host.name)) {
        event["server_name"] = cut(name, SHORT_BYTES).into();
    }
    if let Some(release) = report.run.release.as_deref().and_then(names::release) {
        event["release"] = release.into();
    }
    if let Some(environment) = report.run.environment.as_deref().and_then(names::environment) {
        event["environment"] = environment.into();
    }
    sender.sign(&mut event);
    event
}

fn tag_value(value: &str) -> String {
    cut(value, SHORT_BYTES).replace(['\n', '\r'], " ").trim().to_owned()
}

fn breadcrumbs(report: &Report) -> Vec<Value> {
    let Some(tail) = &report.stderr_tail else { return Vec::new() };
    let lines: Vec<&str> = tail.text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(BREADCRUMBS)..];
    let timestamp = report.at_unix_ms as f64 / 1000.0;
    let crumb = |line: &&str| json!({"category": "stderr", "level": "info", "message": cut(line, 1024), "timestamp": timestamp});
    last.iter().map(crumb).collect()
}

fn contexts(report: &Report, size: Size) -> Value {
    let process = &report.process;
    let host = &report.host;
    let usage = process.usage.as_ref();
    let mut contexts = json!({
        "os": {"type": "os", "name": "Linux", "kernel_version": known(&host.kernel), "distribution_name": host.os_name, "distribution_version": host.os_version},
        "device": {"type": "device", "arch": known(&host.arch), "memory_size": host.memory_bytes, "free_memory": host.memory_available_bytes,
                   "processor_count": host.cpus, "boot_time": host.boot_unix_ms.map(precise)},
        "app": {"type": "app", "app_name": report.component, "app_start_time": precise(report.run.started_unix_ms)},
        "process": {"type": "process", "pid": process.pid, "argv": process.argv, "exe": process.exe, "build_id": process.build_id,
                    "cwd": process.cwd, "uid": process.uid, "gid": process.gid, "uptime_ms": report.run.uptime_ms,
                    "user_us": usage.map(|usage| usage.user_us), "system_us": usage.map(|usage| usage.system_us),
                    "max_rss_kib": usage.map(|usage| usage.max_rss_kib), "release": report.run.release, "environment": report.run.environment,
                    "died_at": precise(report.at_unix_ms), "spawn_error": process.spawn_error, "suppressed": report.suppressed, "env": process.env},
        "evidence": {"type": "evidence", "complete": report.complete, "core_pattern": host.core_pattern,
                     "gaps": report.gaps.iter().map(|gap| format!("{}: {}", gap.what, gap.why)).collect::<Vec<_>>()},
    });
    if let Some(built) = &process.built {
        contexts["build"] = json!({"type": "build", "toolchain": built.toolchain, "module": built.module, "module_version": built.module_version,
                                   "revision": built.revision, "revision_time": built.revision_time, "settings": Some(&built.settings).filter(|settings| !settings.is_empty()),
                                   "modified": built.revision.as_ref().map(|_| built.modified)});
        if let Some(version) = &built.go_version {
            contexts["runtime"] = json!({"type": "runtime", "name": "go", "version": version});
        }
    }
    if let Some(oom) = &report.oom {
        contexts["oom"] = json!({"type": "oom", "source": oom.source, "kills": oom.kills_after.saturating_sub(oom.kills_before),
                                 "limit_bytes": oom.limit_bytes, "peak_bytes": oom.peak_bytes});
    }
    if let Some(stop) = &report.stop {
        contexts["stop"] = json!({"type": "stop", "signal": stop.signal, "sender_pid": stop.sender_pid, "sender_uid": stop.sender_uid,
                                  "before_death_ms": stop.before_death_ms});
    }
    if let Some(id) = &host.container_id {
        contexts["container"] = json!({"type": "container", "id": id, "cgroup": process.cgroup});
    }
    if !report.kubernetes.is_empty() {
        contexts["k8s"] = json!(report.kubernetes);
        contexts["k8s"]["type"] = "k8s".into();
    }
    if size == Size::Trimmed {
        contexts["process"]["argv"] = Value::Null;
        contexts["process"]["env"] = Value::Null;
        contexts["evidence"]["trimmed"] = "threads, stderr, argv, env: the server takes nothing of that size".into();
    }
    strip_nulls(&mut contexts);
    contexts
}

/// An empty text is one that is not known.
fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// What is not known is absent, not null.
fn strip_nulls(value: &mut Value) {
    if let Value::Object(object) = value {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(strip_nulls);
    }
}

/// At most `bytes` bytes, cut between characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Reason;
    use crate::report::{Exit, Level};

    fn report() -> Report {
        serde_json::from_value(json!({
            "format": 1, "event_id": "ab".repeat(16), "at_unix_ms": 1_700_000_000_250u64, "complete": true, "reason": "signal",
            "level": "fatal", "component": "app", "kind": "SIGSEGV", "summary": "segmentation fault", "exit": {"signal": "SIGSEGV",
            "signal_number": 11, "code": 139, "core_dumped": true}, "run": {"id": "cd".repeat(16), "started_unix_ms": 1_699_999_990_000u64, "release": "app@1.0"},
            "fingerprint": ["obit", "app", "signal", "SIGSEGV"], "obit_version": "0.1.0",
            "stderr_tail": {"text": "one\n\ntwo\n", "total_bytes": 9, "kept_bytes": 9, "masked": 0}
        })).unwrap()
    }

    #[test]
    fn the_event_has_the_tags_that_scripts_rely_on() {
        let sender = Sender { server_name: Some("pseudonym".to_owned()), ..Sender::default() };
        let event = event(&report(), &sender, Size::Whole);
        assert_eq!(
            event["tags"],
            json!({"exit.signal": "SIGSEGV", "exit.code": "139", "exit.reason": "signal",
            "exit.core_dumped": "true", "component": "app", "obit.version": "0.1.0"})
        );
        assert_eq!(event["timestamp"], json!(1_700_000_000.25));
        assert_eq!((event["release"].as_str(), event["server_name"].as_str()), (Some("app@1.0"), Some("pseudonym")));
        assert_eq!(event["exception"]["values"][0]["mechanism"]["meta"]["signal"]["number"], 11);
        assert_eq!(event["breadcrumbs"]["values"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn how_it_was_built_has_its_places() {
        let mut report = report();
        report.process.built = serde_json::from_value(
            json!({"toolchain": "go1.25.5", "go_version": "go1.25.5", "module": "example.com/shop",
            "revision": "0123abcd", "settings": {"GOARCH": "amd64"}}),
        )
        .unwrap();
        let event = event(&report, &Sender::default(), Size::Whole);
        assert_eq!(event["contexts"]["runtime"], json!({"type": "runtime", "name": "go", "version": "go1.25.5"}));
        assert_eq!(
            event["contexts"]["build"],
            json!({"type": "build", "toolchain": "go1.25.5", "module": "example.com/shop", "revision": "0123abcd", "modified": false,
                   "settings": {"GOARCH": "amd64"}})
        );
    }

    #[test]
    fn what_sentry_would_refuse_is_not_sent() {
        let mut report = report();
        report.run.release = Some("a/b".to_owned());
        report.component = format!("line\nbreak{}", "x".repeat(300));
        report.exit = Exit::default();
        report.reason = Reason::Unclean;
        report.level = Level::Error;
        let event = event(&report, &Sender::default(), Size::Whole);
        assert!(event.get("release").is_none());
        assert_eq!(event["contexts"]["process"]["release"], "a/b");
        assert_eq!(event["tags"]["component"].as_str().unwrap().len(), 200);
        assert!(event["tags"].get("exit.code").is_none());
        assert!(!event.to_string().contains("null"));
    }
}
