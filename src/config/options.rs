//! Every setting once: its names, its place in the help, and how its text becomes a value.

#![forbid(unsafe_code)]

use super::{Settings, WhenOff};
use crate::limits;
use crate::sys::signal::Signal;
use std::path::PathBuf;
use std::time::Duration;

/// One setting.
pub struct Setting {
    /// `stop-grace`: the flag is `--stop-grace`, the key in the file `stop_grace`, the variable `OBIT_STOP_GRACE`.
    pub name: &'static str,
    pub short: Option<char>,
    /// Further environment names, weaker than our own.
    pub also: &'static [&'static str],
    /// Name of the value in the help; `None` for a switch.
    pub value: Option<&'static str>,
    pub section: Section,
    pub help: &'static str,
    /// Takes the text into the settings, or says what would be right.
    pub apply: fn(&mut Settings, &str) -> Result<(), String>,
    /// The present value, as it would be written.
    pub show: fn(&Settings) -> String,
}

/// Groups of the help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    Program,
    Stop,
    Report,
    Consent,
    Output,
}

impl Section {
    pub const ALL: [Section; 5] = [Section::Program, Section::Stop, Section::Report, Section::Consent, Section::Output];

    pub fn title(self) -> &'static str {
        match self {
            Section::Program => "The program",
            Section::Stop => "Stopping and exit status",
            Section::Report => "Reports",
            Section::Consent => "What may leave (each is off when anybody says so)",
            Section::Output => "Output",
        }
    }
}

use Section::{Consent, Output, Program, Report, Stop};

