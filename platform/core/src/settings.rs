//! The user's settings, and how a stored file of any version becomes them.

use crate::location::Destination;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// When traffic outside the tunnel is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KillSwitch {
    /// The network opens when the tunnel fails. Leak protection still holds while a tunnel is up or being made.
    Off,
    /// From *connect* until the user says *disconnect*, through crashes, restarts and reboots.
    #[default]
    WhileConnected,
    /// Lockdown: also while disconnected, from before the network comes up at boot.
    Always,
}

/// Which resolvers are used inside the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "use")]
pub enum Dns {
    /// The provider's (or profile's) own.
    #[default]
    Provider,
    /// The user's own. A private address on an attached LAN is asked outside the tunnel, everything else inside (G3).
    Custom {
        /// One to ten addresses.
        addresses: Vec<IpAddr>,
    },
}

/// What a user can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// When traffic outside the tunnel is blocked.
    pub kill_switch: KillSwitch,
    /// Connect when the helper starts.
    pub auto_connect: bool,
    /// Reach printers and such on the attached private network.
    pub allow_lan: bool,
    /// Resolvers.
    pub dns: Dns,
    /// Carry IPv6 inside the tunnel when the server can; otherwise IPv6 is rejected.
    pub ipv6: bool,
    /// MTU of the tunnel in bytes (1280 to 1500); chosen by Hamn when absent.
    pub mtu: Option<u16>,
    /// What *connect* without a place means.
    pub destination: Destination,
    /// Days after which the device key is replaced (1 to 90).
    pub key_rotation_days: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kill_switch: KillSwitch::default(),
            auto_connect: false,
            allow_lan: false,
            dns: Dns::default(),
            ipv6: true,
            mtu: None,
            destination: Destination::default(),
            key_rotation_days: 7,
        }
    }
}
