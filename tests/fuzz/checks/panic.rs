//! Whatever a program wrote to stderr is read in bounded time, to a bounded result, without harm.

use obit::case::Tail;
use obit::death::Death;
use obit::evidence::panic::read;

/// Far above what the caps allow in any mixture of long names.
const RESULT_BYTES: usize = 16 << 20;
/// Wait statuses: codes 0, 1, 2, 101, 134, 255, and SIGABRT.
const DEATHS: [i32; 7] = [0, 1 << 8, 2 << 8, 101 << 8, 134 << 8, 255 << 8, 6];

pub fn holds(text: &'static [u8]) {
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
}
