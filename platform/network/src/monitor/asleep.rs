//! Time asleep, told from two clocks: one that goes on in sleep, one that stops. Pure.

use std::time::Duration;

/// Shorter sleep matters to nobody, and reading two clocks takes time in between.
const NOTABLE: Duration = Duration::from_secs(1);
/// Time asleep since boot, as last seen.
#[derive(Debug)]
pub struct Asleep {
    total: Duration,
}

impl Asleep {
    /// From what the clocks say now.
    #[must_use]
    pub const fn new(total: Duration) -> Self {
        Self { total }
    }

    /// How long the machine slept since the last look, if it did.
    pub fn observe(&mut self, total: Duration) -> Option<Duration> {
        let slept = total.checked_sub(self.total).filter(|slept| *slept >= NOTABLE);
        if slept.is_some() || total < self.total {
            self.total = total;
        }
        slept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_of_a_second_or_more_is_sleep_and_it_is_told_once() {
        let seconds = Duration::from_secs;
        let mut asleep = Asleep::new(seconds(10));
        assert_eq!(asleep.observe(seconds(10) + Duration::from_millis(900)), None);
        assert_eq!(asleep.observe(seconds(70)), Some(seconds(60)));
        assert_eq!(asleep.observe(seconds(70)), None);
        assert_eq!(asleep.observe(seconds(5)), None, "clocks of another time namespace");
        assert_eq!(asleep.observe(seconds(8)), Some(seconds(3)));
    }
}
