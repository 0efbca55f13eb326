//! Cuts a super-packet that the TUN device hands over into the packets that it stands for, with full checksums.
//!
//! Pure. What a device delivers is checked as if it were hostile: a frame that contradicts its virtio header is refused.

use crate::checksum::Sum;
use crate::packet::{IPV4_HEADER, IPV6_HEADER, be16, be32, put_be16, put_be32, seal_ipv4, version};
use crate::virtio::{Header, Segmentation};

/// Bytes of the longest chain of headers that is cut: IPv6 with extensions and TCP with all options.
const HEADERS: usize = 256;
const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const UDP_HEADER: usize = 8;
const TCP_FIN_PSH: u8 = 0x09;
const TCP_CWR: u8 = 0x80;

/// Why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Not a whole IP packet, or of another version than the virtio header says.
    #[error("the frame is not the IP packet that its virtio header announces")]
    NotTheAnnouncedPacket,
    /// A header ends outside the frame or is longer than headers are.
    #[error("the headers do not fit")]
    Headers,
    /// A super-packet without a segment size.
    #[error("segments of no bytes")]
    SegmentSize,
    /// The checksum is to be completed where no checksum stands.
    #[error("the checksum stands elsewhere")]
    Checksum,
}

/// One packet, in two parts.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'s> {
    /// All headers, complete.
    pub header: &'s [u8],
    /// What follows.
    pub payload: &'s [u8],
}

impl Segment<'_> {
    /// Bytes of the packet.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.header.len().saturating_add(self.payload.len())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
    /// Not cut: the one packet is complete, or becomes so with its checksum at this place.
    Whole(Option<usize>),
}

/// A frame that is being cut. Take packets with [`Split::next_segment`] until there are none.
#[derive(Debug)]
pub struct Split<'f> {
    transport: Transport,
    headers: [u8; HEADERS],
    header_length: usize,
    /// Where the transport header begins.
    transport_at: usize,
    payload: &'f [u8],
    size: usize,
    /// Sum over the pseudo header without its length; `None` if the checksum is not used (UDP over IPv4).
    pseudo: Option<Sum>,
    sequence: u32,
    identification: u16,
    flags: u8,
    index: u16,
    done: bool,
}

impl<'f> Split<'f> {
    /// Checks the frame that follows the virtio header.
    ///
    /// # Errors
    /// If the frame contradicts itself. Nothing of it may be sent then.
    pub fn new(header: &Header, frame: &'f [u8]) -> Result<Self, SplitError> {
        let version = version(frame).ok_or(SplitError::NotTheAnnouncedPacket)?;
        let transport = match (header.segmentation, version) {
            (Segmentation::None, _) => return Self::whole(header, frame),
            (Segmentation::Tcp4, 4) | (Segmentation::Tcp6, 6) => Transport::Tcp,
            (Segmentation::Udp, 4 | 6) => Transport::Udp,
            (Segmentation::Tcp4 | Segmentation::Tcp6 | Segmentation::Udp, _) => return Err(SplitError::NotTheAnnouncedPacket),
        };
        if crate::packet::length(frame) != Some(frame.len()) {
            return Err(SplitError::NotTheAnnouncedPacket);
        }
        let shortest = if version == 4 { ipv4_header(frame)? } else { IPV6_HEADER };
        let transport_at = if header.needs_checksum { usize::from(header.checksum_start) } else { shortest };
        if transport_at < shortest || (version == 4 && transport_at != shortest) {
            return Err(SplitError::Headers);
        }
        let transport_length = match transport {
            Transport::Tcp => tcp_header(frame, transport_at)?,
            Transport::Udp | Transport::Whole(_) => UDP_HEADER,
        };
        let (headers, payload) = frame.split_at_checked(transport_at + transport_length).ok_or(SplitError::Headers)?;
        let mut split = Self {
            transport,
            headers: [0; HEADERS],
            header_length: headers.len(),
            transport_at,
            payload,
            size: usize::from(header.segment_size),
            pseudo: None,
            sequence: 0,
            identification: be16(frame, 4).unwrap_or(0),
            flags: 0,
            index: 0,
            done: false,
        };
        split.headers.get_mut(..headers.len()).ok_or(SplitError::Headers)?.copy_from_slice(headers);
        if split.size == 0 {
            return Err(SplitError::SegmentSize);
        }
        split.read_transport(header, frame)?;
        Ok(split)
    }

    /// A frame of one packet. Headers up to the checksum are copied, so that it can be completed.
    fn whole(header: &Header, frame: &'f [u8]) -> Result<Self, SplitError> {
        let at = usize::from(header.checksum_start) + usize::from(header.checksum_offset);
        let (transport, header_length, pseudo) = if header.needs_checksum {
            let summed = frame.get(usize::from(header.checksum_start)..).ok_or(SplitError::Checksum)?;
            // The field is the sum of the pseudo header, so the sum over everything is the sum of the whole.
            (Transport::Whole(Some(at)), at + 2, Some(Sum::default().over(summed)))
        } else {
            (Transport::Whole(None), 0, None)
        };
        if header_length > HEADERS || at & 1 != 0 && header.needs_checksum {
            return Err(SplitError::Checksum);
        }
        let (copied, payload) = frame.split_at_checked(header_length).ok_or(SplitError::Checksum)?;
        let mut headers = [0; HEADERS];
        headers.get_mut(..header_length).ok_or(SplitError::Headers)?.copy_from_slice(copied);
        let transport_at = usize::from(header.checksum_start);
        Ok(Self {
            transport,
            headers,
            header_length,
            transport_at,
            payload,
            size: payload.len().max(1),
            pseudo,
            sequence: 0,
            identification: 0,
            flags: 0,
            index: 0,
            done: false,
        })
    }

