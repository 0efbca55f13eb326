//! Says in words what a frame is, for the witness's list of what escaped. Never indexes, never trusts a length.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?))
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?))
}

/// What kind of frame the witness saw. `Outside` is what must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A WireGuard message to a gateway's address and port.
    Tunnel,
    /// TCP to the provider's API.
    Api,
    /// DHCP of either family.
    Dhcp,
    /// Router and neighbour solicitations and advertisements with hop limit 255.
    Neighbour,
    /// ARP.
    Arp,
    /// Reports of multicast groups (MLD, IGMP), which the kernel sends by itself and which stay on the link.
    Membership,
    /// Everything else.
    Outside,
}

/// The tuples that are not `Outside`, as the witness was told.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Addresses of gateways.
    pub gateways: Vec<std::net::IpAddr>,
    /// UDP ports of gateways.
    pub ports: Vec<u16>,
    /// Addresses of the API, TCP port 443.
    pub api: Vec<std::net::IpAddr>,
}

/// The parts of a frame that matter.
struct Parts<'a> {
    source: std::net::IpAddr,
    destination: std::net::IpAddr,
    protocol: u8,
    hops: u8,
    payload: &'a [u8],
}

fn parts(frame: &[u8]) -> Option<Parts<'_>> {
    let packet = frame.get(14..)?;
    match be16(frame, 12)? {
        0x0800 => {
            let header = usize::from(packet.first()? & 0x0f).checked_mul(4)?;
            let (protocol, hops, payload) = (*packet.get(9)?, *packet.get(8)?, packet.get(header..)?);
            Some(Parts { source: v4(packet, 12)?.into(), destination: v4(packet, 16)?.into(), protocol, hops, payload })
        }
        0x86dd => {
            let (mut protocol, hops, mut payload) = (*packet.get(6)?, *packet.get(7)?, packet.get(40..)?);
            // MLD comes behind a hop-by-hop header (RFC 3810 §5).
            if protocol == 0 {
                protocol = *payload.first()?;
                let length = usize::from(*payload.get(1)?).checked_add(1)?.checked_mul(8)?;
                payload = payload.get(length..)?;
            }
            Some(Parts { source: v6(packet, 8)?.into(), destination: v6(packet, 24)?.into(), protocol, hops, payload })
        }
        _ => None,
    }
}

/// Classifies an Ethernet frame that left the client.
#[must_use]
pub fn classify(frame: &[u8], allowed: &Allowed) -> Class {
    if be16(frame, 12) == Some(0x0806) {
        return Class::Arp;
    }
    parts(frame).and_then(|parts| classify_parts(&parts, allowed)).unwrap_or(Class::Outside)
}

fn classify_parts(parts: &Parts<'_>, allowed: &Allowed) -> Option<Class> {
    let v4 = parts.destination.is_ipv4();
    let class = match parts.protocol {
        17 => {
            let (from, to) = (be16(parts.payload, 0)?, be16(parts.payload, 2)?);
            // WireGuard messages begin with a type from 1 to 4 and three zero bytes.
            let wireguard = matches!(parts.payload.get(8..12), Some([1..=4, 0, 0, 0]));
            if wireguard && allowed.ports.contains(&to) && allowed.gateways.contains(&parts.destination) {
                Class::Tunnel
            } else if (v4 && from == 68 && to == 67) || (!v4 && from == 546 && to == 547) {
                Class::Dhcp
            } else {
                Class::Outside
            }
        }
        6 => {
            let (from, to) = (be16(parts.payload, 0)?, be16(parts.payload, 2)?);
            let ours = !super::address::PROBE_PORTS.contains(&from);
            if ours && to == super::address::API_PORT && allowed.api.contains(&parts.destination) {
                Class::Api
            } else {
                Class::Outside
            }
        }
        58 => {
            let neighbour = parts.hops == 255 && matches!(parts.payload.first(), Some(133 | 135 | 136));
            let membership = matches!(parts.payload.first(), Some(131 | 132 | 143));
            if neighbour {
                Class::Neighbour
            } else if membership {
                Class::Membership
            } else {
                Class::Outside
            }
        }
        2 => Class::Membership,
        _ => Class::Outside,
    };
    Some(class)
}

