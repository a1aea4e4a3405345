//! `obit upgrade`: what is known of newer releases, a question now, and the vendor's side of it.

#![forbid(unsafe_code)]

use super::output;
use crate::config::{Loaded, Settings};
use crate::spool::{Spool, place};
use crate::sys::clock;
use crate::telemetry::check::{self, Standing};
use crate::telemetry::dns::answer::{Answer, Severity, Signer};
use crate::telemetry::dns::name;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a signed answer holds unless told otherwise: long enough to survive a holiday, short enough that a stolen zone
/// cannot keep everybody on an old release for ever.
const VALID: &str = "30d";

/// The subcommands; the two arguments are those that every command has.
pub fn tree(json: impl Fn() -> Arg, state_dir: impl Fn() -> Arg) -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("upgrade")
        .about("Newer releases of what runs here")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("status").about("What is known, without asking anybody").arg(json()).arg(state_dir()))
        .subcommand(Command::new("check").about("Ask now").arg(json()).arg(state_dir()))
        .subcommand(
            Command::new("sign")
                .about("Make the record that answers the question, for who releases the product")
                .arg(
                    text("key", "FILE", "Private key, as openssl genpkey -algorithm ed25519 writes it")
                        .required(true)
                        .value_parser(clap::value_parser!(PathBuf)),
                )
                .arg(text("zone", "ZONE", "The zone that is asked, such as updates.example.com").required(true))
                .arg(text("latest", "VERSION", "The latest release").required(true))
                .arg(
                    text("severity", "LEVEL", "current, available, recommended or mandatory")
                        .default_value("available"),
                )
                .arg(text("from", "VERSION", "Speak to this running version alone [default: to all]"))
                .arg(text("url", "URL", "Where to read more (https)"))
                .arg(text("valid", "TIME", "How long it holds, such as 30d or 12h").default_value(VALID))
                .arg(text("not-before", "UNIX", "Second since 1970 from which it holds [default: now]"))
                .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")),
        )
}

/// One of the subcommands.
pub fn carry_out(name: &str, matches: &ArgMatches, loaded: impl Fn() -> Result<Loaded, String>) -> Result<(), String> {
    match name {
        "sign" => sign(matches),
        "check" => {
            let settings = loaded()?.settings;
            let standing = check::now(&settings, place_to_remember(&settings).as_deref())?;
            print(&standing, matches.get_flag("json"));
            match &standing.failure {
                Some(why) => Err(why.clone()),
                None => Ok(()),
            }
        }
        _ => {
            let settings = loaded()?.settings;
            let state_dir = place::existing(&settings).ok();
            print(&check::standing(&settings, state_dir.as_deref()), matches.get_flag("json"));
            Ok(())
        }
    }
}

/// Where the answer is kept; before the first run it is made where that run will look.
fn place_to_remember(settings: &Settings) -> Option<PathBuf> {
    let made = || place::resolve(settings).dir.filter(|dir| Spool::open(dir).is_ok());
    place::existing(settings).ok().or_else(made)
}

fn print(standing: &Standing, json: bool) {
    let mut out = output::stdout();
    if json {
        let _ = writeln!(out, "{}", standing.json());
        return;
    }
    for (name, value) in standing.rows() {
        let _ = writeln!(out, "{name:<16} {value}");
    }
}

fn sign(matches: &ArgMatches) -> Result<(), String> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let key = matches.get_one::<PathBuf>("key").map(PathBuf::as_path).unwrap_or(Path::new(""));
    let file = std::fs::read(key).map_err(|error| format!("{}: {error}", key.display()))?;
    let signer = Signer::parse(&file).map_err(|why| format!("{}: {why}", key.display()))?;
    let severity = text("severity").unwrap_or_default();
    let severity = Severity::parse(severity)
        .ok_or_else(|| format!("{severity:?} is no level; write current, available, recommended or mandatory"))?;
    let not_before = match text("not-before") {
        None => clock::unix_ms() / 1000,
        Some(second) => second.parse().map_err(|_| format!("{second:?} is no second since 1970"))?,
    };
    let valid = days(text("valid").unwrap_or(VALID))?;
    let answer = Answer {
        from: text("from").map(str::to_owned),
        latest: text("latest").unwrap_or_default().to_owned(),
        severity,
        not_before,
        expires: not_before.saturating_add(valid.as_secs()),
        url: text("url").map(str::to_owned),
        key_id: signer.key.id(),
    };
    let zone = name::zone(text("zone").unwrap_or_default())?;
    let record = signer.sign(&zone, &answer)?;
    let owner = name::wildcard(answer.from.as_deref());
    let strings: Vec<String> = record.as_bytes().chunks(255).map(|s| format!("\"{}\"", s.escape_ascii())).collect();
    let line = format!("{owner}.{zone}. 3600 IN TXT {}", strings.join(" "));
    let mut out = output::stdout();
    if matches.get_flag("json") {
        let object = serde_json::json!({
            "record": line, "txt": record, "key_id": signer.key.id(), "public_key": signer.key.hex(),
            "not_before": answer.not_before, "expires": answer.expires,
        });
        let _ = writeln!(out, "{object}");
        return Ok(());
    }
    let _ = writeln!(out, "; key {}, public half for --dns-keys: {}", signer.key.id(), signer.key.hex());
    let _ = writeln!(out, "{line}");
    Ok(())
}

/// As durations of the settings, and days besides.
fn days(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        Some(days) => Ok(Duration::from_secs(u64::from(days) * 86_400)),
        None => crate::config::value::duration(text).map_err(|why| why.replace("8s, 500ms, 2m or 0", "30d or 12h")),
    }
}
