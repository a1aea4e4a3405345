//! `obit heartbeat`: when the daily report went and goes, what it would say, and sending it now.

#![forbid(unsafe_code)]

use super::output;
use crate::config::Settings;
use crate::consent::{self, Channel};
use crate::report::text;
use crate::say::{Level, say};
use crate::spool::{Spool, place};
use crate::telemetry::destination::Destination;
use crate::telemetry::schedule::{self, Due, Moment};
use crate::telemetry::{daily, preview};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use std::io::Write as _;
use std::path::PathBuf;

pub fn tree() -> Command {
    Command::new("heartbeat")
        .about("The daily report: when it went and goes, what it would say, or send it now")
        .arg(
            Arg::new("now")
                .long("now")
                .action(ArgAction::SetTrue)
                .help("Make one and deliver it, due or not; the next is a day away"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .conflicts_with("now")
                .help("Print what would be sent"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON"))
        .arg(
            Arg::new("state-dir")
                .long("state-dir")
                .value_name("DIR")
                .value_parser(clap::value_parser!(PathBuf))
                .help("State directory to look at"),
        )
}

pub fn carry_out(matches: &ArgMatches, settings: &Settings) -> Result<(), String> {
    if matches.get_flag("dry-run") {
        return dry_run(settings);
    }
    if matches.get_flag("now") {
        return now(settings, matches.get_flag("json"));
    }
    let dir = place::existing(settings).ok();
    let schedule = dir.as_deref().and_then(schedule::peek);
    let last = schedule.as_ref().and_then(|schedule| schedule.last_unix_ms);
    let now = Moment::now();
    let next = schedule.map(|mut schedule| match schedule.due(&now, u64::MAX) {
        Due::In(wait) => now.unix_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        Due::Now | Due::Unfinished(_) => now.unix_ms,
    });
    let consent = consent::current(settings, dir.as_deref());
    let off_by = consent.grant(Channel::Daily).err().map(ToString::to_string);
    let destination = Destination::of(Channel::Daily, settings);
    let mut out = output::stdout();
    if matches.get_flag("json") {
        let object = json!({
            "last": last.map(text::utc), "next": next.map(text::utc), "off_by": off_by,
            "destination": destination.is_usable(), "unusable": destination.unusable(),
        });
        let _ = writeln!(out, "{object}");
        return Ok(());
    }
    let _ = writeln!(out, "last  {}", last.map_or("never".to_owned(), text::utc));
    let says = match (off_by, destination, next) {
        (Some(by), ..) => format!("never, switched off by {by}"),
        (None, Destination::Unset(what), _) => format!("never, there is no {what}"),
        (None, Destination::Unusable { why, .. }, _) => format!("never, {why}"),
        (None, Destination::To(_), None) => "within twelve minutes of the next start".to_owned(),
        (None, Destination::To(_), Some(next)) => format!("{}, if obit runs then", text::utc(next)),
    };
    let _ = writeln!(out, "next  {says}");
    Ok(())
}

/// The bytes of a report made at this moment.
fn dry_run(settings: &Settings) -> Result<(), String> {
    let dir = place::existing(settings).ok();
    let report = preview::fresh(settings, dir.as_deref())?;
    if let Some(why) = &report.example {
        say(Level::Info, why);
    }
    let mut out = output::stdout();
    report.envelopes.iter().for_each(|envelope| drop(out.write_all(envelope)));
    Ok(())
}

fn now(settings: &Settings, as_json: bool) -> Result<(), String> {
    let dir = match place::existing(settings) {
        Ok(dir) => dir,
        Err(_) => place::resolve(settings).dir.ok_or("there is no state directory that a report could be kept in")?,
    };
    match Destination::of(Channel::Daily, settings) {
        Destination::Unset(what) => {
            return Err(format!("there is no {what}, so the daily report goes nowhere; set SENTRY_DSN"));
        }
        Destination::Unusable { why, .. } => return Err(format!("{why}, so the daily report goes nowhere")),
        Destination::To(_) => {}
    }
    let consent = consent::current(settings, Some(&dir));
    if let Err(block) = consent.grant(Channel::Daily) {
        return Err(format!("the daily report is switched off by {block}; nothing is sent"));
    }
    let spool = Spool::open(&dir).map_err(|error| error.to_string())?;
    let id = daily::make_now(settings, &spool)?.to_string();
    let summary = crate::courier::flush(settings, &spool);
    let sent = spool.find(&id).iter().any(|entry| entry.state == crate::spool::State::Sent);
    if as_json {
        let _ = writeln!(output::stdout(), "{}", json!({"event_id": id, "sent": sent, "why": summary.why}));
    }
    match (sent, summary.why) {
        (true, _) if as_json => Ok(()),
        (true, _) => {
            let _ = writeln!(output::stdout(), "{id} sent");
            Ok(())
        }
        (false, why) => Err(format!("the daily report {id} waits: {}", why.unwrap_or_default())),
    }
}
