//! The binary on disk.

#![forbid(unsafe_code)]

use crate::bed::{Bed, is_init};
use crate::table::{Bound::AtMost, Row};

pub fn rows(bed: &Bed) -> Vec<Row> {
    let mb = |path| std::fs::metadata(path).ok().map(|file| file.len() as f64 / 1e6);
    let cells = bed.contenders.iter().map(|c| if is_init(c) { mb(&c.binary) } else { None }).collect();
    vec![Row::new("binary", "MB", cells).must(AtMost(10.0)).stretch(AtMost(6.0))]
}
