//! Small network types: an endpoint is address, port and transport; an interface name is checked text.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The mark on the tunnel's and the API client's own sockets ("hamn" in ASCII). It is also the number of our routing table.
pub const FWMARK: u32 = 0x6861_6d6e;

/// The name of the tunnel interface. The firewall names it before it exists, so it is fixed on every system: on Windows the
/// alias of the adapter, on macOS the unit of `utun` that is asked for.
pub const TUNNEL_INTERFACE: &str = match std::env::consts::OS.as_bytes() {
    b"windows" => "Hamn",
    b"macos" => "utun6861",
    _ => "hamn0",
};

/// The GUID of the tunnel's adapter on Windows.
pub const TUNNEL_ADAPTER_GUID: u128 = 0x6861_6d6e_7475_4e65_8c00_5649_504e_0001;

/// Transport protocol of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP
    Udp,
    /// TCP
    Tcp,
}

/// A remote address, port and transport that only our own marked sockets may reach outside the tunnel (G8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Address and port.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// UDP or TCP.
    pub transport: Transport,
}

impl Endpoint {
    /// A UDP endpoint.
    #[must_use]
    pub const fn udp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Udp }
    }
    /// A TCP endpoint.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Tcp }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Udp => write!(f, "{}/udp", self.address),
            Transport::Tcp => write!(f, "{}/tcp", self.address),
        }
    }
}

/// A network interface name: 1 to 15 characters of `[A-Za-z0-9_.-]`, as Linux's `dev_valid_name` allows without surprises.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// The text is not an interface name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an interface name is 1 to 15 letters, digits, '-', '_' or '.', and not '.' or '..'")]
pub struct BadInterfaceName;

impl InterfaceName {
    /// The tunnel's own name.
    #[must_use]
    pub fn tunnel() -> Self {
        Self(TUNNEL_INTERFACE.to_owned())
    }
    /// The checked text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = BadInterfaceName;
    fn try_from(text: String) -> Result<Self, BadInterfaceName> {
        let good = (1..=15).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && text != "."
            && text != "..";
        if good { Ok(Self(text)) } else { Err(BadInterfaceName) }
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The private ranges that "LAN" can mean: RFC 1918, RFC 3927, RFC 4193 and IPv6 link-local. Nothing else is ever LAN (G9).
#[must_use]
pub fn private_ranges() -> [IpNet; 6] {
    use std::net::{Ipv4Addr, Ipv6Addr};
    let v4 = |a, b, len| IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), len);
    let v6 = |a, len| IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(a, 0, 0, 0, 0, 0, 0, 0)), len);
    [v4(10, 0, 8), v4(172, 16, 12), v4(192, 168, 16), v4(169, 254, 16), v6(0xfc00, 7), v6(0xfe80, 10)]
}

/// The attached prefixes that count as LAN: wholly inside a private range and no larger than a /16 (IPv4) or /48 (IPv6).
///
/// A lease for a public prefix, for `0.0.0.0/1`, or for all of `10.0.0.0/8` is no LAN (TunnelCrack LocalNet, CVE-2023-36672).
#[must_use]
pub fn lan_prefixes(attached: &[IpNet]) -> Vec<IpNet> {
    let mut lan: Vec<IpNet> = attached
        .iter()
        .map(IpNet::trunc)
        .filter(|net| {
            let narrow = match net {
                IpNet::V4(v4) => v4.prefix_len() >= 16,
                IpNet::V6(v6) => v6.prefix_len() >= 48,
            };
            narrow && private_ranges().iter().any(|range| range.contains(net))
        })
        .collect();
    lan.sort();
    lan.dedup();
    lan
}
