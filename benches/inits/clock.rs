//! CLOCK_MONOTONIC in nanoseconds: the one clock that the bench and the program under init share.

use std::time::Duration;

pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours and outlives the call; CLOCK_MONOTONIC always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A moment by which something must have happened.
#[derive(Clone, Copy)]
pub struct Deadline(u64);

impl Deadline {
    pub fn after(patience: Duration) -> Deadline {
        Deadline(now_ns() + patience.as_nanos() as u64)
    }

    /// Zero when it has passed.
    pub fn left(self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now_ns()))
    }

    pub fn passed(self) -> bool {
        self.left().is_zero()
    }

    /// For poll(2): whole milliseconds, rounded up.
    pub fn left_ms(self) -> i32 {
        self.left().as_micros().div_ceil(1000).min(i32::MAX as u128) as i32
    }
}

/// Looks every half millisecond; false when the deadline came first.
pub fn until(deadline: Deadline, mut so: impl FnMut() -> bool) -> bool {
    loop {
        if so() {
            return true;
        }
        if deadline.passed() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}
