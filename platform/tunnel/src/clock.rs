//! The one clock of this crate: it counts through suspend and cannot be set.

#[cfg(target_os = "linux")]
#[path = "clock/linux.rs"]
mod source;
#[cfg(target_os = "macos")]
#[path = "clock/macos.rs"]
mod source;
#[cfg(windows)]
#[path = "clock/windows.rs"]
mod source;

/// Milliseconds since boot, suspend included. 0 if the clock cannot be read, which none of the systems lets happen.
#[must_use]
pub fn boottime_ms() -> u64 {
    source::boottime_ms()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_counts_milliseconds() {
        let (then, before) = (boottime_ms(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(60));
        let (counted, passed) = (boottime_ms() - then, before.elapsed().as_millis());
        assert!(then > 0 && counted >= 30 && u128::from(counted) <= passed + 30, "{counted} ms of {passed} ms");
    }
}
