//! One death in full: what ended it, the facts, its last words, every thread, and what could not be learnt.

#![forbid(unsafe_code)]

use super::{colour, page, stacks};
use crate::report::kept::Kept;
use crate::report::text;
use crate::sys::clock;
use maud::{Markup, html};

/// The last lines of stderr; all of it is in the JSON.
const STDERR_LINES: usize = 200;

/// `/crashes/ID`.
pub fn crash(kept: &Kept) -> Markup {
    let now = clock::unix_ms();
    let Some(report) = &kept.report else {
        return page("obit", html! { main { p.empty { "the file cannot be read" } } });
    };
    page(
        &format!("{} · {}", report.kind, report.component),
        html! {
            header {
                p { a href="/" { "← All deaths" } }
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
                        @if tail.text.trim().is_empty() { p.empty { "It wrote nothing to stderr." } }
                        @else { pre tabindex="0" { (last_lines(&tail.text)) } }
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
