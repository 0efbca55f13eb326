//! The values that the model draws from: few, so that collisions (the same place, the same network) happen often.

use hamn_core::event::HostFacts;
use hamn_core::key::PublicKey;
use hamn_core::location::Destination;
use hamn_core::net::Endpoint;
use hamn_core::plan::{KeySource, Place, TunnelPlan};
use hamn_core::settings::{Dns, KillSwitch, Settings};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

use crate::random::Random;

/// Parses a prefix.
///
/// # Panics
/// The text is not a prefix.
#[must_use]
pub fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// Parses an address.
///
/// # Panics
/// The text is not an address.
#[must_use]
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Parses an address with a port.
///
/// # Panics
/// The text is neither.
#[must_use]
pub fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// Where the user may want to come out.
#[must_use]
pub fn destinations() -> [Destination; 4] {
    [
        Destination::Best,
        Destination::Country { country: "se".to_owned() },
        Destination::Server { server: "vpn01".to_owned(), exit: None },
        Destination::Profile { name: "office".to_owned() },
    ]
}

/// A plan of one of four shapes: dual stack, IPv4 only, narrow profile without a gateway address, IPv6 only on port 53.
#[must_use]
pub fn plan(shape: u64) -> TunnelPlan {
    let mut key = [7_u8; 32];
    key[0] = u8::try_from(shape % 4).expect("below four");
    let base = TunnelPlan {
        place: Place { server: format!("vpn0{}", shape % 4), ..Place::default() },
        endpoints: vec![Endpoint::udp(socket("198.51.100.10:51820")), Endpoint::udp(socket("[2001:db8:51::10]:51820"))],
        peer: PublicKey::new(key).expect("a key"),
        key: KeySource::Device,
        has_preshared_key: false,
        addresses: vec![net("10.128.0.2/32"), net("fd00:128::2/128")],
        allowed_ips: vec![net("0.0.0.0/0"), net("::/0")],
        resolvers: vec![ip("10.128.0.1"), ip("fd00:128::1")],
        gateway: vec![ip("10.128.0.1")],
        mtu: 1420,
        keepalive_s: None,
    };
    match shape % 4 {
        0 => base,
        1 => TunnelPlan {
            endpoints: vec![Endpoint::udp(socket("198.51.100.11:51820"))],
            addresses: vec![net("10.129.0.2/32")],
            resolvers: vec![ip("10.129.0.1")],
            gateway: vec![ip("10.129.0.1")],
            ..base
        },
        2 => TunnelPlan {
            endpoints: vec![Endpoint::udp(socket("192.168.1.20:443"))],
            key: KeySource::Profile { name: "office".to_owned() },
            addresses: vec![net("10.77.0.2/24")],
            allowed_ips: vec![net("10.77.0.0/16"), net("fd77::/48")],
            resolvers: Vec::new(),
            gateway: Vec::new(),
            ..base
        },
        _ => TunnelPlan {
            endpoints: vec![Endpoint::udp(socket("[2001:db8:51::12]:53"))],
            addresses: vec![net("fd00:130::2/128")],
            resolvers: vec![ip("fd00:130::1")],
            gateway: vec![ip("fd00:130::1")],
            ..base
        },
    }
}

/// Random settings.
pub fn settings(random: &mut Random) -> Settings {
    let dns = match random.below(4) {
        0 => Dns::Custom { addresses: vec![ip("192.168.1.1"), ip("9.9.9.9")] },
        1 => Dns::Custom { addresses: vec![ip("10.0.0.53")] },
        _ => Dns::Provider,
    };
    Settings {
        kill_switch: *random.pick(&[KillSwitch::Off, KillSwitch::WhileConnected, KillSwitch::WhileConnected, KillSwitch::Always]),
        auto_connect: random.one_in(4),
        allow_lan: random.one_in(2),
        dns,
        ipv6: !random.one_in(4),
        mtu: *random.pick(&[None, None, Some(1300)]),
        destination: random.pick(&destinations()).clone(),
        ..Settings::default()
    }
}

/// Random host facts: online or not, at home, in a cafe with a hostile lease, on IPv6 only.
pub fn facts(random: &mut Random) -> HostFacts {
    let online = !random.one_in(4);
    let attached = match random.below(5) {
        0 => Vec::new(),
        1 => vec![net("192.168.1.0/24"), net("fe80::/64")],
        2 => vec![net("10.0.0.0/24")],
        3 => vec![net("0.0.0.0/1"), net("10.0.0.0/8"), net("203.0.113.0/24")],
        _ => vec![net("192.168.1.0/24"), net("fd12:3456::/64")],
    };
    HostFacts { online, attached, ipv4: online, ipv6: online && random.one_in(2) }
}

/// Random pinned API addresses.
pub fn api(random: &mut Random) -> Vec<Endpoint> {
    match random.below(3) {
        0 => Vec::new(),
        1 => vec![Endpoint::tcp(socket("198.51.100.1:443"))],
        _ => vec![Endpoint::tcp(socket("198.51.100.1:443")), Endpoint::tcp(socket("[2001:db8:51::1]:443"))],
    }
}
