//! The signals that end the helper, and what each means for the rules.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that ends the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM, SIGINT: stop; the machine decides by the intent whether the rules stay.
    Stop,
    /// SIGUSR1: restart or upgrade; everything stays as it is.
    Keep,
}

impl End {
    /// True when everything stays as it is in the kernel.
    #[must_use]
    pub const fn keeps_blocking(self) -> bool {
        matches!(self, Self::Keep)
    }
}

/// The signals that are listened to.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    keep: Signal,
}

impl Signals {
    /// Starts listening.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            keep: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Stop,
            _ = self.interrupt.recv() => End::Stop,
            _ = self.keep.recv() => End::Keep,
        }
    }
}
