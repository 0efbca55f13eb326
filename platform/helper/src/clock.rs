//! The only place of the helper that reads clocks.

use hamn_core::time::Now;
use nix::time::{ClockId, clock_gettime};

/// Now, for the core: `CLOCK_BOOTTIME` counts through suspend (clock_gettime(2)).
#[must_use]
pub fn now() -> Now {
    let read = |clock| clock_gettime(clock).map(|time| (time.tv_sec(), time.tv_nsec())).unwrap_or((0, 0));
    let (seconds, nanoseconds) = read(ClockId::CLOCK_BOOTTIME);
    let milliseconds = seconds.saturating_mul(1000).saturating_add(nanoseconds.checked_div(1_000_000).unwrap_or(0));
    Now { monotonic_ms: u64::try_from(milliseconds).unwrap_or(0), unix_s: read(ClockId::CLOCK_REALTIME).0 }
}
