//! The service manager: `SetServiceStatus`. It has no watchdog, so a loop that hangs ends the process here, and the recovery
//! actions start it again.

use crate::host;
use crate::service::windows::{Phase, report};
use crate::watchdog::Watchdog;
use std::sync::OnceLock;
use std::time::Duration;

/// How often the loop says that it turns.
const INTERVAL: Duration = Duration::from_secs(10);
/// Seconds without a word from the loop, as in the unit for systemd.
const LIMIT: u32 = 30;

static WATCHDOG: OnceLock<Option<Watchdog>> = OnceLock::new();

/// How often to say `alive`.
#[must_use]
pub const fn watchdog_interval() -> Duration {
    INTERVAL
}

/// The first policy is applied and the pipe answers: from here on the loop must turn.
pub fn ready() {
    report(Phase::Running);
    let watchdog = Watchdog::start(LIMIT, || {
        tracing::error!("the event loop hangs; ending, so that the service manager starts it again");
        host::end_at_once();
    });
    let _ = WATCHDOG.set(watchdog.inspect_err(|error| tracing::warn!(%error, "there is no watchdog")).ok());
}

/// The event loop turns.
pub fn alive() {
    if let Some(Some(watchdog)) = WATCHDOG.get() {
        watchdog.turned();
    }
}

/// The end has begun.
pub fn stopping() {
    report(Phase::Stopping);
}
