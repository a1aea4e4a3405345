//! `obit core`: what a core file tells, for people and for programs. It is read where a person asks for it, so nothing is
//! confined; every reader below takes the file as foreign all the same.

#![forbid(unsafe_code)]

use super::output;
use crate::config::Settings;
use crate::evidence::autopsy::{self, Autopsy};
use crate::evidence::core::{self, Core};
use crate::evidence::images::Files;
use crate::evidence::snapshot::{SignalInfo, in_words};
use crate::evidence::stack::{Frame, Image, Omitted, ThreadStack, Trust};
use crate::evidence::symbols::Roots;
use crate::report::text::stacks::{self, Extent};
use crate::report::text::{Look, plain};
use crate::say::{Level, line};
use crate::sys::map;
use crate::sys::regular::{self, Link};
use crate::sys::signal::Signal;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

/// The status of a command that failed.
const FAILED: u8 = 1;
/// As much as a person reads.
const EXTENT: Extent = Extent { frames: 200, other_frames: 24, places: 64 };

pub fn tree() -> Command {
    let path = || clap::value_parser!(PathBuf);
    Command::new("core")
        .about("Threads and calls of a core file")
        .arg(Arg::new("file").value_name("FILE").required(true).value_parser(path()).help("The core file"))
        .arg(
            Arg::new("exe")
                .long("exe")
                .value_name("PATH")
                .value_parser(path())
                .help("The program, if it is not where it was when it crashed"),
        )
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON"))
}

pub fn carry_out(matches: &ArgMatches, settings: &Settings) -> Result<(), String> {
    let file = matches.get_one::<PathBuf>("file").ok_or("no core file was named")?;
    // Files are mapped, and anybody may be writing them.
    let sentence = format!(
        "{} was cut short while it was read, or a file that it names was; try again when nobody writes to them",
        file.display()
    );
    map::end_where_cut(line(Level::Error, &sentence), FAILED);
    let bytes = regular::open(file, Link::Followed).and_then(|file| map::file(&file));
    let bytes = bytes.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let core = core::read(bytes).map_err(|why| format!("{} cannot be read as a core: {why}", file.display()))?;
    let program = matches.get_one::<PathBuf>("exe").cloned();
    if let Some(program) = &program {
        regular::open(program, Link::Followed)
            .map_err(|error| format!("cannot read {}: {error}", program.display()))?;
    }
    let roots = Roots::new(settings.debug_dirs.iter().cloned());
    let (mut autopsy, images) = autopsy::of(&core.snapshot, &core.memory, &Files::by_path(program), &roots);
    // All of them: a program may look for what no frame is in.
    autopsy.images = images.iter().map(autopsy::told).collect();
    let mut out = output::stdout();
    if matches.get_flag("json") {
        let mut out = BufWriter::new(out);
        let _ = serde_json::to_writer(&mut out, &told(&core, &autopsy)).map(|()| out.write_all(b"\n"));
    } else {
        let look = Look { colour: out.is_terminal() };
        let _ = write!(out, "{}", page(&core, &autopsy, look));
    }
    Ok(())
}

/// What `--json` prints: a few thousand frames, so it is written as it is made.
#[derive(Serialize)]
struct Told<'a> {
    signal: Option<ToldSignal>,
    fault: Option<ToldSignal>,
    abort_message: Option<&'a str>,
    pid: Option<i32>,
    arch: &'a str,
    threads: Vec<ToldThread<'a>>,
    images: Vec<ToldImage<'a>>,
    gaps: &'a [String],
}

#[derive(Serialize)]
struct ToldSignal {
    number: i32,
    name: Option<String>,
    code: i32,
    code_name: Option<&'static str>,
    fault_address: Option<Hex>,
    sender_pid: Option<i32>,
    sender_uid: Option<u32>,
}

#[derive(Serialize)]
struct ToldThread<'a> {
    tid: u64,
    name: Option<&'a str>,
    crashed: bool,
    frames: Vec<ToldFrame<'a>>,
    omitted: Option<Omitted>,
    registers: BTreeMap<&'a str, Hex>,
}

#[derive(Serialize)]
struct ToldFrame<'a> {
    pc: Option<Hex>,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    module: Option<&'a str>,
    in_app: bool,
    trust: Option<Trust>,
}

#[derive(Serialize)]
struct ToldImage<'a> {
    path: &'a str,
    build_id: Option<&'a str>,
    debug_id: Option<String>,
    addr: Hex,
    size: u64,
}

/// A number as `0x1f`.
struct Hex(u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

fn told<'a>(core: &'a Core, autopsy: &'a Autopsy) -> Told<'a> {
    Told {
        signal: core.snapshot.signal.map(signal),
        fault: autopsy.fault.map(signal),
        abort_message: autopsy.abort_message.as_deref(),
        pid: core.snapshot.pid,
        arch: core.snapshot.arch.name(),
        threads: autopsy.threads.iter().map(thread).collect(),
        images: autopsy.images.iter().map(image).collect(),
        gaps: &autopsy.gaps,
    }
}

fn signal(signal: SignalInfo) -> ToldSignal {
    ToldSignal {
        number: signal.number,
        name: Signal::new(signal.number).map(Signal::name),
        code: signal.code,
        code_name: signal.code_name(),
        fault_address: signal.fault_address.map(Hex),
        sender_pid: signal.sender_pid,
        sender_uid: signal.sender_uid,
    }
}

fn thread(thread: &ThreadStack) -> ToldThread<'_> {
    ToldThread {
        tid: thread.tid,
        name: thread.name.as_deref(),
        crashed: thread.crashed,
        frames: thread.stack.frames.iter().map(frame).collect(),
        omitted: thread.stack.omitted,
        registers: thread.stack.registers.iter().map(|(name, value)| (name.as_str(), Hex(*value))).collect(),
    }
}

fn frame(frame: &Frame) -> ToldFrame<'_> {
    ToldFrame {
        pc: frame.address.map(Hex),
        function: frame.function.as_deref(),
        file: frame.file.as_deref(),
        line: frame.line,
        module: frame.package.as_deref(),
        in_app: frame.in_app,
        trust: frame.trust,
    }
}

fn image(image: &Image) -> ToldImage<'_> {
    ToldImage {
        path: &image.file,
        build_id: image.build_id.as_deref(),
        debug_id: image.debug_id(),
        addr: Hex(image.address),
        size: image.size,
    }
}

fn page(core: &Core, autopsy: &Autopsy, look: Look) -> String {
    let mut page = String::new();
    let snapshot = &core.snapshot;
    let name = snapshot.comm.as_deref().unwrap_or("a process");
    let pid = snapshot.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let _ = writeln!(page, "{}{pid}, {} threads", plain(name), autopsy.threads.len());
    if let Some(signal) = snapshot.signal {
        let _ = writeln!(page, "{}", in_words(signal));
    }
    if let Some(fault) = autopsy.fault {
        let _ = writeln!(page, "raised again by its own handler of {}", in_words(fault));
    }
    if let Some(message) = &autopsy.abort_message {
        let _ = writeln!(page, "{}", plain(message));
    }
    page.push('\n');
    stacks::threads(&autopsy.threads, "crashed", EXTENT, look, &mut page);
    if !autopsy.gaps.is_empty() {
        let _ = writeln!(page, "\nnot known");
        for gap in &autopsy.gaps {
            let _ = writeln!(page, "  · {}", plain(gap));
        }
    }
    page
}
