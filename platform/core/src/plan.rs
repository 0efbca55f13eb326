//! A tunnel plan: everything an attempt needs, resolved and checked. Secrets are referred to, not contained.

use crate::key::PublicKey;
use crate::net::Endpoint;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// MTU in bytes when neither the user nor a profile says one: 1500 less IPv6, UDP and WireGuard headers.
pub const DEFAULT_MTU: u16 = 1_420;

/// Why there is no plan although the destination is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// No address for this computer inside the tunnel.
    #[error("there is no address for this computer inside the tunnel (an IPv6-only tunnel needs the setting ipv6)")]
    NoAddress,
    /// Nothing that the peer may carry is left.
    #[error("the tunnel would carry nothing (an IPv6-only tunnel needs the setting ipv6)")]
    CarriesNothing,
}

/// The networks that mean all traffic of these families.
#[must_use]
pub fn everything(ipv4: bool, ipv6: bool) -> Vec<IpNet> {
    let v4 = IpNet::V4(ipnet::Ipv4Net::default());
    let v6 = IpNet::V6(ipnet::Ipv6Net::default());
    ipv4.then_some(v4).into_iter().chain(ipv6.then_some(v6)).collect()
}

/// Which private key the shell takes from its secret store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum KeySource {
    /// The device key registered with the provider.
    Device,
    /// The key of an imported profile.
    Profile {
        /// Profile name.
        name: String,
    },
}

/// Where the tunnel comes out, for people.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Place {
    /// Server id, or the profile's name.
    pub server: String,
    /// Server name as shown.
    pub server_name: String,
    /// Exit country, lower-case ISO code; empty for a profile.
    pub country: String,
    /// City name; empty for a profile.
    pub city: String,
    /// Exit id.
    pub exit: Option<String>,
    /// Latitude and longitude in degrees, when known.
    pub coordinates: Option<(f64, f64)>,
}

/// One WireGuard tunnel, ready to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunnelPlan {
    /// For people.
    pub place: Place,
    /// The gateway: addresses in order of preference (IPv4 and IPv6 of one gateway); the attempt number picks one.
    pub endpoints: Vec<Endpoint>,
    /// The gateway's public key.
    pub peer: PublicKey,
    /// Which private key.
    pub key: KeySource,
    /// A preshared key exists in the secret store beside the private key.
    pub has_preshared_key: bool,
    /// Our addresses inside the tunnel.
    pub addresses: Vec<IpNet>,
    /// What the peer may carry. `0.0.0.0/0` and, if the tunnel has IPv6, `::/0`; narrower for some profiles.
    pub allowed_ips: Vec<IpNet>,
    /// Resolvers inside the tunnel.
    pub resolvers: Vec<IpAddr>,
    /// The gateway's own addresses inside the tunnel, used to verify that traffic flows; may be empty for a profile.
    pub gateway: Vec<IpAddr>,
    /// MTU of the tunnel interface in bytes.
    pub mtu: u16,
    /// Persistent keepalive in seconds, when asked for.
    pub keepalive_s: Option<u16>,
}

impl TunnelPlan {
    /// True when the tunnel carries IPv4 for everything.
    #[must_use]
    pub fn has_ipv4(&self) -> bool {
        self.addresses.iter().any(|net| net.addr().is_ipv4())
    }
    /// True when the tunnel carries IPv6 for everything.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|net| net.addr().is_ipv6())
    }
}
