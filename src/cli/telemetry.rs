//! `obit telemetry`: what may leave, who decided it, and changing one's mind.

#![forbid(unsafe_code)]

use crate::config::Settings;
use crate::consent::{self, Channel, Consent, stored};
use crate::spool::place;
use crate::sys::process;
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
}

/// One of the subcommands.
pub fn carry_out(matches: &ArgMatches, settings: &Settings) -> Result<(), String> {
    match matches.subcommand() {
        Some((name @ ("enable" | "disable"), matches)) => choose(settings, matches, name == "enable"),
        Some((_, matches)) => {
            let dir = place::existing(settings).ok();
            status(&consent::current(settings, dir.as_deref()), settings, matches.get_flag("json"));
            Ok(())
        }
        None => Err("no command was given".to_owned()),
    }
}

fn choose(settings: &Settings, matches: &ArgMatches, on: bool) -> Result<(), String> {
    let named: Vec<Channel> =
        matches.get_many::<String>("channel").into_iter().flatten().filter_map(|name| Channel::parse(name)).collect();
    let channels = if named.is_empty() { Channel::ALL.to_vec() } else { named };
    let dir = match place::existing(settings) {
        Ok(dir) => dir,
        // A choice before the first run: made where that run will look.
        Err(_) => place::resolve(settings).dir.ok_or("there is no state directory that a choice could be stored in")?,
    };
    let by = format!("obit telemetry, uid {}", process::effective_uid());
    let choices: Vec<_> = channels.iter().map(|channel| (*channel, on)).collect();
    stored::choose(&dir, &choices, &by)
        .map_err(|error| format!("the choice cannot be stored in {} ({error}); nothing has changed", dir.display()))?;
    status(&consent::current(settings, Some(&dir)), settings, matches.get_flag("json"));
    Ok(())
}

fn status(consent: &Consent, settings: &Settings, as_json: bool) {
    let mut out = std::io::stdout();
    if as_json {
        let _ = writeln!(out, "{}", object(consent, settings));
        return;
    }
    for channel in Channel::ALL {
        let mut blocks = consent.blocks_of(channel).map(|block| block.by.as_str());
        let says = match (blocks.next(), destination(channel, settings)) {
            (Some(by), _) => {
                let others = blocks.map(|by| format!(", and by {by}")).collect::<String>();
                format!("off  by {by}{others}")
            }
            (None, false) => {
                let what = if channel == Channel::Dns { "DNS zone" } else { "DSN" };
                format!("on   but there is no destination, so nothing leaves: no {what} is set")
            }
            (None, true) => match consent.stored.choice(channel) {
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
            json!({
                "channel": channel.as_str(),
                "what": channel.what(),
                "allowed": consent.grant(channel).is_ok(),
                "destination": destination(channel, settings),
                "off_by": blocks.map(|block| json!({"source": block.source.as_str(), "by": block.by})).collect::<Vec<_>>(),
                "stored": choice.map(|choice| json!({"on": choice.on, "by": choice.by, "at_unix_ms": choice.at_unix_ms})),
            })
        })
        .collect();
    json!({"channels": channels, "warnings": consent.warnings})
}

/// Whether there is somewhere to send to: nothing is built in.
fn destination(channel: Channel, settings: &Settings) -> bool {
    match channel {
        Channel::Errors | Channel::Daily => settings.dsn.is_some(),
        Channel::Dns => settings.dns_zone.is_some(),
    }
}