/// Who an ARP request is looking for.
#[must_use]
pub fn arp_target(frame: &[u8]) -> Option<Ipv4Addr> {
    (be16(frame, 12)? == 0x0806 && be16(frame, 20)? == 1).then(|| v4(frame, 38))?
}

/// One line such as `IPv4 UDP 10.0.1.2:40001 > 192.0.2.66:53, 10 bytes`.
#[must_use]
pub fn describe(frame: &[u8]) -> String {
    let Some(parts) = parts(frame) else {
        let kind = be16(frame, 12).unwrap_or(0);
        return arp_target(frame)
            .map_or_else(|| format!("frame of type {kind:#06x}"), |target| format!("ARP request for {target}"));
    };
    let family = if parts.source.is_ipv4() { "IPv4" } else { "IPv6" };
    let ports = be16(parts.payload, 0).zip(be16(parts.payload, 2));
    let mut text = match (parts.protocol, ports) {
        (6 | 17, Some((from, to))) => {
            let name = if parts.protocol == 6 { "TCP" } else { "UDP" };
            let (source, destination) =
                (std::net::SocketAddr::new(parts.source, from), std::net::SocketAddr::new(parts.destination, to));
            format!("{family} {name} {source} > {destination}")
        }
        (1 | 58, _) => {
            let kind = parts.payload.first().copied().unwrap_or(0);
            format!("{family} ICMP type {kind} {} > {}", parts.source, parts.destination)
        }
        (protocol, _) => format!("{family} protocol {protocol} {} > {}", parts.source, parts.destination),
    };
    let _ = write!(text, ", {} bytes", parts.payload.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(kind.to_be_bytes());
        frame.extend(body);
        frame
    }

    fn udp_v4(from: u16, to: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
        let mut body = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 1, 2];
        body.extend(to);
        body.extend(from.to_be_bytes());
        body.extend(port.to_be_bytes());
        body.extend([0; 4]);
        body.extend(payload);
        frame(0x0800, &body)
    }

    fn allowed() -> Allowed {
        Allowed {
            gateways: vec![super::super::address::GATEWAY_V4],
            ports: vec![51820],
            api: vec![super::super::address::API_V4],
        }
    }

    #[test]
    fn only_wireguard_messages_to_a_gateway_are_tunnel_packets() {
        let gateway = [198, 51, 100, 1];
        assert_eq!(classify(&udp_v4(5, gateway, 51820, &[4, 0, 0, 0, 9]), &allowed()), Class::Tunnel);
        assert_eq!(classify(&udp_v4(5, gateway, 51820, b"HAMN-PROBE"), &allowed()), Class::Outside);
        assert_eq!(classify(&udp_v4(5, gateway, 53, &[4, 0, 0, 0, 9]), &allowed()), Class::Outside);
        assert_eq!(classify(&udp_v4(5, [192, 0, 2, 66], 51820, &[4, 0, 0, 0, 9]), &allowed()), Class::Outside);
    }

    #[test]
    fn truncated_frames_are_outside_and_never_panic() {
        let whole = udp_v4(5, [198, 51, 100, 1], 51820, &[4, 0, 0, 0]);
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap();
            assert_eq!(classify(cut, &allowed()), Class::Outside, "at {length}");
            assert!(!describe(cut).is_empty());
        }
    }

    #[test]
    fn frames_are_described() {
        assert_eq!(describe(&udp_v4(40001, [192, 0, 2, 66], 53, b"xy")), "IPv4 UDP 10.0.1.2:40001 > 192.0.2.66:53, 10 bytes");
    }
}
