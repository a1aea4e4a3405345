//! `/v1/telemetry`: the switches as the page of the product documents them, and what holds them.
//!
//! `telemetryEnabled` is the daily report and the version query, `reportErrors` the crash reports, `versionCheck` (ours) the
//! query alone. A PUT stores the wish, then tells what is stored, what is in force, and who stands against it.

#![forbid(unsafe_code)]

use super::routes::{Answer, Asked, Desk};
use crate::consent::{Channel, stored};
use crate::report::text;
use crate::say::{Level, say};
use crate::telemetry::destination::Destination;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// Any part of it may be missing; anything else is refused, so that a misspelt switch is not taken for one that was thrown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(rename = "telemetryEnabled")]
    telemetry_enabled: Option<bool>,
    #[serde(rename = "reportErrors")]
    report_errors: Option<bool>,
    #[serde(rename = "versionCheck")]
    version_check: Option<bool>,
}

/// What is stored, what is in force, and why.
pub fn state(desk: &Desk) -> Value {
    let consent = desk.consent();
    let wished = |channel| consent.stored.choice(channel).is_none_or(|choice| choice.on);
    let channels: Vec<Value> = Channel::ALL
        .into_iter()
        .map(|channel| {
            let choice = consent.stored.choice(channel);
            let destination = Destination::of(channel, &desk.settings);
            json!({
                "channel": channel.as_str(),
                "what": channel.what(),
                "open": consent.grant(channel).is_ok(),
                "destination": destination.shown(),
                "unusable": destination.unusable(),
                "stored": choice.map(|choice| json!({
                    "on": choice.on, "by": choice.by, "at": text::utc(choice.at_unix_ms),
                })),
                "closedBy": consent.blocks_of(channel).map(|block| json!({
                    "source": block.source.as_str(), "by": block.by,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    let effective: serde_json::Map<String, Value> = Channel::ALL
        .into_iter()
        .map(|channel| {
            let sends = consent.grant(channel).is_ok() && Destination::of(channel, &desk.settings).is_usable();
            (channel.as_str().to_owned(), sends.into())
        })
        .collect();
    json!({
        "telemetryEnabled": wished(Channel::Daily),
        "reportErrors": wished(Channel::Errors),
        "versionCheck": wished(Channel::Dns),
        "effective": effective,
        "channels": channels,
        "warnings": consent.warnings,
    })
}

/// Stores a wish.
pub fn put(desk: &Desk, asked: &Asked) -> Answer {
    let media = asked.content_type.as_deref().unwrap_or("");
    if !is_json(media) {
        return Answer::message(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type has to be application/json, in UTF-8",
        );
    }
    let wish: Wish = match serde_json::from_slice(&asked.body) {
        Ok(wish) => wish,
        Err(error) => return Answer::message(StatusCode::BAD_REQUEST, &format!("the body cannot be used: {error}")),
    };
    let choices: Vec<(Channel, bool)> = [
        (Channel::Errors, wish.report_errors),
        (Channel::Daily, wish.telemetry_enabled),
        (Channel::Dns, wish.version_check.or(wish.telemetry_enabled)),
    ]
    .into_iter()
    .filter_map(|(channel, on)| Some((channel, on?)))
    .collect();
    let Some(dir) = &desk.state_dir else {
        return Answer::message(StatusCode::SERVICE_UNAVAILABLE, "there is no state directory to store a choice in");
    };
    if !choices.is_empty() {
        let before = desk.consent().stored;
        let who = format!("the API, user {}", desk.user);
        if let Err(error) = stored::choose(dir, &choices, &who) {
            return Answer::message(
                StatusCode::SERVICE_UNAVAILABLE,
                &format!("the choice cannot be stored in {}: {error}; nothing has changed", dir.display()),
            );
        }
        let words: Vec<String> = choices
            .iter()
            .filter(|(channel, on)| before.choice(*channel).map(|choice| choice.on) != Some(*on))
            .map(|(channel, on)| format!("{} {}", channel.what(), if *on { "on" } else { "off" }))
            .collect();
        if !words.is_empty() {
            say(Level::Info, &format!("{who} switched {}", words.join(", ")));
        }
    }
    Answer::json(&state(desk))
}

/// `application/json`, with `charset=utf-8` or no charset.
fn is_json(media: &str) -> bool {
    let mut parts = media.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn a_charset_may_be_named_as_the_page_does_it() {
        for media in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON;Charset=\"UTF-8\"",
            "application/json; x=y",
        ] {
            assert!(is_json(media), "{media}");
        }
        for media in [
            "",
            "text/plain",
            "application/json; charset=latin1",
            "application/jsonx",
            "application/x-www-form-urlencoded",
        ] {
            assert!(!is_json(media), "{media}");
        }
    }
}
