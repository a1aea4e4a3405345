//! The secrets of a command line: what an option's name says, and the short options of programs known to take one.
//!
//! `-p8080` is a port of most programs and a password of few, so a short option counts by the program's file name.

#![forbid(unsafe_code)]

use super::name;
use std::ops::Range;

/// Programs, a short option of theirs that takes a password, and where that may stand.
const SHORT: [(&[&str], &str, Place); 10] = [
    (&["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mysqlcheck", "mysqlshow", "mysqlsh"], "-p", Place::Glued),
    (&["mariadb", "mariadb-dump", "mariadb-admin", "mariadb-import", "mariadb-check"], "-p", Place::Glued),
    (&["7z", "7za", "7zr", "7zz"], "-p", Place::Glued),
    (&["mongo", "mongosh", "mongodump", "mongorestore", "mongoexport", "mongoimport"], "-p", Place::Either),
    (&["sshpass"], "-p", Place::Either),
    (&["redis-cli", "valkey-cli"], "-a", Place::Next),
    (&["docker", "podman", "helm", "buildah", "skopeo"], "-p", Place::Login),
    (&["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami"], "-w", Place::Either),
    (&["sqlcmd", "bcp"], "-P", Place::Either),
    (&["zip", "unzip"], "-P", Place::Either),
];
/// How far from the beginning such a program is looked for: behind `env`, `sudo -u bob`, `timeout 5`, `docker exec db`.
const PROGRAM_WITHIN: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `-pSECRET`; alone it asks.
    Glued,
    /// `-a SECRET`
    Next,
    Either,
    /// Either, and only of `login`: elsewhere it is a port.
    Login,
}

/// For every argument the parts that are secret by their place; `None` where its text alone can tell.
pub(super) fn secrets(argv: &[String]) -> Vec<Option<Range<usize>>> {
    let short = by_short_option(argv);
    let mut found = Vec::with_capacity(argv.len());
    let mut secret_follows = false;
    for (i, (arg, short)) in argv.iter().zip(short).enumerate() {
        found.push(match short {
            Some(range) if range.start == 0 => Some(range),
            _ if secret_follows && !is_option(arg) => Some(0..arg.len()),
            Some(range) => Some(range),
            None => user(arg, i.checked_sub(1).map(|i| argv[i].as_str())).or_else(|| assigned(arg)),
        });
        secret_follows = arg.starts_with('-') && !arg.contains('=') && name::classify(arg) != name::Name::Plain;
    }
    found
}

/// The same of what a shell is given as a script (`sh -c "mysql -pSECRET"`): command lines in one argument, of which the text
/// tells everything but the short options.
pub(super) fn secrets_of_script(argv: &[String], i: usize) -> Vec<Range<usize>> {
    let is_script = i.checked_sub(1).is_some_and(|i| {
        let before = argv[i].as_str();
        before.starts_with('-') && !before.starts_with("--") && before.ends_with('c')
    });
    let mut found = Vec::new();
    let mut at = 0;
    for command in argv[i].split_inclusive([';', '|', '&', '\n', '(', ')']).take_while(|_| is_script) {
        let (places, words): (Vec<usize>, Vec<String>) = words(command).map(|(place, word)| (at + place, word)).unzip();
        let secret = by_short_option(&words)
            .into_iter()
            .enumerate()
            .map(|(i, short)| short.or_else(|| user(&words[i], i.checked_sub(1).map(|i| words[i].as_str()))));
        let placed = places.iter().zip(secret).filter_map(|(place, secret)| Some((place, secret?)));
        found.extend(placed.map(|(place, secret)| place + secret.start..place + secret.end));
        at += command.len();
    }
    found
}

/// With their places, without what separates and quotes them.
fn words(command: &str) -> impl Iterator<Item = (usize, String)> {
    let is_word = |c: char| !c.is_whitespace() && !"'\";|&()".contains(c);
    let mut at = 0;
    let pieces = command.split_inclusive(move |c: char| !is_word(c)).map(move |piece| {
        let place = at;
        at += piece.len();
        (place, piece.trim_end_matches(|c: char| !is_word(c)).to_owned())
    });
    pieces.filter(|(_, word)| !word.is_empty())
}

/// What follows the short option of a program that is known to take a secret there.
fn by_short_option(argv: &[String]) -> Vec<Option<Range<usize>>> {
    let known = argv.iter().take(PROGRAM_WITHIN).enumerate().find_map(|(at, arg)| {
        let (_, option, place) = SHORT.iter().find(|(programs, ..)| programs.contains(&file(arg)))?;
        let login = || argv[at..].iter().any(|arg| arg == "login");
        (*place != Place::Login || login()).then_some((at, *option, *place))
    });
    let Some((program, option, place)) = known else { return vec![None; argv.len()] };
    let of = |i: usize| {
        let arg = &argv[i];
        let is_next = i > program + 1 && argv[i - 1] == option && place != Place::Glued;
        let is_glued = i > program && place != Place::Next && arg.starts_with(option) && arg != option;
        if is_next { Some(0..arg.len()) } else { is_glued.then_some(option.len()..arg.len()) }
    };
    (0..argv.len()).map(of).collect()
}

/// `curl -u name:password`, `-uname:password`, `--user=name:password`.
fn user(arg: &str, before: Option<&str>) -> Option<Range<usize>> {
    let (user, secret) = arg.split_once(':')?;
    let option = before.is_some_and(|option| ["-u", "--user", "--proxy-user"].contains(&option));
    let glued = ["--user=", "--proxy-user="].iter().any(|option| user.starts_with(option))
        || user.strip_prefix("-u").is_some_and(|name| !name.is_empty());
    ((option || glued) && !secret.bytes().all(|b| b.is_ascii_digit())).then_some(user.len() + 1..arg.len())
}

/// An argument is one value to its end, blanks included.
fn assigned(arg: &str) -> Option<Range<usize>> {
    let mut at = 0;
    while let Some(i) = arg[at..].find(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c)) {
        let separator = arg.as_bytes()[at + i];
        if separator != b'=' && separator != b':' {
            break;
        }
        let value = at + i + 1;
        if name::classify(&arg[at..at + i]) != name::Name::Plain && value < arg.len() {
            return Some(value..arg.len());
        }
        at = value;
    }
    None
}

fn file(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// `--verbose`, `--level=3`: not the value of the option before it.
fn is_option(arg: &str) -> bool {
    arg.strip_prefix("--").is_some_and(|name| {
        let name = name.split('=').next().unwrap_or_default();
        name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
    })
}
