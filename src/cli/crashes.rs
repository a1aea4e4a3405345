//! `obit crashes`: the reports kept here, for people and for scripts.

#![forbid(unsafe_code)]

use super::commands::is_purged;
use super::output;
use crate::report::kept::{self, Kept};
use crate::report::said;
use crate::report::text::{self, Look};
use crate::spool::{Spool, State};
use crate::sys::clock;
use clap::ArgMatches;
use std::io::Write as _;

/// One of the subcommands.
pub fn carry_out(name: &str, matches: &ArgMatches, spool: &Spool) -> Result<(), String> {
    match name {
        "list" => list(spool, matches.get_flag("json")),
        "show" => show(spool, matches.get_one::<String>("id").map(String::as_str), matches.get_flag("json")),
        "resend" => {
            let entry = kept::find(spool, matches.get_one::<String>("id").map(String::as_str))?;
            if entry.state == State::Corrupt {
                return Err(format!("{} is corrupt; there is nothing to send", entry.id));
            }
            // One that is still being written waits already.
            if entry.state != State::Open {
                spool.resend(&entry).map_err(|error| error.to_string())?;
            }
            let _ = writeln!(output::stdout(), "{} waits to be delivered", entry.id);
            Ok(())
        }
        _ => {
            let all = matches.get_flag("all");
            let doomed = spool.entries().into_iter().filter(|entry| is_purged(entry.state, all));
            let gone = doomed.filter(|entry| spool.remove(entry).is_ok()).count();
            let _ = writeln!(output::stdout(), "{gone} forgotten");
            Ok(())
        }
    }
}

fn list(spool: &Spool, json: bool) -> Result<(), String> {
    let rows: Vec<Kept> = kept::all(spool).collect();
    let mut out = output::stdout();
    if json {
        let objects: Vec<_> = rows.iter().map(Kept::row).collect();
        let _ = writeln!(out, "{}", serde_json::Value::Array(objects));
        return Ok(());
    }
    if rows.is_empty() {
        let _ = writeln!(out, "no deaths to tell of");
        return Ok(());
    }
    let now = clock::unix_ms();
    let _ = writeln!(out, "{:<10} {:<14} {:<10} {:<16} WHAT", "ID", "AGO", "STATE", "COMPONENT");
    for Kept { entry, report, .. } in &rows {
        let ago = text::duration(now.saturating_sub(entry.at_unix_ms));
        let id = entry.id.to_string();
        let (state, component, what) = match report {
            Some(report) => {
                let what = said::headline(report).unwrap_or_else(|| report.summary.clone());
                (entry.state.as_str(), report.component.as_str(), format!("{}: {what}", report.kind))
            }
            None => (State::Corrupt.as_str(), "-", "the file cannot be read".to_owned()),
        };
        let line = format!("{:<10} {ago:<14} {state:<10} {component:<16} {what}", &id[..8]);
        let _ = writeln!(out, "{}", line.replace(char::is_control, "?"));
    }
    Ok(())
}

fn show(spool: &Spool, id: Option<&str>, json: bool) -> Result<(), String> {
    let entry = kept::find(spool, id)?;
    let (kept, content) = kept::read(spool, entry)?;
    let mut out = output::stdout();
    if json {
        let _ = out.write_all(&content);
        let _ = writeln!(out);
        return Ok(());
    }
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if let Some(report) = &kept.report {
        let _ = write!(out, "{}", text::obituary(report, &kept.whereabouts(), clock::unix_ms(), Look { colour }));
    }
    Ok(())
}
