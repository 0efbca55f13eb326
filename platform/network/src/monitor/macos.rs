//! Hearing of changes of links, addresses and routes over a routing socket (`route(4)`), and the clocks that tell of sleep.

#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use super::asleep::Asleep;
use crate::routes::apply::macos::routing_socket;
use crate::routes::route_message::is_change;
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// The longest message of a routing socket is a few hundred bytes.
const BUFFER_BYTES: usize = 8 << 10;
/// A storm of changes fits in; more is dropped by the kernel without a word.
const RECEIVE_BUFFER: usize = 256 << 10;
/// What is queued and taken at once, so that a storm of changes costs one look.
const DRAIN_LIMIT: usize = 4096;

/// Hears of changes.
#[derive(Debug)]
pub struct Notices {
    socket: AsyncFd<OwnedFd>,
}

impl Notices {
    /// Begins to listen. Read everything once after this.
    ///
    /// # Errors
    /// No socket.
    pub fn open() -> io::Result<Self> {
        let socket = routing_socket()?;
        setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER)?;
        // SAFETY: the value is the descriptor itself: it stays open and the same until `AsyncFd` drops it, after deregistering.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)?;
        Ok(Self { socket })
    }

    /// Waits until something changed. May be dropped at any time.
    ///
    /// # Errors
    /// The socket broke.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut buffer = [0; BUFFER_BYTES];
            match nix::unistd::read(ready.get_inner(), &mut buffer) {
                Ok(length) if is_change(buffer.get(..length).unwrap_or_default()) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                // Messages that were dropped because we read too slowly are changes too.
                Err(Errno::ENOBUFS) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes what else is queued.
    pub fn drain(&mut self) {
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..DRAIN_LIMIT {
            match nix::unistd::read(self.socket.get_ref(), &mut buffer) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

/// Notices that the machine slept. macOS tells a process of it only through a run loop (`IORegisterForSystemPower`); two
/// clocks say the same to whoever looks at them once a second, which a timer that does not run in sleep does.
#[derive(Debug)]
pub struct SleepClock {
    asleep: Asleep,
}

impl SleepClock {
    /// From what the clocks say now.
    ///
    /// # Errors
    /// No such clock.
    pub fn new() -> io::Result<Self> {
        Ok(Self { asleep: Asleep::new(asleep_since_boot()?) })
    }

    /// How long the machine slept since the last look, if it did.
    ///
    /// # Errors
    /// No such clock.
    pub fn slept(&mut self) -> io::Result<Option<Duration>> {
        Ok(self.asleep.observe(asleep_since_boot()?))
    }
}

/// `CLOCK_MONOTONIC` goes on in sleep (`mach_continuous_time`), `CLOCK_UPTIME_RAW` does not (`mach_absolute_time`):
/// `clock_gettime(3)`.
fn asleep_since_boot() -> nix::Result<Duration> {
    let now = |clock| clock_gettime(clock).map(Duration::from);
    let awake = now(ClockId::from_raw(libc::CLOCK_UPTIME_RAW))?;
    Ok(now(ClockId::CLOCK_MONOTONIC)?.saturating_sub(awake))
}
