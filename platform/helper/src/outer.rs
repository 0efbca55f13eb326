//! Which interface leads out of the computer beside the tunnel. Where sockets of ours carry no mark (Windows, macOS), they are
//! tied to it, so that no route can lead them into the tunnel.

#[cfg(target_os = "linux")]
#[path = "outer/linux.rs"]
mod find;
#[cfg(target_os = "macos")]
#[path = "outer/macos.rs"]
mod find;
#[cfg(windows)]
#[path = "outer/windows.rs"]
mod find;

use hamn_network::Network;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Indices of the interfaces for IPv4 and IPv6 when it was last asked; 0, which no interface has, for none.
static LAST: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// Sockets of ours are tied to an interface on this system.
pub(crate) const IS_NEEDED: bool = find::IS_NEEDED;

const fn place(ipv4: bool) -> &'static AtomicU32 {
    let [first, second] = &LAST;
    if ipv4 { first } else { second }
}

/// The interface by which a packet to this gateway leaves; remembered for sockets to the provider.
pub(crate) fn interface_to(network: &Network, gateway: IpAddr) -> Option<u32> {
    let found = find::interface_to(network, gateway);
    place(gateway.is_ipv4()).store(found.unwrap_or(0), Ordering::Release);
    found
}

/// The interface that was found last for this family.
#[must_use]
pub fn last_interface(ipv4: bool) -> Option<u32> {
    Some(place(ipv4).load(Ordering::Acquire)).filter(|index| *index != 0)
}
