//! An alarm for systems whose timers may stand still while the machine sleeps: the runtime's timers, and a look at the
//! clock at least every second.

use crate::clock::boottime_ms;
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Between two looks at the clock, at most: so late is an alarm noticed that fell due during sleep.
const TICK_MS: u64 = 1_000;

/// Rings once at the moment it is set to.
pub(crate) struct Alarm {
    at_ms: watch::Sender<Option<u64>>,
}

impl Alarm {
    /// Never fails; the alarm of Linux may.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { at_ms: watch::Sender::new(None) })
    }

    /// Sets it to a moment in milliseconds of [`crate::clock::boottime_ms`]. One in the past rings at once.
    pub(crate) fn set(&self, at_ms: u64) {
        self.at_ms.send_replace(Some(at_ms));
    }

    /// Waits until it rings.
    pub(crate) async fn rings(&self) {
        let mut changes = self.at_ms.subscribe();
        loop {
            let at_ms = *changes.borrow_and_update();
            let wait = match at_ms {
                Some(at_ms) => match next_look(at_ms, boottime_ms()) {
                    Some(wait) => wait,
                    None => break,
                },
                None => Duration::MAX,
            };
            tokio::select! {
                // No error: the sender is ours.
                _ = changes.changed() => {}
                () = sleep(wait) => {}
            }
        }
        self.at_ms.send_replace(None);
    }
}

/// How long to wait before looking at the clock again; `None` if it is time.
fn next_look(at_ms: u64, now_ms: u64) -> Option<Duration> {
    let left_ms = at_ms.checked_sub(now_ms).filter(|left_ms| *left_ms > 0)?;
    Some(Duration::from_millis(left_ms.min(TICK_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test]
    async fn it_rings_once_and_can_be_set_again() {
        let alarm = Alarm::new().unwrap();
        for wait_ms in [30, 0, 10] {
            let at = boottime_ms() + wait_ms;
            alarm.set(at);
            timeout(Duration::from_secs(5), alarm.rings()).await.unwrap();
            assert!(boottime_ms() >= at);
        }
        assert!(timeout(Duration::from_millis(50), alarm.rings()).await.is_err());
        alarm.set(1);
        timeout(Duration::from_secs(5), alarm.rings()).await.unwrap();
    }

    #[tokio::test]
    async fn setting_it_wakes_who_waits_for_a_later_moment() {
        let alarm = Alarm::new().unwrap();
        alarm.set(boottime_ms() + 3_600_000);
        let rings = async {
            timeout(Duration::from_secs(5), alarm.rings()).await.unwrap();
        };
        tokio::join!(rings, async { alarm.set(boottime_ms() + 20) });
    }

    #[test]
    fn the_clock_is_looked_at_every_second_so_that_sleep_is_noticed() {
        assert_eq!(next_look(90_000, 1_000), Some(Duration::from_secs(1)));
        assert_eq!(next_look(1_250, 1_000), Some(Duration::from_millis(250)));
        // The machine slept for an hour: it is long past the moment.
        assert_eq!(next_look(5_000, 3_600_000), None);
        assert_eq!(next_look(5_000, 5_000), None);
    }
}
