//! Reads and marks IP headers: lengths, addresses, the ECN field. Pure; hostile input gives `None`.

use crate::checksum::Sum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header without extensions.
pub const IPV6_HEADER: usize = 40;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// The two ECN bits of the traffic class (RFC 3168).
pub const ECN_MASK: u8 = 0b11;
/// Congestion experienced.
pub const ECN_CE: u8 = 0b11;
/// Capable of ECN, the code point that stands for "no mark yet" in a new outer header.
pub const ECN_ECT0: u8 = 0b10;

/// The version in the first nibble: 4 or 6, or whatever stands there.
#[must_use]
pub fn version(packet: &[u8]) -> Option<u8> {
    packet.first().map(|byte| byte >> 4)
}

/// Big-endian 16 bits at `at`.
#[must_use]
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let field: &[u8] = bytes.get(at..at.checked_add(2)?)?;
    field.try_into().ok().map(u16::from_be_bytes)
}

/// Big-endian 32 bits at `at`.
#[must_use]
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let field: &[u8] = bytes.get(at..at.checked_add(4)?)?;
    field.try_into().ok().map(u32::from_be_bytes)
}

/// Writes 16 bits at `at`, or nothing if there is no room.
pub fn put_be16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(field) = at.checked_add(2).and_then(|end| bytes.get_mut(at..end)) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Writes 32 bits at `at`, or nothing if there is no room.
pub fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(field) = at.checked_add(4).and_then(|end| bytes.get_mut(at..end)) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Bytes of the IP packet at the start of `packet`, by its own header: what follows is padding.
///
/// `None` if it is no IP packet, or says that it is longer than it is.
#[must_use]
pub fn length(packet: &[u8]) -> Option<usize> {
    let (shortest, total) = match version(packet)? {
        4 => (usize::from(packet.first()? & 0xf).checked_mul(4)?.max(IPV4_HEADER), usize::from(be16(packet, 2)?)),
        6 => (IPV6_HEADER, usize::from(be16(packet, 4)?).checked_add(IPV6_HEADER)?),
        _ => return None,
    };
    (total >= shortest && total <= packet.len()).then_some(total)
}

/// Source address.
#[must_use]
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

/// Destination address.
#[must_use]
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

fn address(packet: &[u8], at4: usize, at6: usize) -> Option<IpAddr> {
    match version(packet)? {
        4 => packet.get(..IPV4_HEADER).and_then(|_| be32(packet, at4)).map(|bits| Ipv4Addr::from_bits(bits).into()),
        6 => {
            packet.get(..IPV6_HEADER)?;
            let bytes: [u8; 16] = packet.get(at6..at6.checked_add(16)?)?.try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The traffic class (DSCP and ECN); 0 if it is no IP packet.
#[must_use]
pub fn traffic_class(packet: &[u8]) -> u8 {
    match (version(packet), packet) {
        (Some(4), [_, class, ..]) => *class,
        (Some(6), [first, second, ..]) => (first << 4) | (second >> 4),
        _ => 0,
    }
}

/// The ECN bits for the outer header around a packet of this traffic class, as WireGuard encapsulates (RFC 6040, normal
/// mode): copied, except that a mark stays inside. The DSCP bits of the outer header are zero: they would tell what is inside.
#[must_use]
pub const fn outer_ecn(inner_class: u8) -> u8 {
    match inner_class & ECN_MASK {
        ECN_CE => ECN_ECT0,
        bits => bits,
    }
}

/// Puts the mark of the outer header on the inner packet, if its sender understands marks (RFC 6040, decapsulation).
pub fn mark_congestion(packet: &mut [u8]) {
    if traffic_class(packet) & ECN_MASK == 0 {
        return;
    }
    match (version(packet), &mut *packet) {
        (Some(4), [_, class, ..]) => *class |= ECN_CE,
        (Some(6), [_, second, ..]) => *second |= ECN_CE << 4,
        _ => return,
    }
    if version(packet) == Some(4) {
        seal_ipv4(packet);
    }
}

/// Computes the header checksum of an IPv4 packet.
pub fn seal_ipv4(packet: &mut [u8]) {
    let header_length = packet.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
    put_be16(packet, 10, 0);
    let Some(header) = packet.get(..header_length) else { return };
    let checksum = Sum::default().over(header).finish();
    put_be16(packet, 10, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(length(&[]), None);
        assert_eq!(length(&[0x45; 3]), None);
        let mut packet = [0_u8; 64];
        packet[0] = 0x45;
        put_be16(&mut packet, 2, 64);
        assert_eq!(length(&packet), Some(64));
        put_be16(&mut packet, 2, 65);
        assert_eq!(length(&packet), None, "longer than it is");
        put_be16(&mut packet, 2, 19);
        assert_eq!(length(&packet), None, "shorter than a header");
        packet[0] = 0x4f;
        put_be16(&mut packet, 2, 40);
        assert_eq!(length(&packet), None, "shorter than its own header");
        packet[0] = 0x60;
        put_be16(&mut packet, 4, 24);
        assert_eq!(length(&packet), Some(64));
        put_be16(&mut packet, 4, 20);
        assert_eq!(length(&packet), Some(60), "padding is cut");
        assert_eq!(source(&packet[..39]), None);
    }

    #[test]
    fn a_mark_reaches_only_those_who_understand_it() {
        for class in 0..=255_u8 {
            let mut v4 = [0_u8; 20];
            v4[0] = 0x45;
            v4[1] = class;
            seal_ipv4(&mut v4);
            mark_congestion(&mut v4);
            let expected = if class & 3 == 0 { class } else { class | 3 };
            assert_eq!(v4[1], expected);
            assert_eq!(Sum::default().over(&v4).fold(), 0xffff);
            let mut v6 = [0_u8; 40];
            v6[0] = 0x60 | (class >> 4);
            v6[1] = (class << 4) | 0x0a;
            assert_eq!(traffic_class(&v6), class);
            mark_congestion(&mut v6);
            assert_eq!(traffic_class(&v6), expected);
            assert_eq!((v6[0] >> 4, v6[1] & 0xf), (6, 0x0a), "version and flow label stay");
            // No mark and no DSCP go out.
            assert_eq!(outer_ecn(class), [0, 1, 2, 2][usize::from(class & 3)]);
        }
    }
}
