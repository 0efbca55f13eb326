//! Joins consecutive segments of a flow into super-packets for the TUN device.
//!
//! Packets leave in the order in which the first of each super-packet came, and a packet that cannot be joined closes its
//! flow, so that nothing is overtaken inside a flow. Only packets are joined that the kernel, were it to cut the result
//! again, would cut into the same packets: same addresses, ports, TTL, traffic class, acknowledgement, window and options,
//! consecutive numbers, checksums right. A mark of congestion on one packet therefore stays on that one.

use crate::checksum::{Sum, pseudo_header};
use crate::packet::{IPV4_HEADER, IPV6_HEADER, TCP, UDP, be16, be32, put_be16, seal_ipv4, version};
use crate::virtio::{Header, Segmentation};

/// Packets in one super-packet, at most: the kernel's bound for UDP (`UDP_MAX_SEGMENTS` of kernels before 6.9).
pub const PIECES: usize = 64;
/// Flows that are joined at the same time. More displace one another, which costs speed and nothing else.
const FLOWS: usize = 256;
/// IPv6 and TCP with all options.
const HEADERS: usize = IPV6_HEADER + 60;
const LONGEST: usize = 65_535;
const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

/// Which super-packets the device takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// TCP over both families.
    pub tcp: bool,
    /// UDP over both families.
    pub udp: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key {
    addresses: [u8; 32],
    ports: u32,
    v6: bool,
    udp: bool,
}

/// A packet of a flow, as far as its headers tell.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    key: Key,
    transport_at: usize,
    payload_at: usize,
    length: usize,
    sequence: u32,
    /// It may begin a super-packet, or be joined to one.
    mergeable: bool,
    /// Nothing may follow it.
    last: bool,
}

impl Candidate {
    const fn payload(&self) -> usize {
        self.length.saturating_sub(self.payload_at)
    }
}

/// What a packet means for the flows under way.
enum Parsed {
    Flow(Candidate),
    /// No flow that is ever joined.
    Other,
    /// Possibly part of any flow: all are closed.
    Unknown,
}

#[derive(Debug)]
struct Node<B> {
    packet: B,
    payload_at: usize,
    next: Option<usize>,
}

#[derive(Debug)]
struct Train {
    key: Key,
    head: usize,
    tail: usize,
    pieces: usize,
    transport_at: usize,
    payload_at: usize,
    size: usize,
    length: usize,
    next_sequence: u32,
    identification: u16,
    fixed_identification: bool,
    last_flags: u8,
    verified: bool,
    open: bool,
    headers: [u8; HEADERS],
}

/// Collects packets, then gives them back as super-packets. All memory is kept for the next round.
#[derive(Debug)]
pub struct Merger<B> {
    accepts: Accepts,
    nodes: Vec<Node<B>>,
    trains: Vec<Train>,
    open: Box<[Option<usize>; FLOWS]>,
    any_open: bool,
}

impl<B: AsRef<[u8]>> Merger<B> {
    /// An empty collection.
    #[must_use]
    pub fn new(accepts: Accepts) -> Self {
        Self { accepts, nodes: Vec::new(), trains: Vec::new(), open: Box::new([None; FLOWS]), any_open: false }
    }

    /// Changes what the device takes, from the next round on.
    pub const fn set_accepts(&mut self, accepts: Accepts) {
        self.accepts = accepts;
    }

    /// Packets in the collection.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Nothing was collected.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a packet: exactly one IP packet, without padding.
    pub fn push(&mut self, packet: B) {
        let bytes = packet.as_ref();
        let candidate = match parse(bytes, self.accepts) {
            Parsed::Flow(candidate) => candidate,
            Parsed::Other => return self.alone(packet),
            Parsed::Unknown => {
                self.close_all();
                return self.alone(packet);
            }
        };
        let bucket = bucket(&candidate.key);
        let train = self.open.get(bucket).copied().flatten();
        if let Some(train) = train
            && self.joins(train, bytes, &candidate)
        {
            return self.join(train, packet, &candidate);
        }
        let opens = candidate.mergeable && !candidate.last;
        if let Some(place) = self.open.get_mut(bucket) {
            *place = opens.then_some(self.trains.len());
        }
        self.any_open |= opens;
        let identification = be16(bytes, 4).unwrap_or(0);
        self.trains.push(Train {
            key: candidate.key,
            head: self.nodes.len(),
            tail: self.nodes.len(),
            pieces: 1,
            transport_at: candidate.transport_at,
            payload_at: candidate.payload_at,
            size: candidate.payload(),
            length: candidate.length,
            next_sequence: candidate.sequence.wrapping_add(u32::try_from(candidate.payload()).unwrap_or(0)),
            identification,
            fixed_identification: false,
            last_flags: 0,
            verified: false,
            open: opens,
            headers: [0; HEADERS],
        });
        self.nodes.push(Node { packet, payload_at: candidate.payload_at, next: None });
    }

