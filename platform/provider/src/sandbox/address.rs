//! Who has which address in the laboratory (documentation ranges of RFC 5737 and RFC 3849, and one private LAN).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(net: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host))
}

/// The client on its first link, `eth0`.
pub const CLIENT_V4: IpAddr = v4(10, 0, 1, 2);
/// The client on its first link, IPv6.
pub const CLIENT_V6: IpAddr = v6(1, 2);
/// The client on its second link, `wlan0`.
pub const CLIENT_WLAN_V4: IpAddr = v4(10, 0, 2, 2);
/// The client on its second link, IPv6.
pub const CLIENT_WLAN_V6: IpAddr = v6(4, 2);
/// The router, as the client's first link sees it.
pub const ROUTER_V4: IpAddr = v4(10, 0, 1, 1);
/// The router, IPv6.
pub const ROUTER_V6: IpAddr = v6(1, 1);
/// The printer: a host on the client's LAN, which is also the LAN's resolver.
pub const LAN_HOST_V4: IpAddr = v4(10, 0, 1, 50);
/// The printer, IPv6.
pub const LAN_HOST_V6: IpAddr = v6(1, 0x50);
/// What the client's IPv4 traffic looks like behind the ISP's address translation.
pub const ISP_NAT_V4: IpAddr = v4(203, 0, 113, 10);
/// The web server that shows callers their address.
pub const WEB_V4: IpAddr = v4(192, 0, 2, 80);
/// The web server, IPv6.
pub const WEB_V6: IpAddr = v6(2, 0x80);
/// The internet's resolver.
pub const RESOLVER_V4: IpAddr = v4(192, 0, 2, 53);
/// The internet's resolver, IPv6.
pub const RESOLVER_V6: IpAddr = v6(2, 0x53);
/// A host that writes down who talks to it.
pub const OBSERVER_V4: IpAddr = v4(192, 0, 2, 66);
/// The observer, IPv6.
pub const OBSERVER_V6: IpAddr = v6(2, 0x66);
/// The provider's API.
pub const API_V4: IpAddr = v4(192, 0, 2, 10);
/// A second address of the API.
pub const API_SECOND_V4: IpAddr = v4(192, 0, 2, 11);
/// The API, IPv6.
pub const API_V6: IpAddr = v6(2, 0x10);
/// The API's port.
pub const API_PORT: u16 = 443;
/// The gateway; its traffic leaves with this address for the Swedish exit.
pub const GATEWAY_V4: IpAddr = v4(198, 51, 100, 1);
/// The gateway's exit in the United States (row O17).
pub const GATEWAY_US_V4: IpAddr = v4(198, 51, 100, 129);
/// The gateway, IPv6.
pub const GATEWAY_V6: IpAddr = v6(5, 1);
/// Free address on the gateway host, for a second server.
pub const GATEWAY_SECOND_V4: IpAddr = v4(198, 51, 100, 2);
/// The second server, IPv6.
pub const GATEWAY_SECOND_V6: IpAddr = v6(5, 2);
/// WireGuard's port on the gateways.
pub const WIREGUARD_PORT: u16 = 51820;
/// TCP and UDP port on which the observer listens.
pub const OBSERVER_PORT: u16 = 7777;
/// Source ports that only probes use, so that the witness can tell a probe from our own sockets on the same tuple.
pub const PROBE_PORTS: std::ops::RangeInclusive<u16> = 40000..=40999;
/// The first bytes of every probe's payload.
pub const PROBE_MARKER: &[u8] = b"HAMN-PROBE";
