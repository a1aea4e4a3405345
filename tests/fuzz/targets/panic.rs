//! Whatever a program wrote to stderr is read in bounded time, to a bounded result, without harm.
#![no_main]

#[path = "../../../src/death.rs"]
pub mod death;
#[path = "../../../src/evidence/own.rs"]
pub mod own;
#[path = "../../../src/evidence/panic/mod.rs"]
pub mod panic;
#[path = "../../../src/sys/signal.rs"]
pub mod signal;
#[path = "../../../src/evidence/stack.rs"]
pub mod stack;

// The names under which they know each other.
pub mod evidence {
    pub use crate::{own, panic, stack};
}
pub mod sys {
    pub use crate::signal;
}
pub mod case {
    pub struct Tail {
        pub bytes: Vec<u8>,
        pub total_bytes: u64,
    }
}

use case::Tail;
use death::Death;
use libfuzzer_sys::fuzz_target;
use panic::read;

/// Far above what the caps allow in any mixture of long names.
const RESULT_BYTES: usize = 16 << 20;
/// Wait statuses: codes 0, 1, 2, 101, 134, 255, and SIGABRT.
const DEATHS: [i32; 7] = [0, 1 << 8, 2 << 8, 101 << 8, 134 << 8, 255 << 8, 6];

fuzz_target!(|text: &[u8]| {
    // The length chooses, so that the recorded texts are seeds as they are.
    let death = Death::from_wait_status(DEATHS[text.len() % DEATHS.len()]).expect("an end");
    let tail = Tail { bytes: text.to_vec(), total_bytes: text.len() as u64 };
    if let Some(found) = read(&tail, death).found {
        assert!(!found.exceptions.is_empty());
        let size: usize = found.exceptions.iter().map(|exception| exception.kind.len() + exception.value.len()).sum();
        assert!(size < RESULT_BYTES);
        for (i, exception) in found.exceptions.iter().enumerate() {
            let later = |parent| parent > i && parent < found.exceptions.len();
            assert!(exception.mechanism.parent.is_none_or(later));
        }
    }
});
