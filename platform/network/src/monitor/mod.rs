//! What the host looks like: `facts` judges links, addresses and routes and `asleep` clocks (pure), the rest reads and
//! follows them.

pub mod asleep;
pub mod bell;
pub mod facts;
pub mod facts_macos;
#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "macos")]
pub mod macos;
pub mod reporter;
#[cfg(target_os = "linux")]
pub mod sleep;
#[cfg(windows)]
pub mod windows;

pub use facts::HostView;
