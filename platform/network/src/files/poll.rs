//! Descriptors of nix that tokio can wait for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use tokio::io::unix::AsyncFd;

/// A descriptor of nix as tokio wants it: one that the value owns and keeps until it is dropped.
#[derive(Debug)]
pub struct Pollable<T: OwnsDescriptor>(pub T);

/// Values that own one descriptor for as long as they live.
pub trait OwnsDescriptor: AsFd {}
impl OwnsDescriptor for nix::sys::inotify::Inotify {}
impl OwnsDescriptor for nix::sys::timerfd::TimerFd {}

impl<T: OwnsDescriptor> AsRawFd for Pollable<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Registers the descriptor with the runtime.
///
/// # Errors
/// The runtime refuses.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
pub fn pollable<T: OwnsDescriptor>(value: T) -> io::Result<AsyncFd<Pollable<T>>> {
    // SAFETY: the value owns its descriptor, hands out the same one at every call and closes it when it is dropped,
    // which `AsyncFd` does after deregistering.
    unsafe { AsyncFd::register(Pollable(value)) }.map_err(io::Error::from)
}
