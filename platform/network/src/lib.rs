//! Makes a `NetworkPolicy` true on this computer: firewall, routes and DNS together, and tells what the network does.
//!
//! `firewall`, `routes` and `dns` each hold a pure plan and the thin code that applies it; `monitor` watches links,
//! addresses, routes and sleep. [`Network`] is what the helper uses; each system has its own, with the same methods.

pub mod describe;
pub mod dns;
mod files;
pub mod finding;
pub mod firewall;
#[cfg(test)]
mod fixtures;
mod keeper;
pub mod monitor;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "macos")]
#[path = "network/macos.rs"]
mod network;
#[cfg(windows)]
#[path = "network/windows.rs"]
mod network;
pub mod routes;

pub use describe::{Description, describe};
pub use finding::Finding;
#[cfg(windows)]
pub use network::outer_interface;
pub use network::{ApplyError, Config, Network, NetworkError, restore};
