//! The client of the provider's API: pinned transport with failover, signed server list with a disk cache, sessions and devices.
//!
//! Nothing here knows about tunnels or the firewall. Sockets are handed to the caller before they connect, so that the
//! caller can mark them; what comes back is bounded, checked and typed, or an [`ApiError`] with a stable code.
#![forbid(unsafe_code)]

mod cache;
mod channel;
mod client;
mod config;
mod error;
mod list;
mod session;
mod throttle;
mod transport;
mod types;

pub use channel::Channel;
pub use client::{CheckList, Client};
pub use config::{Limits, ProviderConfig};
pub use error::{ApiError, Problem};
pub use list::FetchedList;
pub use session::{Credentials, SaveSession, StoredSession, Token};
pub use socket2;
pub use transport::PrepareSocket;
pub use types::{Account, Device, Devices, IpAnswer, Loads, NewDevice, ServerLoad, Session};
