//! How long to wait after failures, and how many requests may be made at all.

/// The first delay and the largest one, in milliseconds.
const FIRST_MS: u64 = 1_000;
const MAX_MS: u64 = 300_000;
/// No delay is shorter: full jitter alone could choose zero again and again.
const FLOOR_MS: u64 = 500;

/// Milliseconds to wait before the next try after `failures` failures in a row: one second doubling to five minutes,
/// with full jitter from `random` (uniform over all of `u64`), never under half a second.
#[must_use]
pub const fn delay_ms(failures: u32, random: u64) -> u64 {
    let doublings = failures.saturating_sub(1);
    let ceiling = if doublings >= 9 { MAX_MS } else { min(FIRST_MS << doublings, MAX_MS) };
    FLOOR_MS + random % (ceiling - FLOOR_MS + 1)
}

const fn min(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

/// A token bucket: bounds how many requests are made over any length of time, whatever the reasons for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    capacity: u32,
    ms_per_token: u64,
    tokens: u32,
    /// Monotonic time up to which refills are accounted for.
    refilled_ms: u64,
}

impl Budget {
    /// A full bucket of `capacity` tokens, with a new one every `ms_per_token` milliseconds (at least 1).
    #[must_use]
    pub const fn new(capacity: u32, ms_per_token: u64, now_ms: u64) -> Self {
        let ms_per_token = if ms_per_token == 0 { 1 } else { ms_per_token };
        Self { capacity, ms_per_token, tokens: capacity, refilled_ms: now_ms }
    }

    /// Takes a token if there is one. A clock that goes back gives none.
    pub fn take(&mut self, now_ms: u64) -> bool {
        self.refill(now_ms);
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    /// Milliseconds until a token is there; 0 when there is one. `None` when the capacity is zero.
    pub fn wait_ms(&mut self, now_ms: u64) -> Option<u64> {
        self.refill(now_ms);
        match (self.capacity, self.tokens) {
            (0, _) => None,
            (_, 0) => Some(self.refilled_ms.saturating_add(self.ms_per_token).saturating_sub(now_ms)),
            _ => Some(0),
        }
    }

    fn refill(&mut self, now_ms: u64) {
        let periods = now_ms.saturating_sub(self.refilled_ms) / self.ms_per_token;
        let gained = u32::try_from(periods).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(gained).min(self.capacity);
        self.refilled_ms = self.refilled_ms.saturating_add(periods.saturating_mul(self.ms_per_token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ceilings_double_from_one_second_to_five_minutes() {
        for (failures, ceiling) in
            [(0, 1_000), (1, 1_000), (2, 2_000), (3, 4_000), (9, 256_000), (10, 300_000), (11, 300_000), (u32::MAX, 300_000)]
        {
            assert_eq!(delay_ms(failures, ceiling - FLOOR_MS), ceiling, "{failures}");
            assert_eq!(delay_ms(failures, ceiling - FLOOR_MS + 1), FLOOR_MS, "{failures}");
        }
    }

    proptest! {
        #[test]
        fn every_delay_is_within_bounds(failures: u32, random: u64) {
            let delay = delay_ms(failures, random);
            prop_assert!((500..=300_000).contains(&delay));
        }

        #[test]
        fn a_budget_never_gives_more_than_capacity_plus_refills(
            capacity in 0_u32..50, ms_per_token in 0_u64..5_000, steps in prop::collection::vec(0_u64..3_000, 1..300)
        ) {
            let mut budget = Budget::new(capacity, ms_per_token, 7);
            let (mut now, mut taken) = (7_u64, 0_u64);
            for step in steps {
                now += step;
                taken += u64::from(budget.take(now));
                prop_assert!(taken <= u64::from(capacity) + (now - 7) / ms_per_token.max(1));
            }
        }
    }

    /// API-10: a provider that always fails is asked a bounded number of times in a day, also with the worst luck.
    #[test]
    fn requests_of_a_simulated_day_are_bounded() {
        const DAY_MS: u64 = 24 * 3_600_000;
        let day = |random: &mut dyn FnMut() -> u64| {
            let mut budget = Budget::new(20, 60_000, 0);
            let (mut now, mut failures, mut requests) = (0, 0_u32, 0_u64);
            while now < DAY_MS {
                requests += u64::from(budget.take(now));
                failures += 1;
                now += delay_ms(failures, random());
            }
            requests
        };
        let mut state = 1_u64;
        let usual = day(&mut || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 11
        });
        assert!((300..1_000).contains(&usual), "{usual}");
        let worst = day(&mut || 0);
        assert!(worst <= 20 + 1_440, "{worst}");
    }

    #[test]
    fn a_clock_that_jumps_neither_breaks_nor_fills_beyond_capacity() {
        let mut budget = Budget::new(2, 1_000, 10_000);
        assert!(budget.take(10_000) && budget.take(0) && !budget.take(0));
        assert_eq!(budget.wait_ms(10_400), Some(600));
        assert!(budget.take(u64::MAX) && budget.take(u64::MAX) && !budget.take(u64::MAX));
        assert_eq!(Budget::new(0, 1, 0).wait_ms(5), None);
    }
}
