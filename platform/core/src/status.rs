//! The one snapshot that every reader of the local API gets.

use crate::location::{Destination, Target};
use crate::net::Endpoint;
use crate::plan::Place;
use crate::settings::KillSwitch;
use crate::state::{Attempt, BlockReason, Generation, Phase};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// State without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// No tunnel and none wanted.
    Disconnected,
    /// An attempt is under way.
    Connecting,
    /// Traffic flows inside the tunnel.
    Connected,
    /// The tunnel is being taken down.
    Disconnecting,
    /// A tunnel is wanted and there is none.
    Blocked,
}

/// Everything a user interface shows, in one piece.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Grows by one with each published change.
    pub sequence: u64,
    /// Version of the helper.
    pub version: String,
    /// State.
    pub state: StateKind,
    /// True when an enforcing policy is applied and read back: nothing leaves outside the tunnel.
    pub protected: bool,
    /// Persisted intent.
    pub target: Target,
    /// Where to, when a tunnel is wanted.
    pub destination: Option<Destination>,
    /// Why there is no tunnel, in state `blocked`.
    pub blocked: Option<Blocked>,
    /// The attempt, in states `connecting` and `connected`.
    pub attempt: Option<AttemptStatus>,
    /// The tunnel, in states `connecting` (once planned), `connected` and `disconnecting`.
    pub tunnel: Option<TunnelStatus>,
    /// The firewall, routes and DNS.
    pub protection: Protection,
    /// Provider and account.
    pub provider: ProviderStatus,
    /// Things worth knowing that do not change the state.
    pub warnings: Vec<Warning>,
    /// Who manages this computer, when the administrator's policy names an organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// Why there is no tunnel and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blocked {
    /// Stable code.
    pub code: BlockReason,
    /// What happened.
    pub message: String,
    /// What to do.
    pub action: String,
    /// True when Hamn tries again by itself.
    pub retrying: bool,
}

/// An attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptStatus {
    /// Number.
    pub number: Attempt,
    /// How far, while connecting.
    pub phase: Option<Phase>,
    /// Attempts in a row that failed before this one.
    pub failures: u32,
}

/// The tunnel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelStatus {
    /// Where it comes out.
    pub place: Place,
    /// Interface name.
    pub interface: String,
    /// Gateway outside the tunnel.
    pub endpoint: Option<Endpoint>,
    /// Our addresses inside.
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpNet>,
    /// Resolvers inside.
    pub resolvers: Vec<IpAddr>,
    /// MTU in bytes.
    pub mtu: u16,
    /// Which implementation carries the packets.
    pub engine: String,
    /// Bytes received inside the tunnel.
    pub rx_bytes: u64,
    /// Bytes sent inside the tunnel.
    pub tx_bytes: u64,
    /// Seconds since the last handshake.
    pub last_handshake_s: Option<u64>,
    /// Wall clock at which traffic was first verified, seconds since 1970.
    pub connected_since_unix_s: Option<i64>,
    /// Nothing is received at the moment; the tunnel is trying.
    pub stalled: bool,
    /// What the world sees, as the provider says; empty until it is known, and when nobody can say.
    #[serde(default)]
    pub exit_addresses: Vec<IpAddr>,
    /// The gateway let this computer in without checking the account (row O23).
    #[serde(default)]
    pub provisional: bool,
}

/// The firewall, routes and DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Protection {
    /// Kill-switch mode.
    pub kill_switch: KillSwitch,
    /// LAN access is allowed.
    pub allow_lan: bool,
    /// The wanted policy enforces (is not open).
    pub enforcing: bool,
    /// Number of the last policy that was applied and read back.
    pub applied_generation: Option<Generation>,
    /// The wanted policy is in force.
    pub in_force: bool,
    /// Why it is not.
    pub error: Option<String>,
    /// How often another program changed our rules and they were restored.
    pub tampered: u64,
    /// Which DNS backend is used ("resolved", "network_manager", "resolvconf", "static_file").
    pub dns_backend: Option<String>,
}

/// Provider and account.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProviderStatus {
    /// Base URL, when one is configured.
    pub url: Option<String>,
    /// Somebody is logged in.
    pub logged_in: bool,
    /// Serial of the server list in use.
    pub list_serial: Option<u64>,
    /// The list is past its expiry and no fresher one could be fetched.
    pub list_stale: bool,
}

/// A note for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// Stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
}
