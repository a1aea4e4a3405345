//! From SIGTERM sent to PID 1, through the program's handler, to the namespace being gone.

#![forbid(unsafe_code)]

use super::us;
use crate::bed::Bed;
use crate::clock::now_ns;
use crate::series::Series;
use crate::table::{Bound::OfTini, Row};

pub fn rows(bed: &Bed) -> Vec<Row> {
    let mut stop = Series::new(bed.contenders.len());
    bed.turns(
        "stop",
        bed.plan.stops,
        |_| true,
        |i, contender| {
            let mut bout = bed.start_settled(contender, "serve", &[])?;
            let sent_ns = now_ns();
            bout.running.signal(libc::SIGTERM);
            stop.push(i, us(sent_ns, bout.ends_with(0)?.at_ns));
            Ok(())
        },
    );
    vec![
        Row::new("SIGTERM → namespace gone, median", "µs", stop.median()).must(OfTini(1.2)).stretch(OfTini(1.0)),
        Row::new("SIGTERM → namespace gone, p90", "µs", stop.quantile(0.9)),
    ]
}
