//! Programs that die in every way we know of, and what is told of each death: in a report, and by the program's own words, code
//! and signals, which are the same with and without obit.
//!
//! `fixtures/deaths` has a source and a table for each language. Every death is tried in four [`Way`]s and once by itself.
//! `OBIT_TEST_DEATH=null_read` tries that one alone, and shows its report if anything is wrong.

mod alike;
mod beside_gdb;
pub mod house;
mod programs;
mod table;

use crate::bed::{self, Bed, Ended, Fate, Room, alone, trial_with};
use crate::docker::CONTAINERS;
use crate::need::Need;
use alike::{alike, without_ours};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use programs::{PROGRAMS, Program};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use table::{Death, Way};

const WAYS: [(Way, &str); 4] = [
    (Way::First, "as PID 1"),
    (Way::Cores, "where cores may be written and nobody traces"),
    (Way::NoCores, "where no core may be written"),
    (Way::ReadOnly, "in a directory that cannot be written to"),
];

pub fn trials() -> Vec<Trial> {
    let pairs = PROGRAMS.iter().flat_map(|program| WAYS.into_iter().map(move |way| (program, way)));
    let told = pairs.map(|(program, (way, words))| {
        let name = format!("each death of {} is told as it was, {words}", program.name);
        let needs: &'static [Need] = match way {
            Way::Cores => &[Need::PlainCores],
            _ => &[],
        };
        let needs: &'static [Need] = [program.needs, needs].concat().leak();
        trial_with(&name, needs, move |bed| all(bed, program, way))
    });
    let in_container = PROGRAMS.iter().map(|program| {
        let name = format!("each death of {} is told as it was, in a container", program.name);
        let needs: &'static [Need] = [program.needs, CONTAINERS].concat().leak();
        trial_with(&name, needs, move |bed| all(bed, program, Way::Container))
    });
    let piped = alone("each death of native is told as it was, where a core goes to a program", house::PIPE, |bed| {
        let _pattern = house::Pattern::set("|/bin/false %P");
        all(bed, &PROGRAMS[0], Way::Pipe);
    });
    told.chain(in_container).chain([piped]).chain(beside_gdb::trials()).collect()
}

/// Whether the machine has the C library's own debug information is nothing that a death should depend on, and it takes long to read.
const NO_DEBUG_FILES: &str = "[ ! -d /usr/lib/debug ] || mount -t tmpfs none /usr/lib/debug";

/// The directory cannot be written to, and /tmp, where some runtimes then write, is the run's own: what it holds of this trial
/// stays where it is.
const READ_ONLY: &str = r#"ulimit -c unlimited
own=$(mktemp -d "$0.XXXXXX")
mount --bind . . && mount -o remount,bind,ro .
for path in "$0" "$@"; do
    case $path in /tmp/*)
        top=$own/$(printf %s "$path" | cut -d/ -f3)
        [ -e "$top" ] || { mkdir "$top" && mount --rbind "/tmp/${top##*/}" "$top"; } ;;
    esac
done
mount --rbind "$own" /tmp
cd "$0""#;

/// Every death of a program in one way.
fn all(bed: &Bed, program: &'static Program, way: Way) {
    let marks = table::marks(program.sources);
    let mut wrong = Vec::new();
    let only = std::env::var("OBIT_TEST_DEATH").ok();
    let house = (way == Way::Container).then(|| house::Container::open(bed, program));
    for (name, death) in table::read(program.name) {
        if !death.is_tried(way) || only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let run = Run { bed, program, name: &name, death: &death, way, marks: &marks, house: house.as_ref() };
        wrong.extend(run.wrong().into_iter().map(|what| format!("{name}: {what}")));
    }
    assert!(wrong.is_empty(), "{} of {} {way:?}:\n{}", wrong.len(), program.name, wrong.join("\n"));
}

