//! Noticing that the machine slept: the clock that goes on in sleep against the one that stops.
//!
//! Nothing polls: a timer that the kernel cancels when the wall clock jumps wakes us, and it jumps at every resume
//! (`timerfd_create(2)`, TFD_TIMER_CANCEL_ON_SET). Which of the jumps was sleep is told by the clocks alone.

use super::asleep::Asleep;
use crate::files::poll::{Pollable, pollable};
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use std::io;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// 1 January 2100: never, in practice. When it comes the timer is set again.
const FAR: i64 = 4_102_444_800;

/// Follows the clocks.
pub struct SleepWatch {
    timer: AsyncFd<Pollable<TimerFd>>,
    asleep: Asleep,
}

impl SleepWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// No timer.
    pub fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        arm(&timer)?;
        Ok(Self { timer: pollable(timer)?, asleep: Asleep::new(asleep_since_boot()?) })
    }

    /// Waits until the machine wakes up. May be dropped at any time.
    ///
    /// # Errors
    /// The timer broke.
    pub async fn resumed(&mut self) -> io::Result<Duration> {
        loop {
            if let Some(slept) = self.asleep.observe(asleep_since_boot()?) {
                return Ok(slept);
            }
            let mut ready = self.timer.readable().await?;
            match ready.get_inner().0.wait() {
                Ok(()) | Err(Errno::ECANCELED) => arm(&ready.get_inner().0)?,
                Err(Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            ready.clear_ready();
        }
    }
}

fn arm(timer: &TimerFd) -> nix::Result<()> {
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    match timer.set(Expiration::OneShot(TimeSpec::new(FAR, 0)), flags) {
        // The kernel says so when the clock was set between two calls; it is armed all the same.
        Err(Errno::ECANCELED) => Ok(()),
        other => other,
    }
}

/// CLOCK_BOOTTIME counts sleep, CLOCK_MONOTONIC does not.
fn asleep_since_boot() -> nix::Result<Duration> {
    let now = |clock| nix::time::clock_gettime(clock).map(Duration::from);
    let awake = now(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(now(nix::time::ClockId::CLOCK_BOOTTIME)?.saturating_sub(awake))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_that_does_not_sleep_is_quiet() {
        let mut watch = SleepWatch::new().unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), watch.resumed()).await.is_err());
    }
}
