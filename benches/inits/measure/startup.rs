//! What an init adds to the start and the end of a program that does nothing.

#![forbid(unsafe_code)]

use super::us;
use crate::bed::Bed;
use crate::contender::NONE;
use crate::series::{Cells, Series, over};
use crate::table::{Bound::OfReference, Row};
use std::sync::atomic::Ordering::SeqCst;

pub fn rows(bed: &Bed) -> Vec<Row> {
    let n = bed.contenders.len();
    let (mut wall, mut to_main, mut cpu) = (Series::new(n), Series::new(n), Series::new(n));
    bed.turns(
        "start-up",
        bed.plan.startups,
        |_| true,
        |i, contender| {
            let mut bout = bed.start_shipped(contender, "exit", &[])?;
            let ended = bout.ends_with(0)?;
            let facts = bout.board.facts();
            wall.push(i, us(bout.running.launched_ns, ended.at_ns));
            to_main.push(i, us(facts.exec_ns.load(SeqCst), facts.main_ns.load(SeqCst)));
            cpu.push(i, ended.cpu_us);
            Ok(())
        },
    );
    let none = bed.contenders.iter().position(|contender| contender.name == NONE);
    let over_none = |cells: Cells| none.map_or(cells.clone(), |none| over(cells, none));
    vec![
        Row::new("start-up: wall over no init, median", "µs", over_none(wall.median()))
            .must(OfReference(1.3))
            .stretch(OfReference(1.1)),
        Row::new("start-up: wall over no init, p10", "µs", over_none(wall.quantile(0.1))),
        Row::new("start-up: wall over no init, p90", "µs", over_none(wall.quantile(0.9))),
        Row::new("start-up: CPU over no init, median", "µs", over_none(cpu.median())),
        Row::new("start-up: exec → program's main, median", "µs", to_main.median()),
        Row::new("start-up: exec → program's main, p90", "µs", to_main.quantile(0.9)),
    ]
}
