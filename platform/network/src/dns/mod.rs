//! Name resolution: `plan` decides which resolvers and which backend (pure), `apply` sets, guards and restores them.

#[cfg(target_os = "linux")]
pub mod apply;
#[cfg(target_os = "macos")]
#[path = "apply/macos.rs"]
pub mod apply;
#[cfg(windows)]
#[path = "apply/windows.rs"]
pub mod apply;
pub mod plan;
pub mod plan_macos;
pub mod plan_windows;

pub use plan::{Backend, DnsPlan, DnsWish};
