//! The user's settings, and how a stored file of any version becomes them.

mod keys;
mod stored;
mod v1;

#[cfg(test)]
mod tests;

use crate::address::{AddressClass, classify};
use crate::location::Destination;
pub use keys::{KeyInfo, Kind, SetError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
pub use stored::{LoadError, Loaded, MAX_FILE_BYTES, SETTINGS_VERSION, TARGET_VERSION, load, load_target, save, save_target};

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

/// A setting with a value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct InvalidSetting {
    /// Field name as in the stored file.
    pub field: &'static str,
    /// Why, for people.
    pub why: String,
}

impl Settings {
    /// Checks what the types alone do not: numbers in range, resolvers that can be asked, a well-formed destination.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let Self { kill_switch: _, auto_connect: _, allow_lan: _, dns, ipv6: _, mtu, destination, key_rotation_days } = self;
        let invalid = |field, why: &str| Err(InvalidSetting { field, why: why.to_owned() });
        if let Dns::Custom { addresses } = dns {
            if !(1..=10).contains(&addresses.len()) {
                return invalid("dns", "one to ten addresses");
            }
            if let Some((address, why)) =
                addresses.iter().find_map(|address| resolver_refusal(*address).map(|why| (address, why)))
            {
                return invalid("dns", &format!("{address} {why}"));
            }
        }
        if mtu.is_some_and(|mtu| !(1280..=1500).contains(&mtu)) {
            return invalid("mtu", "1280 to 1500 bytes, or none");
        }
        if let Err(error) = destination.validate() {
            return invalid("destination", &error.to_string());
        }
        if !(1..=90).contains(key_rotation_days) {
            return invalid("key_rotation_days", "1 to 90 days");
        }
        Ok(())
    }
}

/// Why an address cannot be a resolver; `None` when it can. Private addresses can: they may be on the LAN or in the tunnel.
#[must_use]
pub fn resolver_refusal(address: IpAddr) -> Option<&'static str> {
    match classify(address) {
        AddressClass::Global | AddressClass::Private => None,
        AddressClass::Loopback => Some(
            "is a loopback address: a resolver on this computer asks others in turn, outside the tunnel, where Hamn cannot see it",
        ),
        AddressClass::Unspecified => Some("is the unspecified address, which no resolver has"),
        AddressClass::Multicast => Some("is a multicast address, which no resolver has"),
        AddressClass::Broadcast => Some("is the broadcast address, which no resolver has"),
        AddressClass::LinkLocal => Some("is a link-local address, which means another host on every network"),
        AddressClass::Reserved => Some("is a reserved address, which no resolver has"),
        AddressClass::EmbeddedV4 => Some("is an IPv4 address written as IPv6: write it as IPv4"),
    }
}
