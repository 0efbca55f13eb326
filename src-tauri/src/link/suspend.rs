//! Notices that the computer slept: what was heard before is old, and a connection may be dead without knowing it.

#[cfg(target_os = "linux")]
#[path = "suspend/linux.rs"]
mod clock;
#[cfg(target_os = "macos")]
#[path = "suspend/macos.rs"]
mod clock;
#[cfg(windows)]
#[path = "suspend/windows.rs"]
mod clock;

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
        Self::new(clock::time_asleep)
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

    #[test]
    fn this_system_knows_its_sleep() {
        assert!(clock::time_asleep().is_some());
        assert!(!Sleep::default().happened());
    }
}
