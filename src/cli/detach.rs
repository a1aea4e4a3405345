//! `obit detach`: a running obit stops tracing its program, so that gdb or strace can.

#![forbid(unsafe_code)]

use super::output;
use crate::init::forward::LET_GO;
use crate::sys::process;
use crate::sys::signal::Signal;
use clap::{Arg, ArgMatches, Command};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// A program of ten thousand threads is let go within a second.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub fn tree() -> Command {
    Command::new("detach").about("Stop tracing the program, so that gdb or strace can attach to it").arg(
        Arg::new("pid")
            .value_name("PID")
            .default_value("1")
            .value_parser(clap::value_parser!(i32).range(1..))
            .help("Process id of the running obit, or of the program it traces"),
    )
}

pub fn carry_out(matches: &ArgMatches) -> Result<(), String> {
    let asked = *matches.get_one::<i32>("pid").expect("it has a default");
    let tracer = tracer_of(asked).ok_or_else(|| format!("there is no process {asked}"))?;
    // The program may be named as well as who traces it.
    let pid = if tracer > 0 { tracer } else { asked };
    let before = traced_by(pid)?;
    let began = Instant::now();
    // A signal that is pending is not queued again, so one may get lost behind a child's end.
    while before.iter().any(|traced| tracer_of(*traced) == Some(pid)) {
        process::queue(pid, Signal::CHLD, LET_GO).map_err(|error| format!("process {pid} cannot be asked: {error}"))?;
        if began.elapsed() > PATIENCE {
            return Err(format!("process {pid} was asked, and still traces; is it obit?"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    let (living, ended): (Vec<i32>, Vec<i32>) = before.into_iter().partition(|traced| tracer_of(*traced).is_some());
    let mut out = output::stdout();
    if living.is_empty() && ended.is_empty() {
        let _ = writeln!(out, "process {pid} traces nobody");
    }
    if !living.is_empty() {
        let what = "is not traced any more; a crash of it will have no stack but a core's";
        let _ = writeln!(out, "process {} {what}", listed(&living));
    }
    if !ended.is_empty() {
        let _ = writeln!(out, "process {} ended meanwhile", listed(&ended));
    }
    Ok(())
}

fn listed(pids: &[i32]) -> String {
    pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ")
}

/// Who traces a process, 0: nobody; `None` if there is no such process.
fn tracer_of(pid: i32) -> Option<i32> {
    let status = procfs::process::Process::new(pid).and_then(|process| process.status());
    status.ok().map(|status| status.tracerpid)
}

/// The processes whose tracer that is: of all that there are, so it is asked once.
fn traced_by(tracer: i32) -> Result<Vec<i32>, String> {
    let all = procfs::process::all_processes().map_err(|error| format!("/proc cannot be read: {error}"))?;
    let statuses = all.filter_map(|process| process.ok()?.status().ok());
    Ok(statuses.filter(|status| status.tracerpid == tracer).map(|status| status.pid).collect())
}
