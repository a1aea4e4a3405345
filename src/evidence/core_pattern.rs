//! What /proc/sys/kernel/core_pattern means (core(5)): who gets the core of a process, and under which name.

#![forbid(unsafe_code)]

/// The pattern as the kernel reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Nothing: a core is not written.
    None,
    /// `|command`: a program of the host takes it, whatever RLIMIT_CORE says.
    Pipe(String),
    /// `@path`: a server of the host takes it (Linux 6.16).
    Socket(String),
    /// A file; a relative one lies in the process's own working directory.
    File(String),
}

/// What is known of the process whose core is looked for; the tokens of a pattern stand for it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dead {
    /// In its own PID namespace.
    pub pid: i32,
    /// In the first one, where that is another.
    pub outermost_pid: Option<i32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub signal: i32,
    pub host: String,
}

/// A piece of a core's file name.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(String),
    /// Something that is not known: a time, a thread, a name that the program gave itself.
    Any,
}

impl Pattern {
    /// `uses_pid` is /proc/sys/kernel/core_uses_pid.
    pub fn parse(text: &str, uses_pid: bool) -> Pattern {
        let text = text.trim_end_matches('\n');
        match text.chars().next() {
            Some('|') => Pattern::Pipe(text[1..].trim_start().to_owned()),
            Some('@') => Pattern::Socket(text.trim_start_matches('@').to_owned()),
            None if uses_pid => Pattern::File(".%p".to_owned()),
            None => Pattern::None,
            Some(_) if uses_pid && !text.contains("%p") => Pattern::File(format!("{text}.%p")),
            Some(_) => Pattern::File(text.to_owned()),
        }
    }

    /// What becomes of a core here, in words.
    pub fn in_words(&self) -> String {
        match self {
            Pattern::None => "no core is written".to_owned(),
            Pattern::Pipe(command) => {
                let program = command.split(' ').next().unwrap_or_default();
                format!("|{program}: the host's handler takes the core, whatever RLIMIT_CORE says")
            }
            Pattern::Socket(path) => format!("@{path}: the host's socket takes the core"),
            Pattern::File(name) if name.starts_with('/') => {
                format!("{name}: a file there, inside this container, if RLIMIT_CORE allows")
            }
            Pattern::File(name) => format!("{name}: a file in the program's own directory, if RLIMIT_CORE allows"),
        }
    }
}

/// The tokens of a pattern, without their `%`.
pub fn tokens(template: &str) -> Vec<char> {
    let mut chars = template.chars();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.extend((c == '%').then(|| chars.next()).flatten().filter(|token| *token != '%'));
    }
    tokens
}

/// The directory part of a file pattern, if the process does not choose it, and a test for the names in it: for those of this
/// process, or of any.
pub fn place(template: &str, dead: Option<&Dead>) -> Option<(String, impl Fn(&str) -> bool)> {
    let (directory, file) = template.rsplit_once('/').map_or(("", template), |(directory, file)| (directory, file));
    let directory = match pieces(directory, dead).as_slice() {
        [] => String::new(),
        [Piece::Literal(directory)] => directory.clone(),
        _ => return None,
    };
    let directory = if template.starts_with('/') && directory.is_empty() { "/".to_owned() } else { directory };
    let pieces = pieces(file, dead);
    Some((directory, move |name: &str| matches(&pieces, name)))
}

/// Neighbouring literals are one piece.
fn pieces(template: &str, dead: Option<&Dead>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        let piece = match c {
            '%' => match chars.next().map(|token| value(token, dead)) {
                Some(piece) => piece,
                None => break,
            },
            c => Piece::Literal(c.to_string()),
        };
        match (pieces.last_mut(), piece) {
            (Some(Piece::Literal(text)), Piece::Literal(more)) => text.push_str(&more),
            (Some(Piece::Any), Piece::Any) => {}
            (_, piece) => pieces.push(piece),
        }
    }
    pieces
}

fn value(token: char, dead: Option<&Dead>) -> Piece {
    let number = |number: Option<u32>| number.map_or(Piece::Any, |number| Piece::Literal(number.to_string()));
    let dead = match (token, dead) {
        ('%', _) => return Piece::Literal("%".to_owned()),
        (_, Some(dead)) => dead,
        (token, None) if "pPugshtiIefEcdC".contains(token) => return Piece::Any,
        (_, None) => return Piece::Literal(String::new()),
    };
    match token {
        'p' => Piece::Literal(dead.pid.to_string()),
        'P' => number(dead.outermost_pid.or(Some(dead.pid)).map(i32::unsigned_abs)),
        'u' => number(dead.uid),
        'g' => number(dead.gid),
        's' => Piece::Literal(dead.signal.to_string()),
        'h' if !dead.host.is_empty() => Piece::Literal(dead.host.clone()),
        'h' | 't' | 'i' | 'I' | 'e' | 'f' | 'E' | 'c' | 'd' | 'C' => Piece::Any,
        // The kernel drops what it does not know.
        _ => Piece::Literal(String::new()),
    }
}

fn matches(pieces: &[Piece], name: &str) -> bool {
    match pieces.split_first() {
        None => name.is_empty(),
        Some((Piece::Literal(text), rest)) => name.strip_prefix(text.as_str()).is_some_and(|name| matches(rest, name)),
        Some((Piece::Any, rest)) => (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| matches(rest, name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_says_who_gets_the_core() {
        let table = [
            ("core\n", false, Pattern::File("core".to_owned()), "own directory"),
            ("core", true, Pattern::File("core.%p".to_owned()), "own directory"),
            ("", true, Pattern::File(".%p".to_owned()), "own directory"),
            ("\n", false, Pattern::None, "no core"),
            ("/var/cores/%e.%p", true, Pattern::File("/var/cores/%e.%p".to_owned()), "inside this container"),
            (
                "|/usr/share/apport/apport -p%p",
                false,
                Pattern::Pipe("/usr/share/apport/apport -p%p".to_owned()),
                "handler",
            ),
            ("@@/run/coredump.sock", false, Pattern::Socket("/run/coredump.sock".to_owned()), "socket"),
        ];
        for (text, uses_pid, pattern, words) in table {
            assert_eq!(Pattern::parse(text, uses_pid), pattern, "{text}");
            assert!(pattern.in_words().contains(words), "{text}: {}", pattern.in_words());
        }
    }

    #[test]
    fn names_are_recognised_by_what_is_known_of_the_dead() {
        let dead =
            Dead { pid: 7, outermost_pid: Some(4711), uid: Some(1000), gid: None, signal: 11, host: "pod".to_owned() };
        let table = [
            ("core", "", "core", true),
            ("core", "", "core.7", false),
            ("core.%p", "", "core.7", true),
            ("core.%p", "", "core.71", false),
            ("/c/%e.%P.%t", "/c", "a.out.4711.1764000000", true),
            ("/c/%e.%P.%t", "/c", "a.out.7.1764000000", false),
            ("/c/%h/core-%s-%u-%g", "/c/pod", "core-11-1000-5", true),
            ("/c/100%%-%p", "/c", "100%-7", true),
            ("/core%", "/", "core", true),
        ];
        for (template, directory, name, is_it) in table {
            let (found, test) = place(template, Some(&dead)).unwrap();
            assert_eq!((found.as_str(), test(name)), (directory, is_it), "{template} {name}");
        }
        assert!(place("/c/%t/core", Some(&dead)).is_none());
    }
}