    /// The super-packets, in order. Call it once all packets are in.
    pub fn trains(&mut self) -> impl Iterator<Item = Joined<'_, B>> {
        for train in &mut self.trains {
            if train.pieces > 1
                && let Some(first) = self.nodes.get(train.head)
            {
                write_headers(train, first.packet.as_ref());
            }
        }
        let nodes = &self.nodes;
        self.trains.iter().map(move |train| Joined { nodes, train })
    }

    /// Drops the packets.
    pub fn clear(&mut self) {
        self.nodes.clear();
        self.trains.clear();
        self.close_all();
    }

    fn close_all(&mut self) {
        if self.any_open {
            self.open.fill(None);
            self.any_open = false;
        }
    }

    fn alone(&mut self, packet: B) {
        let place = self.nodes.len();
        self.trains.push(Train {
            key: Key::default(),
            head: place,
            tail: place,
            pieces: 1,
            transport_at: 0,
            payload_at: 0,
            size: 0,
            length: packet.as_ref().len(),
            next_sequence: 0,
            identification: 0,
            fixed_identification: false,
            last_flags: 0,
            verified: false,
            open: false,
            headers: [0; HEADERS],
        });
        self.nodes.push(Node { packet, payload_at: 0, next: None });
    }

    /// Whether the packet continues the train. Verifies the train's first packet when a second one comes.
    fn joins(&mut self, train: usize, bytes: &[u8], candidate: &Candidate) -> bool {
        let Some(train) = self.trains.get_mut(train) else { return false };
        let Some(first) = self.nodes.get(train.head).map(|node| node.packet.as_ref()) else { return false };
        let payload = candidate.payload();
        let fits = train.open
            && train.key == candidate.key
            && candidate.mergeable
            && train.payload_at == candidate.payload_at
            && payload <= train.size
            && train.pieces < PIECES
            && train.length + payload <= LONGEST
            && (train.key.udp || train.next_sequence == candidate.sequence)
            && same_headers(first, bytes, candidate)
            && identification_continues(train, bytes);
        if !fits {
            return false;
        }
        if !train.verified {
            train.verified = verify(first, train.transport_at, train.key.udp);
        }
        train.verified && verify(bytes, candidate.transport_at, candidate.key.udp)
    }

    fn join(&mut self, train: usize, packet: B, candidate: &Candidate) {
        let place = self.nodes.len();
        let Some(train) = self.trains.get_mut(train) else { return };
        let bytes = packet.as_ref();
        if !train.key.v6 && train.pieces == 1 {
            train.fixed_identification = be16(bytes, 4) == Some(train.identification);
        }
        train.identification = be16(bytes, 4).unwrap_or(0);
        train.last_flags = bytes.get(candidate.transport_at + 13).copied().unwrap_or(0);
        let payload = candidate.payload();
        train.pieces += 1;
        train.length += payload;
        train.next_sequence = train.next_sequence.wrapping_add(u32::try_from(payload).unwrap_or(0));
        if let Some(tail) = self.nodes.get_mut(train.tail) {
            tail.next = Some(place);
        }
        train.tail = place;
        if candidate.last || payload < train.size || train.pieces == PIECES {
            train.open = false;
        }
        self.nodes.push(Node { packet, payload_at: candidate.payload_at, next: None });
    }
}

/// One super-packet, or one packet.
#[derive(Debug)]
pub struct Joined<'m, B> {
    nodes: &'m [Node<B>],
    train: &'m Train,
}

