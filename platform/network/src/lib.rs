//! Makes a `NetworkPolicy` true on this computer: firewall, routes and DNS together, and tells what the network does.
//!
//! `firewall`, `routes` and `dns` each hold a pure plan and the thin code that applies it; `monitor` watches links,
//! addresses, routes and sleep. [`Network`] is what the helper uses.

pub mod describe;
pub mod dns;
pub mod firewall;
pub mod monitor;
pub mod routes;

#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod network;

pub use describe::{Description, describe};
#[cfg(target_os = "linux")]
pub use network::{ApplyError, Config, Finding, Network, NetworkError, restore};
