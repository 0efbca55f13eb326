//! Putting rules and routes into this machine's kernel.

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "macos")]
pub mod macos;
#[cfg(target_os = "linux")]
pub mod reverse_path;
#[cfg(windows)]
pub mod windows;
#[cfg(target_os = "linux")]
pub(crate) mod wire;
