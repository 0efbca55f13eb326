//! The machine's timers: at most one of each kind, a newer one replaces the older.

use hamn_core::state::Timer;
use std::time::Duration;
use tokio::time::Instant;

/// Pending timers.
#[derive(Default)]
pub struct Timers {
    pending: Vec<(Instant, Timer)>,
}

impl Timers {
    /// Arms `timer` in `after_ms` milliseconds.
    pub fn set(&mut self, timer: Timer, after_ms: u64) {
        self.pending.retain(|(_, other)| std::mem::discriminant(other) != std::mem::discriminant(&timer));
        self.pending.push((Instant::now() + Duration::from_millis(after_ms), timer));
    }

    /// Waits for the next timer to fire, for ever when there is none. Cancel safe: a timer is taken only when it is returned.
    pub async fn next(&mut self) -> Timer {
        let Some((deadline, timer)) = self.pending.iter().min_by_key(|(deadline, _)| *deadline).copied() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(deadline).await;
        self.pending.retain(|(_, other)| *other != timer);
        timer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamn_core::state::{Attempt, Generation};

    #[tokio::test]
    async fn a_newer_timer_of_a_kind_replaces_the_older_and_the_nearest_fires_first() {
        let mut timers = Timers::default();
        timers.set(Timer::Retry(Attempt(1)), 1);
        timers.set(Timer::Retry(Attempt(2)), 20);
        timers.set(Timer::Reapply(Generation(7)), 5);
        assert_eq!(timers.next().await, Timer::Reapply(Generation(7)));
        assert_eq!(timers.next().await, Timer::Retry(Attempt(2)));
    }
}
