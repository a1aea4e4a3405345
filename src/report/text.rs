//! The obituary for human eyes: readable at a glance in 80 columns, colours only where asked for.

#![forbid(unsafe_code)]

use super::{Level, Report};
use std::fmt::Write as _;

/// Lines of stderr shown; the rest is in `--json`.
const STDERR_LINES: usize = 20;

/// How the page is to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    pub colour: bool,
}

impl Look {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The whole page. `state` is where the report is on its way.
pub fn obituary(report: &Report, state: &str, now_unix_ms: u64, look: Look) -> String {
    let mut page = String::new();
    let colour = if report.level == Level::Fatal { "1;31" } else { "1;33" };
    let _ = writeln!(page, "{}  {}", look.paint(colour, &report.kind), look.paint("1", &plain(&report.component)));
    let _ = writeln!(page, "{}", plain(&report.summary));
    let _ = writeln!(page);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(page, "  {} {}", look.paint("2", &format!("{name:<12}")), plain(&value));
        }
    };
    let ago = duration(now_unix_ms.saturating_sub(report.at_unix_ms));
    row("when", format!("{}, {ago} ago", utc(report.at_unix_ms)));
    row("exit", exit(report));
    if let Some(stop) = &report.stop {
        let sender = if stop.sender_pid == 0 {
            "outside the container".to_owned()
        } else {
            format!("pid {}, uid {}", stop.sender_pid, stop.sender_uid)
        };
        row("stop", format!("{} from {sender}, {} before", stop.signal, duration(stop.before_death_ms)));
    }
    if let Some(oom) = &report.oom {
        let limit = oom.limit_bytes.map(|n| format!(", limit {}", size(n))).unwrap_or_default();
        let peak = oom.peak_bytes.map(|n| format!(", peak {}", size(n))).unwrap_or_default();
        row("oom kills", format!("{} during the run{limit}{peak}", oom.kills_after.saturating_sub(oom.kills_before)));
    }
    let process = &report.process;
    row("pid", process.pid.map(|pid| pid.to_string()).unwrap_or_default());
    row("command", process.argv.join(" "));
    row("program", process.exe.clone().unwrap_or_default());
    row("build id", process.build_id.clone().unwrap_or_default());
    row("directory", process.cwd.clone().unwrap_or_default());
    if let Some(usage) = &process.usage {
        let seconds = |us: u64| format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000);
        row(
            "used",
            format!(
                "{} user, {} system, {} at most",
                seconds(usage.user_us),
                seconds(usage.system_us),
                size(usage.max_rss_kib * 1024)
            ),
        );
    }
    row("release", report.run.release.clone().unwrap_or_default());
    row("environment", report.run.environment.clone().unwrap_or_default());
    row("host", format!("{}, {} {}", report.host.name, report.host.kernel, report.host.arch));
    if report.suppressed > 0 {
        row("crash loop", format!("{} more like this were only counted", report.suppressed));
    }
    row(
        "report",
        format!("{}, {state}{}", report.event_id, if report.complete { "" } else { ", only the minimum was written" }),
    );
    match &report.stderr_tail {
        Some(tail) if !tail.text.trim().is_empty() => {
            let lines: Vec<&str> = tail.text.lines().collect();
            let hidden = lines.len().saturating_sub(STDERR_LINES);
            let more = if hidden > 0 || tail.kept_bytes < tail.total_bytes {
                format!(" (the last {} lines of {})", lines.len() - hidden, size(tail.total_bytes))
            } else {
                String::new()
            };
            let _ = writeln!(page, "\n{}", look.paint("2", &format!("last words{more}")));
            for line in &lines[hidden..] {
                let _ = writeln!(page, "  {} {}", look.paint("2", "│"), plain(line));
            }
        }
        _ => {}
    }
    if !report.gaps.is_empty() {
        let _ = writeln!(page, "\n{}", look.paint("2", "not known"));
        for gap in &report.gaps {
            let _ = writeln!(page, "  {} {}: {}", look.paint("2", "·"), plain(&gap.what), plain(&gap.why));
        }
    }
    page
}

/// For the termination log and for lists.
pub fn one_line(report: &Report) -> String {
    format!("{}: {} ({}); report {}", plain(&report.component), report.kind, plain(&report.summary), report.event_id)
}

fn exit(report: &Report) -> String {
    let exit = &report.exit;
    let code = exit.code.map(|code| format!("code {code}")).unwrap_or_default();
    match (&exit.signal, exit.core_dumped) {
        (Some(signal), core) => {
            format!("{signal}, told as {code}, {}", if core == Some(true) { "core dumped" } else { "no core" })
        }
        (None, _) => code,
    }
}

/// Text from outside on one line: control characters, escape sequences among them, are shown and not obeyed.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push_str("    "),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// `3.2 s`, `4 min 5 s`, `2 h 3 min`, `5 d 1 h`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..=59 => format!("{s}.{} s", ms % 1000 / 100),
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
    let time = time::OffsetDateTime::from_unix_timestamp((unix_ms / 1000) as i64).ok();
    time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_for_people() {
        let times = [
            (0, "0.0 s"),
            (3_250, "3.2 s"),
            (245_000, "4 min 5 s"),
            (7_380_000, "2 h 3 min"),
            (436_000_000, "5 d 1 h"),
        ];
        for (ms, expected) in times {
            assert_eq!(duration(ms), expected);
        }
        for (bytes, expected) in [(512, "512 B"), (65_536, "64.0 KiB"), (1_610_612_736, "1.5 GiB")] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(utc(1_700_000_000_000), "2023-11-14T22:13:20Z");
    }

    #[test]
    fn what_a_program_wrote_cannot_move_the_cursor() {
        assert_eq!(plain("a\x1b[2Jb\tc\r"), "a\\u{1b}[2Jb    c\\r");
    }
}
