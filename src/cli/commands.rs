//! The commands for people: one clap tree, from which help, completions and the manual page come too.

#![forbid(unsafe_code)]

use super::{check, core, crashes, detach, doctor, heartbeat, manual, output, telemetry, upgrade};
use crate::case::Run;
use crate::config::options::SETTINGS;
use crate::config::section::Section;
use crate::config::{self, Loaded, Settings};
use crate::death::OWN_FAILURE;
use crate::deliver::fault;
use crate::log;
use crate::report::text;
use crate::say::{Level, say};
use crate::spool::{Spool, State, marker, place};
use crate::sys::clock;
use crate::sys::process::effective_uid;
use crate::telemetry::check as version_check;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  obit -- /app --listen :8080        run /app as a container's entrypoint
  obit run --dsn $DSN -- /app        and send its crashes to Sentry
  obit crashes show                  read the last obituary
  obit doctor                        what would happen here at a crash

OPTIONS are those of run (obit help run).
In a Dockerfile: ENTRYPOINT [\"/obit\", \"--\"]";

/// The whole tree.
pub fn tree() -> Command {
    let json = || Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON");
    let state_dir = || {
        Arg::new("state-dir")
            .long("state-dir")
            .value_name("DIR")
            .value_parser(clap::value_parser!(PathBuf))
            .help("State directory to look at")
    };
    let config_file = || config_file().value_parser(clap::value_parser!(PathBuf));
    let id = || Arg::new("id").value_name("ID").help("Event id, or its first digits [default: the last one]");
    Command::new("obit")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An init for containers that writes the obituary of what it buries")
        .after_help(EXAMPLES)
        .override_usage("obit [OPTIONS] -- COMMAND [ARGUMENTS]...\n       obit <SUBCOMMAND>")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run_tree())
        .subcommand(
            Command::new("crashes")
                .about("Read, resend or forget the reports kept here")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(Command::new("list").about("One line for each, newest first").arg(json()).arg(state_dir()))
                .subcommand(
                    Command::new("show")
                        .about("The obituary")
                        .arg(id())
                        .arg(
                            Arg::new("last")
                                .long("last")
                                .action(ArgAction::SetTrue)
                                .conflicts_with("id")
                                .help("The last one, which is the default"),
                        )
                        .arg(json())
                        .arg(state_dir()),
                )
                .subcommand(
                    Command::new("resend")
                        .about("Put a settled report back among those that wait")
                        .arg(id().required(true).help("Event id, or its first digits"))
                        .arg(state_dir()),
                )
                .subcommand(
                    Command::new("purge")
                        .about("Forget reports for good: the settled ones, or all")
                        .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).help("Those that wait, too"))
                        .arg(state_dir()),
                ),
        )
        .subcommand(Command::new("status").about("What is kept, and who runs").arg(json()).arg(state_dir()))
        .subcommand(Command::new("flush").about("Deliver now what waits").arg(json()).arg(state_dir()))
        .subcommand(
            Command::new("doctor")
                .about("What this environment allows, and what would happen at a crash")
                .after_help("Exit status: 0 if no finding is a problem, 1 if one is: ✗, or \"problem\" in the JSON. A note (!) is none.")
                .arg(
                    Arg::new("proxy-for")
                        .long("proxy-for")
                        .value_name("URL")
                        .help("Print the way to URL: direct, proxy URL or error TEXT"),
                )
                .arg(json())
                .arg(state_dir()),
        )
        .subcommand(core::tree())
        .subcommand(detach::tree())
        .subcommand(telemetry::tree())
        .subcommand(upgrade::tree(json, state_dir))
        .subcommand(heartbeat::tree())
        .subcommand(
            Command::new("config")
                .about("Look at the configuration")
                .subcommand_required(true)
                .subcommand(
                    Command::new("show")
                        .about("Every setting, its value and where it came from")
                        .arg(json())
                        .arg(config_file()),
                )
                .subcommand(
                    Command::new("check").about("Say what is wrong with file and environment").arg(config_file()),
                ),
        )
        .subcommand(
            Command::new("install")
                .about("Copy this program into a directory, for images that have no package of it")
                .arg(
                    Arg::new("dir")
                        .value_name("DIR")
                        .required(true)
                        .value_parser(clap::value_parser!(PathBuf))
                        .help("Where to put it, as `obit`; made if it is not there"),
                ),
        )
        .subcommand(
            Command::new("completions").about("Print shell completions").arg(
                Arg::new("shell")
                    .value_name("SHELL")
                    .required(true)
                    .value_parser(clap::value_parser!(clap_complete::Shell)),
            ),
        )
        .subcommand(Command::new("man").about("Print the manual pages"))
}

