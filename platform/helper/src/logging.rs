//! What may be logged, and how often.

#[cfg(windows)]
#[path = "logging/windows.rs"]
pub(crate) mod system;

use crate::log_ring::{self, LogRing};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// From here on the log goes to standard error, and to `ring`.
pub fn to_stderr(ring: &LogRing) {
    let filter = filter(std::env::var("HAMN_LOG").ok().as_deref());
    let written = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(filter);
    tracing_subscriber::registry().with(written).with(ring.clone().with_filter(log_ring::filter())).init();
}

/// Our own crates: their messages are written with G14 in mind.
pub(crate) const OWN: [&str; 6] = ["hamn_helper", "hamn_core", "hamn_network", "hamn_tunnel", "hamn_api", "hamn_ipc"];

/// The filter for a level that the administrator asks for (`HAMN_LOG`: error, warn, info, debug or trace; anything else
/// means info). It holds for our own crates: what others say in detail may quote a key or a token, so they only warn.
#[must_use]
pub fn filter(wanted: Option<&str>) -> EnvFilter {
    let level =
        ["error", "warn", "debug", "trace"].into_iter().find(|level| wanted.is_some_and(|word| word.eq_ignore_ascii_case(level)));
    let level = level.unwrap_or("info");
    let others = if level == "error" { "error" } else { "warn" };
    let own: Vec<String> = OWN.iter().map(|name| format!("{name}={level}")).collect();
    EnvFilter::new(format!("{others},{}", own.join(",")))
}

/// Lets one message of a kind through per `every`, and counts the others.
pub(crate) struct Quiet {
    every: Duration,
    last: BTreeMap<&'static str, (Instant, u64)>,
}

impl Quiet {
    pub(crate) const fn new(every: Duration) -> Self {
        Self { every, last: BTreeMap::new() }
    }

    /// How many of this kind were held back since the last one that may be told, or `None` to hold back this one as well.
    pub(crate) fn may_tell(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        match self.last.get_mut(kind) {
            Some((last, held_back)) if now.saturating_duration_since(*last) < self.every => {
                *held_back = held_back.saturating_add(1);
                None
            }
            Some((last, held_back)) => {
                *last = now;
                Some(std::mem::take(held_back))
            }
            None => {
                self.last.insert(kind, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);
    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn said(wanted: Option<&str>) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter(wanted)).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            for target in ["hamn_helper::x", "gotatun::device", "rustls", "hyper"] {
                // A target must be a constant, hence one line for each.
                match target {
                    "gotatun::device" => tracing::info!(target: "gotatun::device", "foreign-info"),
                    "rustls" => tracing::debug!(target: "rustls", "foreign-debug"),
                    "hyper" => tracing::trace!(target: "hyper", "foreign-trace"),
                    _ => tracing::debug!(target: "hamn_helper::x", "own-debug"),
                }
            }
            tracing::warn!(target: "gotatun::device", "foreign-warn");
        });
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    // G14, SEC-01: no level makes a dependency talk, and a directive is not taken as one.
    #[test]
    fn no_level_makes_dependencies_talk() {
        for wanted in
            [None, Some("trace"), Some("TRACE"), Some("debug"), Some("gotatun=trace"), Some("trace,hyper=trace"), Some("")]
        {
            let said = said(wanted);
            assert!(
                !["foreign-info", "foreign-debug", "foreign-trace"].iter().any(|word| said.contains(word)),
                "{wanted:?}: {said}"
            );
            assert!(said.contains("foreign-warn"), "{wanted:?}: {said}");
            let detailed = wanted.is_some_and(|word| ["trace", "debug"].contains(&word.to_ascii_lowercase().as_str()));
            assert_eq!(said.contains("own-debug"), detailed, "{wanted:?}: {said}");
        }
    }

    #[test]
    fn a_flood_of_one_kind_is_held_back_and_counted_and_hides_no_other_kind() {
        let mut quiet = Quiet::new(Duration::from_secs(1));
        let start = Instant::now();
        let told = (0..10_000).filter(|ms| quiet.may_tell("a", start + Duration::from_millis(*ms)).is_some()).count();
        assert_eq!(told, 10);
        assert_eq!(quiet.may_tell("b", start), Some(0));
        assert_eq!(quiet.may_tell("a", start + Duration::from_secs(60)), Some(999));
    }
}
