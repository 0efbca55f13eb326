//! The only place of the helper that reads clocks.

use crate::host;
use hamn_core::time::Now;

/// Now, for the core; its monotonic clock counts through suspend.
#[must_use]
pub fn now() -> Now {
    host::now()
}
