//! The TUN device: made exclusively, gone with the process, without routes.

mod packets;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
pub(crate) mod platform;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
pub(crate) mod platform;
#[cfg(windows)]
#[path = "windows.rs"]
pub(crate) mod platform;
#[cfg(any(test, not(target_os = "linux")))]
mod settings;
#[cfg(any(test, target_os = "macos"))]
mod utun;
#[cfg(any(test, windows))]
mod wintun;

pub(crate) use packets::{DeviceHandle, TunReader, TunWriter, pair};
pub(crate) use platform::create;
