//! `CLOCK_MONOTONIC_RAW`, which is what `mach_continuous_time` counts: it goes on while the machine sleeps, and neither the
//! user nor time synchronisation changes it (clock_gettime(3), developer.apple.com: mach_continuous_time).

use nix::time::{ClockId, clock_gettime};

pub(super) fn boottime_ms() -> u64 {
    let Ok(time) = clock_gettime(ClockId::from_raw(libc::CLOCK_MONOTONIC_RAW)) else { return 0 };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}
