//! `obit telemetry`: what may leave, who decided it, changing one's mind, what would be sent and what was.

#![forbid(unsafe_code)]

use super::output;
use crate::config::Settings;
use crate::consent::{self, Channel, Consent, stored};
use crate::deliver::content::Content;
use crate::deliver::envelope::Size;
use crate::report::text;
use crate::say::{Level, say};
use crate::spool::{Entry, Kind, Spool, State, place};
use crate::sys::{clock, process};
use crate::telemetry::destination::Destination;
use crate::telemetry::signer::Signer;
use crate::telemetry::{audit, identity, preview};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;

pub fn tree() -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    let state_dir = Arg::new("state-dir")
        .long("state-dir")
        .value_name("DIR")
        .global(true)
        .value_parser(clap::value_parser!(PathBuf))
        .help("State directory to look at");
    let channel = || {
        Arg::new("channel")
            .long("channel")
            .value_name("CHANNEL")
            .action(ArgAction::Append)
            .value_parser(Channel::ALL.map(Channel::as_str))
            .help("Only this one; repeatable [default: all]")
    };
    Command::new("telemetry")
        .about("See and decide what may leave")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(state_dir)
        .subcommand(Command::new("status").about("Each channel, whether it is open, and who decided").arg(json()))
        .subcommand(
            Command::new("enable")
                .about("Allow a channel, as far as nobody else forbids it")
                .arg(channel())
                .arg(json()),
        )
        .subcommand(Command::new("disable").about("Forbid a channel").arg(channel()).arg(json()))
        .subcommand(
            Command::new("show").about("Print the very bytes that would be sent, open or closed").arg(channel()),
        )
        .subcommand(
            Command::new("log").about("What was sent, where, through which proxy, with what result").arg(json()).arg(
                Arg::new("last")
                    .long("last")
                    .value_name("N")
                    .value_parser(clap::value_parser!(usize))
                    .help("Only the last N attempts"),
            ),
        )
        .subcommand(
            Command::new("reset-id")
                .about("Be somebody else from now on: new ids of our own and a new secret to hide them"),
        )
}

/// One of the subcommands.
pub fn carry_out(matches: &ArgMatches, settings: &Settings) -> Result<(), String> {
    match matches.subcommand() {
        Some((name @ ("enable" | "disable"), matches)) => choose(settings, matches, name == "enable"),
        Some(("show", matches)) => show(settings, &channels(matches)),
        Some(("log", matches)) => log(settings, matches.get_one::<usize>("last").copied(), matches.get_flag("json")),
        Some(("reset-id", _)) => reset_id(settings),
        Some((_, matches)) => {
            let dir = place::existing(settings).ok();
            status(&consent::current(settings, dir.as_deref()), settings, matches.get_flag("json"));
            Ok(())
        }
        None => Err("no command was given".to_owned()),
    }
}

/// Those that were named, or all.
fn channels(matches: &ArgMatches) -> Vec<Channel> {
    let named = matches.get_many::<String>("channel").into_iter().flatten();
    let named: Vec<Channel> = named.filter_map(|name| Channel::parse(name)).collect();
    if named.is_empty() { Channel::ALL.to_vec() } else { named }
}

/// Envelopes as the courier makes them; only `sent_at`, the moment of sending, is another when they are sent.
fn show(settings: &Settings, channels: &[Channel]) -> Result<(), String> {
    let mut out = output::stdout();
    let note = |sentence: &str| say(Level::Info, sentence);
    let dir = place::existing(settings).ok();
    let opened = dir.as_deref().map(Spool::open).transpose();
    let spool = opened.as_ref().ok().and_then(Option::as_ref);
    let signer = Signer::new(settings, dir.as_deref());
    let waiting = || {
        let entries = spool.into_iter().flat_map(|spool| spool.entries_in(State::Pending));
        entries.filter(|entry| entry.kind.channel() == Channel::Errors).collect::<Vec<_>>()
    };
    let envelope = |entry: &Entry| {
        let content = spool?.read(entry).ok()?;
        let content = Content::parse(entry, &content)?;
        content.envelope(&signer.sender(content.host()), Size::Whole, entry.attempts, clock::unix_ms())
    };
    for channel in channels {
        match channel {
            Channel::Errors => {
                if let Err(error) = &opened {
                    note(&format!("errors: {error}"));
                    continue;
                }
                let mut entries = waiting();
                let last = || spool.into_iter().flat_map(Spool::entries).find(|entry| entry.kind == Kind::Crash);
                if entries.is_empty() {
                    let last = last();
                    note(match last {
                        Some(_) => "errors: nothing waits; this is how the last report was sent",
                        None => "errors: nothing waits, and there was no death to tell of",
                    });
                    entries.extend(last);
                }
                entries.iter().filter_map(envelope).for_each(|envelope| drop(out.write_all(&envelope)));
            }
            Channel::Daily => {
                let report = preview::report(settings, dir.as_deref())?;
                report.example.iter().for_each(|why| note(&format!("daily: {why}")));
                report.envelopes.iter().for_each(|envelope| drop(out.write_all(envelope)));
            }
            Channel::Dns => match preview::question(settings, dir.as_deref()) {
                Ok(question) => {
                    note(&format!("dns: {}", question.sentence()));
                    question.example.iter().for_each(|why| note(&format!("dns: {why}")));
                    let _ = writeln!(out, "{}", question.name);
                }
                Err(why) => note(&format!("dns: nothing is asked: {why}")),
            },
        }
    }
    Ok(())
}

