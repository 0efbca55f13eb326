//! What may leave the computer: the declarative policy, and `policy_for`, the only function that decides it.
//!
//! The rows of `platform/SECURITY.md` are the specification; the comments cite its numbers.

use crate::net::{Endpoint, InterfaceName};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What the operating system must enforce. `hamn-network` makes it true: firewall, routes and DNS together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum NetworkPolicy {
    /// No rule, route or DNS setting of ours exists.
    Open,
    /// Everything that is not listed is dropped.
    Enforce(Enforced),
}

/// The exceptions of an enforcing policy. Loopback, DHCP and the neighbour discovery subset (set X) are always included.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Enforced {
    /// Gateways that marked sockets may reach outside the tunnel, exact tuples (G1, G8).
    pub endpoints: Vec<Endpoint>,
    /// API addresses that marked sockets may reach outside the tunnel (G1). Empty while connected: the API goes inside.
    pub api: Vec<Endpoint>,
    /// The tunnel, when an attempt has one.
    pub tunnel: Option<TunnelAccess>,
    /// Directly attached private prefixes that may be reached, never on port 53 (G9). Empty when LAN access is off.
    #[schemars(with = "Vec<String>")]
    pub lan: Vec<IpNet>,
}

/// How the tunnel interface may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelAccess {
    /// Interface name.
    pub interface: InterfaceName,
    /// Our addresses inside the tunnel: guarded against packets from any other interface (G11).
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpNet>,
    /// Who may use it.
    pub traffic: TunnelTraffic,
    /// The only resolvers, inside the tunnel (G3).
    pub resolvers: Vec<IpAddr>,
    /// The user's own resolvers on the LAN: port 53 to exactly these, outside the tunnel (G3).
    pub lan_resolvers: Vec<IpAddr>,
}

/// Who may use the tunnel interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "use")]
pub enum TunnelTraffic {
    /// Until traffic is proven to flow: only these addresses inside the tunnel; no default route, no DNS change.
    VerifyOnly {
        /// Gateway and resolver addresses inside the tunnel.
        peers: Vec<IpAddr>,
    },
    /// Everything is routed into the tunnel; what the tunnel does not carry is rejected (G2).
    Everything {
        /// The destinations that the peer carries (`0.0.0.0/0`, `::/0` or narrower); all others are unreachable.
        #[schemars(with = "Vec<String>")]
        carries: Vec<IpNet>,
    },
}

impl NetworkPolicy {
    /// True when no protection is on.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}
