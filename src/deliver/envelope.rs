//! From an entry of the spool to the bytes that Sentry takes: pure, so that what is sent can be shown and tested.
//!
//! `sent_at` is written when the bytes are made for sending, never stored: from it Sentry learns how far our clock is off.

#![forbid(unsafe_code)]

use super::event::event;
use super::sender::Sender;
use crate::limits;
use crate::report::{Report, Session, SessionStatus, names, text};
use crate::spool::Discard;
use data_encoding::BASE64;
use serde_json::{Value, json};

/// How much of a report goes along.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Size {
    /// What everybody should take.
    Trimmed,
    /// Without attachments; the last lines of stderr are in the event.
    Bare,
    Whole,
}

impl Size {
    /// After the server took nothing of this size.
    pub fn smaller(self) -> Option<Size> {
        match self {
            Size::Whole => Some(Size::Bare),
            Size::Bare => Some(Size::Trimmed),
            Size::Trimmed => None,
        }
    }
}

/// The envelope of a death: the event, and the end of stderr beside it.
pub fn crash(report: &Report, sender: &Sender, size: Size, sent_at_unix_ms: u64) -> Vec<u8> {
    let mut envelope = head(Some(&report.event_id), sent_at_unix_ms);
    let mut bytes = to_bytes(&event(report, sender, size));
    if bytes.len() > limits::EVENT_ITEM_BYTES {
        bytes = to_bytes(&event(report, sender, Size::Trimmed));
    }
    item(&mut envelope, json!({"type": "event", "content_type": "application/json"}), &bytes);
    let tail = report.stderr_tail.as_ref().filter(|tail| size == Size::Whole && !tail.text.is_empty());
    if let Some(tail) = tail {
        let headers = json!({"type": "attachment", "filename": "stderr.txt", "content_type": "text/plain", "attachment_type": "event.attachment"});
        item(&mut envelope, headers, tail.text.as_bytes());
    }
    let minidump = report.minidump.as_deref().filter(|_| size == Size::Whole);
    if let Some(bytes) = minidump.and_then(|text| BASE64.decode(text.as_bytes()).ok()) {
        let headers = json!({"type": "attachment", "filename": "minidump.dmp", "content_type": "application/x-dmp", "attachment_type": "event.minidump"});
        item(&mut envelope, headers, &bytes);
    }
    envelope
}

/// The envelope of a fault of our own, whose event is kept as it is.
pub fn fault(event_id: &str, event: &[u8], sent_at_unix_ms: u64) -> Vec<u8> {
    let mut envelope = head(Some(event_id), sent_at_unix_ms);
    item(&mut envelope, json!({"type": "event", "content_type": "application/json"}), event);
    envelope
}

/// What was lost here since Sentry was told last.
pub fn client_report(discards: &[Discard], sent_at_unix_ms: u64) -> Vec<u8> {
    let mut envelope = head(None, sent_at_unix_ms);
    let lost = |lost: &Discard| json!({"reason": lost.reason, "category": lost.category, "quantity": lost.quantity});
    let discarded: Vec<Value> = discards.iter().map(lost).collect();
    let body = json!({"timestamp": sent_at_unix_ms as f64 / 1000.0, "discarded_events": discarded});
    item(&mut envelope, json!({"type": "client_report"}), &to_bytes(&body));
    envelope
}

/// The envelope of a run that ended, complete in one update; `again` if an earlier attempt may have arrived, for Sentry
/// counts every session that begins. `None` if Sentry takes no such release: it would refuse the
/// session whenever it comes.
pub fn session(session: &Session, again: bool, sent_at_unix_ms: u64) -> Option<Vec<u8>> {
    let release = names::release(&session.release)?;
    let mut envelope = head(Some(&session.sid), sent_at_unix_ms);
    let status = match session.status {
        SessionStatus::Exited => "exited",
        SessionStatus::Crashed => "crashed",
        SessionStatus::Abnormal => "abnormal",
    };
    let mut body = json!({
        "sid": uuid(&session.sid),
        "init": !again,
        "started": precise(session.started_unix_ms),
        "timestamp": precise(session.ended_unix_ms),
        "duration": session.ended_unix_ms.saturating_sub(session.started_unix_ms) as f64 / 1000.0,
        "status": status,
        "errors": session.errors,
        "attrs": {"release": release},
    });
    if let Some(environment) = session.environment.as_deref().and_then(names::environment) {
        body["attrs"]["environment"] = environment.into();
    }
    item(&mut envelope, json!({"type": "session"}), &to_bytes(&body));
    Some(envelope)
}

pub(super) fn head(event_id: Option<&str>, sent_at_unix_ms: u64) -> Vec<u8> {
    let sdk = json!({"name": "obit", "version": env!("CARGO_PKG_VERSION")});
    let mut head = json!({"event_id": event_id, "sent_at": precise(sent_at_unix_ms), "sdk": sdk});
    if let (None, Some(head)) = (event_id, head.as_object_mut()) {
        head.shift_remove("event_id");
    }
    let mut head = to_bytes(&head);
    head.push(b'\n');
    head
}

pub(super) fn item(envelope: &mut Vec<u8>, mut headers: Value, payload: &[u8]) {
    headers["length"] = payload.len().into();
    envelope.extend_from_slice(&to_bytes(&headers));
    envelope.push(b'\n');
    envelope.extend_from_slice(payload);
    envelope.push(b'\n');
}

pub(super) fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

pub(super) fn uuid(hex: &str) -> String {
    if hex.len() == 32 && hex.is_ascii() {
        return format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    }
    hex.to_owned()
}

/// RFC 3339 with milliseconds.
pub(super) fn precise(unix_ms: u64) -> String {
    text::utc(unix_ms).replace('Z', &format!(".{:03}Z", unix_ms % 1000))
}

#[cfg(test)]
mod tests;
