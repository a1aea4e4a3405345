//! From a write to address 0 to the entry in the spool, to the complete report, to the event at the server; and, for all inits,
//! to the namespace being gone: the kernel has to tear the program down before any init hears of its death.

#![forbid(unsafe_code)]

use super::us;
use crate::bed::Bed;
use crate::clock::Deadline;
use crate::contender::{Aim, Contender, OBIT};
use crate::namespace::Proc;
use crate::series::Series;
use crate::spool::Watch;
use crate::table::{Bound::AtMost, Row};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(15);
const SEGFAULT: i32 = 128 + libc::SIGSEGV;

pub fn rows(bed: &Bed) -> Vec<Row> {
    let mib = bed.plan.crash_mib;
    let programs = [(1, 0, "small program".to_owned()), (64, mib, format!("64 threads, {mib} MiB"))];
    programs.into_iter().flat_map(|(threads, mib, whose)| crashes(bed, threads, mib, &whose)).collect()
}

fn crashes(bed: &Bed, threads: u64, mib: u64, whose: &str) -> Vec<Row> {
    let n = bed.contenders.len();
    let [mut minimal, mut complete, mut arrived, mut gone] = [(); 4].map(|()| Series::new(n));
    bed.turns(
        "crash",
        bed.plan.crashes,
        |_| true,
        |i, contender| {
            let times = crash(bed, contender, threads, mib)?;
            gone.push(i, times.gone_ms);
            if let Some(report) = times.report {
                minimal.push(i, report.minimal_ms);
                complete.push(i, report.complete_ms);
                arrived.push(i, report.arrived_ms);
            }
            Ok(())
        },
    );
    vec![
        Row::new(format!("crash → minimal entry, {whose}, median"), "ms", minimal.median())
            .must(AtMost(10.0))
            .stretch(AtMost(3.0)),
        Row::new(format!("crash → minimal entry, {whose}, p90"), "ms", minimal.quantile(0.9)),
        Row::new(format!("crash → complete report, {whose}, median"), "ms", complete.median())
            .must(AtMost(50.0))
            .stretch(AtMost(10.0)),
        Row::new(format!("crash → complete report, {whose}, p90"), "ms", complete.quantile(0.9)),
        Row::new(format!("crash → event at the server, {whose}, median"), "ms", arrived.median()).must(AtMost(1000.0)),
        Row::new(format!("crash → namespace gone, {whose}, median"), "ms", gone.median()),
    ]
}

struct Times {
    gone_ms: f64,
    /// obit's only.
    report: Option<ReportTimes>,
}

struct ReportTimes {
    minimal_ms: f64,
    complete_ms: f64,
    arrived_ms: f64,
}

fn crash(bed: &Bed, contender: &Contender, threads: u64, mib: u64) -> Result<Times, String> {
    let state = bed.state().map_err(|e| format!("no state directory: {e}"))?;
    let spool = Watch::on(&state.path().join("spool")).map_err(|e| format!("the spool cannot be watched: {e}"))?;
    bed.server.drain();
    let bout = bed.start_in(state, contender, Aim::Shipped, Proc::Own, "crash", &[threads, mib])?;
    let mut bout = bout.ok_or_else(|| format!("{} has no usual mode", contender.name))?.settled()?;
    bout.running.signal(libc::SIGUSR1);
    let spooled = if contender.name == OBIT {
        let times = spool.minimal_and_complete(Deadline::after(PATIENCE));
        let Some(times) = times else { return Err(bout.failure("no complete report came into the spool")) };
        Some(times)
    } else {
        None
    };
    let ended = bout.ends_with(SEGFAULT)?;
    let crash_ns = bout.board.facts().done_ns.load(SeqCst);
    let ms = |at_ns| us(crash_ns, at_ns) / 1e3;
    let report = match spooled {
        None => None,
        Some((minimal_ns, complete_ns)) => {
            let arrived_ns = bed.server.event_ns(PATIENCE).ok_or("no event came to the server")?;
            let (minimal_ms, complete_ms) = (ms(minimal_ns), ms(complete_ns));
            Some(ReportTimes { minimal_ms, complete_ms, arrived_ms: ms(arrived_ns) })
        }
    };
    Ok(Times { gone_ms: ms(ended.at_ns), report })
}
