//! Whether the program's RLIMIT_CORE may be raised, which was asked for (`--raise-core-limit`): only where no core can take the place of
//! a file that is there.
//!
//! The kernel removes whatever has the name of the core that it is about to write (core(5)). `core` is a name that others use, too, and
//! `core.7` is that of the last run's core: a container's process numbers come again with each start. So a name must hold the time, or
//! its directory must be known and have nothing of such a name yet. Where a program of the host takes the core, nobody's file is
//! touched.

#![forbid(unsafe_code)]

use super::core_file;
use super::core_pattern::{self, Pattern};
use crate::sys::process;
use std::path::Path;

/// RLIM_INFINITY is the largest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Limits {
    soft: u64,
    hard: u64,
}

/// As things are here and now.
pub fn here() -> Raise {
    match process::core_limits() {
        Ok((soft, hard)) => decide(Limits { soft, hard }, core_file::pattern().as_ref(), has),
        Err(error) => Raise::Refused(format!("it cannot be read ({error})")),
    }
}

/// What becomes of the program's soft limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Raise {
    /// It is the hard one already.
    Needless,
    /// To this.
    To(u64),
    /// Not, and why.
    Refused(String),
}

/// `has` is whether a directory has a file of which the name is one of a core's; `None` where it cannot be looked into.
fn decide(
    limits: Limits,
    pattern: Option<&Pattern>,
    has: impl FnOnce(&Path, &dyn Fn(&str) -> bool) -> Option<bool>,
) -> Raise {
    if limits.soft >= limits.hard {
        return match limits.hard {
            0 => Raise::Refused("the hard limit is 0 as well".to_owned()),
            _ => Raise::Needless,
        };
    }
    match pattern {
        None => Raise::Refused("core_pattern cannot be read here".to_owned()),
        Some(Pattern::None) => Raise::Refused("core_pattern is empty, so no core is written".to_owned()),
        Some(Pattern::Pipe(_) | Pattern::Socket(_)) => Raise::To(limits.hard),
        Some(Pattern::File(template)) => match harm(template, has) {
            None => Raise::To(limits.hard),
            Some(why) => Raise::Refused(format!("with core_pattern {template} {why}")),
        },
    }
}

/// How a core of that name could take the place of a file.
fn harm(template: &str, has: impl FnOnce(&Path, &dyn Fn(&str) -> bool) -> Option<bool>) -> Option<&'static str> {
    let name = core_pattern::tokens(template.rsplit('/').next().unwrap_or_default());
    let is_of_one_process = name.iter().any(|token| "pPiI".contains(*token));
    match (is_of_one_process, name.contains(&'t')) {
        (true, true) => return None,
        (false, _) => return Some("one core takes the place of another, and of any file of that name"),
        (true, false) => {}
    }
    let Some((directory, is_a_cores)) = core_pattern::place(template, None).filter(|_| template.starts_with('/'))
    else {
        return Some("a core may take the place of an earlier one, and nobody knows before in which directory");
    };
    match has(Path::new(&directory), &is_a_cores) {
        Some(false) => None,
        Some(true) => Some("a core may take the place of an earlier one, and there are some"),
        None => Some("a core may take the place of an earlier one, and the directory cannot be looked into"),
    }
}

/// Files of a directory that are looked at; one with more is as good as full of cores.
const NAMES: usize = 10_000;

fn has(directory: &Path, is_a_cores: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut entries = std::fs::read_dir(directory).ok()?.flatten();
    let found = entries.by_ref().take(NAMES).any(|entry| entry.file_name().to_str().is_none_or(is_a_cores));
    Some(found || entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_where_no_file_can_be_lost() {
        const HARD: u64 = u64::MAX;
        let cores = |names: &'static [&'static str]| {
            move |directory: &Path, is_a_cores: &dyn Fn(&str) -> bool| {
                (directory == Path::new("/cores")).then(|| names.iter().any(|name| is_a_cores(name)))
            }
        };
        let none: &[&str] = &["readme", "score.7"];
        let some: &[&str] = &["core.app.12"];
        let table = [
            ("core", false, none, Some("of any file of that name")),
            ("/cores/core", false, none, Some("of any file of that name")),
            ("/cores/core.%e.%t", false, none, Some("of any file of that name")),
            ("core", true, none, Some("in which directory")),
            ("core.%p", false, none, Some("in which directory")),
            ("core.%p.%t", false, some, None),
            ("/cores/core.%e.%p.%t", false, some, None),
            ("/cores/core.%e.%p", false, none, None),
            ("/cores/core.%e", true, none, None),
            ("/cores/core.%e.%p", false, some, Some("there are some")),
            ("/cores/%P/core.%P", false, none, Some("in which directory")),
            ("/elsewhere/core.%p", false, none, Some("cannot be looked into")),
            ("/cores/core.%%p", false, none, Some("of any file of that name")),
            ("|/usr/lib/handler %P", false, some, None),
            ("@/run/socket", false, some, None),
            ("", false, none, Some("empty")),
        ];
        for (text, uses_pid, names, why) in table {
            let found = decide(Limits { soft: 0, hard: HARD }, Some(&Pattern::parse(text, uses_pid)), cores(names));
            match (&found, why) {
                (Raise::To(limit), None) => assert_eq!(*limit, HARD, "{text}"),
                (Raise::Refused(said), Some(why)) => assert!(said.contains(why), "{text}: {said}"),
                _ => panic!("{text}: {found:?}"),
            }
        }
        let pipe = Pattern::Pipe("/x".to_owned());
        let of = |soft, hard| decide(Limits { soft, hard }, Some(&pipe), cores(none));
        assert_eq!((of(0, 4096), of(HARD, HARD)), (Raise::To(4096), Raise::Needless));
        assert!(matches!(of(0, 0), Raise::Refused(_)));
        assert!(matches!(decide(Limits { soft: 0, hard: HARD }, None, cores(none)), Raise::Refused(_)));
    }

    #[test]
    fn a_directory_is_looked_into() {
        let directory = tempfile::tempdir().unwrap();
        let is_core = |name: &str| name == "core.7";
        assert_eq!(has(directory.path(), &is_core), Some(false));
        std::fs::write(directory.path().join("core.7"), "").unwrap();
        assert_eq!(has(directory.path(), &is_core), Some(true));
        assert_eq!(has(&directory.path().join("none"), &is_core), None);
    }
}