    /// Takes from the transport header what differs between segments.
    fn read_transport(&mut self, header: &Header, frame: &[u8]) -> Result<(), SplitError> {
        let checksum_at = match self.transport {
            Transport::Tcp => TCP_CHECKSUM_AT,
            Transport::Udp | Transport::Whole(_) => UDP_CHECKSUM_AT,
        };
        let partial = be16(frame, self.transport_at + checksum_at).ok_or(SplitError::Headers)?;
        if header.needs_checksum {
            if usize::from(header.checksum_offset) != checksum_at {
                return Err(SplitError::Checksum);
            }
            // The kernel summed the pseudo header (with the final destination, should there be a routing header) with the
            // length of the super-packet.
            let length = frame.len() - self.transport_at;
            let length = u16::try_from(length).map_err(|_| SplitError::NotTheAnnouncedPacket)?;
            self.pseudo = Some(Sum::default().add_u16(partial).subtract_u16(length));
        } else if self.transport == Transport::Tcp || partial != 0 || version(frame) != Some(4) {
            return Err(SplitError::Checksum);
        }
        if self.transport == Transport::Tcp {
            self.sequence = be32(frame, self.transport_at + 4).ok_or(SplitError::Headers)?;
            self.flags = frame.get(self.transport_at + 13).copied().ok_or(SplitError::Headers)?;
        }
        Ok(())
    }

    /// How many packets are left, at most.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        if self.done {
            return 0;
        }
        let left = self.payload.len().div_ceil(self.size);
        if left == 0 { 1 } else { left }
    }

    /// The longest packet, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.header_length + self.size.min(self.payload.len())
    }

    /// The next packet.
    pub fn next_segment(&mut self) -> Option<Segment<'_>> {
        if self.done {
            return None;
        }
        let (payload, rest) = self.payload.split_at_checked(self.size).unwrap_or((self.payload, &[]));
        self.payload = rest;
        self.done = rest.is_empty();
        match self.transport {
            Transport::Whole(None) => {}
            Transport::Whole(Some(at)) => put_be16(&mut self.headers, at, not_zero(self.pseudo.unwrap_or_default().finish())),
            Transport::Tcp | Transport::Udp => self.write_headers(payload),
        }
        self.index = self.index.wrapping_add(1);
        let header = self.headers.get(..self.header_length).unwrap_or_default();
        Some(Segment { header, payload })
    }

    fn write_headers(&mut self, payload: &[u8]) {
        let (at, index) = (self.transport_at, self.index);
        let checksum_at = at + if self.transport == Transport::Tcp { TCP_CHECKSUM_AT } else { UDP_CHECKSUM_AT };
        let Some(headers) = self.headers.get_mut(..self.header_length) else { return };
        // All fit: the super-packet itself is not longer than 65535 bytes.
        let ip_length = u16::try_from(headers.len() + payload.len()).unwrap_or(u16::MAX);
        let transport_length = u16::try_from(headers.len() + payload.len() - at).unwrap_or(u16::MAX);
        #[cfg(test)]
        let ip_length = crate::faults::length(ip_length);
        if version(headers) == Some(4) {
            put_be16(headers, 2, ip_length);
            put_be16(headers, 4, self.identification.wrapping_add(index));
            seal_ipv4(headers);
        } else {
            put_be16(headers, 4, ip_length.saturating_sub(40));
        }
        if self.transport == Transport::Tcp {
            let before = u32::from(index).wrapping_mul(u32::try_from(self.size).unwrap_or(0));
            put_be32(headers, at + 4, self.sequence.wrapping_add(before));
            let mut flags = self.flags;
            if index > 0 {
                flags &= !TCP_CWR;
            }
            if !self.done {
                flags &= !TCP_FIN_PSH;
            }
            if let Some(place) = headers.get_mut(at + 13) {
                *place = flags;
            }
        } else {
            put_be16(headers, at + 4, transport_length);
        }
        put_be16(headers, checksum_at, 0);
        if let Some(pseudo) = self.pseudo {
            let sum = pseudo.add_u16(transport_length).over(headers.get(at..).unwrap_or_default()).over(payload);
            let checksum = not_zero(sum.finish());
            #[cfg(test)]
            let checksum = crate::faults::checksum(checksum, index);
            put_be16(headers, checksum_at, checksum);
        }
    }
}

/// No checksum is zero: in UDP that means "none" (RFC 768), in TCP both zeros are right.
const fn not_zero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

fn ipv4_header(frame: &[u8]) -> Result<usize, SplitError> {
    let length = frame.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
    if length < IPV4_HEADER || frame.len() < length { Err(SplitError::Headers) } else { Ok(length) }
}

fn tcp_header(frame: &[u8], at: usize) -> Result<usize, SplitError> {
    let length = frame.get(at + 12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    if length < 20 { Err(SplitError::Headers) } else { Ok(length) }
}
