//! macOS: the interface of the default route outside the tunnel.

use hamn_network::Network;
use std::net::IpAddr;

/// Sockets of ours are tied to an interface.
pub(super) const IS_NEEDED: bool = true;

pub(super) fn interface_to(network: &Network, gateway: IpAddr) -> Option<u32> {
    network.outer_interface(gateway.is_ipv4())
}
