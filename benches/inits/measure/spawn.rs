//! SIGTERM while the program is being started, from the moment at which init has blocked its signals: whoever blocks a signal
//! promises not to lose it. The delays step evenly through the spawn; every init gets the same ones.

#![forbid(unsafe_code)]

use crate::bed::{Bed, PATIENCE, is_init};
use crate::clock::{Deadline, now_ns};
use crate::contender::Aim;
use crate::namespace::Proc;
use crate::proc;
use crate::series::Series;
use crate::table::{Bound::AtMost, Row};
use std::hint::spin_loop;
use std::time::Duration;

/// The spawn is over by then, on a quiet machine.
const LATEST: Duration = Duration::from_micros(1500);
/// Then it is not late but lost.
const LOST: Duration = Duration::from_millis(400);

pub fn rows(bed: &Bed) -> Vec<Row> {
    let n = bed.plan.spawns;
    [(Aim::Single, "the program alone"), (Aim::Group, "its group")]
        .map(|(aim, to)| {
            let what = format!("SIGTERM around the spawn, to {to}: lost of {n}");
            Row::new(what, "", lost(bed, aim).sum()).must(AtMost(0.0))
        })
        .into()
}

fn lost(bed: &Bed, aim: Aim) -> Series {
    let n = bed.contenders.len();
    let (mut lost, mut turns) = (Series::new(n), vec![0; n]);
    bed.turns("spawn", bed.plan.spawns, is_init, |i, contender| {
        let Some(mut bout) = bed.start(contender, aim, Proc::Outer, "default", &[])? else { return Ok(()) };
        let deadline = Deadline::after(PATIENCE);
        // In sigtimedwait(2) the signals it waits for are not shown as blocked; then it sleeps.
        let blocks = |status: proc::Status| status.blocks(libc::SIGTERM) || status.asleep;
        while !proc::status(bout.running.pid).is_ok_and(blocks) {
            if deadline.passed() {
                return Err(bout.failure("it never blocks SIGTERM"));
            }
        }
        let send_ns = now_ns() + LATEST.as_nanos() as u64 * turns[i] / bed.plan.spawns as u64;
        turns[i] += 1;
        while now_ns() < send_ns {
            spin_loop();
        }
        bout.running.signal(libc::SIGTERM);
        let honoured = bout.running.ended(Deadline::after(LOST)).is_some();
        lost.push(i, f64::from(!honoured));
        Ok(())
    });
    lost
}
