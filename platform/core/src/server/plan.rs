//! From a choice to a tunnel plan.

use super::list::{ServerList, WireGuardEndpoint};
use super::select::{Choice, mix};
use crate::net::Endpoint;
use crate::plan::{DEFAULT_MTU, KeySource, NoPlan, Place, TunnelPlan, everything};
use crate::settings::{Dns, Settings};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses that the provider gave this device inside the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAddresses {
    /// IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

/// The plan for a choice. The same seed gives the same port.
///
/// # Errors
/// The device has no address that this tunnel could carry.
pub fn plan(
    list: &ServerList,
    choice: &Choice<'_>,
    device: &DeviceAddresses,
    settings: &Settings,
    seed: u64,
) -> Result<TunnelPlan, NoPlan> {
    let Choice { server, datacenter, exit, endpoint } = *choice;
    let ipv6 = device.ipv6.filter(|_| settings.ipv6 && endpoint.gateway_ipv6.is_some());
    let addresses: Vec<IpNet> =
        device.ipv4.map(|v4| Ipv4Net::from(v4).into()).into_iter().chain(ipv6.map(|v6| Ipv6Net::from(v6).into())).collect();
    if addresses.is_empty() {
        return Err(NoPlan::NoAddress);
    }
    let carries = |address: &IpAddr| if address.is_ipv4() { device.ipv4.is_some() } else { ipv6.is_some() };
    let gateway = endpoint.gateway_ipv4.map(IpAddr::V4).into_iter().chain(endpoint.gateway_ipv6.map(IpAddr::V6));
    let country = exit.map_or(&datacenter.country, |exit| &exit.country);
    Ok(TunnelPlan {
        place: Place {
            server: server.id.to_string(),
            server_name: server.name.to_string(),
            country: country.to_string(),
            city: datacenter.city.to_string(),
            exit: exit.map(|exit| exit.id.to_string()),
            coordinates: datacenter.coordinates,
        },
        endpoints: endpoints(endpoint, seed),
        peer: endpoint.public_key,
        key: KeySource::Device,
        has_preshared_key: false,
        allowed_ips: everything(device.ipv4.is_some(), ipv6.is_some()),
        addresses,
        resolvers: resolvers(&settings.dns, &list.dns.plain, carries),
        gateway: gateway.filter(carries).collect(),
        mtu: settings.mtu.unwrap_or(DEFAULT_MTU),
        keepalive_s: None,
    })
}

/// The user's own resolvers or these. One that the tunnel cannot carry is left out if another remains; a private one
/// of the user's stays, it may be on the LAN (G3).
pub(crate) fn resolvers(dns: &Dns, provided: &[IpAddr], carries: impl Fn(&IpAddr) -> bool) -> Vec<IpAddr> {
    let (wanted, own) = match dns {
        Dns::Provider => (provided, false),
        Dns::Custom { addresses } => (addresses.as_slice(), true),
    };
    let private = |address: &IpAddr| own && crate::net::private_ranges().iter().any(|range| range.contains(address));
    let reachable: Vec<IpAddr> = wanted.iter().filter(|address| carries(address) || private(address)).copied().collect();
    if reachable.is_empty() { wanted.to_vec() } else { reachable }
}

/// IPv4 addresses first, all with one port.
fn endpoints(endpoint: &WireGuardEndpoint, seed: u64) -> Vec<Endpoint> {
    let port = port(endpoint, seed);
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = endpoint.addresses.iter().partition(|address| address.is_ipv4());
    v4.into_iter().chain(v6).map(|address| Endpoint::udp(SocketAddr::new(address, port))).collect()
}

/// A port: each single port and each range is one entry, then any port of the range.
fn port(endpoint: &WireGuardEndpoint, seed: u64) -> u16 {
    let singles = endpoint.ports.iter().map(|port| (*port, *port));
    let entries: Vec<(u16, u16)> = singles.chain(endpoint.port_ranges.iter().copied()).collect();
    let count = u64::try_from(entries.len()).unwrap_or(1).max(1);
    let random = mix(seed);
    let entry = usize::try_from(random % count).ok().and_then(|index| entries.get(index));
    // `parse` leaves no endpoint without a port.
    let (first, last) = entry.copied().unwrap_or((51_820, 51_820));
    let width = u64::from(last.saturating_sub(first)) + 1;
    u16::try_from(u64::from(first) + mix(random) % width).unwrap_or(first)
}
