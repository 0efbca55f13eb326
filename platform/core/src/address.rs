//! What kind of address an IP address is: decides which may be a gateway, a resolver or an API address.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kinds of address that Hamn treats differently (IANA special-purpose registries, RFC 6890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// `0.0.0.0/8` and `::`.
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `224.0.0.0/4` and `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// `169.254.0.0/16` and `fe80::/10`: means another host on every link.
    LinkLocal,
    /// RFC 1918, RFC 6598 (carrier NAT), RFC 2544 (benchmarks), unique local and site-local.
    Private,
    /// Never routed: `240.0.0.0/4`, `192.0.0.0/24`, and IPv6 outside `2000::/3` that has no other class.
    Reserved,
    /// IPv4 written as IPv6 (`::ffff:0:0/96`, `::/96`): a rule for it would not match the packets it stands for.
    EmbeddedV4,
    /// Everything else. Documentation prefixes count as global: laboratories use them as the public internet.
    Global,
}

impl AddressClass {
    /// A few words for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unspecified => "the unspecified address",
            Self::Loopback => "a loopback address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::Reserved => "a reserved address",
            Self::EmbeddedV4 => "an IPv4 address written as IPv6",
            Self::Global => "a global address",
        }
    }

    /// True when one machine somewhere can be reached by it: global or private.
    #[must_use]
    pub const fn is_host(self) -> bool {
        matches!(self, Self::Global | Self::Private)
    }
}

/// The class of an address.
#[must_use]
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        [0, ..] => AddressClass::Unspecified,
        [127, ..] => AddressClass::Loopback,
        [255, 255, 255, 255] => AddressClass::Broadcast,
        [224..=239, ..] => AddressClass::Multicast,
        [240..=255, ..] | [192, 0, 0, _] => AddressClass::Reserved,
        [169, 254, ..] => AddressClass::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => AddressClass::Private,
        _ => AddressClass::Global,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        match classify_v4(Ipv4Addr::new(a, b, c, d)) {
            AddressClass::Global => AddressClass::Global,
            AddressClass::Private => AddressClass::Private,
            AddressClass::Unspecified
            | AddressClass::Loopback
            | AddressClass::Multicast
            | AddressClass::Broadcast
            | AddressClass::LinkLocal
            | AddressClass::Reserved
            | AddressClass::EmbeddedV4 => AddressClass::EmbeddedV4,
        }
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => AddressClass::EmbeddedV4,
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        [first, ..] if first >= 0xff00 => AddressClass::Multicast,
        [first, ..] if first & 0xffc0 == 0xfe80 => AddressClass::LinkLocal,
        [first, ..] if first & 0xffc0 == 0xfec0 || first & 0xfe00 == 0xfc00 => AddressClass::Private,
        [first, ..] if first & 0xe000 == 0x2000 => AddressClass::Global,
        _ => AddressClass::Reserved,
    }
}

/// The ranges that no tunnel can carry: loopback, link-local, multicast, "this network", class E, mapped IPv4.
fn never_routed() -> [IpNet; 10] {
    let v4 = |a, b, len| IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), len);
    let v6 = |segments: [u16; 8], len| IpNet::new_assert(IpAddr::V6(Ipv6Addr::from(segments)), len);
    [
        v4(0, 0, 8),
        v4(127, 0, 8),
        v4(169, 254, 16),
        v4(224, 0, 4),
        v4(240, 0, 4),
        v6([0; 8], 96),
        v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
        v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
        v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
    ]
}

/// True when a network contains no address that a packet could be sent to through a tunnel.
#[must_use]
pub fn contains_nothing_routable(network: &IpNet) -> bool {
    never_routed().iter().any(|range| range.contains(network))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_special_range_has_its_class() {
        for (text, class) in [
            ("0.0.0.0", AddressClass::Unspecified),
            ("0.1.2.3", AddressClass::Unspecified),
            ("127.0.0.53", AddressClass::Loopback),
            ("10.0.0.1", AddressClass::Private),
            ("172.15.255.255", AddressClass::Global),
            ("172.16.0.0", AddressClass::Private),
            ("172.31.255.255", AddressClass::Private),
            ("172.32.0.0", AddressClass::Global),
            ("192.168.1.1", AddressClass::Private),
            ("100.64.0.1", AddressClass::Private),
            ("100.128.0.1", AddressClass::Global),
            ("169.254.169.254", AddressClass::LinkLocal),
            ("224.0.0.251", AddressClass::Multicast),
            ("240.0.0.1", AddressClass::Reserved),
            ("255.255.255.255", AddressClass::Broadcast),
            ("192.0.0.8", AddressClass::Reserved),
            ("192.0.2.1", AddressClass::Global),
            ("198.51.100.1", AddressClass::Global),
            ("203.0.113.9", AddressClass::Global),
            ("9.9.9.9", AddressClass::Global),
            ("::", AddressClass::Unspecified),
            ("::1", AddressClass::Loopback),
            ("::ffff:127.0.0.1", AddressClass::EmbeddedV4),
            ("::ffff:8.8.8.8", AddressClass::EmbeddedV4),
            ("::7f00:1", AddressClass::EmbeddedV4),
            ("64:ff9b::7f00:1", AddressClass::EmbeddedV4),
            ("64:ff9b::a00:1", AddressClass::Private),
            ("64:ff9b::c633:6401", AddressClass::Global),
            ("2002:7f00:1::1", AddressClass::EmbeddedV4),
            ("fe80::1", AddressClass::LinkLocal),
            ("fec0::1", AddressClass::Private),
            ("fd5a:7e57::1", AddressClass::Private),
            ("ff02::1", AddressClass::Multicast),
            ("100::1", AddressClass::Reserved),
            ("2001:db8::1", AddressClass::Global),
            ("2a00::1", AddressClass::Global),
            ("4000::1", AddressClass::Reserved),
        ] {
            assert_eq!(classify(text.parse().unwrap()), class, "{text}");
        }
    }

    #[test]
    fn only_networks_inside_unroutable_ranges_contain_nothing() {
        for (text, nothing) in [
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("0.0.0.0/8", true),
            ("127.0.0.1/32", true),
            ("126.0.0.0/7", false),
            ("224.0.0.0/3", false),
            ("224.0.0.0/4", true),
            ("255.255.255.255/32", true),
            ("fe80::/64", true),
            ("ff02::1/128", true),
            ("::1/128", true),
            ("::ffff:0:0/96", true),
            ("2000::/3", false),
        ] {
            assert_eq!(contains_nothing_routable(&text.parse().unwrap()), nothing, "{text}");
        }
    }
}
