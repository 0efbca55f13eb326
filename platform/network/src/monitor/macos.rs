//! Hearing of changes of links, addresses and routes over a routing socket (`route(4)`), and the clocks that tell of sleep.

#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]

use super::bell::Bell;
use crate::routes::apply::macos::routing_socket;
use crate::routes::route_message::is_change;
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// The longest message of a routing socket is a few hundred bytes.
const BUFFER_BYTES: usize = 8 << 10;
/// A storm of changes fits in; more is dropped by the kernel without a word.
const RECEIVE_BUFFER: usize = 256 << 10;

/// Rings a bell at each change, until it is dropped.
#[derive(Debug)]
pub struct Notices {
    task: JoinHandle<()>,
    ended: Arc<OnceLock<String>>,
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Notices {
    /// Begins to listen. Read everything once after this.
    ///
    /// # Errors
    /// No socket.
    pub fn open(bell: Arc<Bell>) -> io::Result<Self> {
        let socket = routing_socket()?;
        setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER)?;
        // SAFETY: the value is the descriptor itself: it stays open and the same until `AsyncFd` drops it, after deregistering.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)?;
        let ended = Arc::new(OnceLock::new());
        let told = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            let error = follow(&socket, &bell).await;
            // Set once, here.
            drop(told.set(error.to_string()));
            bell.ring();
        });
        Ok(Self { task, ended })
    }

    /// Why nothing is heard any more.
    #[must_use]
    pub fn ended(&self) -> Option<String> {
        self.ended.get().cloned()
    }
}

/// Until the socket breaks.
async fn follow(socket: &AsyncFd<OwnedFd>, bell: &Bell) -> io::Error {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        let mut ready = match socket.readable().await {
            Ok(ready) => ready,
            Err(error) => return error,
        };
        match nix::unistd::read(ready.get_inner(), &mut buffer) {
            Ok(length) if is_change(buffer.get(..length).unwrap_or_default()) => bell.ring(),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => ready.clear_ready(),
            // Messages that were dropped because we read too slowly are changes too.
            Err(Errno::ENOBUFS) => bell.ring(),
            Err(error) => return error.into(),
        }
    }
}

/// How long the machine slept since boot. macOS tells a process of sleep only through a run loop
/// (`IORegisterForSystemPower`); two clocks say the same to whoever looks at them once a second, which a timer that does not
/// run in sleep does.
///
/// `CLOCK_MONOTONIC` goes on in sleep (`mach_continuous_time`), `CLOCK_UPTIME_RAW` does not (`mach_absolute_time`):
/// `clock_gettime(3)`.
///
/// # Errors
/// No such clock.
pub fn asleep_since_boot() -> nix::Result<Duration> {
    let now = |clock| clock_gettime(clock).map(Duration::from);
    let awake = now(ClockId::from_raw(libc::CLOCK_UPTIME_RAW))?;
    Ok(now(ClockId::CLOCK_MONOTONIC)?.saturating_sub(awake))
}
