//! What may leave: a switch for each channel, who holds it, and the very bytes that would go.
//!
//! A switch that is decided elsewhere cannot be thrown here, and says where. The bytes are those of `obit telemetry show`; what
//! they say stands beside them.

#![forbid(unsafe_code)]

use super::super::routes::Desk;
use crate::consent::{Block, Channel, Consent, Source};
use crate::report::daily::Value;
use crate::report::text;
use crate::spool::{Kind, State};
use crate::telemetry::destination::Destination;
use crate::telemetry::preview::{self, Report};
use maud::{Markup, html};

/// The daily report, or why there is none.
pub type Shown = Result<Report, String>;

/// The daily report as far as it is there without asking anybody; `None`: its inventory would have to be asked, which nobody
/// does who only opens the page.
pub fn at_hand(desk: &Desk) -> Option<Shown> {
    let dir = desk.state_dir.as_deref();
    match preview::waiting(&desk.settings, dir) {
        Some(report) => Some(Ok(report)),
        None if desk.settings.inventory.is_some() => None,
        None => Some(preview::fresh(&desk.settings, dir)),
    }
}

/// The section's inside.
pub fn leaves(desk: &Desk, consent: &Consent, daily: Option<&Shown>, open: bool) -> Markup {
    html! {
        @for warning in &consent.warnings { p.warning role="alert" { (warning) } }
        ul.switches {
            @for channel in Channel::ALL {
                li {
                    (switch(desk, consent, channel))
                    @match channel {
                        Channel::Errors => (errors(desk)),
                        Channel::Daily => (report(daily, open)),
                        Channel::Dns => (question(desk)),
                    }
                }
            }
        }
        noscript { p.empty.below { "Without JavaScript the switches only show how things are; " code { "obit telemetry" } " throws them in a terminal." } }
    }
}

/// The name of a channel's switch in `/v1/telemetry`.
fn name(channel: Channel) -> &'static str {
    match channel {
        Channel::Errors => "reportErrors",
        Channel::Daily => "telemetryEnabled",
        Channel::Dns => "versionCheck",
    }
}

fn switch(desk: &Desk, consent: &Consent, channel: Channel) -> Markup {
    let destination = Destination::of(channel, &desk.settings);
    let wished = consent.stored.choice(channel).is_none_or(|choice| choice.on);
    let holders: Vec<&Block> = consent.blocks_of(channel).filter(|block| block.source != Source::Stored).collect();
    let held = !holders.is_empty() || desk.state_dir.is_none();
    let open = consent.grant(channel).is_ok();
    let id = format!("switch-{channel}");
    let (state, class) = match &destination {
        _ if !open => ("off", "off"),
        Destination::Unset(_) => ("goes nowhere", "off"),
        Destination::Unusable { .. } => ("unusable", "rejected"),
        Destination::To(_) => ("on", "sent"),
    };
    html! {
        button.held[held] type="button" role="switch" id=(id) aria-checked=(wished && holders.is_empty())
            data-name=(name(channel)) disabled aria-label=(channel.what()) aria-describedby={ (id) "-why" } { span {} }
        div.channel {
            h3 { (channel.what()) " " span.state.(class) { (state) } }
            p id={ (id) "-why" } {
                @match &destination {
                    Destination::To(to) if open => { "Goes to " code { (to) } "." },
                    Destination::To(_) => "Nothing leaves.",
                    Destination::Unset(what) => { "No " (what) " is set, so nothing leaves." },
                    Destination::Unusable { shown, why } => { "Nothing can leave to " code { (shown) } ": " (why) "." },
                }
                @for block in consent.blocks_of(channel) { " Closed by " strong { (block.by) } "." }
                @if let Some(how) = holders.first().map(|block| how_to_open(block.source)) { " This cannot be changed here: " (how) "." }
                @else if desk.state_dir.is_none() { " This cannot be changed here: there is no state directory to keep a choice in." }
            }
        }
    }
}

