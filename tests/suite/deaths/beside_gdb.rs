//! The cores that these deaths leave: each call of each thread is where gdb finds it. Left out are the runtimes whose machine code is
//! made as they run, of which nobody knows the calls. Where gdb loses its way ([`LOST`]) it is compared as far as it goes, and what
//! lies further out is what the table of deaths has.

use super::NO_DEBUG_FILES;
use super::programs::{PROGRAMS, Program};
use super::table::{self, Death};
use crate::bed::{self, Bed, trial_with};
use crate::cores;
use crate::need::Need;
use libtest_mimic::Trial;
use serde_json::Value;
use std::path::{Path, PathBuf};

const COMPILED: [&str; 6] = ["native", "cpp", "rust", "rust-abort", "go", "python"];
/// Program, death, and the function behind which gdb has no calls of the thread that crashed.
const LOST: [(&str, &str, &str); 2] = [
    // It takes the function that a handler of Go's returns to for one that was called.
    ("go", "crashed", "<signal handler called>"),
    ("go", "crashed_reading", "<signal handler called>"),
];
/// Its library's name is that of an fd of its own, /proc/self/fd/N: gdb opens what it has there itself, a pipe, and waits for ever.
const UNREADABLE: (&str, &str) = ("native", "in_deleted_library");
/// So that a stack overflows after some hundred calls: gdb walks through all of them.
const STACK_KIB: u32 = 256;

pub fn trials() -> impl Iterator<Item = Trial> {
    PROGRAMS.iter().filter(|program| COMPILED.contains(&program.name)).map(|program| {
        let name = format!("each core of {} has its calls where gdb finds them", program.name);
        let needs = [program.needs, &[Need::PlainCores, Need::Tool("gdb")]].concat().leak();
        trial_with(&name, needs, move |bed| all(bed, program))
    })
}

fn all(bed: &Bed, program: &'static Program) {
    let file = Path::new(&program.command()[0]);
    let mut wrong = Vec::new();
    let mut compared = 0;
    // Those that are tried in some ways only are there for their end, and have the stack of another.
    for (name, death) in table::read(program.name).into_iter().filter(|(_, death)| death.ways.is_none()) {
        if (program.name, &*name) == UNREADABLE {
            continue;
        }
        let Some(core) = core_of(bed, program, &name, &death) else { continue };
        let (ours, theirs) = (read(bed, &core), cores::by_gdb(file, &core, &NO_DEBUG_FILES_FOR_GDB));
        std::fs::remove_file(core).expect("it is ours");
        compared += 1;
        let lost = LOST.iter().find(|(of, lost, _)| (*of, *lost) == (program.name, &*name));
        let why = match lost {
            Some((.., behind)) => unlike_but(&ours, &theirs, behind, &death),
            None => unlike(&ours, &theirs),
        };
        wrong.extend(why.map(|why| format!("{name}: {why}")));
    }
    assert!(compared > 0, "no cores");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As [`NO_DEBUG_FILES`] for obit.
const NO_DEBUG_FILES_FOR_GDB: [&str; 2] = ["-iex", "set debug-file-directory /nowhere"];

fn read(bed: &Bed, core: &Path) -> Value {
    let script = format!("{NO_DEBUG_FILES}\nexec \"$0\" core \"$1\" --json");
    let shown = bed.command("sh").args(["-c", &script]).args([&bed::binary(), core]).end();
    shown.code(0);
    serde_json::from_slice(&shown.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown.stderr()))
}

/// The core that this death leaves, if it leaves a whole one.
fn core_of(bed: &Bed, program: &Program, name: &str, death: &Death) -> Option<PathBuf> {
    /// A page that holds an ELF head; less is what a limit for all files left of it.
    const LEAST: u64 = 4096;
    let directory = bed.path(name);
    std::fs::create_dir(&directory).expect("a directory of its own");
    let script = format!("cd \"$0\" && ulimit -c unlimited && ulimit -s {STACK_KIB} && exec \"$@\"");
    let arguments = death.arguments.clone().unwrap_or_else(|| vec![name.to_owned()]);
    let mut run = bed.command("sh").args(["-c", &script]).args([&directory]).args(program.command()).args(arguments);
    for (name, value) in &death.environment {
        run = run.env(name, value);
    }
    run.end();
    let files = std::fs::read_dir(directory).expect("its directory").flatten().map(|entry| entry.path());
    let mut cores =
        files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")));
    cores.find(|path| path.metadata().is_ok_and(|found| found.len() > LEAST))
}

/// As [`unlike`], where gdb loses its way behind that function.
fn unlike_but(ours: &Value, theirs: &Threads, behind: &str, death: &Death) -> Option<String> {
    let threads = ours["threads"].as_array().expect("threads");
    let crashed = threads.iter().find(|thread| thread["crashed"] == true).expect("one that crashed");
    let tid = crashed["tid"].as_u64().expect("a tid");
    let frames = crashed["frames"].as_array().expect("frames");
    let Some(place) = frames.iter().position(|frame| frame["function"] == behind) else {
        return Some(format!("no {behind} in {crashed}"));
    };
    let mut cut = ours.clone();
    for thread in cut["threads"].as_array_mut().expect("threads").iter_mut().filter(|thread| thread["tid"] == tid) {
        thread["frames"].as_array_mut().expect("frames").truncate(place + 1);
    }
    let mut known = theirs.clone();
    for (_, calls) in known.iter_mut().filter(|(other, _)| *other == tid) {
        let found: Vec<_> = calls.iter().map(|call| call.pc).collect();
        if found.len() >= frames.len() {
            return Some(format!("gdb is not lost any more:\n{calls:x?}"));
        }
        calls.truncate(place + 1);
    }
    let further: Vec<&str> = frames[place..].iter().filter_map(|frame| frame["function"].as_str()).collect();
    let mut left = further.iter();
    let expected = death.told.frames.iter().flatten().map(|frame| frame.split('@').next().unwrap_or(frame));
    let missing = expected.into_iter().find(|expected| !left.any(|found| found == expected));
    missing.map(|missing| format!("no {missing} in its place behind {behind}: {further:?}")).or(unlike(&cut, &known))
}

type Threads = Vec<(u64, Vec<cores::Call>)>;

fn unlike(ours: &Value, theirs: &Threads) -> Option<String> {
    let omitted = |tid: u64| {
        let threads = ours["threads"].as_array().into_iter().flatten();
        let hole = threads.filter(|thread| thread["tid"] == tid).map(|thread| &thread["omitted"]).next()?;
        Some((hole["before"].as_u64()? as usize, hole["frames"].as_u64()? as usize))
    };
    let pcs = |calls: &[cores::Call]| calls.iter().map(|call| call.pc).collect::<Vec<_>>();
    let found = cores::calls(ours);
    let tids = |threads: &Threads| threads.iter().map(|(tid, _)| *tid).collect::<Vec<_>>();
    if tids(&found) != tids(theirs) {
        return Some(format!("threads {:?}, by gdb {:?}", tids(&found), tids(theirs)));
    }
    found.iter().zip(theirs).find_map(|((tid, found), (_, theirs))| {
        let mut expected = pcs(theirs);
        // What makecontext(3) has begun ends there, and gdb goes on, through data, down to address 0.
        if expected.last() == Some(&0) && expected.starts_with(&pcs(found)) {
            expected.truncate(found.len());
        }
        if let Some((before, frames)) = omitted(*tid) {
            expected.drain(before.min(expected.len())..(before + frames).min(expected.len()));
        }
        (pcs(found) != expected).then(|| format!("thread {tid}:\n{found:x?}\nby gdb\n{theirs:x?}"))
    })
}
