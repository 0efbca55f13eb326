//! A watchdog for systems whose service manager has none: an event loop that no longer turns ends the process, and the
//! service manager starts it again. systemd has its own, so Linux uses that one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How often it looks.
const TICK: Duration = Duration::from_secs(1);

/// Counts its own looks since the loop turned last. A clock would count the time asleep, too, and take a computer that wakes
/// up for a loop that hangs.
#[derive(Clone, Default)]
pub struct Watchdog(Arc<AtomicU32>);

impl Watchdog {
    /// Watches from now on; `hung` is called once the loop has not turned for `limit` looks of a second each.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(limit: u32, hung: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        Self::start_with(limit, TICK, hung)
    }

    fn start_with(limit: u32, tick: Duration, hung: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let watchdog = Self::default();
        let looks = Arc::downgrade(&watchdog.0);
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            loop {
                std::thread::sleep(tick);
                // Nobody is watched any more.
                let Some(looks) = looks.upgrade() else { return };
                if looks.fetch_add(1, Ordering::AcqRel) >= limit {
                    return hung();
                }
            }
        })?;
        Ok(watchdog)
    }

    /// The loop has turned.
    pub fn turned(&self) {
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    #[test]
    fn a_loop_that_turns_lives_and_one_that_hangs_is_ended_once() {
        let (said, hung) = channel();
        let watchdog = Watchdog::start_with(4, Duration::from_millis(20), move || said.send(()).unwrap()).unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(400) {
            watchdog.turned();
            std::thread::yield_now();
        }
        assert!(hung.try_recv().is_err());
        hung.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(hung.recv_timeout(Duration::from_millis(100)).is_err());
    }

    #[test]
    fn a_watchdog_that_was_given_up_does_nothing() {
        let (said, hung) = channel();
        drop(Watchdog::start_with(1, Duration::from_millis(5), move || said.send(()).unwrap()).unwrap());
        assert!(hung.recv_timeout(Duration::from_secs(20)).is_err(), "the thread has ended without a word");
    }
}
