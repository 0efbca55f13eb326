//! systemd: sd_notify(3). Without a service manager these calls do nothing.

use sd_notify::NotifyState;
use std::time::Duration;

/// How often to say so when no service manager asks: a third of the shipped unit's `WatchdogSec`.
const INTERVAL: Duration = Duration::from_secs(10);
/// No administrator's `WatchdogSec` makes the helper busy.
const SHORTEST: Duration = Duration::from_millis(100);

/// A third of what the service manager asks for (`WATCHDOG_USEC`): an administrator may shorten it.
#[must_use]
pub fn watchdog_interval() -> Duration {
    sd_notify::watchdog_enabled().map_or(INTERVAL, |limit| (limit / 3).max(SHORTEST))
}

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
