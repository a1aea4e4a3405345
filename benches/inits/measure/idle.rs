//! What PID 1 takes while nothing happens. All inits idle through the same window, side by side: an idle one costs the others nothing.

use crate::bed::{Bed, is_init};
use crate::proc;
use crate::series::Series;
use crate::table::{
    Bound::{AtMost, OfTini},
    Row,
};
use std::time::Duration;

pub fn rows(bed: &Bed) -> Vec<Row> {
    let n = bed.contenders.len();
    // A binary that was built just now is dirty in the page cache, and its pages count as private dirty until written back.
    // SAFETY: sync(2) takes nothing.
    unsafe { libc::sync() };
    let mut idlers = Vec::new();
    bed.turns("idle", 1, is_init, |i, contender| {
        let bout = bed.start_settled(contender, "serve", &[])?;
        let before = proc::status(bout.running.pid).map_err(|e| e.to_string())?.context_switches;
        idlers.push((i, bout, before));
        Ok(())
    });
    std::thread::sleep(Duration::from_secs(bed.plan.idle_seconds));

    let [mut wakeups, mut threads, mut children] = [(); 3].map(|()| Series::new(n));
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
        Row::new(format!("idle: wake-ups in {} s", bed.plan.idle_seconds), "", wakeups.median())
            .must(AtMost(0.0))
            .stretch(AtMost(0.0)),
    ]
}
