//! Linux: the mark of a socket leads it past the tunnel, whatever the interface.

use hamn_network::Network;
use std::net::IpAddr;

/// Sockets of ours are tied to an interface.
pub(super) const IS_NEEDED: bool = false;

pub(super) const fn interface_to(_network: &Network, _gateway: IpAddr) -> Option<u32> {
    None
}