/// One death in one way.
struct Run<'a> {
    bed: &'a Bed,
    program: &'static Program,
    name: &'a str,
    death: &'a Death,
    way: Way,
    marks: &'a BTreeMap<String, String>,
    house: Option<&'a house::Container<'a>>,
}

impl Run<'_> {
    /// What is not as it should be.
    fn wrong(&self) -> Vec<String> {
        let state = self.bed.path(format!("state-{}", self.name));
        let ended = self.end(&state);
        let mut wrong = self.unlike(&ended);
        // What the program forked may have crashed, too, where it is followed.
        let is_own = |report: &Value| report["process"]["descendant"] != true;
        let (reports, of_others): (Vec<Value>, Vec<Value>) = reports(&state).into_iter().partition(is_own);
        let may_see = usize::from(self.name.starts_with("child_") && self.way != Way::Cores);
        if of_others.len() > may_see || of_others.iter().any(|report| report["process"]["parent"].is_null()) {
            wrong.push(format!("{} reports of others: {}", of_others.len(), ended.stderr()));
        }
        let expected = usize::from(self.death.told.kind.as_deref() != Some("no report"));
        match &reports[..] {
            [report] if expected == 1 => wrong.extend(self.told_wrong(report)),
            [] if expected == 0 => {}
            reports => wrong.push(format!("{} reports: {}", reports.len(), ended.stderr())),
        }
        wrong
    }

    /// Under obit; the directory is the program's own.
    fn end(&self, state: &Path) -> Ended {
        let capture = if self.way == Way::Cores { "off" } else { "auto" };
        let binary = if self.way == Way::Container { house::OBIT.into() } else { bed::binary().into_os_string() };
        let obit = [binary, "run".into(), "--capture".into(), capture.into(), "--".into()];
        let obit = obit.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let room = if self.way == Way::First { Room::First } else { Room::Guest };
        self.run(&format!("{}-{:?}", self.name, self.way), obit, self.way, room, state)
    }

    fn run(&self, directory: &str, before: Vec<String>, way: Way, room: Room, state: &Path) -> Ended {
        let directory = self.bed.path(directory);
        std::fs::create_dir(&directory).expect("a directory of its own");
        let script = match way {
            Way::First => "",
            Way::Cores => "ulimit -c unlimited",
            Way::NoCores | Way::Container => "ulimit -c 0",
            Way::Pipe => "",
            Way::ReadOnly => READ_ONLY,
        };
        let arguments = self.death.arguments.clone().unwrap_or_else(|| vec![self.name.to_owned()]);
        if let Some(house) = self.house.filter(|_| way == Way::Container) {
            let environment = self.death.environment.iter().map(|(name, value)| format!("{name}={value}"));
            let told =
                ["TELL_SIGNALS=1".to_owned(), "LANG=C".to_owned(), format!("OBIT_STATE_DIR={}", state.display())];
            let words = before.into_iter().map(OsString::from).chain(self.program.command().iter().cloned());
            let words = words.chain(arguments.into_iter().map(OsString::from));
            return house.run(&directory, environment.chain(told), script, words);
        }
        // Signals that nothing here is about: what the program inherits of them it keeps.
        let script = format!(
            "set -e; cd \"$0\"; {NO_DEBUG_FILES}\n{script}\nexec env --ignore-signal=28 --block-signal=40 \"$@\""
        );
        let mut setup = self.bed.command("sh").args(["-c", &script]).args([&directory]).args(before);
        setup = setup.args(self.program.command()).args(arguments).in_room(room).env("OBIT_STATE_DIR", state);
        setup = setup.env("TELL_SIGNALS", "1").env("LANG", "C");
        for (name, value) in &self.death.environment {
            setup = setup.env(name, value);
        }
        setup.end()
    }

    /// What the program did otherwise than by itself.
    fn unlike(&self, ended: &Ended) -> Vec<String> {
        let (fate, stdout, stderr) = self.by_itself();
        let mut wrong = Vec::new();
        let told = |fate| match fate {
            Fate::Exited(code) => code,
            Fate::Killed(signal) => 128 + signal,
        };
        let outward = told(fate);
        if ended.fate != Fate::Exited(outward) {
            wrong.push(format!("{:?}, by itself {fate:?}", ended.fate));
        }
        let end = self.death.signal.as_deref().map(|name| number(name) as u8);
        let end = end.map_or(Fate::Exited(self.death.exit), Fate::Killed);
        // The engine tells of a signal as a shell does.
        if fate != end && (self.way != Way::Container || outward != told(end)) {
            wrong.push(format!("by itself it ends {fate:?}"));
        }
        let directory = self.bed.path(format!("{}-{:?}", self.name, self.way));
        let (out, err) = (alike(&ended.stdout(), &directory), alike(&without_ours(&ended.stderr()), &directory));
        if !out.contains("SigCgt:") {
            wrong.push(format!("it does not tell its signals: {out}"));
        }
        let certain = |text: &str| match &self.death.varies {
            Some(varies) => text.split(&varies.behind).next().unwrap_or_default().to_owned(),
            None => text.to_owned(),
        };
        let (err, stderr) = (certain(&err), certain(&stderr));
        if out != stdout {
            wrong.push(format!("stdout is\n{out}and by itself\n{stdout}"));
        }
        if err != stderr {
            wrong.push(format!("stderr is\n{err}and by itself\n{stderr}"));
        }
        wrong
    }

    /// The same with nobody looking on: its end, stdout and stderr.
    fn by_itself(&self) -> (Fate, String, String) {
        type Known = BTreeMap<(&'static str, String, Option<String>), &'static OnceLock<(Fate, String, String)>>;
        static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
        let way = self.death.tells_its_way.then_some(self.way);
        let key = (self.program.name, self.name.to_owned(), way.map(|way| format!("{way:?}")));
        let cell = *KNOWN.lock().expect("no panic").entry(key).or_insert_with(|| Box::leak(Box::default()));
        let run = || {
            let name = format!("{}-alone", self.name);
            let ended =
                self.run(&name, Vec::new(), way.unwrap_or(Way::NoCores), Room::Guest, &self.bed.path("no-state"));
            let directory = self.bed.path(name);
            (ended.fate, alike(&ended.stdout(), &directory), alike(&ended.stderr(), &directory))
        };
        cell.get_or_init(run).clone()
    }

    /// What the report has otherwise than the table.
    fn told_wrong(&self, report: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut differ = |what: &str, expected: String, found: String| {
            if expected != found {
                wrong.push(format!("{what}: {found}\n  expected {expected}"));
            }
        };
        let told = self.death.told(self.way, &self.by_itself().2);
        let signal = self.death.signal.clone().map_or(Value::Null, Value::String);
        differ("signal", signal.to_string(), report["exit"]["signal"].to_string());
        let code = self.death.signal.as_deref().map_or(i32::from(self.death.exit), |name| 128 + number(name));
        differ("code", code.to_string(), report["exit"]["code"].to_string());

        let empty = Vec::new();
        let exceptions = report["exceptions"].as_array().unwrap_or(&empty);
        let (last, causes) = exceptions.split_last().map_or((&Value::Null, &[][..]), |(last, causes)| (last, causes));
        let causes: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", text(&cause["kind"]), text(&cause["value"]))).collect();
        let kind = told.kind.clone().or(self.death.signal.clone()).unwrap_or_default();
        differ("kind", kind, last["kind"].as_str().unwrap_or("none").to_owned());
        differ("causes", format!("{:?}", self.death.causes), format!("{causes:?}"));
        if let Some(value) = &told.value {
            let found = text(&last["value"]);
            differ(
                "value",
                value.clone(),
                if value.contains('#') { alike(&found, Path::new("/nowhere")) } else { found },
            );
        }
        if let Some(threads) = told.threads {
            let found = report["process"]["threads_at_death"].as_u64().unwrap_or(0);
            differ("threads", threads.to_string(), found.to_string());
        }
        let crashed = report["threads"].as_array().and_then(|all| all.iter().find(|thread| thread["crashed"] == true));
        let crashed = crashed.map_or(&Value::Null, |thread| &thread["stack"]);
        let own = if last["stack"].is_null() { crashed } else { &last["stack"] };
        for (what, expected, found) in [("frames", &told.frames, own), ("calls", &told.calls, crashed)] {
            if let Some(expected) = expected {
                let found = frames(found);
                differ(what, format!("{:?}", self.places(expected, &found)), format!("{found:?}"));
            }
        }
        for gap in self.death.gaps_in(self.way).filter_map(|gap| gap.said.as_deref()) {
            let gaps = report["gaps"].to_string();
            // Where there was a core and it went elsewhere, that is what the report has to say.
            let is_elsewhere = self.way == Way::Pipe && gaps.contains("the host's handler takes the core");
            if !gaps.contains(gap) && !is_elsewhere {
                wrong.push(format!("no gap {gap:?} in {}", report["gaps"]));
            }
        }
        if !wrong.is_empty() && std::env::var_os("OBIT_TEST_DEATH").is_some() {
            wrong.push(format!("{report:#}"));
        }
        wrong
    }

    /// The calls that are expected, as [`frames`] has them. `…` takes as many of the one before as are found.
    fn places(&self, expected: &[String], found: &[String]) -> Vec<String> {
        let mut places: Vec<String> = Vec::new();
        for frame in expected {
            if frame == "…" {
                let last = places.last().cloned().unwrap_or_default();
                let more = found.iter().skip(places.len()).take_while(|found| **found == last).count();
                places.extend(vec![last; more]);
                continue;
            }
            let (function, mark) = frame.split_once('@').unwrap_or((frame, frame));
            // `shop::Base::call()` and `main.panicked` are marked by the function's own name.
            let short = mark.rsplit("::").next().unwrap_or(mark).trim_end_matches("()");
            let short = short.strip_prefix("main.").unwrap_or(short);
            let known = self.marks.get(mark).or_else(|| self.marks.get(short)).map(String::as_str);
            let given = Some(mark).filter(|_| frame.contains('@') && mark.contains(':'));
            let place = known.or(given).unwrap_or("?");
            places.push(format!("{function} {place}"));
        }
        places
    }
}

