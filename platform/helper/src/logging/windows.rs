//! The log of a service: it has no standard error.

use super::log_ring::{self, LogRing};
#[path = "event_log.rs"]
mod event_log;

use event_log::EventLog;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// From here on the log goes to the application log, and to `ring`. Detail goes to the ring alone: the application log is
/// shared, and administrators read it.
pub fn to_event_log(ring: &LogRing) {
    let kept = ring.clone().with_filter(log_ring::filter());
    let told = EnvFilter::new("warn,hamn_helper::run=info,hamn_helper::service=info");
    let events = EventLog::open().ok().map(|log| log.with_filter(told));
    tracing_subscriber::registry().with(events).with(kept).init();
}
