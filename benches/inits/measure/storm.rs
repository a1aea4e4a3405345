//! Orphans by the thousand: are they reaped as they come, is the exit code kept, is SIGTERM answered meanwhile?
//!
//! The unreaped are init's children in /proc, looked at once a millisecond, less the program; one that has not ended yet counts too.

#![forbid(unsafe_code)]

use super::us;
use crate::bed::{Bed, PATIENCE, is_init};
use crate::clock::{Deadline, now_ns};
use crate::contender::Contender;
use crate::proc;
use crate::series::Series;
use crate::table::{Bound::AtMost, Row};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// The same in probe.c.
const IN_STORM: i32 = 42;
/// The storm is well under way by then.
const UNDER_WAY: u64 = 300;
const LOOK: Duration = Duration::from_millis(1);
const STORM_PATIENCE: Duration = Duration::from_secs(120);

pub fn rows(bed: &Bed) -> Vec<Row> {
    let n = bed.contenders.len();
    let (mut tail, mut unreaped) = (Series::new(n), Series::new(n));
    bed.turns("storm", bed.plan.storms, is_init, |i, contender| {
        let (tail_ms, most) = storm(bed, contender)?;
        tail.push(i, tail_ms);
        unreaped.push(i, most as f64);
        Ok(())
    });
    let mut changed = Series::new(n);
    bed.turns("death in a storm", bed.plan.deaths, is_init, |i, contender| {
        let mut bout = bed.start_shipped(contender, "leave-in-storm", &[UNDER_WAY])?;
        let ended = bout.running.ended(Deadline::after(PATIENCE)).ok_or("it never ended")?;
        changed.push(i, f64::from(ended.code != IN_STORM));
        Ok(())
    });
    let (mut latency, mut changed_by_term) = (Series::new(n), Series::new(n));
    bed.turns("SIGTERM in a storm", bed.plan.deaths, is_init, |i, contender| {
        let mut bout = bed.start_shipped(contender, "serve-in-storm", &[UNDER_WAY])?;
        if !bout.board.until(Deadline::after(PATIENCE), |facts| u64::from(facts.orphans.load(SeqCst)) >= UNDER_WAY) {
            return Err(bout.failure("the storm did not begin"));
        }
        let sent_ns = now_ns();
        bout.running.signal(libc::SIGTERM);
        let ended = bout.running.ended(Deadline::after(PATIENCE)).ok_or("it never ended")?;
        latency.push(i, us(sent_ns, bout.board.facts().signal_ns.load(SeqCst)));
        changed_by_term.push(i, f64::from(ended.code != IN_STORM));
        Ok(())
    });
    let deaths = bed.plan.deaths;
    vec![
        Row::new(format!("{} orphans: last fork → all reaped, median", bed.plan.orphans), "ms", tail.median())
            .must(AtMost(1.0)),
        Row::new(format!("{} orphans: most unreaped at once", bed.plan.orphans), "", unreaped.quantile(1.0)),
        Row::new(format!("exit code lost in a storm, of {deaths}"), "", changed.sum()).must(AtMost(0.0)),
        Row::new(format!("exit code lost in a storm at SIGTERM, of {deaths}"), "", changed_by_term.sum())
            .must(AtMost(0.0)),
        Row::new("SIGTERM in a storm → program's handler, median", "µs", latency.median()),
        Row::new("SIGTERM in a storm → program's handler, worst", "µs", latency.quantile(1.0)).stretch(AtMost(1000.0)),
    ]
}

/// The tail in ms, and the most unreaped.
fn storm(bed: &Bed, contender: &Contender) -> Result<(f64, usize), String> {
    let bout = bed.start_shipped(contender, "storm", &[bed.plan.orphans.into()])?;
    let unreaped = || proc::children(bout.running.pid).map(|children| children.saturating_sub(1));
    let deadline = Deadline::after(STORM_PATIENCE);
    let mut most = 0;
    while !bout.board.until(Deadline::after(LOOK), |facts| facts.done_ns.load(SeqCst) != 0) {
        most = most.max(unreaped().map_err(|e| format!("init is gone: {e}"))?);
        if deadline.passed() {
            return Err(bout.failure("the storm did not end"));
        }
    }
    loop {
        let left = unreaped().map_err(|e| format!("init is gone: {e}"))?;
        let looked_ns = now_ns();
        most = most.max(left);
        if left == 0 {
            return Ok((us(bout.board.facts().done_ns.load(SeqCst), looked_ns) / 1e3, most));
        }
        if deadline.passed() {
            return Err(bout.failure(&format!("{left} orphans are never reaped")));
        }
    }
}
