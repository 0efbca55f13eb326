//! Time asleep on Linux: one clock counts while the computer sleeps, the other does not (clock_gettime(2)).

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

pub(super) fn time_asleep() -> Option<Duration> {
    let with_sleep = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let without = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    Some(Duration::from(with_sleep).saturating_sub(Duration::from(without)))
}
