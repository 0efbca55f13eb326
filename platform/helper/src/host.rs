//! What the helper must know of the computer that it runs on: places, name, clocks, and what keeps its memory private.

#[cfg(unix)]
#[path = "host/file.rs"]
mod file;
#[cfg(target_os = "linux")]
#[path = "host/linux.rs"]
mod this;
#[cfg(target_os = "macos")]
#[path = "host/macos.rs"]
mod this;
#[cfg(windows)]
#[path = "host/windows.rs"]
mod this;

pub use this::*;
