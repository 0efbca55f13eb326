//! The signals that end the helper.

use super::End;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
