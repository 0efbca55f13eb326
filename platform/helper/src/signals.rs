//! What ends the helper, and what each means for the rules.

#[cfg(unix)]
#[path = "signals/unix.rs"]
mod listen;
#[cfg(windows)]
#[path = "signals/windows.rs"]
mod listen;

pub use listen::Signals;

/// Why the helper ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// SIGTERM, SIGINT, the service manager's stop: stop; the machine decides by the intent whether the rules stay.
    Stop,
    /// SIGUSR1, the computer shuts down: restart or upgrade; everything stays as it is.
    Keep,
}

impl End {
    /// True when everything stays as it is in the kernel.
    #[must_use]
    pub const fn keeps_blocking(self) -> bool {
        matches!(self, Self::Keep)
    }
}
