//! What the host looks like: `facts` judges links, addresses and routes (pure), the rest reads and follows them.

pub mod facts;
#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "linux")]
pub mod sleep;

pub use facts::HostView;
