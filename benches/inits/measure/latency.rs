//! From SIGUSR1 sent to PID 1 to the first line of the program's handler. All inits are up; the signals go round.

#![forbid(unsafe_code)]

use super::us;
use crate::bed::Bed;
use crate::clock::{Deadline, now_ns};
use crate::series::Series;
use crate::table::{
    Bound::{AtMost, OfTini},
    Row,
};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// A signal that takes longer is lost.
const LOST: Duration = Duration::from_secs(1);

pub fn rows(bed: &Bed) -> Vec<Row> {
    let n = bed.contenders.len();
    let mut bouts: Vec<_> = (0..n).map(|_| None).collect();
    bed.turns(
        "signal",
        1,
        |_| true,
        |i, contender| {
            bouts[i] = Some(bed.start_settled(contender, "serve", &[])?);
            Ok(())
        },
    );
    let (mut latency, mut lost) = (Series::new(n), Series::new(n));
    bed.turns(
        "signal",
        bed.plan.signals,
        |_| true,
        |i, _| {
            let Some(bout) = &bouts[i] else { return Ok(()) };
            let board = &bout.board;
            board.facts().signal_ns.store(0, SeqCst);
            let sent_ns = now_ns();
            bout.running.signal(libc::SIGUSR1);
            let handled = board.until(Deadline::after(LOST), |facts| facts.signal_ns.load(SeqCst) != 0);
            lost.push(i, f64::from(!handled));
            if handled {
                latency.push(i, us(sent_ns, board.facts().signal_ns.load(SeqCst)));
            }
            Ok(())
        },
    );
    vec![
        Row::new("SIGUSR1 → program's handler, median", "µs", latency.median()).must(OfTini(1.2)).stretch(OfTini(1.0)),
        // On a busy machine the median depends on whose processor was free; the quick tenth is the way itself.
        Row::new("SIGUSR1 → program's handler, p10", "µs", latency.quantile(0.1)),
        Row::new("SIGUSR1 → program's handler, p90", "µs", latency.quantile(0.9)),
        Row::new(format!("SIGUSR1 lost of {}", bed.plan.signals), "", lost.sum()).must(AtMost(0.0)),
    ]
}
