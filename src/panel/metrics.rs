//! `/metrics` for Prometheus: counts of what is kept here, and the state of the switches.

#![forbid(unsafe_code)]

use super::routes::Desk;
use crate::consent::Channel;
use crate::spool::{Kind, State};
use crate::telemetry::destination::Destination;
use std::fmt::Write as _;

/// The text format, version 0.0.4.
pub fn text(desk: &Desk) -> String {
    let mut page = String::new();
    let mut family = |name: &str, help: &str, samples: &[(String, usize)]| {
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(page, "{name}{labels} {value}");
        }
    };
    family("obit_build_info", "The version of obit.", &[(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1)]);
    family("obit_components_running", "Programs that run under obit.", &[(String::new(), desk.components().len())]);
    let entries = desk.spool().map(|spool| spool.entries()).unwrap_or_default();
    let crashes: Vec<(String, usize)> = State::ALL
        .into_iter()
        .map(|state| {
            let count = entries.iter().filter(|entry| entry.kind == Kind::Crash && entry.state == state).count();
            (format!("{{state=\"{}\"}}", state.dir_name()), count)
        })
        .collect();
    family("obit_crash_reports", "Crash reports kept here, by where they are on their way.", &crashes);
    let waiting = entries.iter().filter(|entry| !entry.state.is_settled());
    family(
        "obit_spool_bytes",
        "Bytes that the spool takes.",
        &[(String::new(), usize::try_from(entries.iter().map(|entry| entry.bytes).sum::<u64>()).unwrap_or(usize::MAX))],
    );
    let oldest = waiting.map(|entry| entry.at_unix_ms / 1000).min().and_then(|at| usize::try_from(at).ok());
    if let Some(at) = oldest {
        family(
            "obit_oldest_waiting_timestamp_seconds",
            "When the oldest report that waits was made.",
            &[(String::new(), at)],
        );
    }
    let upgrade = desk.upgrade().state;
    family(
        "obit_upgrade_severity",
        "Newer release: 1 none, 2 available, 3 recommended, 4 needed for security; 0 when that is not known or not asked.",
        &[(format!("{{state=\"{}\"}}", upgrade.as_str()), usize::from(upgrade.number()))],
    );
    let consent = desk.consent();
    let channels: Vec<(String, usize)> = Channel::ALL
        .into_iter()
        .map(|channel| {
            let sends = consent.grant(channel).is_ok() && Destination::of(channel, &desk.settings).is_usable();
            (format!("{{channel=\"{channel}\"}}"), usize::from(sends))
        })
        .collect();
    family("obit_channel_sends", "Whether anything may leave by a channel.", &channels);
    page
}
