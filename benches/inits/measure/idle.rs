//! What PID 1 takes while nothing happens. All inits idle through the same window, side by side: an idle one costs the others nothing.
//!
//! obit with a DSN and a state directory that has seen nothing calls a courier a second after its start, who finds out when the daily
//! report is due. That is its start-up, told in a row of its own.

use crate::bed::{Bed, is_init};
use crate::proc;
use crate::series::Series;
use crate::table::{
    Bound::{AtMost, OfTini},
    Row,
};
use std::time::Duration;

/// Longer than it takes obit to look for the first time whether anything is due, and to be told what was found.
const FIRST_LOOK: Duration = Duration::from_secs(3);

pub fn rows(bed: &Bed) -> Vec<Row> {
    let n = bed.contenders.len();
    // A binary that was built just now is dirty in the page cache, and its pages count as private dirty until written back.
    // SAFETY: sync(2) takes nothing.
    unsafe { libc::sync() };
    let mut started = Vec::new();
    bed.turns("idle", 1, is_init, |i, contender| {
        let bout = bed.start_settled(contender, "serve", &[])?;
        let begun = proc::status(bout.running.pid).map_err(|e| e.to_string())?.context_switches;
        started.push((i, bout, begun));
        Ok(())
    });
    std::thread::sleep(FIRST_LOOK);
    let [mut first, mut wakeups, mut threads, mut children] = [(); 4].map(|()| Series::new(n));
    let mut idlers = Vec::new();
    for (i, bout, begun) in started {
        let Ok(status) = proc::status(bout.running.pid) else { continue };
        first.push(i, (status.context_switches - begun) as f64);
        idlers.push((i, bout, status.context_switches));
    }
    std::thread::sleep(Duration::from_secs(bed.plan.idle_seconds));

    let [mut dirty, mut proportional, mut resident] = [(); 3].map(|()| Series::new(n));
    for (i, bout, before) in &idlers {
        let pid = bout.running.pid;
        let (Ok(status), Ok(memory), Ok(family)) = (proc::status(pid), proc::memory(pid), proc::children(pid)) else {
            continue;
        };
        wakeups.push(*i, (status.context_switches - before) as f64);
        threads.push(*i, status.threads as f64);
        children.push(*i, family as f64);
        dirty.push(*i, memory.private_dirty as f64);
        proportional.push(*i, memory.proportional as f64);
        resident.push(*i, memory.resident as f64);
    }
    vec![
        Row::new("idle: private dirty", "kB", dirty.median()).must(AtMost(200.0)).stretch(OfTini(1.0)),
        Row::new("idle: PSS", "kB", proportional.median()),
        Row::new("idle: RSS", "kB", resident.median()),
        Row::new("idle: threads", "", threads.median()).must(AtMost(1.0)),
        Row::new("idle: children, the program included", "", children.median()),
        Row::new(format!("idle: wake-ups in the {} s before", FIRST_LOOK.as_secs()), "", first.median()),
        Row::new(format!("idle: wake-ups in {} s", bed.plan.idle_seconds), "", wakeups.median())
            .must(AtMost(0.0))
            .stretch(AtMost(0.0)),
    ]
}