/// All of them, in the order of the help.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "group",
        short: Some('g'),
        also: &[],
        value: None,
        section: Program,
        help: "Signal the program's whole process group, not only the program",
        apply: |s, v| boolean(v).map(|on| s.group = on),
        show: |s| s.group.to_string(),
    },
    Setting {
        name: "rewrite",
        short: Some('r'),
        also: &[],
        value: Some("FROM:TO"),
        section: Program,
        help: "Pass signal FROM on as TO, names or numbers; 0 swallows it. Repeatable",
        apply: rewrite,
        show: show_rewrite,
    },
    Setting {
        name: "parent-death-signal",
        short: None,
        also: &[],
        value: Some("SIGNAL"),
        section: Program,
        help: "Be sent SIGNAL when our own parent dies",
        apply: |s, v| signal(v).map(|n| s.parent_death_signal = Some(n)),
        show: |s| shown(s.parent_death_signal),
    },
    Setting {
        name: "component",
        short: None,
        also: &[],
        value: Some("NAME"),
        section: Program,
        help: "Name of the program in reports [default: its file name]",
        apply: |s, v| text(v).map(|v| s.component = v),
        show: |s| s.component.clone().unwrap_or_default(),
    },
    Setting {
        name: "stop-signal",
        short: None,
        also: &[],
        value: Some("SIGNAL"),
        section: Stop,
        help: "Stop the program by SIGNAL [default: the SIGTERM that came]",
        apply: |s, v| signal(v).map(|n| s.stop_signal = Some(n)),
        show: |s| shown(s.stop_signal),
    },
    Setting {
        name: "stop-grace",
        short: None,
        also: &[],
        value: Some("TIME|off"),
        section: Stop,
        help: "From the stop signal to SIGKILL; a second SIGTERM hurries [default: 8s]",
        apply: |s, v| unless_off(v, duration).map(|grace| s.stop_grace = grace),
        show: |s| s.stop_grace.map_or("off".to_owned(), show_duration),
    },
    Setting {
        name: "stop-delay",
        short: None,
        also: &[],
        value: Some("TIME"),
        section: Stop,
        help: "Wait before the stop signal is passed on, for load balancers [default: 0]",
        apply: |s, v| duration(v).map(|delay| s.stop_delay = delay),
        show: |s| show_duration(s.stop_delay),
    },
    Setting {
        name: "map-exit",
        short: None,
        also: &[],
        value: Some("FROM:TO"),
        section: Stop,
        help: "End with TO where the program's status is FROM (143:0). Repeatable",
        apply: map_exit,
        show: show_map_exit,
    },
    Setting {
        name: "re-raise",
        short: None,
        also: &[],
        value: None,
        section: Stop,
        help: "End by the program's signal instead of 128+n, where we are not PID 1",
        apply: |s, v| boolean(v).map(|on| s.re_raise = on),
        show: |s| s.re_raise.to_string(),
    },
    Setting {
        name: "expected-exit",
        short: None,
        also: &[],
        value: Some("CODES"),
        section: Report,
        help: "Exit codes besides 0 that are no news: 2,3",
        apply: expected_exit,
        show: |s| s.expected_exit.iter().map(u8::to_string).collect::<Vec<_>>().join(","),
    },
    Setting {
        name: "stderr-tail",
        short: None,
        also: &[],
        value: Some("SIZE|off"),
        section: Report,
        help: "How much of the end of stderr is remembered [default: 64K]",
        apply: |s, v| unless_off(v, size).map(|bytes| s.stderr_tail_bytes = bytes),
        show: |s| s.stderr_tail_bytes.map_or("off".to_owned(), |bytes| bytes.to_string()),
    },
    Setting {
        name: "state-dir",
        short: None,
        also: &[],
        value: Some("DIR"),
        section: Report,
        help: "Where reports are kept [default: /var/lib/obit, else a per-user folder, else /dev/shm]",
        apply: |s, v| text(v).map(|v| s.state_dir = v.map(PathBuf::from)),
        show: |s| s.state_dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default(),
    },
    Setting {
        name: "report-wait",
        short: None,
        also: &[],
        value: Some("TIME"),
        section: Report,
        help: "Longest stay after a death that is reported, for its delivery [default: 5s]",
        apply: |s, v| duration(v).map(|wait| s.report_wait = wait),
        show: |s| show_duration(s.report_wait),
    },
    Setting {
        name: "termination-log",
        short: None,
        also: &[],
        value: Some("PATH|off"),
        section: Report,
        help: "Gets one line about the death, if it exists [default: /dev/termination-log]",
        apply: |s, v| unless_off(v, |v| Ok(PathBuf::from(v))).map(|path| s.termination_log = path),
        show: |s| s.termination_log.as_ref().map_or("off".to_owned(), |path| path.display().to_string()),
    },
    Setting {
        name: "dsn",
        short: None,
        also: &["SENTRY_DSN"],
        value: Some("DSN"),
        section: Report,
        help: "Sentry project that receives the reports; without one nothing ever leaves",
        apply: |s, v| text(v).map(|v| s.dsn = v),
        show: |s| s.dsn.as_deref().map(mask_dsn).unwrap_or_default(),
    },
    Setting {
        name: "release",
        short: None,
        also: &["SENTRY_RELEASE"],
        value: Some("NAME@VERSION"),
        section: Report,
        help: "Release of the program; with one, release health is kept too",
        apply: |s, v| text(v).map(|v| s.release = v),
        show: |s| s.release.clone().unwrap_or_default(),
    },
    Setting {
        name: "environment",
        short: None,
        also: &["SENTRY_ENVIRONMENT"],
        value: Some("NAME"),
        section: Report,
        help: "Sentry environment, such as production",
        apply: |s, v| text(v).map(|v| s.environment = v),
        show: |s| s.environment.clone().unwrap_or_default(),
    },
    Setting {
        name: "server-name",
        short: None,
        also: &[],
        value: Some("NAME"),
        section: Report,
        help: "Sent in place of the host name",
        apply: |s, v| text(v).map(|v| s.server_name = v),
        show: |s| s.server_name.clone().unwrap_or_default(),
    },
    Setting {
        name: "no-error-reporting",
        short: None,
        also: &[],
        value: None,
        section: Consent,
        help: "Send no crash reports; they are kept here all the same",
        apply: |s, v| switched_off(v).map(|off| s.no_error_reporting = off),
        show: |s| s.no_error_reporting.to_string(),
    },
    Setting {
        name: "no-telemetry",
        short: None,
        also: &[],
        value: None,
        section: Consent,
        help: "Send no daily report and no version query",
        apply: |s, v| switched_off(v).map(|off| s.no_telemetry = off),
        show: |s| s.no_telemetry.to_string(),
    },
    Setting {
        name: "no-version-check",
        short: None,
        also: &[],
        value: None,
        section: Consent,
        help: "Send no version query",
        apply: |s, v| switched_off(v).map(|off| s.no_version_check = off),
        show: |s| s.no_version_check.to_string(),
    },
    Setting {
        name: "when-off",
        short: None,
        also: &[],
        value: Some("hold|purge"),
        section: Consent,
        help: "What becomes of reports that wait when their channel is switched off [default: hold]",
        apply: when_off,
        show: |s| if s.when_off == WhenOff::Purge { "purge" } else { "hold" }.to_owned(),
    },
    Setting {
        name: "cluster-spec",
        short: None,
        also: &[],
        value: Some("FILE"),
        section: Consent,
        help: "StorageOSCluster resource or its spec, as YAML or JSON; read again when it changes",
        apply: |s, v| text(v).map(|v| s.cluster_spec = v.map(PathBuf::from)),
        show: |s| s.cluster_spec.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
    },
    Setting {
        name: "log-format",
        short: None,
        also: &["LOG_FORMAT"],
        value: Some("text|json"),
        section: Output,
        help: "Form of obit's own lines on stderr [default: text]",
        apply: log_format,
        show: |s| if s.log_json { "json" } else { "text" }.to_owned(),
    },
    Setting {
        name: "verbose",
        short: Some('v'),
        also: &[],
        value: None,
        section: Output,
        help: "Say more",
        apply: |s, v| boolean(v).map(|on| s.verbose = on),
        show: |s| s.verbose.to_string(),
    },
];

