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
    let large = format!("64 threads, {mib} MiB");
    let programs = [
        (Aim::Shipped, 1, 0, "small program".to_owned()),
        (Aim::Looking, 1, 0, "small program, captured".to_owned()),
        (Aim::Shipped, 64, mib, large.clone()),
        (Aim::Looking, 64, mib, format!("{large}, captured")),
    ];
    programs.into_iter().flat_map(|(aim, threads, mib, whose)| crashes(bed, aim, threads, mib, &whose)).collect()
}

fn crashes(bed: &Bed, aim: Aim, threads: u64, mib: u64, whose: &str) -> Vec<Row> {
    let n = bed.contenders.len();
    let [mut minimal, mut complete, mut arrived, mut gone] = [(); 4].map(|()| Series::new(n));
    bed.turns(
        "crash",
        bed.plan.crashes,
        |contender| matches!(aim, Aim::Shipped) || contender.name == OBIT,
        |i, contender| {
            let times = crash(bed, contender, aim, threads, mib)?;
            let ms = |at_ns| us(times.crash_ns, at_ns) / 1e3;
            gone.push(i, ms(times.gone_ns));
            if let Some((minimal_ns, complete_ns)) = times.spooled {
                minimal.push(i, ms(minimal_ns));
                complete.push(i, ms(complete_ns));
                arrived.push(i, ms(bed.server.event_ns(PATIENCE).ok_or("no event came to the server")?));
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
    crash_ns: u64,
    /// The minimal entry, the complete one; obit's only.
    spooled: Option<(u64, u64)>,
    gone_ns: u64,
}

fn crash(bed: &Bed, contender: &Contender, aim: Aim, threads: u64, mib: u64) -> Result<Times, String> {
    let state = bed.state().map_err(|e| format!("no state directory: {e}"))?;
    let spool = Watch::on(&state.path().join("spool")).map_err(|e| format!("the spool cannot be watched: {e}"))?;
    bed.server.drain();
    let bout = bed.start_in(state, contender, aim, Proc::Own, "crash", &[threads, mib])?;
    let mut bout = bout.ok_or_else(|| format!("{} has no usual mode", contender.name))?.settled()?;
    bout.running.signal(libc::SIGUSR1);
    let spooled = if contender.name == OBIT {
        let times = spool.minimal_and_complete(Deadline::after(PATIENCE));
        let Some(times) = times else { return Err(bout.failure("no complete report came into the spool")) };
        Some(times)
    } else {
        None
    };
    let gone_ns = bout.ends_with(SEGFAULT)?.at_ns;
    Ok(Times { crash_ns: bout.board.facts().done_ns.load(SeqCst), spooled, gone_ns })
}
