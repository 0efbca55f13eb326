//! Time stamps of initiations (TAI64N, WireGuard paper §5.1 and §5.4.2): they only grow, and tell the time roughly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// TAI64's count of the second 1970-01-01 (2^62), and what TAI is ahead of UTC since 2017.
const BASE_S: u64 = (1 << 62) + 37;
/// The clock is told to this many nanoseconds (a sixtieth of a second), lest it shows what a precise one would tell.
const GRAIN_NS: u64 = 1 << 24;
const SECOND_NS: u64 = 1_000_000_000;

/// The last stamp of this process, in nanoseconds since 1970: peers that are removed and added again, and engines that follow
/// each other, go on growing.
static LAST_NS: AtomicU64 = AtomicU64::new(0);

/// The stamp of an initiation that is made now.
pub(super) fn next() -> [u8; 12] {
    after(&LAST_NS, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn after(last: &AtomicU64, wall: Duration) -> [u8; 12] {
    let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
    let coarse = wall_ns - wall_ns % GRAIN_NS;
    let grow = |last: u64| coarse.max(last.saturating_add(1));
    let before = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(grow(last)));
    let stamp = grow(before.unwrap_or_default());
    let (seconds, nanos) = (BASE_S + stamp / SECOND_NS, u32::try_from(stamp % SECOND_NS).unwrap_or(0));
    let mut bytes = [0; 12];
    bytes.iter_mut().zip(seconds.to_be_bytes().into_iter().chain(nanos.to_be_bytes())).for_each(|(place, byte)| *place = byte);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_even_if_the_clock_does_not() {
        let last = AtomicU64::new(0);
        let walls = [1_700_000_000_500_000_000, 1_700_000_000_500_000_001, 1_700_000_000_600_000_000, 1_600_000_000_000_000_000];
        let stamps = walls.map(|wall| after(&last, Duration::from_nanos(wall)));
        assert!(stamps.is_sorted_by(|one, other| one < other), "{stamps:?}");
        assert_eq!(stamps[0][..8], ((1_u64 << 62) + 37 + 1_700_000_000).to_be_bytes());
        let nanos = |stamp: &[u8; 12]| u64::from(u32::from_be_bytes(stamp[8..].try_into().unwrap()));
        assert_eq!((1_700_000_000 * SECOND_NS + nanos(&stamps[0])) % GRAIN_NS, 0, "coarse");
        assert_eq!(nanos(&stamps[1]) - nanos(&stamps[0]), 1);
        assert!(next() < next());
    }
}