/// Where whoever closed it would have to be changed.
fn how_to_open(source: Source) -> &'static str {
    match source {
        Source::Variable => "it is decided by the environment that obit was started with",
        Source::Option => "it is decided by the command line or the configuration that obit was started with",
        Source::ClusterSpec => "it is decided by the cluster spec, and follows it",
        Source::Stored => "it is decided by the stored choice",
    }
}

fn errors(desk: &Desk) -> Markup {
    let waiting = desk.spool().map(|spool| spool.entries_in(State::Pending)).unwrap_or_default();
    let waiting = waiting.iter().filter(|entry| entry.kind == Kind::Crash).count();
    html! {
        p.empty.below {
            @match waiting {
                0 => "No report waits. ",
                1 => "1 report waits. ",
                n => { (n) " reports wait. " },
            }
            "Each is told in full on its page, under Deaths; " code { "obit telemetry show --channel errors" } " prints the bytes."
        }
    }
}

fn report(daily: Option<&Shown>, open: bool) -> Markup {
    let report = match daily {
        None => {
            return html! {
                p.empty.below {
                    "The report tells what the inventory says at that moment. "
                    a href="/preview#daily" { "Ask it now and see the report" }
                }
            };
        }
        Some(Err(why)) => return html! { p.empty.below { "No report can be shown: " (why) "." } },
        Some(Ok(report)) => report,
    };
    let bytes: usize = report.envelopes.iter().map(Vec::len).sum();
    html! {
        details.below id="daily" open[open] {
            summary {
                @if report.waits { "The report that waits" } @else { "The report as it would be now" }
                span.empty { ", byte for byte · " (text::size(bytes as u64)) }
            }
            @if let Some(example) = &report.example { p.warning { "As an example: " (example) "." } }
            div.beside {
                div.bytes {
                    @for envelope in &report.envelopes {
                        pre tabindex="0" aria-label="The bytes that would be sent" { (String::from_utf8_lossy(envelope)) }
                    }
                }
                @if let Some(daily) = &report.daily { (in_words(daily)) }
            }
        }
    }
}

/// What the bytes say.
fn in_words(daily: &crate::report::daily::Daily) -> Markup {
    html! {
        dl.words {
            dt { "server name" } dd { (daily.server_name) }
            dt { "cluster" } dd { "a keyed hash, " code { (daily.cluster) } }
            dt { "product" } dd { (daily.product) }
            @if let Some(release) = &daily.release { dt { "release" } dd { (release) } }
            @if let Some(environment) = &daily.environment { dt { "environment" } dd { (environment) } }
            @for (name, value) in &daily.facts {
                dt { (name.replace('_', " ")) }
                dd { @match value { Value::Count(count) => (count), Value::Text(text) => (text) } }
            }
            @if !daily.unknown.is_empty() {
                dt { "not known" }
                dd.empty { (unknown(daily)) }
            }
        }
    }
}

/// Facts that are absent for the same reason are told together.
fn unknown(daily: &crate::report::daily::Daily) -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, why) in &daily.unknown {
        let name = name.replace('_', " ");
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    let told: Vec<String> = reasons.into_iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect();
    told.join("; ")
}

fn question(desk: &Desk) -> Markup {
    let question = match preview::question(&desk.settings, desk.state_dir.as_deref()) {
        Ok(question) => question,
        Err(_) if desk.settings.dns_zone.is_none() => return html! {},
        Err(why) => return html! { p.empty.below { "No question can be shown: " (why) "." } },
    };
    html! {
        details.below id="dns" {
            summary { "The question" span.empty { ", letter for letter · " (text::size(question.name.len() as u64)) } }
            @if let Some(example) = &question.example { p.warning { "As an example: " (example) "." } }
            p.sentence { (question.sentence()) "." }
            div.beside {
                div.bytes { pre tabindex="0" aria-label="The name that would be asked" { (question.name) } }
                dl.words {
                    @for (label, says) in question.parts() { dt { code { (label) } } dd { (says) } }
                }
            }
        }
    }
}
