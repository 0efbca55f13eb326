//! What crosses a `utun` descriptor: the address family in four bytes, big-endian, and the packet (XNU `bsd/net/if_utun.c`:
//! `utun_ctl_send`, `utun_output`); and the name of a unit. Pure.

/// Bytes before each packet.
pub(super) const HEADER: usize = 4;
/// Darwin's numbers, which differ from other systems' (XNU `bsd/sys/socket.h`).
const AF_INET: u32 = 2;
const AF_INET6: u32 = 30;
/// Every name begins so.
const PREFIX: &str = "utun";
/// The kernel keeps units in 16 bits, signed.
const LAST_UNIT: u32 = 32_767;

/// The header for this packet; `None` if it is none of IP.
pub(super) fn header(packet: &[u8]) -> Option<[u8; HEADER]> {
    let family = match packet.first()? >> 4 {
        4 => AF_INET,
        6 => AF_INET6,
        _ => return None,
    };
    Some(family.to_be_bytes())
}

/// How many bytes of `packet` are a packet after `read` bytes came, header included. 0 if header and packet do not agree,
/// or one of them is cut off.
pub(super) fn packet_length(head: [u8; HEADER], packet: &[u8], read: usize) -> usize {
    let length = read.saturating_sub(HEADER);
    match packet.get(..length).and_then(header) {
        Some(expected) if expected == head => length,
        Some(_) | None => 0,
    }
}

/// What to ask the kernel for (`sockaddr_ctl.sc_unit`) so that the interface has this name: 0 means any, so it counts from 1.
pub(super) fn control_unit(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX)?;
    let unit: u32 = digits.parse().ok()?;
    // Not "utun+7" nor "utun07": the kernel would write another name.
    (unit <= LAST_UNIT && unit.to_string() == digits).then_some(unit.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_follows_the_version_of_the_packet() {
        assert_eq!(header(&[0x45, 0, 0, 20]), Some([0, 0, 0, 2]));
        assert_eq!(header(&[0x60, 0, 0, 0]), Some([0, 0, 0, 30]));
        assert_eq!(header(&[0x55]), None);
        assert_eq!(header(&[]), None);
    }

    #[test]
    fn only_a_packet_that_agrees_with_its_header_is_one() {
        let mut packet = [0_u8; 64];
        packet[0] = 0x45;
        assert_eq!(packet_length([0, 0, 0, 2], &packet, 24), 20);
        assert_eq!(packet_length([0, 0, 0, 30], &packet, 24), 0, "another family");
        assert_eq!(packet_length([0, 0, 0, 2], &packet, 4), 0, "nothing after the header");
        assert_eq!(packet_length([0, 0, 0, 2], &packet, 3), 0, "not even a header");
        assert_eq!(packet_length([0, 0, 0, 2], &packet, 69), 0, "more than there is room for");
        assert_eq!(packet_length([0, 0, 0, 2], &packet, 68), 64);
        packet[0] = 0x60;
        assert_eq!(packet_length([0, 0, 0, 30], &packet, 44), 40);
        // Little-endian, as a careless writer would have it.
        assert_eq!(packet_length([30, 0, 0, 0], &packet, 44), 0);
    }

    #[test]
    fn a_name_is_a_unit_and_nothing_else() {
        assert_eq!(control_unit("utun6861"), Some(6862));
        assert_eq!(control_unit("utun0"), Some(1));
        for bad in ["utun", "utun-1", "utun+7", "utun07", "utun32768", "utun99999999999", "en0", "hamn0", "utun1x"] {
            assert_eq!(control_unit(bad), None, "{bad}");
        }
    }
}
