//! Rate limits: logins per address with a growing pause, all else per account.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Most addresses or accounts that are remembered; beyond it the oldest half is forgotten.
const MAX_KEPT: usize = 20_000;

/// How often one address may try to log in.
#[derive(Clone, Copy, Debug)]
pub struct LoginLimits {
    /// Tries per window.
    pub tries: u32,
    /// The window, and the first pause after it was used up; each further one is twice as long, up to an hour.
    pub window: Duration,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self { tries: 5, window: Duration::from_secs(60) }
    }
}

struct Tries {
    used: u32,
    since: Instant,
    pauses: u32,
    blocked_until: Option<Instant>,
}

/// Counts tries by address (IPv6 by /64, which is what one customer has).
pub(super) struct LoginLimiter {
    limits: LoginLimits,
    seen: HashMap<IpAddr, Tries>,
}

fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl LoginLimiter {
    pub(super) fn new(limits: LoginLimits) -> Self {
        Self { limits, seen: HashMap::new() }
    }

    /// One try, or how long to wait.
    pub(super) fn take(&mut self, address: IpAddr) -> Result<(), Duration> {
        let now = Instant::now();
        bound(&mut self.seen, |tries| tries.since);
        let LoginLimits { tries: most, window } = self.limits;
        let tries = self.seen.entry(customer(address)).or_insert(Tries { used: 0, since: now, pauses: 0, blocked_until: None });
        if let Some(until) = tries.blocked_until {
            if until > now {
                return Err(until - now);
            }
            (tries.blocked_until, tries.used, tries.since) = (None, 0, until);
        }
        // A quiet window is forgiven; after ten of them the pauses start over.
        let quiet = now - tries.since;
        if quiet > window {
            (tries.used, tries.since) = (0, now);
        }
        if quiet > window.saturating_mul(10) {
            tries.pauses = 0;
        }
        if tries.used < most {
            tries.used = tries.used.saturating_add(1);
            return Ok(());
        }
        let pause = window.saturating_mul(1 << tries.pauses.min(6)).min(Duration::from_secs(3600));
        (tries.pauses, tries.blocked_until) = (tries.pauses.saturating_add(1), Some(now + pause));
        Err(pause)
    }

    /// A login that succeeded does not count.
    pub(super) fn succeeded(&mut self, address: IpAddr) {
        self.seen.remove(&customer(address));
    }
}

/// 120 calls per minute and account.
#[derive(Default)]
pub(super) struct AccountLimiter {
    seen: HashMap<String, (u32, Instant)>,
}

impl AccountLimiter {
    pub(super) fn take(&mut self, account: &str) -> Result<(), Duration> {
        const MOST: u32 = 120;
        const WINDOW: Duration = Duration::from_secs(60);
        let now = Instant::now();
        bound(&mut self.seen, |(_, since)| *since);
        let (used, since) = self.seen.entry(account.to_owned()).or_insert((0, now));
        if now - *since > WINDOW {
            (*used, *since) = (0, now);
        }
        if *used >= MOST {
            return Err(WINDOW.saturating_sub(now - *since));
        }
        *used = used.saturating_add(1);
        Ok(())
    }
}

fn bound<K: Clone + Eq + Hash, V>(map: &mut HashMap<K, V>, age: impl Fn(&V) -> Instant) {
    if map.len() < MAX_KEPT {
        return;
    }
    let mut ages: Vec<Instant> = map.values().map(&age).collect();
    ages.sort_unstable();
    if let Some(middle) = ages.get(ages.len() / 2).copied() {
        map.retain(|_, value| age(value) > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_pause_longer_each_time_and_ipv6_counts_by_customer() {
        let mut limiter = LoginLimiter::new(LoginLimits { tries: 2, window: Duration::from_secs(60) });
        let [a, b]: [IpAddr; 2] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        assert!(limiter.take(a).is_ok() && limiter.take(b).is_ok());
        assert_eq!(limiter.take(a), Err(Duration::from_secs(60)));
        limiter.seen.get_mut(&customer(a)).unwrap().blocked_until = Some(Instant::now());
        assert!(limiter.take(a).is_ok() && limiter.take(a).is_ok());
        assert_eq!(limiter.take(b), Err(Duration::from_secs(120)));
        assert!(limiter.take("192.0.2.1".parse().unwrap()).is_ok());
        limiter.succeeded(a);
        assert!(limiter.take(a).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = LoginLimiter::new(LoginLimits::default());
        for n in 0..50_000_u32 {
            let _ = limiter.take(std::net::Ipv4Addr::from_bits(n).into());
        }
        assert!(limiter.seen.len() <= MAX_KEPT);
    }
}
