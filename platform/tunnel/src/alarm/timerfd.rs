//! An alarm on `CLOCK_BOOTTIME`: unlike the runtime's timers it goes on through suspend, so what fell due meanwhile is
//! noticed when the machine wakes.

use crate::clock::boottime_ms;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Rings once at the moment it is set to.
pub(crate) struct Alarm {
    timer: TimerFd,
    /// The same timer, for the runtime.
    bell: AsyncFd<OwnedFd>,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let bell = crate::tun::platform::register(timer.as_fd().try_clone_to_owned()?)?;
        Ok(Self { timer, bell })
    }

    /// Sets it to a moment in milliseconds of [`crate::clock::boottime_ms`]. One in the past rings at once.
    pub(crate) fn set(&self, at_ms: u64) {
        // Relative, on the same clock: a delay of nothing would switch it off.
        let after = Duration::from_millis(at_ms.saturating_sub(boottime_ms())).max(Duration::from_nanos(1));
        let after = Expiration::OneShot(TimeSpec::from_duration(after));
        if let Err(error) = self.timer.set(after, TimerSetTimeFlags::empty()) {
            tracing::warn!(%error, "the alarm was not set");
        }
    }

    /// Waits until it rings.
    pub(crate) async fn rings(&self) {
        while let Ok(mut ready) = self.bell.readable().await {
            let mut count = [0; 8];
            if let Ok(Ok(_)) = ready.try_io(|bell| Ok(nix::unistd::read(bell.get_ref(), &mut count)?)) {
                return;
            }
        }
        // The runtime ends.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_once_and_can_be_set_again() {
        let alarm = Alarm::new().unwrap();
        for wait_ms in [30, 0, 10] {
            let at = boottime_ms() + wait_ms;
            alarm.set(at);
            tokio::time::timeout(Duration::from_secs(5), alarm.rings()).await.unwrap();
            assert!(boottime_ms() >= at);
        }
        assert!(tokio::time::timeout(Duration::from_millis(50), alarm.rings()).await.is_err());
        alarm.set(1);
        tokio::time::timeout(Duration::from_secs(5), alarm.rings()).await.unwrap();
    }
}
