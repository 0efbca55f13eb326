//! The virtio-net header in front of every frame of a TUN device opened with `IFF_VNET_HDR`.
//!
//! Layout: virtio 1.2 §5.1.6 (`struct virtio_net_hdr`, 10 bytes), in the byte order of the machine, as Linux' TUN driver
//! writes it unless told otherwise.

/// Bytes of the header.
pub const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP4: u8 = 1;
const GSO_TCP6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What a frame consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// One packet.
    #[default]
    None,
    /// TCP segments over IPv4 with one common header.
    Tcp4,
    /// TCP segments over IPv6.
    Tcp6,
    /// UDP datagrams over either.
    Udp,
}

/// The header, parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The transport checksum covers the pseudo header only; the rest is to be added.
    pub needs_checksum: bool,
    /// What the frame consists of.
    pub segmentation: Segmentation,
    /// Bytes of all headers. A hint: the kernel does not promise it.
    pub header_length: u16,
    /// Payload bytes of each segment, the last excepted.
    pub segment_size: u16,
    /// Where the transport header begins.
    pub checksum_start: u16,
    /// Where the checksum stands, counted from there.
    pub checksum_offset: u16,
}

/// A segmentation that was not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown segmentation {0:#x} in a virtio header")]
pub struct UnknownSegmentation(pub u8);

impl Header {
    /// Reads the header.
    ///
    /// # Errors
    /// For kinds of segmentation that we never asked the kernel for.
    pub fn parse(bytes: [u8; LENGTH]) -> Result<Self, UnknownSegmentation> {
        let [flags, gso, l0, l1, s0, s1, c0, c1, o0, o1] = bytes;
        let segmentation = match gso & !GSO_ECN {
            GSO_NONE => Segmentation::None,
            GSO_TCP4 => Segmentation::Tcp4,
            GSO_TCP6 => Segmentation::Tcp6,
            GSO_UDP => Segmentation::Udp,
            _ => return Err(UnknownSegmentation(gso)),
        };
        Ok(Self {
            needs_checksum: flags & NEEDS_CHECKSUM != 0,
            segmentation,
            header_length: u16::from_ne_bytes([l0, l1]),
            segment_size: u16::from_ne_bytes([s0, s1]),
            checksum_start: u16::from_ne_bytes([c0, c1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let gso = match self.segmentation {
            Segmentation::None => GSO_NONE,
            Segmentation::Tcp4 => GSO_TCP4,
            Segmentation::Tcp6 => GSO_TCP6,
            Segmentation::Udp => GSO_UDP,
        };
        let flags = if self.needs_checksum { NEEDS_CHECKSUM } else { 0 };
        let ([l0, l1], [s0, s1]) = (self.header_length.to_ne_bytes(), self.segment_size.to_ne_bytes());
        let ([c0, c1], [o0, o1]) = (self.checksum_start.to_ne_bytes(), self.checksum_offset.to_ne_bytes());
        [flags, gso, l0, l1, s0, s1, c0, c1, o0, o1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes: [u8; LENGTH]) {
            if let Ok(header) = Header::parse(bytes) {
                prop_assert_eq!(Header::parse(header.to_bytes()), Ok(header));
            } else {
                prop_assert!(![0, 1, 4, 5].contains(&(bytes[1] & 0x7f)));
            }
        }
    }
}
