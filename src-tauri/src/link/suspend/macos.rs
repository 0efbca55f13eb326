//! Time asleep on macOS: `CLOCK_MONOTONIC_RAW` counts while the computer sleeps, `CLOCK_UPTIME_RAW` does not (clock_gettime(3),
//! developer.apple.com: mach_continuous_time, mach_absolute_time). The system changes the speed of neither.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

pub(super) fn time_asleep() -> Option<Duration> {
    let with_sleep = clock_gettime(ClockId::from_raw(libc::CLOCK_MONOTONIC_RAW)).ok()?;
    let without = clock_gettime(ClockId::from_raw(libc::CLOCK_UPTIME_RAW)).ok()?;
    Some(Duration::from(with_sleep).saturating_sub(Duration::from(without)))
}
