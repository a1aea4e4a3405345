//! Exceptions and threads on a crash's page: the program's own calls stand out, all of them can be opened.

#![forbid(unsafe_code)]

use crate::evidence::stack::{Exception, Frame, Stack, ThreadStack};
use crate::report::Report;
use maud::{Markup, html};

/// More threads are in the JSON; a page of thousands helps nobody.
const THREADS: usize = 64;

/// The chain, the one that ended the program first.
pub fn exceptions(report: &Report) -> Markup {
    html! {
        @for (i, exception) in report.exceptions.iter().rev().enumerate() { (exception_section(exception, i == 0)) }
    }
}

fn exception_section(exception: &Exception, is_main: bool) -> Markup {
    let label = if is_main { "Exception" } else { "Behind it" };
    html! {
        section aria-label=(label) {
            h2 { @if !is_main { span.tag { "behind it" } " " } (exception.kind) }
            @if !exception.value.is_empty() { pre.wraps tabindex="0" { (exception.value) } }
            @if let Some(stack) = &exception.stack { (frames(stack)) }
        }
    }
}

/// Every thread, the one that crashed open.
pub fn threads(report: &Report) -> Markup {
    let shown = report.threads.iter().take(THREADS);
    html! {
        @if !report.threads.is_empty() {
            section aria-labelledby="threads" {
                h2 id="threads" { "Threads" }
                @for thread in shown { (one_thread(thread, report.last_moment())) }
                @if report.threads.len() > THREADS {
                    p.empty { (report.threads.len() - THREADS) " more are in the JSON." }
                }
            }
        }
    }
}

fn one_thread(thread: &ThreadStack, last_moment: &str) -> Markup {
    html! {
        details open[thread.crashed] {
            summary {
                (thread.tid)
                @if let Some(name) = &thread.name { " " strong { (name) } }
                @if let Some(state) = &thread.state { " " span.tag { (state) } }
                @if thread.crashed { " " span.fatal { (last_moment) } }
            }
            (frames(&thread.stack))
        }
    }
}

fn frames(stack: &Stack) -> Markup {
    html! {
        ol.frames {
            @for (i, frame) in stack.frames.iter().enumerate() {
                @if let Some(hole) = stack.omitted.filter(|hole| hole.before == i) {
                    li.hole { @if hole.frames == 0 { "… some calls are missing" } @else { "… " (hole.frames) " calls are left out" } }
                }
                li.app[frame.in_app] {
                    (frame.function.as_deref().unwrap_or("?"))
                    @if let Some(place) = place(frame) { " " span.at { (place) } }
                }
            }
        }
    }
}

fn place(frame: &Frame) -> Option<String> {
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => Some(format!("{file}:{line}")),
        (Some(file), None) => Some(file.clone()),
        (None, _) => frame.package.clone(),
    }
}
