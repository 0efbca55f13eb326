//! Name resolution: `plan` decides which resolvers and which backend (pure), `apply` sets, guards and restores them.

#[cfg(target_os = "linux")]
pub mod apply;
pub mod plan;

pub use plan::{Backend, DnsPlan, DnsWish};
