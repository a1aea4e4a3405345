//! What fuzzing kept (`tests/fuzz`): each of its targets holds for each of its inputs, and soon.

use crate::bed::{Bed, trial_with};
use libtest_mimic::Trial;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../fuzz/checks/core.rs"]
mod core;
#[path = "../fuzz/checks/gobuild.rs"]
mod gobuild;
#[path = "../fuzz/checks/gopclntab.rs"]
mod gopclntab;
#[path = "../fuzz/checks/panic.rs"]
mod panic;
#[path = "../fuzz/checks/symbols.rs"]
mod symbols;

type Check = fn(&'static [u8]);

const TARGETS: [(&str, Check); 5] = [
    ("core", core::holds),
    ("gobuild", gobuild::holds),
    ("gopclntab", gopclntab::holds),
    ("panic", panic::holds),
    ("symbols", symbols::holds),
];
/// For one input, on the slowest machine, of a debug build. What takes seconds in the fuzzer is a finding.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn trials() -> Vec<Trial> {
    let trial = |(target, check): (&'static str, Check)| {
        let name = format!("what fuzzing found for {target} does no harm");
        trial_with(&name, &[], move |bed| all(bed, target, check))
    };
    TARGETS.into_iter().map(trial).collect()
}

fn all(_: &Bed, target: &str, check: Check) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz").join(target);
    let inputs = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let inputs: Vec<PathBuf> = inputs.map(|entry| entry.expect("an input").path()).collect();
    assert!(inputs.len() > 10, "{} has next to nothing", directory.display());
    for input in inputs {
        let bytes: &'static [u8] = std::fs::read(&input).expect("readable").leak();
        let begun = Instant::now();
        assert!(catch_unwind(|| check(bytes)).is_ok(), "{}", input.display());
        assert!(begun.elapsed() < PATIENCE, "{} took {:?}", input.display(), begun.elapsed());
    }
}
