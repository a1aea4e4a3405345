//! The clocks: two that never jump, for deadlines and for days; one that people read, for reports. See clock_gettime(2).

use std::time::Duration;

/// CLOCK_MONOTONIC: since some fixed point, never set, stands still while the machine sleeps.
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// CLOCK_BOOTTIME: like [`monotonic`], and goes on while the machine sleeps.
pub fn since_boot() -> Duration {
    read(libc::CLOCK_BOOTTIME)
}

/// CLOCK_REALTIME in milliseconds since 1970 UTC; a clock before that reads as 0.
pub fn unix_ms() -> u64 {
    u64::try_from(read(libc::CLOCK_REALTIME).as_millis()).unwrap_or(0)
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live timespec for the length of the call. The call fails only for an unknown clock, and then
    // leaves it zero.
    unsafe { libc::clock_gettime(clock, &mut now) };
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