fn config_file() -> Arg {
    Arg::new("config").long("config").value_name("FILE").help("Configuration file (TOML)")
}

/// The help of `run`; its options are read by [`super::run`], from the same table.
fn run_tree() -> Command {
    let mut run = Command::new("run")
        .about("Run a program: start it, pass signals on, reap, report its crashes")
        .override_usage("obit run [OPTIONS] [--] COMMAND [ARGUMENTS]...\n       obit [OPTIONS] -- COMMAND [ARGUMENTS]...")
        .after_help("Every option has an environment twin OBIT_<NAME> and a key in the file given by --config (/etc/obit/obit.toml).\n\
                     Exit status: the program's; 128+n for signal n; 125 obit's own failure, 126 not executable, 127 not found.");
    for section in Section::ALL {
        for setting in SETTINGS.iter().filter(|setting| setting.section == section) {
            let mut arg = Arg::new(setting.name).long(setting.name).help(setting.help).help_heading(section.title());
            arg = match setting.value {
                Some(value) => arg.value_name(value).action(ArgAction::Append),
                None => arg.action(ArgAction::SetTrue),
            };
            if let Some(short) = setting.short {
                arg = arg.short(short);
            }
            run = run.arg(arg);
        }
    }
    run.arg(config_file().help_heading(Section::Output.title()))
        .arg(Arg::new("command").value_name("COMMAND").num_args(0..).trailing_var_arg(true).hide(true))
}

/// Carries out a command; the result is the exit status.
pub fn ctl(words: &[OsString]) -> u8 {
    let matches =
        match tree().try_get_matches_from(std::iter::once(OsString::from("obit")).chain(words.iter().cloned())) {
            Ok(matches) => matches,
            Err(error) if error.use_stderr() => {
                let _ = error.print();
                return OWN_FAILURE;
            }
            Err(help) => {
                let printed = help.print().map_err(|error| output::not_written(&error));
                return printed.and_then(|()| output::close()).map_or_else(|sentence| failed(&sentence), |()| 0);
            }
        };
    // What went wrong is told before the lost output, and counts for more.
    match (carry_out(&matches), output::close()) {
        (Ok(()), Ok(())) => 0,
        (Err(sentence), _) | (Ok(()), Err(sentence)) => failed(&sentence),
    }
}

fn failed(sentence: &str) -> u8 {
    say(Level::Error, sentence);
    1
}

