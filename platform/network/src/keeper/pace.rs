//! When a guard looks: soon after a change was heard of, now and then without that, again after a failure. Pure.

use std::time::Duration;
use tokio::time::Instant;

/// Several notices belong to one change; rules must be restored within 100 ms, facts be out within 50 ms.
pub const DEBOUNCE: Duration = Duration::from_millis(10);
/// Between two looks, whoever changes things all the time.
const REST: Duration = Duration::from_millis(50);
/// After a failure; doubled with each one that follows.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// When the next look is due.
#[derive(Debug)]
pub struct Pace {
    /// Without a notice; `None` while nothing is guarded.
    every: Option<Duration>,
    look_at: Option<Instant>,
    /// When the first change was heard of that was not looked at yet.
    noticed: Option<Instant>,
    rested: Instant,
    retry: Duration,
}

impl Pace {
    /// Nothing is guarded yet.
    pub const fn new(now: Instant) -> Self {
        Self { every: None, look_at: None, noticed: None, rested: now, retry: RETRY_MIN }
    }

    /// When to look, if ever.
    pub const fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// A notice that comes now would change something.
    pub const fn listens(&self) -> bool {
        self.every.is_some() && self.noticed.is_none()
    }

    /// Something was applied, well or not.
    pub fn applied(&mut self, every: Option<Duration>, now: Instant) {
        self.every = every;
        self.noticed = None;
        self.retry = RETRY_MIN;
        self.look_at = every.map(|every| now + every.min(RETRY_MIN));
    }

    /// A change was heard of.
    pub fn heard(&mut self, now: Instant) {
        if self.listens() {
            self.noticed = Some(now);
            let soon = (now + DEBOUNCE).max(self.rested);
            self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
        }
    }

    /// A look begins: since when what it finds is so, as far as is known.
    pub fn begin(&mut self, now: Instant) -> Instant {
        self.look_at = None;
        self.noticed.take().unwrap_or(now)
    }

    /// A look is over; `well` when everything is as it should be.
    pub fn looked(&mut self, every: Option<Duration>, well: bool, now: Instant) {
        self.every = every;
        self.rested = now + REST;
        let wait = if well {
            self.retry = RETRY_MIN;
            every
        } else {
            let wait = self.retry;
            self.retry = (wait * 2).min(RETRY_MAX);
            every.map(|every| every.min(wait))
        };
        self.look_at = wait.map(|wait| now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Option<Duration> = Some(Duration::from_secs(10));

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn guarding(start: Instant) -> Pace {
        let mut pace = Pace::new(start);
        pace.applied(EVERY, start);
        pace.begin(start + RETRY_MIN);
        pace.looked(EVERY, true, start + RETRY_MIN);
        pace
    }

    #[test]
    fn nothing_is_looked_at_while_nothing_is_guarded() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.heard(start);
        assert_eq!((pace.look_at(), pace.listens()), (None, false));
        pace = guarding(start);
        pace.applied(None, start + millis(300));
        pace.heard(start + millis(310));
        assert_eq!((pace.look_at(), pace.listens()), (None, false));
    }

    #[test]
    fn what_was_applied_is_looked_at_soon_and_then_now_and_then() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.applied(EVERY, start);
        assert_eq!(pace.look_at(), Some(start + RETRY_MIN));
        pace.applied(Some(millis(100)), start);
        assert_eq!(pace.look_at(), Some(start + millis(100)), "one that is compared more often is not looked at later");
        assert_eq!(guarding(start).look_at(), Some(start + RETRY_MIN + millis(10_000)));
    }

    #[test]
    fn notices_of_one_change_are_one_look_well_within_100_ms_and_it_knows_the_first() {
        let start = Instant::now();
        let mut pace = guarding(start);
        let first = start + millis(5000);
        pace.heard(first);
        pace.heard(first + millis(9));
        assert_eq!((pace.look_at(), pace.listens()), (Some(first + DEBOUNCE), false));
        assert_eq!(pace.begin(first + DEBOUNCE), first);
        assert_eq!(pace.begin(first + millis(20)), first + millis(20), "forgotten once it was looked at");
    }

    #[test]
    fn a_notice_never_puts_a_look_off() {
        let start = Instant::now();
        let mut pace = guarding(start);
        let due = pace.look_at().unwrap();
        pace.heard(due - millis(1));
        assert_eq!(pace.look_at(), Some(due));
    }

    #[test]
    fn who_changes_things_all_the_time_is_answered_every_50_ms() {
        let start = Instant::now();
        let mut pace = guarding(start);
        let looked = start + millis(5000);
        pace.looked(EVERY, true, looked);
        pace.heard(looked + millis(1));
        assert_eq!(pace.look_at(), Some(looked + REST));
    }

    #[test]
    fn failures_are_tried_again_at_growing_distance_but_never_later_than_usual() {
        let start = Instant::now();
        let mut pace = guarding(start);
        let waits = |pace: &mut Pace, every| {
            let wait = |_| {
                pace.looked(every, false, start);
                pace.look_at().unwrap() - start
            };
            [(); 4].map(wait)
        };
        assert_eq!(waits(&mut pace, EVERY), [250, 500, 1000, 1000].map(millis));
        pace.looked(EVERY, true, start);
        assert_eq!(waits(&mut pace, Some(millis(400))), [250, 400, 400, 400].map(millis), "a success begins anew");
        pace.applied(EVERY, start);
        assert_eq!(waits(&mut pace, EVERY)[0], millis(250), "a new wish begins anew");
    }
}
