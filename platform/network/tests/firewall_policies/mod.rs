//! Policies with names, for the snapshots and for the transitions in a real kernel.

use hamn_core::net::Endpoint;
use hamn_core::policy::{Enforced, NetworkPolicy, TunnelAccess, TunnelTraffic};

const GATEWAY_V4: &str = "192.0.2.1:51820";
const GATEWAY_V6: &str = "[2001:db8::1]:51820";
const API: &str = "192.0.2.80:443";
const RESOLVER: &str = "10.64.0.1";
const LAN: [&str; 2] = ["192.168.1.0/24", "fe80::/64"];

fn udp(address: &str) -> Endpoint {
    Endpoint::udp(address.parse().unwrap())
}

fn tcp(address: &str) -> Endpoint {
    Endpoint::tcp(address.parse().unwrap())
}

fn all<T: std::str::FromStr>(texts: &[&str]) -> Vec<T>
where
    T::Err: std::fmt::Debug,
{
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn verify(addresses: &[&str], peers: &[&str]) -> TunnelAccess {
    TunnelAccess {
        interface: "hamn0".to_owned().try_into().unwrap(),
        addresses: all(addresses),
        traffic: TunnelTraffic::VerifyOnly { peers: all(peers) },
        resolvers: all(&[RESOLVER]),
        lan_resolvers: Vec::new(),
    }
}

fn carry(addresses: &[&str], carries: &[&str]) -> TunnelAccess {
    TunnelAccess { traffic: TunnelTraffic::Everything { carries: all(carries) }, ..verify(addresses, &[]) }
}

fn v4() -> TunnelAccess {
    carry(&["10.64.0.2/32"], &["0.0.0.0/0"])
}

fn dual() -> TunnelAccess {
    carry(&["10.64.0.2/32", "fd64::2/128"], &["0.0.0.0/0", "::/0"])
}

fn lockdown() -> Enforced {
    Enforced::default()
}

fn connecting(endpoints: &[Endpoint]) -> Enforced {
    Enforced { endpoints: endpoints.to_vec(), api: vec![tcp(API)], ..lockdown() }
}

fn connected(tunnel: TunnelAccess) -> Enforced {
    Enforced { endpoints: vec![udp(GATEWAY_V4)], tunnel: Some(tunnel), ..lockdown() }
}

fn with_lan(enforced: Enforced) -> Enforced {
    Enforced { lan: all(&LAN), ..enforced }
}

/// Every named policy but "open".
pub fn enforced() -> Vec<(&'static str, Enforced)> {
    vec![
        ("lockdown", lockdown()),
        ("lockdown_lan", with_lan(lockdown())),
        ("lockdown_public_lease_is_no_lan", Enforced { lan: all(&["203.0.113.0/24", "0.0.0.0/1", "10.0.0.0/8"]), ..lockdown() }),
        ("blocked_api", Enforced { api: vec![tcp(API), tcp("[2001:db8::80]:443")], ..lockdown() }),
        ("connecting_v4", connecting(&[udp(GATEWAY_V4)])),
        ("connecting_v6", connecting(&[udp(GATEWAY_V6)])),
        ("connecting_dual", connecting(&[udp(GATEWAY_V4), udp(GATEWAY_V6)])),
        ("connecting_port_53", connecting(&[udp("192.0.2.1:53")])),
        ("connecting_port_53_lan", with_lan(connecting(&[udp("192.0.2.1:53")]))),
        ("connecting_tcp", connecting(&[tcp("192.0.2.1:443")])),
        ("connecting_lan", with_lan(connecting(&[udp(GATEWAY_V4)]))),
        ("verifying", Enforced { api: vec![tcp(API)], ..connected(verify(&["10.64.0.2/32"], &["10.64.0.1"])) }),
        ("verifying_dual", connected(verify(&["10.64.0.2/32", "fd64::2/128"], &["10.64.0.1", "fd64::1"]))),
        ("verifying_resolver_elsewhere", connected(verify(&["10.64.0.2/32"], &["10.64.0.9"]))),
        ("connected_v4", connected(v4())),
        ("connected_v4_lan", with_lan(connected(v4()))),
        ("connected_dual", connected(dual())),
        ("connected_dual_lan", with_lan(connected(dual()))),
        ("connected_two_endpoints", Enforced { endpoints: vec![udp(GATEWAY_V4), udp("198.51.100.1:443")], ..connected(dual()) }),
        ("connected_custom_dns_inside", connected(TunnelAccess { resolvers: all(&["9.9.9.9", "2620:fe::fe"]), ..dual() })),
        (
            "connected_private_dns_on_lan",
            connected(TunnelAccess { resolvers: Vec::new(), lan_resolvers: all(&["192.168.1.53"]), ..dual() }),
        ),
        (
            "connected_private_dns_and_lan",
            with_lan(connected(TunnelAccess { resolvers: Vec::new(), lan_resolvers: all(&["192.168.1.53"]), ..dual() })),
        ),
        ("connected_no_dns", connected(TunnelAccess { resolvers: Vec::new(), ..v4() })),
        ("connected_narrow", connected(carry(&["10.8.0.2/24"], &["10.8.0.0/24", "172.16.5.0/24"]))),
        ("connected_other_interface", connected(TunnelAccess { interface: "wg-test.1".to_owned().try_into().unwrap(), ..v4() })),
    ]
}

/// The policy of that name.
pub fn policy(name: &str) -> NetworkPolicy {
    if name == "open" {
        return NetworkPolicy::Open;
    }
    let (_, enforced) = enforced().into_iter().find(|(known, _)| *known == name).unwrap();
    NetworkPolicy::Enforce(enforced)
}
