//! What tests of several modules are about: a tunnel, the policy with it alone, and its resolvers.

use crate::dns::plan::DnsPlan;
use hamn_core::net::InterfaceName;
use hamn_core::policy::{Enforced, NetworkPolicy, TunnelAccess, TunnelTraffic};
use std::fmt::Debug;
use std::str::FromStr;

/// A list of addresses, networks, or whatever else can be written.
pub(crate) fn all<T: FromStr<Err: Debug>>(texts: &[&str]) -> Vec<T> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A tunnel with these addresses, without resolvers.
pub(crate) fn tunnel(addresses: &[&str], traffic: TunnelTraffic) -> TunnelAccess {
    TunnelAccess {
        interface: InterfaceName::tunnel(),
        addresses: all(addresses),
        traffic,
        resolvers: Vec::new(),
        lan_resolvers: Vec::new(),
    }
}

/// All traffic of these networks uses the tunnel.
pub(crate) fn everything(carries: &[&str]) -> TunnelTraffic {
    TunnelTraffic::Everything { carries: all(carries) }
}

/// Only these peers are asked, whether the tunnel works.
pub(crate) fn verify_only(peers: &[&str]) -> TunnelTraffic {
    TunnelTraffic::VerifyOnly { peers: all(peers) }
}

/// Nothing but this tunnel.
pub(crate) fn through(tunnel: TunnelAccess) -> NetworkPolicy {
    NetworkPolicy::Enforce(Enforced { tunnel: Some(tunnel), ..Enforced::default() })
}

/// These resolvers for all names.
pub(crate) fn dns_plan(resolvers: &[&str]) -> DnsPlan {
    DnsPlan { interface: InterfaceName::tunnel(), resolvers: all(resolvers) }
}
