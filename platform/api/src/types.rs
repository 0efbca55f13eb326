//! What the provider's API sends and takes, apart from the server list. Unknown fields are ignored.

use hamn_core::key::PublicKey;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The account as the provider sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Opaque id.
    pub id: String,
    /// `active` or `expired`.
    pub status: String,
    /// RFC 3339 time until which it is paid.
    #[serde(default)]
    pub paid_until: Option<String>,
    /// How many devices it may have.
    pub device_limit: u32,
    /// Extras that are booked.
    #[serde(default)]
    pub addons: Vec<String>,
}

/// A login that succeeded. The tokens stay inside the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Opaque id.
    pub id: String,
    /// The account.
    pub account: Account,
}

/// A registered device: one WireGuard key and its addresses inside the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Opaque id.
    pub id: String,
    /// Name given by the user.
    pub name: String,
    /// Its key.
    pub wg_public_key: PublicKey,
    /// IPv4 address inside the tunnel, `/32`.
    pub ipv4: IpNet,
    /// IPv6 address inside the tunnel, `/128`.
    pub ipv6: IpNet,
    /// Exit id asked for, on servers that have several (row O17).
    #[serde(default)]
    pub exit: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339 time after which a new key should be registered.
    #[serde(default)]
    pub key_rotate_after: Option<String>,
}

/// `GET /devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// All devices of the account.
    pub items: Vec<Device>,
    /// Where the next page starts.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// Body of `POST /devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewDevice {
    /// 1 to 64 characters.
    pub name: String,
    /// The key.
    pub wg_public_key: PublicKey,
    /// `linux`, `windows` or `macos`.
    pub platform: String,
}

/// `GET /loads`: unsigned, so it may only change the order of servers, never their endpoints.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Loads {
    /// RFC 3339.
    #[serde(default)]
    pub generated_at: String,
    /// By server id.
    pub servers: BTreeMap<String, ServerLoad>,
}

/// Load of one server.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct ServerLoad {
    /// 0 to 100.
    #[serde(default)]
    pub load_pct: Option<f64>,
    /// bit/s.
    #[serde(default)]
    pub throughput_bps: Option<u64>,
    /// `online`, `draining`, `maintenance` or `offline`.
    #[serde(default)]
    pub state: Option<String>,
}

/// `GET /ip`: how the provider sees this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpAnswer {
    /// Our address as seen there.
    pub ip: IpAddr,
    /// `v4` or `v6`.
    pub family: String,
    /// The address belongs to a VPN server of the provider.
    pub via_vpn: bool,
    /// Server id, when via VPN.
    #[serde(default)]
    pub server: Option<String>,
    /// Exit id, when via VPN.
    #[serde(default)]
    pub exit: Option<String>,
}
