//! `obit run [OPTIONS] -- COMMAND…`, read by hand: it is on the way of every start, so it allocates next to nothing and
//! knows the table of settings and no more.

#![forbid(unsafe_code)]

use super::{Role, refuse};
use crate::config::options::{SETTINGS, Setting};
use crate::config::{self, Flag};
use crate::init::Launch;
use crate::init::manners::Manners;
use std::ffi::OsString;
use std::path::PathBuf;

/// The words after `run`.
pub fn parse(words: &[OsString]) -> Role {
    match read(words) {
        Ok(Read::Launch { flags, file, command }) => {
            match config::load(&flags, file.as_deref(), |name| std::env::var_os(name)) {
                Ok(loaded) => Role::Init(Box::new(Launch {
                    command,
                    settings: loaded.settings,
                    manners: Manners::default(),
                    warnings: loaded.warnings,
                })),
                Err(sentence) => refuse(&sentence),
            }
        }
        Ok(Read::Help) => Role::Ctl(vec!["run".into(), "--help".into()]),
        Err(sentence) => refuse(&sentence),
    }
}

#[derive(Debug, PartialEq)]
enum Read {
    Launch { flags: Vec<Flag>, file: Option<PathBuf>, command: Vec<OsString> },
    Help,
}

/// Options up to `--` or the first word that is none; the rest is the command.
fn read(words: &[OsString]) -> Result<Read, String> {
    let mut flags = Vec::new();
    let mut file = None;
    let mut words = words.iter();
    let mut command: Vec<OsString> = Vec::new();
    while let Some(word) = words.next() {
        if !word.as_encoded_bytes().starts_with(b"-") || word == "-" {
            command.push(word.clone());
            break;
        }
        let text = utf8(word)?;
        if text == "--" {
            break;
        }
        let (name, given) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if matches!(name, "--help" | "-h") {
            return Ok(Read::Help);
        }
        let mut value = |what: &str| match given.clone() {
            Some(value) => Ok(value),
            None => match words.next().map(utf8).transpose()? {
                Some(value) if value != "--" => Ok(value.to_owned()),
                _ => Err(format!("{name} needs a value ({what})")),
            },
        };
        if name == "--config" {
            file = Some(PathBuf::from(value("FILE")?));
            continue;
        }
        let place = SETTINGS.iter().position(|setting| is_named(setting, name)).ok_or_else(|| unknown(name))?;
        let text = match SETTINGS[place].value {
            Some(what) => value(what)?,
            None => given.unwrap_or_else(|| "true".to_owned()),
        };
        flags.push((place, text));
    }
    command.extend(words.cloned());
    match command.first() {
        None => Err("there is no command to run; write obit run [OPTIONS] -- COMMAND [ARGUMENTS]".to_owned()),
        Some(first) if first.is_empty() => Err("the command is an empty word".to_owned()),
        Some(_) => Ok(Read::Launch { flags, file, command }),
    }
}

fn utf8(word: &OsString) -> Result<&str, String> {
    word.to_str().ok_or_else(|| format!("{:?} is not UTF-8", word.to_string_lossy()))
}

fn is_named(setting: &Setting, name: &str) -> bool {
    match name.strip_prefix("--") {
        Some(long) => setting.name == long,
        None => setting.short.is_some_and(|short| name.strip_prefix('-').is_some_and(|n| n.chars().eq([short]))),
    }
}

fn unknown(name: &str) -> String {
    let names = SETTINGS.iter().map(|setting| format!("--{}", setting.name)).chain(["--config".to_owned()]);
    let near = config::suggestion(config::nearest(name, names).as_deref());
    format!("there is no option {name:?}{near}; see obit run --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    type Named = (Vec<(&'static str, String)>, String);

    fn named(text: &str) -> Result<Named, String> {
        match read(&words(text))? {
            Read::Launch { flags, command, .. } => {
                let flags = flags.into_iter().map(|(place, value)| (SETTINGS[place].name, value)).collect();
                Ok((flags, command.join(std::ffi::OsStr::new(" ")).into_string().unwrap()))
            }
            Read::Help => Err("help".to_owned()),
        }
    }

    #[test]
    fn options_end_at_two_dashes_or_at_the_command() {
        assert_eq!(named("-- app -x --group"), Ok((vec![], "app -x --group".to_owned())));
        assert_eq!(named("-g app -g"), Ok((vec![("group", "true".to_owned())], "app -g".to_owned())));
        assert_eq!(
            named("--stop-grace 3s --rewrite=TERM:QUIT -- app -- x"),
            Ok((vec![("stop-grace", "3s".to_owned()), ("rewrite", "TERM:QUIT".to_owned())], "app -- x".to_owned()))
        );
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let table = [
            ("", "there is no command to run; write obit run [OPTIONS] -- COMMAND [ARGUMENTS]"),
            ("--", "there is no command to run; write obit run [OPTIONS] -- COMMAND [ARGUMENTS]"),
            (
                "--stop-grase 3 -- x",
                "there is no option \"--stop-grase\"; did you mean \"--stop-grace\"?; see obit run --help",
            ),
            ("--qqqqqqqqqq -- x", "there is no option \"--qqqqqqqqqq\"; see obit run --help"),
            ("--dsn -- x", "--dsn needs a value (DSN)"),
            ("--help", "help"),
        ];
        for (text, sentence) in table {
            assert_eq!(named(text).unwrap_err(), sentence, "{text}");
        }
    }
}
