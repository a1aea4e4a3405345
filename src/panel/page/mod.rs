//! The page: all of it made here, so it can be read without a script; the script only throws the switches.
//!
//! Every word of a program's goes through maud, which escapes it.

#![forbid(unsafe_code)]

mod stacks;

use super::routes::Desk;
use super::switches::destination;
use crate::consent::{Channel, Consent};
use crate::report::kept::Kept;
use crate::report::{Level, Report, text};
use crate::spool;
use crate::sys::clock;
use crate::telemetry::audit;
use crate::telemetry::check::{self, Standing};
use crate::telemetry::dns::answer::Severity;
use crate::telemetry::upgrade::State;
use maud::{DOCTYPE, Markup, html};

pub const STYLE: &str = include_str!("style.css");
pub const SCRIPT: &str = include_str!("script.js");

/// Attempts to send something that are shown, newest first; all are in `obit telemetry log`.
const ATTEMPTS: usize = 20;
/// The last lines of stderr on a crash's page; all of it is in its JSON.
const STDERR_LINES: usize = 200;

fn page(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href="/panel.css";
                script src="/panel.js" defer {}
            }
            body { (body) }
        }
    }
}

/// `/`.
pub fn overview(desk: &Desk) -> Markup {
    let now = clock::unix_ms();
    let crashes = desk.crashes();
    let consent = desk.consent();
    page(
        "obit",
        html! {
            a.skip href="#main" { "Skip to content" }
            header {
                h1 { "obit" }
                p { (headline(desk, &crashes)) }
            }
            main id="main" {
                (upgrade(&desk.upgrade()))
                section aria-labelledby="running" {
                    h2 id="running" { "Running" }
                    (components(desk, now))
                }
                section aria-labelledby="deaths" {
                    h2 id="deaths" { "Deaths" }
                    (deaths(&crashes, now))
                }
                section aria-labelledby="leaves" {
                    h2 id="leaves" { "What may leave" }
                    (switches(desk, &consent))
                    (preview(desk))
                }
                section aria-labelledby="sent" {
                    h2 id="sent" { "What was sent" }
                    (sent(desk, now))
                }
            }
            footer {
                "obit " (env!("CARGO_PKG_VERSION"))
                @if let Some(dir) = &desk.state_dir { " · " (dir.display()) }
                " · " a href="/v1/openapi.json" { "API" }
            }
        },
    )
}

fn headline(desk: &Desk, crashes: &[Kept]) -> String {
    let running = desk.components().len();
    let day_ago = clock::unix_ms().saturating_sub(86_400_000);
    let recent = crashes.iter().filter(|kept| kept.entry.at_unix_ms > day_ago).count();
    let programs = if running == 1 { "1 program runs".to_owned() } else { format!("{running} programs run") };
    let deaths = match recent {
        0 => "nobody died in the last 24 hours".to_owned(),
        1 => "1 death in the last 24 hours".to_owned(),
        n => format!("{n} deaths in the last 24 hours"),
    };
    format!("{programs}; {deaths}.")
}

/// A banner while there is a newer release, a line where that is not known, nothing where nothing is asked.
fn upgrade(standing: &Standing) -> Markup {
    let notice = standing.record.as_ref().and_then(|record| record.notice_for(&standing.state));
    match &standing.state {
        State::Disabled(_) | State::Current => html! {},
        State::Upgrade(severity) => html! {
            section.notice.(severity.as_str()) role=(if *severity == Severity::Available { "status" } else { "alert" }) aria-labelledby="upgrade" {
                h2 id="upgrade" { (heading(*severity)) }
                p {
                    (standing.sentence()) "."
                    @if let Some(url) = notice.and_then(|notice| notice.url.as_ref()) {
                        " " a href=(url) rel="noopener noreferrer" { "Read more" }
                    }
                }
                @if let Some(failure) = standing.failed_since() { p.empty { "Since then: " (failure) "." } }
            }
        },
        State::Unknown(_) | State::Unverified(_) => html! {
            section.notice aria-labelledby="upgrade" {
                h2 id="upgrade" { "Upgrades" }
                p.empty { "Whether there is a newer release is " (standing.sentence()) "." }
            }
        },
    }
}

