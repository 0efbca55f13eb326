//! What the service manager and a console say.

use super::End;
use crate::service::windows::Controls;
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};

/// What is listened to. A service has no console, and a console no service manager; each stays silent for the other.
pub struct Signals {
    controls: Controls,
    interrupt: CtrlC,
    stop: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Signals {
    /// Starts listening.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            controls: Controls::take(),
            interrupt: ctrl_c()?,
            stop: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> End {
        tokio::select! {
            end = self.controls.next() => end,
            _ = self.interrupt.recv() => End::Stop,
            _ = self.stop.recv() => End::Stop,
            _ = self.close.recv() => End::Stop,
            _ = self.shutdown.recv() => End::Keep,
        }
    }
}
