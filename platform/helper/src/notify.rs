//! Tells the service manager how the helper is (sd_notify(3)). Without one these calls do nothing.

use sd_notify::NotifyState;
use std::time::Duration;

/// A third of the unit's `WatchdogSec`.
pub const WATCHDOG_INTERVAL: Duration = Duration::from_secs(10);

/// The first policy is applied and the socket answers.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// The event loop turns.
pub fn alive() {
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}

/// The end has begun.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}
