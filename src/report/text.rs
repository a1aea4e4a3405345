//! The obituary for human eyes: readable at a glance in 80 columns, colours only where asked for.
//!
//! What the program wrote cannot reach the terminal: its colours are dropped, every other control character is spelled out.

#![forbid(unsafe_code)]

mod exceptions;
pub mod stacks;

use super::{BuildFacts, Level, Report, said};
use crate::evidence::stack::ThreadStack;
use crate::sys::signal::Signal;
use std::fmt::Write as _;

/// Lines of stderr shown; the rest is in `--json`.
const STDERR_LINES: usize = 20;
/// Longer lines of stderr are cut: minified code and one-line logs would bury the rest.
const STDERR_LINE_CHARS: usize = 500;
/// Where rows are wrapped.
const COLUMNS: usize = 80;
/// Where their values begin.
const INDENT: usize = 15;

/// How the page is to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    pub colour: bool,
}

impl Look {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// The whole page. `state` is where the report is on its way.
pub fn obituary(report: &Report, state: &str, now_unix_ms: u64, look: Look) -> String {
    let mut page = String::new();
    let colour = if report.level == Level::Fatal { "1;31" } else { "1;33" };
    let left = match &report.process.parent {
        Some(parent) => format!(", a child of {} (pid {})", plain(&parent.comm), parent.pid),
        None if report.process.descendant => ", left behind by the program".to_owned(),
        None => String::new(),
    };
    let _ = writeln!(
        page,
        "{}  {}{left}",
        look.paint(colour, &plain(&report.kind)),
        look.paint("1", &plain(&report.component))
    );
    let _ = writeln!(page, "{}\n", wrapped(&plain(&report.summary), 0));
    exceptions::told(report, look, &mut page);
    native_stacks(report, look, &mut page);
    for (name, value) in rows(report, state, now_unix_ms) {
        if !value.is_empty() {
            let _ = writeln!(page, "  {}{}", look.dim(&format!("{name:<13}")), wrapped(&plain(&value), INDENT));
        }
    }
    last_words(report, look, &mut page);
    if !report.gaps.is_empty() {
        let _ = writeln!(page, "\n{}", look.dim("not known"));
        for gap in &report.gaps {
            let colon = if gap.why.is_empty() { "" } else { ": " };
            let sentence = format!("{}{colon}{}", plain(&gap.what), plain(&gap.why));
            let _ = writeln!(page, "  {} {}", look.dim("·"), wrapped(&sentence, 4));
        }
    }
    page
}

/// Of threads whose machine code was unwound; those that a runtime printed stand with its exception.
fn native_stacks(report: &Report, look: Look, page: &mut String) {
    const EXTENT: stacks::Extent = stacks::Extent { frames: 16, other_frames: 4, places: 6 };
    let is_native = |thread: &ThreadStack| thread.stack.frames.iter().any(|frame| frame.trust.is_some());
    if report.threads.iter().any(is_native) {
        stacks::threads(&report.threads, report.last_moment(), EXTENT, look, page);
        page.push('\n');
    }
}

/// Name and value of each line; an empty value leaves the line out.
pub fn rows(report: &Report, state: &str, now_unix_ms: u64) -> Vec<(&'static str, String)> {
    let process = &report.process;
    let ago = match now_unix_ms.checked_sub(report.at_unix_ms) {
        Some(ms) => format!(", {} ago", duration(ms)),
        None => String::new(),
    };
    let minimal = if report.complete { "" } else { ", only the minimum was written" };
    let run = [report.run.release.as_deref(), report.run.environment.as_deref()];
    let run: Vec<&str> = run.into_iter().flatten().collect();
    let kubernetes: Vec<String> = report.kubernetes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let suppressed = match report.suppressed {
        0 => String::new(),
        n => format!("{n} more like this since the last report were only counted"),
    };
    vec![
        ("when", format!("{}{ago}", utc(report.at_unix_ms))),
        ("exit", exit(report)),
        ("stop", stop(report)),
        ("memory", memory(report)),
        ("crash loop", suppressed),
        ("command", command(&process.argv)),
        ("program", process.exe.clone().filter(|exe| process.argv.first() != Some(exe)).unwrap_or_default()),
        ("build id", process.build_id.clone().unwrap_or_default()),
        ("built by", process.built.as_ref().and_then(|built| built.toolchain.clone()).unwrap_or_default()),
        ("built from", process.built.as_ref().map(BuildFacts::source).unwrap_or_default()),
        ("release", run.join(", ")),
        ("directory", process.cwd.clone().unwrap_or_default()),
        ("process", process_row(report)),
        ("used", used(report)),
        ("host", host(report)),
        ("container", report.host.container_id.as_ref().map(|id| id.chars().take(12).collect()).unwrap_or_default()),
        ("kubernetes", kubernetes.join(", ")),
        ("minidump", report.minidump.as_ref().map(|text| size(text.len() as u64 / 4 * 3)).unwrap_or_default()),
        ("core file", process.core_file.clone().unwrap_or_default()),
        ("core pattern", core_pattern(report)),
        ("report", format!("{}, {state}{minimal}", report.event_id)),
    ]
}

/// As a shell would take it, so that it can be read and copied.
fn command(argv: &[String]) -> String {
    let bare = |c: char| c.is_alphanumeric() || "-_=+./:,@%^[]…".contains(c);
    let quoted: Vec<String> = argv
        .iter()
        .map(|arg| if !arg.is_empty() && arg.chars().all(bare) { arg.clone() } else { format!("'{arg}'") })
        .collect();
    quoted.join(" ")
}

fn stop(report: &Report) -> String {
    let Some(stop) = &report.stop else { return String::new() };
    let sender = match stop.sender_pid {
        0 => "outside the container".to_owned(),
        pid => format!("pid {pid}, uid {}", stop.sender_uid),
    };
    let again = if stop.hurried { ", asked for again meanwhile" } else { "" };
    format!("{} from {sender}, {} before the end{again}", stop.signal, duration(stop.before_death_ms))
}

fn memory(report: &Report) -> String {
    let Some(oom) = &report.oom else { return String::new() };
    let kills = match oom.kills_after.saturating_sub(oom.kills_before) {
        0 => None,
        1 => Some("1 OOM kill during the run".to_owned()),
        n => Some(format!("{n} OOM kills during the run")),
    };
    let limit = oom.limit_bytes.map(|n| format!("limit {}", size(n)));
    // Without a limit the peak is that of a machine, page cache and all.
    let peak = oom.peak_bytes.filter(|_| limit.is_some()).map(|n| format!("peak {}", size(n)));
    [kills, limit, peak].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn process_row(report: &Report) -> String {
    let process = &report.process;
    let ids: Vec<String> = process.ns_pids.iter().map(i32::to_string).collect();
    let outside = if ids.len() > 1 { format!(" ({} by namespace)", ids.join(" ")) } else { String::new() };
    let pid = process.pid.map(|pid| format!("pid {pid}{outside}"));
    let uid = process.uid.map(|uid| format!("uid {uid}"));
    let gid = process.gid.map(|gid| format!("gid {gid}"));
    let lived = report.run.uptime_ms.map(|ms| format!("lived {}", duration(ms)));
    [pid, uid, gid, lived].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn used(report: &Report) -> String {
    let Some(usage) = &report.process.usage else { return String::new() };
    let seconds = |us: u64| format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000);
    let faults = match usage.major_faults {
        0 => String::new(),
        n => format!(", {n} pages read from disk"),
    };
    let memory = size(usage.max_rss_kib.saturating_mul(1024));
    format!("{} user, {} system, {memory} at most{faults}", seconds(usage.user_us), seconds(usage.system_us))
}

fn host(report: &Report) -> String {
    let host = &report.host;
    let system =
        [host.os_name.as_deref(), host.os_version.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let kernel = format!("{} {}", host.kernel, host.arch);
    let memory = host.memory_bytes.map(size).unwrap_or_default();
    let cpus = match host.cpus {
        Some(1) => "1 CPU".to_owned(),
        Some(n) => format!("{n} CPUs"),
        None => String::new(),
    };
    let parts = [host.name.as_str(), &system, kernel.trim(), &cpus, &memory];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

/// Only where a core is the question.
fn core_pattern(report: &Report) -> String {
    let dumps = report.exit.signal_number.and_then(Signal::new).is_some_and(Signal::dumps_core);
    report.host.core_pattern.clone().filter(|_| dumps).unwrap_or_default()
}

fn last_words(report: &Report, look: Look, page: &mut String) {
    let Some(tail) = report.stderr_tail.as_ref().filter(|tail| !tail.text.trim().is_empty()) else { return };
    let text = without_colours(&tail.text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let hidden = lines.len().saturating_sub(STDERR_LINES);
    let mut note = Vec::new();
    if hidden > 0 || tail.kept_bytes < tail.total_bytes {
        note.push(format!("the last {} lines of {}", lines.len() - hidden, size(tail.total_bytes)));
    }
    match tail.masked {
        0 => {}
        1 => note.push("1 secret masked".to_owned()),
        n => note.push(format!("{n} secrets masked")),
    }
    let note = if note.is_empty() { String::new() } else { format!(" ({})", note.join(", ")) };
    let _ = writeln!(page, "\n{}", look.dim(&format!("stderr{note}")));
    for line in &lines[hidden..] {
        let shown = plain(line);
        let cut = shown.char_indices().nth(STDERR_LINE_CHARS).map(|(at, _)| &shown[..at]);
        let _ = match cut {
            Some(cut) => writeln!(page, "  {} {cut}{}", look.dim("│"), look.dim("…")),
            None => writeln!(page, "  {} {shown}", look.dim("│")),
        };
    }
}

/// For the termination log and for lists: one line, without a newline, whoever may read it.
pub fn one_line(report: &Report) -> String {
    let release = report.run.release.as_ref().map(|release| format!(" {}", plain(release))).unwrap_or_default();
    let said = said::headline(report).map(|said| format!(", {}", plain(&said))).unwrap_or_default();
    format!(
        "{}{release}: {}{said} ({}); report {}",
        plain(&report.component),
        plain(&report.kind),
        plain(&report.summary),
        report.event_id
    )
}

fn exit(report: &Report) -> String {
    let exit = &report.exit;
    let Some(signal) = &exit.signal else {
        let code = exit.code.map(|code| format!("code {code}"));
        let told = exit.told_code.filter(|told| exit.code != Some(*told)).map(|told| format!("told as code {told}"));
        return [code, told].into_iter().flatten().collect::<Vec<_>>().join(", ");
    };
    let core = match exit.core_dumped {
        Some(true) => ", core dumped",
        Some(false) => ", no core",
        None => "",
    };
    let number = exit.signal_number.map(|n| format!(" (signal {n})")).unwrap_or_default();
    let told = exit.told_code.map(|told| format!(", told as code {told}")).unwrap_or_default();
    format!("{signal}{number}{told}{core}")
}

/// Text from outside on one line: control characters, escape sequences among them, and the marks that turn the reading
/// direction or hide are shown and not obeyed.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str("    "),
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                out.extend(c.escape_unicode());
            }
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Drops what only chooses a colour (ECMA-48 SGR: ESC `[` … `m`), and the CR of a line's end.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let parameters = &rest[at + 2..];
        let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':');
        out.push_str(&rest[..at]);
        rest = match end {
            Some(end) if parameters[end..].starts_with('m') => &parameters[end + 1..],
            _ => {
                out.push_str("\x1b[");
                parameters
            }
        };
    }
    out.push_str(rest);
    out.replace("\r\n", "\n")
}

/// Breaks at blanks, with the later lines indented. A word that is too long for a line keeps its length, to be copied.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = indent;
    for (i, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if i > 0 && column + 1 + width > COLUMNS {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}

/// `20 ms`, `3.2 s`, `4 min 5 s`, `2 h 3 min`, `5 d 1 h`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..=59 => format!("{s}.{} s", ms % 1000 / 100),
        60..=3599 => format!("{} min {} s", s / 60, s % 60),
        3600..=86_399 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `512 B`, `64.0 KiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = bytes as f64 / 1024.0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if bytes < 1024 { format!("{bytes} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// RFC 3339 in UTC, to the second.
pub fn utc(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}

#[cfg(test)]
mod tests;
