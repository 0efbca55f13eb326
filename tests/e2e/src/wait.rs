//! Waiting for a fact with a deadline: tests never sleep and hope.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Asks every few milliseconds until the answer is there.
///
/// # Errors
/// When the deadline passes, with what was waited for; or the error of `ask`.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            bail!("waited {} ms in vain: {what}", limit.as_millis());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Seconds.
#[must_use]
pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds.
#[must_use]
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
