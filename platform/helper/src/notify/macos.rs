//! launchd asks for nothing: a job that ends is started again (`KeepAlive` in launchd.plist(5)), and one that hangs ends
//! itself here.

use crate::host;
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

/// The first policy is applied and the socket answers: from here on the loop must turn.
pub fn ready() {
    tracing::info!("ready");
    let watchdog = Watchdog::start(LIMIT, || {
        tracing::error!("the event loop hangs; ending, so that launchd starts it again");
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

/// The end has begun; launchd kills after `ExitTimeOut`.
pub fn stopping() {
    tracing::info!("stopping");
}
