//! The page: all of it made here, so it can be read without a script; the script only throws the switches.
//!
//! Every word of a program's goes through maud, which escapes it.

#![forbid(unsafe_code)]

mod crash;
mod leaves;
mod stacks;

use super::routes::Desk;
use crate::report::kept::Kept;
use crate::report::{Level, Report, text};
use crate::spool;
use crate::sys::clock;
use crate::telemetry::audit;
use crate::telemetry::check::Standing;
use crate::telemetry::dns::answer::Severity;
use crate::telemetry::upgrade::State;
pub use crash::crash;
pub use leaves::Shown;
use maud::{DOCTYPE, Markup, html};

pub const STYLE: &str = include_str!("style.css");
pub const SCRIPT: &str = include_str!("script.js");
pub const ICON: &str = include_str!("icon.svg");

/// Attempts to send something that are shown, newest first; all are in `obit telemetry log`.
const ATTEMPTS: usize = 20;

fn page(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" type="image/svg+xml" href="/panel.svg";
                link rel="stylesheet" href="/panel.css";
                script src="/panel.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                (body)
            }
        }
    }
}

/// `/`, and `/preview` with the daily report open, as the inventory made it.
pub fn overview(desk: &Desk, asked: Option<Shown>) -> Markup {
    let now = clock::unix_ms();
    let crashes = desk.crashes();
    let is_asked = asked.is_some();
    let daily = asked.or_else(|| leaves::at_hand(desk));
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    page(
        &format!("obit · {host}"),
        html! {
            header {
                h1 { "obit " span.host { (host) } }
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
                    (leaves::leaves(desk, &desk.consent(), daily.as_ref(), is_asked))
                }
                section aria-labelledby="sent" {
                    h2 id="sent" { "What was sent" }
                    (sent(desk, now))
                }
            }
            footer {
                "obit " (env!("CARGO_PKG_VERSION"))
                @if let Some(dir) = &desk.state_dir { " · " code { (dir.display()) } }
                " · " a href="/v1/openapi.json" { "API" }
                " · " a href="/metrics" { "Metrics" }
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

/// A moment as people count it, with the exact one for those who point at it.
fn ago(at_unix_ms: u64, now: u64) -> Markup {
    let utc = text::utc(at_unix_ms);
    html! { time datetime=(utc) title=(utc) { (text::duration(now.saturating_sub(at_unix_ms))) " ago" } }
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
        @else {
            ul.cards {
                @for run in &living {
                    li {
                        p.name { strong { (run.component) } @if let Some(release) = &run.release { " " span.state { (release) } } }
                        p {
                            "for " time datetime=(text::utc(run.started_unix_ms)) title=(text::utc(run.started_unix_ms)) {
                                (text::duration(now.saturating_sub(run.started_unix_ms)))
                            }
                            @if let Some(environment) = &run.environment { " · " (environment) }
                        }
                        @if let Some(exe) = &run.exe { p { code { (exe.display()) } } }
                    }
                }
            }
        }
    }
}

fn deaths(crashes: &[Kept], now: u64) -> Markup {
    html! {
        @if crashes.is_empty() { p.empty { "No deaths to tell of." } }
        @else {
            div.scroll tabindex="0" role="region" aria-label="Deaths, a table that scrolls" {
                table.deaths {
                    thead { tr { th scope="col" { "Death" } th scope="col" { "Program" } th scope="col" { "When" } th scope="col" { "Report" } } }
                    tbody {
                        @for kept in crashes { (death(kept, now)) }
                    }
                }
            }
            @if crashes.len() == crate::limits::API_CRASHES {
                p.empty.below { "Older ones: " code { "obit crashes list" } "." }
            }
        }
    }
}

fn death(kept: &Kept, now: u64) -> Markup {
    let when = ago(kept.entry.at_unix_ms, now);
    match &kept.report {
        Some(report) => html! {
            tr {
                td {
                    a href={ "/crashes/" (kept.entry.id) } { span.(colour(report)) { (report.kind) } }
                    p.summary { (report.summary) }
                    @if let Some(exception) = report.exceptions.last().filter(|last| last.kind != report.kind) {
                        p.summary.words { strong { (exception.kind) } @if !exception.value.is_empty() { ": " (exception.value) } }
                    }
                }
                td { (report.component) }
                td { (when) }
                td { (state(kept)) }
            }
        },
        None => html! {
            tr {
                td { code { (kept.entry.id) } p.summary { "the file cannot be read" } }
                td {}
                td { (when) }
                td { (state(kept)) }
            }
        },
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

/// Colour of a result: an HTTP status, or words.
fn outcome(result: &str) -> &'static str {
    match result.parse() {
        Ok(200..300) => "good",
        Ok(_) => "bad",
        Err::<u16, _>(_) => "plain",
    }
}

/// The end of the audit log.
fn sent(desk: &Desk, now: u64) -> Markup {
    let records = desk.state_dir.as_deref().map(audit::read).unwrap_or_default();
    html! {
        @if records.is_empty() { p.empty { "Nothing was sent." } }
        @else {
            div.scroll tabindex="0" role="region" aria-label="What was sent, a table that scrolls" {
                table.audit {
                    thead { tr { th scope="col" { "What" } th scope="col" { "Where" } th scope="col" { "When" } th scope="col" { "Result" } } }
                    tbody {
                        @for record in records.iter().rev().take(ATTEMPTS) {
                            tr {
                                td { code { (record.what) } p.summary { (record.channel) " · " (text::size(record.bytes)) } }
                                td { code { (record.to) } p.summary { (record.proxy) } }
                                td { (ago(record.at_unix_ms, now)) }
                                td.(outcome(&record.result)) { (record.result) }
                            }
                        }
                    }
                }
            }
        }
        @if records.len() > ATTEMPTS { p.empty.below { "All of it: " code { "obit telemetry log" } "." } }
    }
}