fn carry_out(matches: &ArgMatches) -> Result<(), String> {
    let (name, matches) = matches.subcommand().ok_or("no command was given")?;
    match name {
        "crashes" => {
            let (name, matches) = matches.subcommand().ok_or("no command was given")?;
            crashes::carry_out(name, matches, &spool(&load(matches)?.settings)?)
        }
        "status" => status(matches),
        "flush" => flush(matches),
        "doctor" if matches.contains_id("proxy-for") => {
            let url = matches.get_one::<String>("proxy-for").map(String::as_str).unwrap_or_default();
            let _ = writeln!(output::stdout(), "{}", doctor::proxy_for(url));
            Ok(())
        }
        "doctor" => doctor::carry_out(&load(matches)?, matches.get_flag("json")),
        "core" => core::carry_out(matches, &load(matches)?.settings),
        "detach" => detach::carry_out(matches),
        "upgrade" => {
            let (name, matches) = matches.subcommand().ok_or("no command was given")?;
            upgrade::carry_out(name, matches, || load(matches))
        }
        "heartbeat" => heartbeat::carry_out(matches, &load(matches)?.settings),
        "telemetry" => telemetry::carry_out(matches, &load(matches)?.settings),
        "config" => match matches.subcommand() {
            Some(("show", matches)) => show_config(&load_plain(named_file(matches))?, matches.get_flag("json")),
            Some((_, matches)) => check::run(load_plain(named_file(matches))?),
            None => Err("no command was given".to_owned()),
        },
        "install" => matches.get_one::<PathBuf>("dir").map_or(Ok(()), |dir| install(dir)),
        "completions" => {
            if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
                // In memory first: the generator panics when what it writes to takes nothing.
                let mut text = Vec::new();
                clap_complete::generate(*shell, &mut tree(), "obit", &mut text);
                let _ = output::stdout().write_all(&text);
            }
            Ok(())
        }
        "man" => {
            // What was not taken is told at the end.
            let _ = manual::write(tree(), &mut output::stdout());
            Ok(())
        }
        // `obit run --help` comes here; `run` itself never does.
        _ => Err("write obit run [OPTIONS] -- COMMAND".to_owned()),
    }
}

fn load_plain(file: Option<&Path>) -> Result<Loaded, String> {
    config::load(&[], file, |name| std::env::var_os(name))
}

fn named_file(matches: &ArgMatches) -> Option<&Path> {
    matches.get_one::<PathBuf>("config").map(PathBuf::as_path)
}

/// The settings, with the state directory of the command line.
fn load(matches: &ArgMatches) -> Result<Loaded, String> {
    let mut loaded = load_plain(None)?;
    if let Ok(Some(dir)) = matches.try_get_one::<PathBuf>("state-dir") {
        loaded.settings.state_dir = Some(dir.clone());
    }
    // Now it is known how the command is to speak, and where a fault of its own would be kept.
    loaded.settings.configure_lines();
    log::begin();
    fault::watch("command", &loaded.settings, place::existing(&loaded.settings).ok().as_deref());
    Ok(loaded)
}

/// The spool that a command is about: found, never made.
fn spool(settings: &Settings) -> Result<Spool, String> {
    let dir = place::existing(settings).map_err(|places| {
        let places: Vec<_> = places.iter().map(|dir| named(dir)).collect();
        format!("there is no state directory at {}; name it with --state-dir", places.join(", "))
    })?;
    let holds_any = |refuge: &PathBuf| Spool::open(refuge).is_ok_and(|spool| !spool.entries().is_empty());
    for refuge in place::refuges_in_use(settings, &dir).into_iter().filter(holds_any) {
        let refuge = refuge.display();
        say(
            Level::Info,
            &format!("the state directory was full once; what it refused is read with --state-dir {refuge}"),
        );
    }
    Spool::open(&dir).map_err(|error| error.to_string())
}

/// A path, and why it does not count if there is something.
fn named(dir: &Path) -> String {
    let path = dir.display();
    match std::fs::symlink_metadata(dir) {
        Err(_) => path.to_string(),
        Ok(found) if found.is_symlink() => format!("{path} (which is a symbolic link; name what it leads to)"),
        Ok(found) if !found.is_dir() => format!("{path} (which is no directory)"),
        Ok(found) if found.uid() != effective_uid() => format!("{path} (which is of uid {})", found.uid()),
        Ok(_) => format!("{path} (which holds nothing of obit's)"),
    }
}