fn log(settings: &Settings, last: Option<usize>, as_json: bool) -> Result<(), String> {
    let records = place::existing(settings).map(|dir| audit::read(&dir)).unwrap_or_default();
    let records = &records[records.len().saturating_sub(last.unwrap_or(usize::MAX))..];
    let mut out = output::stdout();
    if as_json {
        let _ = writeln!(out, "{}", json!(records));
        return Ok(());
    }
    if records.is_empty() {
        let _ = writeln!(out, "nothing was ever sent from this state directory");
    }
    for record in records {
        let audit::Record { channel, what, to, proxy, bytes, result, .. } = record;
        let line =
            format!("{} {channel:<7}{what} to {to} ({proxy}), {bytes} bytes: {result}", text::utc(record.at_unix_ms));
        let _ = writeln!(out, "{}", line.replace(char::is_control, "?"));
    }
    Ok(())
}

fn reset_id(settings: &Settings) -> Result<(), String> {
    let dir = state_dir(settings)?;
    identity::reset(&dir).map_err(|error| format!("no new identity can be kept in {} ({error})", dir.display()))?;
    let mut out = output::stdout();
    let _ =
        writeln!(out, "new ids and a new secret; what is sent from now on cannot be joined with what was sent before");
    if let Some(path) = &settings.cluster_secret {
        let _ = writeln!(
            out,
            "the secret of the cluster in {} is not ours to change: replace that file, too",
            path.display()
        );
    }
    for (name, given) in [("cluster", &settings.cluster_id), ("node", &settings.node_id)] {
        if given.is_some() {
            let _ = writeln!(out, "the id of the {name} is given by the configuration and stays; its hash is another");
        }
    }
    Ok(())
}

/// The one that is there, or the one that the next run will use.
fn state_dir(settings: &Settings) -> Result<PathBuf, String> {
    place::existing(settings)
        .or_else(|_| place::resolve(settings).dir.ok_or_else(|| "there is no state directory that takes us".to_owned()))
}

fn choose(settings: &Settings, matches: &ArgMatches, on: bool) -> Result<(), String> {
    let channels = channels(matches);
    let dir = state_dir(settings)?;
    let by = format!("obit telemetry, uid {}", process::effective_uid());
    let choices: Vec<_> = channels.iter().map(|channel| (*channel, on)).collect();
    stored::choose(&dir, &choices, &by)
        .map_err(|error| format!("the choice cannot be stored in {} ({error}); nothing has changed", dir.display()))?;
    status(&consent::current(settings, Some(&dir)), settings, matches.get_flag("json"));
    Ok(())
}

fn status(consent: &Consent, settings: &Settings, as_json: bool) {
    let mut out = output::stdout();
    if as_json {
        let _ = writeln!(out, "{}", object(consent, settings));
        return;
    }
    for channel in Channel::ALL {
        let mut blocks = consent.blocks_of(channel).map(|block| block.by.as_str());
        let says = match (blocks.next(), Destination::of(channel, settings)) {
            (Some(by), _) => {
                let others = blocks.map(|by| format!(", and by {by}")).collect::<String>();
                format!("off  by {by}{others}")
            }
            (None, Destination::Unset(what)) => {
                format!("on   but there is no destination, so nothing leaves: no {what} is set")
            }
            (None, Destination::Unusable { why, .. }) => {
                format!("unusable: {why}; nothing leaves until that is mended")
            }
            (None, Destination::To(_)) => match consent.stored.choice(channel) {
                Some(choice) => format!("on   by {choice}"),
                None => "on   nobody switched it off".to_owned(),
            },
        };
        let _ = writeln!(out, "{:<8}{says}", channel.as_str());
    }
    for warning in &consent.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
}

/// The contract with scripts; see packaging/TELEMETRY.md.
fn object(consent: &Consent, settings: &Settings) -> Value {
    let channels: Vec<Value> = Channel::ALL
        .into_iter()
        .map(|channel| {
            let blocks = consent.blocks_of(channel);
            let choice = consent.stored.choice(channel);
            let destination = Destination::of(channel, settings);
            json!({
                "channel": channel.as_str(),
                "what": channel.what(),
                "allowed": consent.grant(channel).is_ok(),
                "destination": destination.is_usable(),
                "unusable": destination.unusable(),
                "off_by": blocks.map(|block| json!({"source": block.source.as_str(), "by": block.by})).collect::<Vec<_>>(),
                "stored": choice.map(|choice| json!({"on": choice.on, "by": choice.by, "at_unix_ms": choice.at_unix_ms})),
            })
        })
        .collect();
    json!({"channels": channels, "warnings": consent.warnings})
}
