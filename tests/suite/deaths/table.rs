//! What is to be told of each death: `fixtures/deaths/*.toml`, one table for each program, and the lines that its sources mark.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A program's deaths, by name.
pub type Deaths = BTreeMap<String, Death>;

/// One death.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Death {
    /// In which ways it is tried; in all by default.
    pub ways: Option<Vec<Way>>,
    /// What the program is started with; its own name by default.
    pub arguments: Option<Vec<String>>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// `SIGSEGV`; else it ends with `exit`.
    pub signal: Option<String>,
    #[serde(default)]
    pub exit: u8,
    #[serde(default)]
    pub told: Told,
    /// `KeyError: 'book'`, the oldest cause first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What is told where the runtime is a version that says less.
    pub unless: Option<Unless>,
    /// Where the report holds less, or something else.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// What it prints tells of the limits and the directory that it runs under.
    #[serde(default)]
    pub tells_its_way: bool,
    /// What is not the same twice, with nobody looking on.
    pub varies: Option<Varies>,
}

/// What a report says; a field that is not given is not looked at.
#[derive(Deserialize, Clone, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// How many there are at the death, where that is certain.
    pub threads: Option<u64>,
    /// The type of the exception, which is the signal by default; `none`: it has no exception at all.
    pub kind: Option<String>,
    /// What the exception says; with a `#` in it, as [`alike`](super::alike) has it.
    pub value: Option<String>,
    /// The program's own calls, innermost first: `function`, or `function@mark` where the mark has another name; `…` stands for
    /// more of the one before. They are of the exception's stack where it has one, else of the thread's that crashed.
    pub frames: Option<Vec<String>>,
    /// The same of the thread that crashed, where the exception has a stack of its own.
    pub calls: Option<Vec<String>>,
}

/// The part of stderr that differs from run to run.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Varies {
    /// It begins behind the first of these words.
    pub behind: String,
    #[expect(dead_code, reason = "for who reads the table")]
    pub why: String,
}

/// A version of a runtime that does not say these words on stderr.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Unless {
    pub says: String,
    pub told: Told,
}

/// Something that cannot be known in some of the ways.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    pub ways: Vec<Way>,
    /// Why that is so.
    #[expect(dead_code, reason = "for who reads the table")]
    pub why: String,
    /// What the report's own list of gaps says of it.
    pub said: Option<String>,
    /// What the report says instead.
    #[serde(default)]
    pub told: Told,
}

/// How a program is started.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// obit is PID 1 and traces.
    First,
    /// A guest that traces nobody, and cores may be written.
    Cores,
    /// A guest that traces, and RLIMIT_CORE is 0, hard.
    NoCores,
    /// A guest that traces, and the directory cannot be written to.
    ReadOnly,
    /// A guest that traces in a container, as root of Docker's default rights and seccomp profile.
    Container,
    /// A guest that traces, and the kernel would give a core to a program.
    Pipe,
}

impl Way {
    /// The way of the tables that is told alike: a report depends on who traces and where a core goes, not on where that is.
    fn as_told(self) -> Way {
        match self {
            Way::Container | Way::Pipe => Way::NoCores,
            other => other,
        }
    }
}

/// Where the sources and tables are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/deaths")
}

pub fn read(program: &str) -> Deaths {
    let path = directory().join(program).with_extension("toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Death {
    /// What the report says in this way, of a program with this stderr.
    pub fn told(&self, way: Way, stderr: &str) -> Told {
        let less = self.unless.as_ref().filter(|unless| !stderr.contains(&unless.says));
        let mut told = less.map_or(&self.told, |unless| &unless.told).clone();
        for gap in self.gaps_in(way) {
            let Told { threads, kind, value, frames, calls } = gap.told.clone();
            told = Told {
                threads: threads.or(told.threads),
                kind: kind.or(told.kind),
                value: value.or(told.value),
                frames: frames.or(told.frames),
                calls: calls.or(told.calls),
            };
        }
        told
    }

    pub fn gaps_in(&self, way: Way) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().filter(move |gap| gap.ways.contains(&way) || gap.ways.contains(&way.as_told()))
    }

    /// Whether it is tried in this way.
    pub fn is_tried(&self, way: Way) -> bool {
        self.ways.as_ref().is_none_or(|ways| ways.contains(&way.as_told()))
    }
}

/// The places that sources mark, `NAME` and `file:line`: a line marks itself with a comment at its end, `@NAME`.
pub fn marks(sources: &[&str]) -> BTreeMap<String, String> {
    const COMMENTS: [&str; 3] = ["/* @", "// @", "# @"];
    let mut marks = BTreeMap::new();
    for source in sources {
        let path = directory().join(source);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = path.file_name().expect("a file").to_string_lossy().into_owned();
        for (at, line) in text.lines().enumerate() {
            let Some((_, mark)) = COMMENTS.iter().find_map(|comment| line.rsplit_once(comment)) else { continue };
            let mark = mark.trim_end_matches("*/").trim();
            let known = marks.insert(mark.to_owned(), format!("{file}:{}", at + 1));
            assert_eq!(known, None, "{source} has the mark {mark} twice");
        }
    }
    marks
}