fn status(matches: &ArgMatches) -> Result<(), String> {
    let settings = load(matches)?.settings;
    let spool = spool(&settings)?;
    let state_dir = spool.state_dir().to_owned();
    let entries = spool.entries();
    let count = |wanted: &str| entries.iter().filter(|entry| entry.state.as_str() == wanted).count();
    let running = marker::living(&state_dir);
    let states = ["pending", "sent", "rejected", "corrupt"].map(|state| (state, count(state)));
    let upgrade = version_check::standing(&settings, Some(&state_dir));
    let mut out = output::stdout();
    if matches.get_flag("json") {
        let mut object: serde_json::Map<String, serde_json::Value> =
            states.iter().map(|(state, n)| ((*state).to_owned(), (*n).into())).collect();
        let run =
            |run: &Run| serde_json::json!({"component": run.component, "started": text::utc(run.started_unix_ms)});
        object.insert("running".to_owned(), running.len().into());
        object.insert("runs".to_owned(), running.iter().map(run).collect());
        object.insert("state_dir".to_owned(), state_dir.display().to_string().into());
        object.insert("upgrade".to_owned(), upgrade.json());
        let _ = writeln!(out, "{}", serde_json::Value::Object(object));
        return Ok(());
    }
    let _ = writeln!(out, "state directory  {}", state_dir.display());
    let now = clock::unix_ms();
    for run in &running {
        let since = text::duration(now.saturating_sub(run.started_unix_ms));
        let _ = writeln!(out, "running          {}, for {since}", text::plain(&run.component));
    }
    if running.is_empty() {
        let _ = writeln!(out, "running          nobody");
    }
    for (state, n) in states {
        let _ = writeln!(out, "{state:<16} {n}");
    }
    let _ = writeln!(out, "{:<16} {}", "upgrade", upgrade.sentence());
    Ok(())
}

fn flush(matches: &ArgMatches) -> Result<(), String> {
    let settings = load(matches)?.settings;
    let spool = spool(&settings)?;
    // What earlier runs left to be told goes, too.
    crate::examine::recover(&settings, spool.state_dir());
    let summary = crate::courier::flush(&settings, &spool);
    let mut out = output::stdout();
    let crate::courier::Summary { sent, rejected, kept, held, why, .. } = summary;
    let off = if held > 0 { format!(", {held} of them switched off") } else { String::new() };
    let _ = match matches.get_flag("json") {
        true => {
            let object =
                serde_json::json!({"sent": sent, "rejected": rejected, "kept": kept, "held": held, "why": why});
            writeln!(out, "{object}")
        }
        false => writeln!(out, "{sent} sent, {rejected} refused, {kept} waiting{off}"),
    };
    // Who switched a channel off has what they want.
    match (rejected, kept - held) {
        (0, 0) => Ok(()),
        _ => Err(format!("not everything was delivered: {}", why.as_deref().unwrap_or("it was not its turn"))),
    }
}

fn show_config(loaded: &Loaded, json: bool) -> Result<(), String> {
    for warning in &loaded.warnings {
        say(Level::Warning, warning);
    }
    let rows = SETTINGS
        .iter()
        .zip(&loaded.origins)
        .map(|(setting, origin)| (setting, (setting.show)(&loaded.settings), origin));
    let mut out = output::stdout();
    if json {
        let object: serde_json::Map<String, serde_json::Value> = rows
            .map(|(setting, value, origin)| {
                (setting.key(), serde_json::json!({"value": value, "origin": origin.to_string()}))
            })
            .collect();
        let _ = writeln!(out, "{}", serde_json::Value::Object(object));
        return Ok(());
    }
    for (setting, value, origin) in rows {
        let value = if value.is_empty() { "-" } else { &value };
        let _ = writeln!(out, "{:<20} {value:<28} {origin}", setting.name);
    }
    Ok(())
}

/// Copies ourselves under a hidden name first, so that there is never half a program.
fn install(dir: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let target = dir.join("obit");
    let hidden = dir.join(".obit.new");
    let copied = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::copy("/proc/self/exe", &hidden))
        .and_then(|_| std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o755)))
        .and_then(|()| std::fs::rename(&hidden, &target));
    match copied {
        Ok(()) => {
            let _ = writeln!(output::stdout(), "{}", target.display());
            Ok(())
        }
        Err(error) => {
            let _ = std::fs::remove_file(&hidden);
            Err(format!("cannot install into {}: {error}", dir.display()))
        }
    }
}

/// States whose entries a purge forgets.
pub fn is_purged(state: State, all: bool) -> bool {
    all || state.is_settled()
}
