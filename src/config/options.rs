//! Every setting once: its names, its place in the help, and how its text becomes a value.

#![forbid(unsafe_code)]

use super::value::*;
use super::{Settings, WhenOff};
use std::path::PathBuf;

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
    Telemetry,
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
            Section::Telemetry => "Who we are, and the report once a day",
            Section::Output => "Output",
        }
    }
}

use Section::{Consent, Output, Program, Report, Stop, Telemetry};

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
        name: "cluster-id",
        short: None,
        also: &["CLUSTER_ID"],
        value: Some("ID"),
        section: Telemetry,
        help: "Id of the cluster; leaves only as a keyed hash [default: the product's, else made once]",
        apply: |s, v| text(v).map(|v| s.cluster_id = v),
        show: |s| s.cluster_id.clone().unwrap_or_default(),
    },
    Setting {
        name: "node-id",
        short: None,
        also: &[],
        value: Some("ID"),
        section: Telemetry,
        help: "Id of this node; leaves only as a keyed hash [default: the product's, else made once]",
        apply: |s, v| text(v).map(|v| s.node_id = v),
        show: |s| s.node_id.clone().unwrap_or_default(),
    },
    Setting {
        name: "cluster-secret",
        short: None,
        also: &[],
        value: Some("FILE"),
        section: Telemetry,
        help: "Secret of the hashes, the same on each node [default: made once for this node alone]",
        apply: |s, v| text(v).map(|v| s.cluster_secret = v.map(PathBuf::from)),
        show: |s| s.cluster_secret.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
    },
    Setting {
        name: "hide-server-name",
        short: None,
        also: &[],
        value: None,
        section: Telemetry,
        help: "Send a pseudonym in place of the host name",
        apply: |s, v| boolean(v).map(|on| s.hide_server_name = on),
        show: |s| s.hide_server_name.to_string(),
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