fn heading(severity: Severity) -> &'static str {
    match severity {
        Severity::Mandatory => "Security upgrade",
        Severity::Recommended => "Upgrade recommended",
        Severity::Available | Severity::Current => "Upgrade available",
    }
}

fn components(desk: &Desk, now: u64) -> Markup {
    let Some(dir) = &desk.state_dir else {
        return html! { p.empty { "There is no state directory, so nothing is known of who runs." } };
    };
    let living = spool::marker::living(dir);
    html! {
        @if living.is_empty() { p.empty { "No program has a marker here." } }
        ul.cards {
            @for run in &living {
                li {
                    strong { (run.component) }
                    @if let Some(release) = &run.release { " " span.tag { (release) } }
                    br;
                    "for " time datetime=(text::utc(run.started_unix_ms)) { (text::duration(now.saturating_sub(run.started_unix_ms))) }
                    @if let Some(exe) = &run.exe { br; code { (exe.display()) } }
                }
            }
        }
    }
}

fn deaths(crashes: &[Kept], now: u64) -> Markup {
    html! {
        @if crashes.is_empty() { p.empty { "No deaths to tell of." } }
        @else {
            div.scroll {
                table {
                    thead { tr { th scope="col" { "Death" } th scope="col" { "Program" } th scope="col" { "When" } th scope="col" { "Report" } } }
                    tbody {
                        @for kept in crashes { (death(kept, now)) }
                    }
                }
            }
        }
    }
}

fn death(kept: &Kept, now: u64) -> Markup {
    let ago = text::duration(now.saturating_sub(kept.entry.at_unix_ms));
    let when = html! { time datetime=(text::utc(kept.entry.at_unix_ms)) { (ago) " ago" } };
    match &kept.report {
        Some(report) => html! {
            tr {
                td {
                    a href={ "/crashes/" (kept.entry.id) } { span class=(colour(report)) { (report.kind) } }
                    br; small { (report.summary) }
                }
                td { (report.component) }
                td { (when) }
                td { (state(kept)) }
            }
        },
        None => {
            html! { tr { td { code { (kept.entry.id) } br; small { "the file cannot be read" } } td {} td { (when) } td { (state(kept)) } } }
        }
    }
}

fn colour(report: &Report) -> &'static str {
    if report.level == Level::Fatal { "fatal" } else { "error" }
}

fn state(kept: &Kept) -> Markup {
    let word = match kept.state() {
        spool::State::Open | spool::State::Pending => "kept here",
        spool::State::Sent => "delivered",
        spool::State::Rejected => "refused",
        spool::State::Corrupt => "corrupt",
    };
    html! { span class={ "state " (kept.state().as_str()) } { (word) } }
}

fn switches(desk: &Desk, consent: &Consent) -> Markup {
    html! {
        @for warning in &consent.warnings { p.warning role="alert" { (warning) } }
        ul.switches {
            @for channel in Channel::ALL { (switch(desk, consent, channel)) }
        }
        noscript { p.empty { "The switches need JavaScript; obit telemetry does the same in a terminal." } }
    }
}

/// What would be sent, as far as it can be known without asking anybody.
fn preview(desk: &Desk) -> Markup {
    html! {
        details {
            summary { "What would be sent" }
            @match check::preview(&desk.settings, desk.state_dir.as_deref()) {
                Ok((name, told)) => { p { "The version query: " (told) "." } pre tabindex="0" { (name) } }
                Err(why) => p.empty { "No version query: " (why) "." },
            }
            p.empty { "A crash report is the JSON on its page. The daily report, byte for byte: " code { "obit telemetry show" } "." }
        }
    }
}

