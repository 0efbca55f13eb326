//! Windows: the interface of the best route outside the tunnel.

use hamn_network::Network;
use std::net::IpAddr;

/// Sockets of ours are tied to an interface.
pub(super) const IS_NEEDED: bool = true;

pub(super) fn interface_to(_network: &Network, gateway: IpAddr) -> Option<u32> {
    let found = hamn_network::outer_interface(gateway);
    found.inspect_err(|error| tracing::warn!(%error, "the interface to the gateway is not known")).ok().flatten()
}
