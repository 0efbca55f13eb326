//! Notices that the computer slept: what was heard before is old, and a connection may be dead without knowing it.

use std::time::Duration;

/// A shorter stop is nothing that a user would call sleep.
const SHORTEST: Duration = Duration::from_secs(2);

/// Tells whether the computer slept since the last question.
#[derive(Debug)]
pub struct Sleep<C = fn() -> Option<Duration>> {
    clock: C,
    asleep: Option<Duration>,
}

impl Default for Sleep {
    fn default() -> Self {
        Self::new(time_asleep)
    }
}

impl<C: Fn() -> Option<Duration>> Sleep<C> {
    /// `clock` tells how long the computer has slept in all, where the operating system knows.
    pub fn new(clock: C) -> Self {
        let asleep = clock();
        Self { clock, asleep }
    }

    /// True when it slept since the last question.
    pub fn happened(&mut self) -> bool {
        let before = std::mem::replace(&mut self.asleep, (self.clock)());
        match (before, self.asleep) {
            (Some(before), Some(now)) => now.saturating_sub(before) >= SHORTEST,
            (None, _) | (_, None) => false,
        }
    }
}

/// One clock counts while the computer sleeps, the other does not.
#[cfg(target_os = "linux")]
fn time_asleep() -> Option<Duration> {
    use nix::time::{ClockId, clock_gettime};
    let with_sleep = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let without = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    Some(Duration::from(with_sleep).saturating_sub(Duration::from(without)))
}

/// The web views of the other systems come back with a broken connection, which is noticed as such.
#[cfg(not(target_os = "linux"))]
fn time_asleep() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_jump_between_the_clocks_is_sleep_once() {
        let asleep = Cell::new(Some(Duration::from_secs(10)));
        let mut sleep = Sleep::new(|| asleep.get());
        assert!(!sleep.happened());
        asleep.set(Some(Duration::from_millis(10_900)));
        assert!(!sleep.happened(), "the clocks are not read at the same moment");
        asleep.set(Some(Duration::from_secs(3_600)));
        assert!(sleep.happened());
        assert!(!sleep.happened());
        asleep.set(None);
        assert!(!sleep.happened());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_system_knows_its_sleep() {
        assert!(time_asleep().is_some());
        assert!(!Sleep::default().happened());
    }
}
