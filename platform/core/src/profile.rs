//! An imported WireGuard profile: a `.conf` parsed into safe fields. Nothing of the text is passed on: what Hamn stores
//! and uses is written again from these fields.

mod parse;
mod problem;

#[cfg(test)]
mod tests;

use crate::key::{PublicKey, SecretKey};
use crate::net::Endpoint;
use crate::plan::{DEFAULT_MTU, KeySource, NoPlan, Place, TunnelPlan};
use crate::settings::Settings;
use crate::text::Hostname;
pub use crate::text::ProfileName;
use ipnet::IpNet;
pub use parse::{MAX_ALLOWED_IPS, MAX_LINE_BYTES, MAX_PROFILE_BYTES, Parsed, Warning, parse};
pub use problem::{Problem, ProfileError, Remark};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use zeroize::Zeroizing;

/// One WireGuard tunnel to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The name that the user gave it.
    pub name: ProfileName,
    /// Our addresses inside the tunnel, 1 to 16.
    pub addresses: Vec<IpNet>,
    /// Our key.
    pub private_key: SecretKey,
    /// A second, symmetric key.
    pub preshared_key: Option<SecretKey>,
    /// Resolvers inside the tunnel, at most 10.
    pub dns: Vec<IpAddr>,
    /// Search domains, at most 6. Kept for the file; Hamn sends every name to the resolvers.
    pub search: Vec<Hostname>,
    /// MTU in bytes.
    pub mtu: Option<u16>,
    /// The peer's key.
    pub peer: PublicKey,
    /// The peer's address and UDP port.
    pub endpoint: SocketAddr,
    /// What the peer may carry, 1 to 1024 networks without host bits.
    pub allowed_ips: Vec<IpNet>,
    /// Persistent keepalive in seconds.
    pub keepalive_s: Option<u16>,
}

impl Profile {
    /// The profile as `.conf`, secrets included: for a file that only root can read.
    #[must_use]
    pub fn to_conf(&self) -> Zeroizing<String> {
        // Large enough that no reallocation leaves a copy of the keys behind.
        let mut text = Zeroizing::new(String::with_capacity(1_024 + 52 * (self.addresses.len() + self.allowed_ips.len())));
        let out: &mut String = &mut text;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "[Interface]\nPrivateKey = {}", self.private_key.reveal_base64().as_str());
        list(out, "Address", &self.addresses);
        list(out, "DNS", &self.dns);
        list(out, "DNS", &self.search);
        if let Some(mtu) = self.mtu {
            let _ = writeln!(out, "MTU = {mtu}");
        }
        let _ = writeln!(out, "\n[Peer]\nPublicKey = {}", self.peer);
        if let Some(key) = &self.preshared_key {
            let _ = writeln!(out, "PresharedKey = {}", key.reveal_base64().as_str());
        }
        list(out, "AllowedIPs", &self.allowed_ips);
        let _ = writeln!(out, "Endpoint = {}", self.endpoint);
        if let Some(seconds) = self.keepalive_s {
            let _ = writeln!(out, "PersistentKeepalive = {seconds}");
        }
        text
    }
}

/// One line per value: a line has a bound, a list of them has not.
fn list<T: std::fmt::Display>(out: &mut String, key: &str, values: &[T]) {
    for value in values {
        let _ = writeln!(out, "{key} = {value}");
    }
}

/// The plan for a profile. The settings' MTU and resolvers win over the profile's.
///
/// # Errors
/// Nothing is left to carry, because the profile has only IPv6 and the setting is off.
pub fn plan(profile: &Profile, settings: &Settings) -> Result<TunnelPlan, NoPlan> {
    let usable = |net: &&IpNet| settings.ipv6 || net.addr().is_ipv4();
    let addresses: Vec<IpNet> = profile.addresses.iter().filter(usable).copied().collect();
    let family = |ipv4: bool| addresses.iter().any(|net| net.addr().is_ipv4() == ipv4);
    let (ipv4, ipv6) = (family(true), family(false));
    let carried = |address: IpAddr| if address.is_ipv4() { ipv4 } else { ipv6 };
    let allowed_ips: Vec<IpNet> = profile.allowed_ips.iter().filter(|net| carried(net.addr())).copied().collect();
    if addresses.is_empty() {
        return Err(NoPlan::NoAddress);
    }
    if allowed_ips.is_empty() {
        return Err(NoPlan::CarriesNothing);
    }
    let smallest = if ipv6 { 1_280 } else { 576 };
    Ok(TunnelPlan {
        place: Place { server: profile.name.to_string(), server_name: profile.name.to_string(), ..Place::default() },
        endpoints: vec![Endpoint::udp(profile.endpoint)],
        peer: profile.peer,
        key: KeySource::Profile { name: profile.name.to_string() },
        has_preshared_key: profile.preshared_key.is_some(),
        resolvers: crate::server::resolvers(&settings.dns, &profile.dns, |address| carried(*address)),
        addresses,
        allowed_ips,
        gateway: Vec::new(),
        mtu: settings.mtu.or(profile.mtu).unwrap_or(DEFAULT_MTU).max(smallest),
        keepalive_s: profile.keepalive_s,
    })
}
