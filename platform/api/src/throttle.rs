//! A token bucket for all calls, and memory of how each address did (API-10, attack class C5).

use crate::config::Limits;
use rand::RngExt;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time an address that fails is passed over.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// Allows `burst` calls at once and one more per `refill`.
pub(crate) struct Bucket {
    burst: f64,
    refill_s: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        let burst = f64::from(limits.burst.max(1));
        Self { burst, refill_s: limits.refill.as_secs_f64().max(0.001), tokens: burst, filled_at: now }
    }

    /// Takes one token, or tells how long until there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + passed / self.refill_s).min(self.burst);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) * self.refill_s))
    }
}

/// How addresses did: the last good one comes first, failing ones rest for a growing, jittered time.
#[derive(Default)]
pub(crate) struct Memory {
    last_good: Option<SocketAddr>,
    failing: HashMap<SocketAddr, (u32, Instant)>,
}

impl Memory {
    pub(crate) fn good(&mut self, address: SocketAddr) {
        self.last_good = Some(address);
        self.failing.remove(&address);
    }

    pub(crate) fn bad(&mut self, address: SocketAddr, now: Instant) {
        let failures = self.failing.get(&address).map_or(0, |(failures, _)| *failures).saturating_add(1);
        // Full jitter over 1 s, 2 s, 4 s … 300 s.
        let ceiling = Duration::from_secs(1 << failures.saturating_sub(1).min(9)).min(MAX_BACKOFF);
        let rest = ceiling.mul_f64(rand::rng().random_range(0.0..1.0));
        if self.failing.len() < 64 || self.failing.contains_key(&address) {
            self.failing.insert(address, (failures, now + rest));
        }
        if self.last_good == Some(address) {
            self.last_good = None;
        }
    }

    pub(crate) fn forget_failures(&mut self) {
        self.failing.clear();
    }

    /// Smaller comes first.
    pub(crate) fn rank(&self, address: SocketAddr, now: Instant) -> u8 {
        if self.last_good == Some(address) {
            0
        } else if self.failing.get(&address).is_some_and(|(_, until)| *until > now) {
            2
        } else {
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_constant_asking_is_bounded() {
        let limits = Limits::default();
        let start = Instant::now();
        let mut bucket = Bucket::new(&limits, start);
        let granted = (0..86_400_u64).filter(|second| bucket.take(start + Duration::from_secs(*second)).is_ok()).count();
        assert!((8_640..=8_680).contains(&granted), "{granted}");
    }

    #[test]
    fn the_last_good_address_comes_first_and_failing_ones_last() {
        let now = Instant::now();
        let [a, b, c]: [SocketAddr; 3] = ["192.0.2.1:443", "192.0.2.2:443", "192.0.2.3:443"].map(|text| text.parse().unwrap());
        let mut memory = Memory::default();
        memory.good(b);
        for _ in 0..9 {
            memory.bad(c, now);
        }
        assert_eq!((memory.rank(b, now), memory.rank(a, now)), (0, 1));
        memory.bad(b, now);
        assert!(memory.rank(b, now) > 0);
        assert_eq!(memory.rank(c, now + MAX_BACKOFF), 1);
        memory.forget_failures();
        assert_eq!(memory.rank(c, now), 1);
    }
}
