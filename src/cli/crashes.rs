//! `obit crashes`: the reports kept here, for people and for scripts.

#![forbid(unsafe_code)]

use super::commands::is_purged;
use crate::report::Report;
use crate::report::text::{self, Look};
use crate::spool::{Entry, Kind, Spool, State};
use crate::sys::clock;
use clap::ArgMatches;
use std::io::{IsTerminal as _, Write as _};

/// One of the subcommands.
pub fn carry_out(name: &str, matches: &ArgMatches, spool: &Spool) -> Result<(), String> {
    match name {
        "list" => list(spool, matches.get_flag("json")),
        "show" => show(spool, matches.get_one::<String>("id").map(String::as_str), matches.get_flag("json")),
        "resend" => {
            let entry = find(spool, matches.get_one::<String>("id").map(String::as_str))?;
            let again = Entry { attempts: 0, ..entry.clone() };
            if entry.state == State::Corrupt {
                return Err(format!("{} is corrupt; there is nothing to send", entry.id));
            }
            spool.mark(&entry, State::Pending).map_err(|error| error.to_string())?;
            let _ = writeln!(std::io::stdout(), "{} waits to be delivered", again.id);
            Ok(())
        }
        _ => {
            let all = matches.get_flag("all");
            let doomed = spool.entries().into_iter().filter(|entry| is_purged(entry.state, all));
            let gone = doomed.filter(|entry| spool.remove(entry).is_ok()).count();
            let _ = writeln!(std::io::stdout(), "{gone} forgotten");
            Ok(())
        }
    }
}

fn crashes(spool: &Spool) -> impl Iterator<Item = Entry> {
    spool.entries().into_iter().filter(|entry| entry.kind == Kind::Crash)
}

fn read(spool: &Spool, entry: &Entry) -> Option<Report> {
    spool.read(entry).ok().and_then(|content| serde_json::from_slice(&content).ok())
}

fn list(spool: &Spool, json: bool) -> Result<(), String> {
    let rows: Vec<(Entry, Option<Report>)> = crashes(spool).map(|entry| (entry.clone(), read(spool, &entry))).collect();
    let mut out = std::io::stdout();
    if json {
        let objects: Vec<_> = rows.iter().map(|(entry, report)| object(entry, report.as_ref())).collect();
        let _ = writeln!(out, "{}", serde_json::Value::Array(objects));
        return Ok(());
    }
    if rows.is_empty() {
        let _ = writeln!(out, "no deaths to tell of");
        return Ok(());
    }
    let now = clock::unix_ms();
    let _ = writeln!(out, "{:<10} {:<14} {:<10} {:<16} WHAT", "ID", "AGO", "STATE", "COMPONENT");
    for (entry, report) in &rows {
        let ago = text::duration(now.saturating_sub(entry.at_unix_ms));
        let id = entry.id.to_string();
        let (state, component, what) = match report {
            Some(report) => {
                (entry.state.as_str(), report.component.as_str(), format!("{}: {}", report.kind, report.summary))
            }
            None => (State::Corrupt.as_str(), "-", "the file cannot be read".to_owned()),
        };
        let line = format!("{:<10} {ago:<14} {state:<10} {component:<16} {what}", &id[..8]);
        let _ = writeln!(out, "{}", line.replace(char::is_control, "?"));
    }
    Ok(())
}

/// The contract with scripts; see the README.
fn object(entry: &Entry, report: Option<&Report>) -> serde_json::Value {
    let state = if report.is_some() { entry.state } else { State::Corrupt };
    serde_json::json!({
        "event_id": entry.id.to_string(),
        "state": state.as_str(),
        "component": report.map(|report| report.component.as_str()),
        "time": text::utc(entry.at_unix_ms),
        "reason": report.map(|report| report.reason.as_str()),
        "kind": report.map(|report| report.kind.as_str()),
        "summary": report.map(|report| report.summary.as_str()),
    })
}

fn find(spool: &Spool, id: Option<&str>) -> Result<Entry, String> {
    let Some(prefix) = id else {
        return crashes(spool).next().ok_or_else(|| "no deaths to tell of".to_owned());
    };
    let mut found = crashes(spool).filter(|entry| entry.id.to_string().starts_with(&prefix.to_lowercase()));
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(format!("{prefix:?} is the beginning of several ids; give more digits")),
        (None, _) => Err(format!("there is no report {prefix:?}; see obit crashes list")),
    }
}

fn show(spool: &Spool, id: Option<&str>, json: bool) -> Result<(), String> {
    let entry = find(spool, id)?;
    let content = spool.read(&entry).map_err(|error| format!("{}: {error}", entry.id))?;
    let mut out = std::io::stdout();
    if json {
        let _ = out.write_all(&content);
        let _ = writeln!(out);
        return Ok(());
    }
    let report: Report = serde_json::from_slice(&content)
        .map_err(|error| format!("{}: the report cannot be read ({error})", entry.id))?;
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let state = match entry.state {
        State::Pending if entry.attempts > 0 => "waits after a failed delivery",
        State::Open | State::Pending => "waits to be delivered",
        State::Sent => "delivered",
        State::Rejected => "refused by the server",
        State::Corrupt => "corrupt",
    };
    let _ = write!(out, "{}", text::obituary(&report, state, clock::unix_ms(), Look { colour }));
    Ok(())
}
