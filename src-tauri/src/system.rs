//! What differs between operating systems.

#[cfg(target_os = "linux")]
#[path = "system/linux.rs"]
mod own;
#[cfg(target_os = "macos")]
#[path = "system/macos.rs"]
mod own;
#[cfg(windows)]
#[path = "system/windows.rs"]
mod own;
#[cfg(unix)]
mod unix;

pub use own::{end_on_signals, has_gpu, prepare, print, without_gpu};