impl Setting {
    /// `OBIT_STOP_GRACE`.
    pub fn variable(&self) -> String {
        format!("OBIT_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// `stop_grace`.
    pub fn key(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// `8s`, `500ms`, `2m`, `1h`, `0`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number: u64 = number.parse().unwrap_or(u64::MAX);
    let total = number.checked_mul(millis).filter(|_| millis > 0 && number <= 1_000_000_000);
    total.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is no time; write 8s, 500ms, 2m or 0"))
}

fn show_duration(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is no size up to {}M; write 64K, 1M or off", limits::STDERR_TAIL_MAX_BYTES >> 20);
    let upper = text.to_ascii_uppercase();
    let plain = upper.trim_end_matches("IB").trim_end_matches('B');
    let (number, factor) = match plain.strip_suffix('K') {
        Some(number) => (number, 1024),
        None => plain.strip_suffix('M').map_or((plain, 1), |number| (number, 1024 * 1024)),
    };
    let bytes = number.parse::<usize>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
    (1..=limits::STDERR_TAIL_MAX_BYTES).contains(&bytes).then_some(bytes).ok_or_else(wrong)
}

/// Go's strconv.ParseBool, and what people write besides.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "on" => Ok(true),
        "0" | "f" | "false" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A switch of consent: what cannot be read is "off", with a warning from whoever decides.
fn switched_off(text: &str) -> Result<bool, String> {
    Ok(boolean(text).unwrap_or(true))
}

fn when_off(settings: &mut Settings, value: &str) -> Result<(), String> {
    settings.when_off = match value {
        "hold" | "" => WhenOff::Hold,
        "purge" => WhenOff::Purge,
        _ => return Err(format!("{value:?} is neither hold nor purge")),
    };
    Ok(())
}

fn unless_off<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.eq_ignore_ascii_case("off") { Ok(None) } else { parse(text).map(Some) }
}

fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text).ok_or_else(|| format!("{text:?} is no signal; write TERM, SIGTERM or 15"))
}

fn text(value: &str) -> Result<Option<String>, String> {
    Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty()))
}

fn shown(signal: Option<Signal>) -> String {
    signal.map(Signal::name).unwrap_or_default()
}

fn rewrite(settings: &mut Settings, value: &str) -> Result<(), String> {
    for pair in value.split(',').filter(|pair| !pair.is_empty()) {
        let (from, to) =
            pair.split_once(':').ok_or_else(|| format!("{pair:?} is no pair FROM:TO, such as TERM:QUIT"))?;
        let from = signal(from)?;
        let to = if to == "0" { 0 } else { signal(to)?.number() as u8 };
        settings.rewrite[from.number() as usize] = to;
    }
    Ok(())
}

fn show_rewrite(settings: &Settings) -> String {
    let changed = (1..=64u8).filter(|n| settings.rewrite[usize::from(*n)] != *n);
    let pair = |n: u8| {
        let to = Signal::new(i32::from(settings.rewrite[usize::from(n)]));
        format!("{}:{}", shown(Signal::new(i32::from(n))), to.map_or("0".to_owned(), Signal::name))
    };
    changed.map(pair).collect::<Vec<_>>().join(",")
}

fn map_exit(settings: &mut Settings, value: &str) -> Result<(), String> {
    for pair in value.split(',').filter(|pair| !pair.is_empty()) {
        let parsed =
            pair.split_once(':').and_then(|(from, to)| Some((from.parse::<u8>().ok()?, to.parse::<u8>().ok()?)));
        let (from, to) = parsed.ok_or_else(|| format!("{pair:?} is no pair of exit codes, such as 143:0"))?;
        settings.map_exit[usize::from(from)] = to;
    }
    Ok(())
}

fn show_map_exit(settings: &Settings) -> String {
    let changed = (0..=255u8).filter(|n| settings.map_exit[usize::from(*n)] != *n);
    changed.map(|n| format!("{n}:{}", settings.map_exit[usize::from(n)])).collect::<Vec<_>>().join(",")
}

fn expected_exit(settings: &mut Settings, value: &str) -> Result<(), String> {
    let code = |code: &str| code.trim().parse::<u8>().map_err(|_| format!("{code:?} is no exit code of 0 to 255"));
    settings.expected_exit =
        value.split(',').filter(|code| !code.trim().is_empty()).map(code).collect::<Result<_, _>>()?;
    Ok(())
}

fn log_format(settings: &mut Settings, value: &str) -> Result<(), String> {
    match value {
        "json" => settings.log_json = true,
        "text" | "" => settings.log_json = false,
        _ => return Err(format!("{value:?} is no format; write text or json")),
    }
    Ok(())
}

/// The key of a DSN is what lets anybody send; only its head is shown.
pub fn mask_dsn(dsn: &str) -> String {
    match (dsn.find("://"), dsn.find('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            let key = &dsn[scheme + 3..at];
            let head: String = key.chars().take(4).collect();
            format!("{}{head}…{}", &dsn[..scheme + 3], &dsn[at..])
        }
        _ => "…".to_owned(),
    }
}
