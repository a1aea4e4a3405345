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
/// Programs that only start another one.
const WRAPPERS: [&str; 6] = ["env", "sudo", "nohup", "exec", "tini", "dumb-init"];

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

/// For every argument the part that is secret by its place.
pub(super) fn secrets(argv: &[String]) -> Vec<Option<Range<usize>>> {
    let program =
        argv.iter().position(|arg| !arg.starts_with('-') && !arg.contains('=') && !WRAPPERS.contains(&file(arg)));
    let known = program.and_then(|at| {
        let row = SHORT.iter().find(|(programs, ..)| programs.contains(&file(&argv[at])))?;
        let login = argv[at..].iter().any(|arg| arg == "login");
        (row.2 != Place::Login || login).then_some((at, row.1, row.2))
    });
    let short = |i: usize| known.filter(|(at, ..)| i > *at);
    let mut found = Vec::with_capacity(argv.len());
    let mut secret_follows = false;
    for (i, arg) in argv.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| argv[i].as_str());
        let taken = before.is_some_and(|before| {
            short(i - 1).is_some_and(|(_, option, place)| before == option && place != Place::Glued)
        });
        let glued =
            short(i).filter(|(_, option, place)| *place != Place::Next && arg.starts_with(option) && arg != option);
        found.push(if taken || secret_follows && !is_option(arg) {
            Some(0..arg.len())
        } else if let Some((_, option, _)) = glued {
            Some(option.len()..arg.len())
        } else {
            user(arg, before).or_else(|| assigned(arg))
        });
        secret_follows = arg.starts_with('-') && !arg.contains('=') && name::classify(arg) != name::Name::Plain;
    }
    found
}

/// curl -u name:password
fn user(arg: &str, before: Option<&str>) -> Option<Range<usize>> {
    let (user, secret) = arg.split_once(':')?;
    let option = before.is_some_and(|option| ["-u", "--user", "--proxy-user"].contains(&option));
    let glued = user.starts_with("--user=") || user.starts_with("--proxy-user=");
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