/// `function file:line` of the program's own calls, innermost first.
fn frames(stack: &Value) -> Vec<String> {
    let frames = stack["frames"].as_array().into_iter().flatten().filter(|frame| frame["in_app"] == true);
    let place = |frame: &Value| {
        let file = text(&frame["file"]);
        let function = frame["function"].as_str().unwrap_or("?");
        match frame["line"].as_u64() {
            Some(line) => format!("{function} {}:{line}", file.rsplit('/').next().unwrap_or_default()),
            None => format!("{function} ?"),
        }
    };
    frames.map(place).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// signal(7).
fn number(name: &str) -> i32 {
    match name.strip_prefix("SIGRTMIN") {
        Some(more) => 34 + more.trim_start_matches('+').parse().unwrap_or(0),
        None => name.parse::<Signal>().unwrap_or_else(|_| panic!("{name} is no signal")) as i32,
    }
}

/// The reports that were kept there.
fn reports(state: &Path) -> Vec<Value> {
    let ask = |arguments: &[&str]| -> Value {
        let mut obit = Command::new(bed::binary());
        let output = obit.args(arguments).env("OBIT_STATE_DIR", state).output().expect("obit runs");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
    };
    let list = ask(&["crashes", "list", "--json"]);
    let rows = list.as_array().expect("an array").iter();
    rows.map(|row| ask(&["crashes", "show", row["event_id"].as_str().expect("an id"), "--json"])).collect()
}