/// The end of the audit log.
fn sent(desk: &Desk, now: u64) -> Markup {
    let records = desk.state_dir.as_deref().map(audit::read).unwrap_or_default();
    html! {
        @if records.is_empty() { p.empty { "Nothing was sent." } }
        @else {
            div.scroll tabindex="0" role="region" aria-labelledby="sent" {
                table {
                    thead { tr { th scope="col" { "What" } th scope="col" { "Where" } th scope="col" { "When" } th scope="col" { "Result" } } }
                    tbody {
                        @for record in records.iter().rev().take(ATTEMPTS) {
                            tr {
                                td { (record.channel) br; small { (record.what) " · " (text::size(record.bytes)) } }
                                td { (record.to) br; small { (record.proxy) } }
                                td { time datetime=(text::utc(record.at_unix_ms)) { (text::duration(now.saturating_sub(record.at_unix_ms))) " ago" } }
                                td { (record.result) }
                            }
                        }
                    }
                }
            }
        }
        @if records.len() > ATTEMPTS { p.empty { "All of it: " code { "obit telemetry log" } "." } }
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
    let wished = consent.stored.choice(channel).is_none_or(|choice| choice.on);
    let open = consent.grant(channel).is_ok();
    let destination = destination(desk, channel);
    let id = format!("switch-{channel}");
    let blocked = consent.blocks_of(channel).any(|block| block.source != crate::consent::Source::Stored);
    html! {
        li {
            button.held[blocked] type="button" role="switch" id=(id) aria-checked=(wished) data-name=(name(channel)) disabled
                aria-label=(channel.what()) aria-describedby={ (id) "-why" } { span {} }
            div {
                strong { (channel.what()) }
                " " span class={ "state " (if open && destination.is_some() { "sent" } else { "off" }) } {
                    @if !open { "off" } @else if destination.is_none() { "goes nowhere" } @else { "on" }
                }
                p id={ (id) "-why" } {
                    @match &destination {
                        Some(where_to) if open => { "Goes to " code { (where_to) } "." },
                        None if open => { (unset(channel)) },
                        _ => "Nothing leaves.",
                    }
                    @for block in consent.blocks_of(channel) { " Closed by " strong { (block.by) } "." }
                    @if blocked { " That cannot be changed here." }
                }
            }
        }
    }
}

fn unset(channel: Channel) -> &'static str {
    match channel {
        Channel::Errors | Channel::Daily => "No DSN is set, so nothing leaves.",
        Channel::Dns => "No DNS zone is set, so nothing leaves.",
    }
}

/// `/crashes/ID`.
pub fn crash(kept: &Kept) -> Markup {
    let now = clock::unix_ms();
    let Some(report) = &kept.report else {
        return page("obit", html! { main { p.empty { "the file cannot be read" } } });
    };
    page(
        &format!("{} · {}", report.kind, report.component),
        html! {
            a.skip href="#main" { "Skip to content" }
            header {
                p { a href="/" { "← all" } }
                h1 { span class=(colour(report)) { (report.kind) } " " (report.component) }
                p { (report.summary) }
            }
            main id="main" {
                (stacks::exceptions(report))
            section aria-label="Facts" {
                    dl {
                        @for (name, value) in text::rows(report, &kept.whereabouts(), now) {
                            @if !value.is_empty() { dt { (name) } dd { (value) } }
                        }
                    }
                }
                @if let Some(tail) = &report.stderr_tail {
                    section aria-labelledby="words" {
                        h2 id="words" { "Last words" }
                        pre tabindex="0" { (last_lines(&tail.text)) }
                    }
                }
                (stacks::threads(report))
            @if !report.gaps.is_empty() {
                    section aria-labelledby="gaps" {
                        h2 id="gaps" { "Not known" }
                        ul { @for gap in &report.gaps { li { strong { (gap.what) } @if !gap.why.is_empty() { ": " (gap.why) } } } }
                    }
                }
            }
            footer { a href={ "/v1/crashes/" (kept.entry.id) } { "JSON" } }
        },
    )
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(STDERR_LINES)..].join("\n")
}
