//! Time as the core sees it: two numbers that the caller read from the system.

use serde::{Deserialize, Serialize};

/// The moment at which an event is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Now {
    /// `CLOCK_BOOTTIME` (or its like) in milliseconds: never goes back, counts through suspend.
    pub monotonic_ms: u64,
    /// Wall clock, seconds since 1970. May be wrong by years; only shown and stored, never used for protection.
    pub unix_s: i64,
}

impl Now {
    /// The same moment, `ms` milliseconds later on the monotonic clock.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self { monotonic_ms: self.monotonic_ms.saturating_add(ms), unix_s: self.unix_s }
    }
}
