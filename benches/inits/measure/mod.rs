//! One file for each budget of the design; each gives rows for the table.

pub mod crash;
pub mod idle;
pub mod latency;
pub mod size;
pub mod spawn;
pub mod startup;
pub mod stderr;
pub mod stop;
pub mod storm;

use crate::bed::Bed;
use crate::table::Row;

type Measure = fn(&Bed) -> Vec<Row>;

/// In the order in which they run; the quick ones first.
pub const ALL: [(&str, Measure); 9] = [
    ("size", size::rows),
    ("startup", startup::rows),
    ("idle", idle::rows),
    ("latency", latency::rows),
    ("stop", stop::rows),
    ("storm", storm::rows),
    ("spawn", spawn::rows),
    ("stderr", stderr::rows),
    ("crash", crash::rows),
];

/// Nanoseconds between two stamps, in µs; a stamp that was never set makes it negative, which nobody overlooks.
fn us(from_ns: u64, to_ns: u64) -> f64 {
    (to_ns as f64 - from_ns as f64) / 1e3
}
