//! The daily report and its check-in as envelopes: pure, so that what is sent can be shown and tested.
//!
//! The event is an `info` with a fixed fingerprint: one issue in Sentry, one event a day in it, each field where
//! packaging/TELEMETRY.md says.

#![forbid(unsafe_code)]

use super::envelope::{head, item, to_bytes, uuid};
use super::event::cut;
use super::sender::Sender;
use crate::report::daily::{CheckIn, Daily, Fact};
use serde_json::{Value, json};

/// Of the protocol of envelopes, which never changed since: the page's "Sentry version".
const SENTRY_VERSION: &str = "7";
const SHORT_BYTES: usize = 200;
/// A check-in may come so many minutes after a day before Sentry misses it: our own drift and spread, and an outage of two hours.
const MARGIN_MINUTES: u32 = 180;

/// The envelope of one day's report.
pub fn daily(daily: &Daily, sent_at_unix_ms: u64) -> Vec<u8> {
    let mut envelope = head(Some(&daily.event_id), sent_at_unix_ms);
    item(&mut envelope, json!({"type": "event", "content_type": "application/json"}), &to_bytes(&event(daily)));
    envelope
}

/// The event alone.
pub fn event(daily: &Daily) -> Value {
    let facts = daily.facts.iter().filter_map(|(name, value)| Some((Fact::parse(name)?, value.clone()))).collect();
    let sender = Sender { server_name: None, cluster: Some(daily.cluster.clone()), facts };
    let fact = |fact: Fact| daily.facts.get(fact.name());
    let mut event = json!({
        "event_id": daily.event_id,
        "timestamp": daily.at_unix_ms as f64 / 1000.0,
        "platform": "other",
        "level": "info",
        "logger": "obit.daily",
        "server_name": cut(&daily.server_name, SHORT_BYTES),
        "logentry": {"formatted": format!("daily report of {}", daily.product)},
        "tags": {"report": "daily", "product": cut(&daily.product, SHORT_BYTES), "obit.version": daily.obit_version},
        "fingerprint": ["obit", "daily", daily.product],
        "contexts": {
            "os": {"type": "os", "name": fact(Fact::Os)},
            "device": {"type": "device", "arch": fact(Fact::Arch)},
            "product": {"type": "product", "name": daily.product},
            "obit": {"type": "obit", "version": daily.obit_version, "sentry_version": SENTRY_VERSION},
        },
        "sdk": {"name": "obit", "version": env!("CARGO_PKG_VERSION")},
    });
    sender.sign(&mut event);
    if !daily.unknown.is_empty() {
        event["contexts"]["unknown"] = json!(daily.unknown);
        event["contexts"]["unknown"]["type"] = "unknown".into();
    }
    if let Some(release) = &daily.release {
        event["release"] = release.as_str().into();
    }
    if let Some(environment) = &daily.environment {
        event["environment"] = environment.as_str().into();
    }
    event
}

/// The envelope of a check-in; the monitor is made or changed by it.
pub fn check_in(check_in: &CheckIn, sent_at_unix_ms: u64) -> Vec<u8> {
    let mut envelope = head(None, sent_at_unix_ms);
    let mut body = json!({
        "check_in_id": uuid(&check_in.check_in_id),
        "monitor_slug": check_in.monitor,
        "status": "ok",
        "monitor_config": {
            "schedule": {"type": "interval", "value": 1, "unit": "day"},
            "checkin_margin": MARGIN_MINUTES,
        },
    });
    if let Some(release) = &check_in.release {
        body["release"] = release.as_str().into();
    }
    if let Some(environment) = &check_in.environment {
        body["environment"] = environment.as_str().into();
    }
    item(&mut envelope, json!({"type": "check_in"}), &to_bytes(&body));
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_in_tells_that_we_are_alive_and_nothing_else() {
        let check = CheckIn {
            format: 1,
            check_in_id: "ab".repeat(16),
            monitor: "app".to_owned(),
            release: None,
            environment: None,
        };
        let bytes = check_in(&check, 1_700_000_001_000);
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(!lines[0].contains("event_id") && lines[1].starts_with("{\"type\":\"check_in\",\"length\":"));
        let body: Value = serde_json::from_str(lines[2]).unwrap();
        assert_eq!(body["check_in_id"], "abababab-abab-abab-abab-abababababab");
        let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["check_in_id", "monitor_slug", "status", "monitor_config"]);
    }
}