impl<B: AsRef<[u8]>> Joined<'_, B> {
    /// How many packets it stands for.
    #[must_use]
    pub const fn pieces(&self) -> usize {
        self.train.pieces
    }

    /// Bytes of the frame, without the virtio header.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.train.length
    }

    /// What to tell the device.
    #[must_use]
    pub fn virtio(&self) -> Header {
        let train = self.train;
        if train.pieces < 2 {
            return Header::default();
        }
        Header {
            needs_checksum: true,
            segmentation: match (train.key.udp, train.key.v6) {
                (true, _) => Segmentation::Udp,
                (false, true) => Segmentation::Tcp6,
                (false, false) => Segmentation::Tcp4,
            },
            header_length: u16::try_from(train.payload_at).unwrap_or(0),
            segment_size: u16::try_from(train.size).unwrap_or(0),
            checksum_start: u16::try_from(train.transport_at).unwrap_or(0),
            checksum_offset: if train.key.udp { 6 } else { 16 },
        }
    }

    /// The common headers; empty for a packet that stayed alone.
    #[must_use]
    pub fn headers(&self) -> &[u8] {
        let length = if self.train.pieces < 2 { 0 } else { self.train.payload_at };
        self.train.headers.get(..length).unwrap_or_default()
    }

    /// What follows the headers, piece by piece.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let alone = self.train.pieces < 2;
        self.walk().map(move |node| node.packet.as_ref().get(if alone { 0 } else { node.payload_at }..).unwrap_or_default())
    }

    /// The packets as they came.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.walk().map(|node| node.packet.as_ref())
    }

    fn walk(&self) -> impl Iterator<Item = &Node<B>> {
        std::iter::successors(self.nodes.get(self.train.head), |node| self.nodes.get(node.next?))
    }
}

/// Reads a packet's flow. Its length was checked by whoever made it.
fn parse(bytes: &[u8], accepts: Accepts) -> Parsed {
    let (transport_at, protocol, addresses) = match version(bytes) {
        Some(4) => {
            let fragment = be16(bytes, 6).unwrap_or(u16::MAX) & 0x3fff != 0;
            let protocol = bytes.get(9).copied().unwrap_or(0);
            if protocol != TCP && protocol != UDP {
                return Parsed::Other;
            }
            if bytes.first() != Some(&0x45) || fragment {
                return Parsed::Unknown;
            }
            (IPV4_HEADER, protocol, bytes.get(12..IPV4_HEADER))
        }
        Some(6) => (IPV6_HEADER, bytes.get(6).copied().unwrap_or(0), bytes.get(8..IPV6_HEADER)),
        _ => return Parsed::Other,
    };
    match protocol {
        TCP if accepts.tcp => {}
        UDP if accepts.udp => {}
        TCP | UDP => return Parsed::Other,
        // ICMPv6 and "no next header" are never joined; every other header of IPv6 may hide a flow.
        58 | 59 => return Parsed::Other,
        _ => return Parsed::Unknown,
    }
    let (Some(addresses), Some(ports)) = (addresses, be32(bytes, transport_at)) else { return Parsed::Unknown };
    #[cfg(test)]
    let ports = crate::faults::ports(ports);
    let mut key = Key { addresses: [0; 32], ports, v6: transport_at == IPV6_HEADER, udp: protocol == UDP };
    for (place, byte) in key.addresses.iter_mut().zip(addresses) {
        *place = *byte;
    }
    let candidate = if key.udp { parse_udp(bytes, transport_at, key) } else { parse_tcp(bytes, transport_at, key) };
    candidate.map_or(Parsed::Unknown, Parsed::Flow)
}

fn parse_tcp(bytes: &[u8], at: usize, key: Key) -> Option<Candidate> {
    let header = usize::from(bytes.get(at + 12)? >> 4) * 4;
    let flags = *bytes.get(at + 13)?;
    let payload_at = at + header;
    if header < 20 || payload_at > bytes.len() {
        return None;
    }
    let plain = flags & !TCP_PSH == TCP_ACK && *bytes.get(at + 12)? & 0xf == 0 && be16(bytes, at + 18)? == 0;
    Some(Candidate {
        key,
        transport_at: at,
        payload_at,
        length: bytes.len(),
        sequence: be32(bytes, at + 4)?,
        mergeable: plain && payload_at < bytes.len(),
        last: flags & TCP_PSH != 0,
    })
}

