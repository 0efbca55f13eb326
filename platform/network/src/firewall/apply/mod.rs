//! Loading rules into the kernel of this machine and reading them back.

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "macos")]
pub mod macos;
#[cfg(target_os = "linux")]
pub mod watch;
#[cfg(windows)]
pub mod windows;
