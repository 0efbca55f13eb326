//! Tells the service manager how the helper is.

#[cfg(target_os = "linux")]
#[path = "notify/linux.rs"]
mod manager;
#[cfg(target_os = "macos")]
#[path = "notify/macos.rs"]
mod manager;
#[cfg(windows)]
#[path = "notify/windows.rs"]
mod manager;

pub use manager::{alive, ready, stopping, watchdog_interval};