fn parse_udp(bytes: &[u8], at: usize, key: Key) -> Option<Candidate> {
    let payload_at = at + 8;
    if payload_at > bytes.len() {
        return None;
    }
    let exact = usize::from(be16(bytes, at + 4)?) == bytes.len() - at;
    let mergeable = exact && payload_at < bytes.len() && be16(bytes, at + 6)? != 0;
    Some(Candidate { key, transport_at: at, payload_at, length: bytes.len(), sequence: 0, mergeable, last: false })
}

/// Everything but lengths, numbers, checksums and PSH must be equal.
fn same_headers(first: &[u8], other: &[u8], candidate: &Candidate) -> bool {
    let same = |from: usize, to: usize| first.get(from..to) == other.get(from..to);
    let ip = if candidate.key.v6 {
        // Version, class, flow label; next header, hop limit.
        same(0, 4) && same(6, 8)
    } else {
        // Version, header length, class; flags, TTL, protocol.
        same(0, 2) && same(6, 10)
    };
    let at = candidate.transport_at;
    // Acknowledgement, header length; window; options. The flags are ACK and perhaps PSH.
    ip && (candidate.key.udp || same(at + 8, at + 13) && same(at + 14, at + 16) && same(at + 20, candidate.payload_at))
}

/// Whether the IPv4 identification goes on as the kernel would write it: by one. A packet that must not be fragmented
/// needs none (RFC 6864), so all may have the same.
fn identification_continues(train: &Train, bytes: &[u8]) -> bool {
    if train.key.v6 {
        return true;
    }
    let Some(identification) = be16(bytes, 4) else { return false };
    let unfragmented = be16(bytes, 6).is_some_and(|flags| flags & 0x4000 != 0);
    let counts = identification == train.identification.wrapping_add(1);
    let fixed = unfragmented && identification == train.identification;
    if train.pieces == 1 {
        counts || fixed
    } else if train.fixed_identification {
        fixed
    } else {
        counts
    }
}

/// Both checksums are right. The super-packet carries none that would show an error, so an error must not get in.
fn verify(bytes: &[u8], transport_at: usize, udp: bool) -> bool {
    let addresses = if transport_at == IPV4_HEADER {
        let header = bytes.get(..IPV4_HEADER).unwrap_or_default();
        if Sum::default().over(header).fold() != 0xffff {
            return false;
        }
        bytes.get(12..IPV4_HEADER)
    } else {
        bytes.get(8..IPV6_HEADER)
    };
    let (Some(addresses), Some(transport)) = (addresses, bytes.get(transport_at..)) else { return false };
    let Ok(length) = u16::try_from(transport.len()) else { return false };
    pseudo_header(addresses, if udp { UDP } else { TCP }, length).over(transport).fold() == 0xffff
}

/// The headers of the whole: the first packet's, with the length of all, the last one's PSH and a partial checksum.
fn write_headers(train: &mut Train, first: &[u8]) {
    let (at, payload_at) = (train.transport_at, train.payload_at);
    let (Some(headers), Some(source)) = (train.headers.get_mut(..payload_at), first.get(..payload_at)) else { return };
    headers.copy_from_slice(source);
    let length = u16::try_from(train.length).unwrap_or(u16::MAX);
    let transport_length = u16::try_from(train.length - at).unwrap_or(u16::MAX);
    let addresses = if train.key.v6 {
        put_be16(headers, 4, transport_length);
        first.get(8..IPV6_HEADER)
    } else {
        put_be16(headers, 2, length);
        seal_ipv4(headers);
        first.get(12..IPV4_HEADER)
    };
    let pseudo = |protocol| pseudo_header(addresses.unwrap_or_default(), protocol, transport_length).fold();
    if train.key.udp {
        put_be16(headers, at + 4, transport_length);
        put_be16(headers, at + 6, pseudo(UDP));
    } else {
        if let Some(flags) = headers.get_mut(at + 13) {
            *flags |= train.last_flags & TCP_PSH;
        }
        put_be16(headers, at + 16, pseudo(TCP));
    }
}

fn bucket(key: &Key) -> usize {
    // Spread only: whoever makes flows collide slows down their own.
    let (words, _) = key.addresses.as_chunks::<4>();
    let mix = |sum: u32, word: u32| (sum ^ word).wrapping_mul(0x9e37_79b1).rotate_left(15);
    let sum = words.iter().fold(key.ports, |sum, word| mix(sum, u32::from_ne_bytes(*word)));
    usize::from(mix(sum, u32::from(key.udp)).to_le_bytes()[3]) % FLOWS
}
