//! Questions that the gateway must answer, put into the tunnel below the operating system.
//!
//! The packets are made here and enter the engine as if they came from the TUN device; the answers are taken out before
//! they reach it. So a probe needs no route, no socket and no rule of the firewall, and proves the tunnel alone: it works
//! while the policy still admits no traffic, in IPv4 and IPv6.

use bytes::{BufMut, BytesMut};
use hamn_core::plan::TunnelPlan;
use ipnet::IpNet;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Addresses asked of each kind; a plan may name more.
const TARGETS_PER_KIND: usize = 3;
/// Below Linux's range of ephemeral ports (32768 to 60999), so that no socket of the host has it by chance.
const SOURCE_PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Questions whose answers are timed: those of the last seconds.
const TIMED: usize = 16;
const DNS_PORT: u16 = 53;
const HOP_LIMIT: u8 = 64;
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// The root's address record: every resolver answers it, most from its cache, and it tells nobody anything.
const QUESTION: [u8; 5] = [0, 0, 1, 0, 1];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Echo,
    Dns,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    kind: Kind,
    from: IpAddr,
    to: IpAddr,
}

/// When the newest questions were put, by their number, and the shortest wait for an answer to one of them.
#[derive(Debug, Default)]
struct Timing {
    put: VecDeque<(u16, Instant)>,
    shortest: Option<Duration>,
}

impl Timing {
    fn put(&mut self, sequence: u16, now: Instant) {
        if self.put.len() >= TIMED {
            self.put.pop_front();
        }
        self.put.push_back((sequence, now));
    }

    fn answered(&mut self, sequence: u16, now: Instant) {
        let Some((_, put)) = self.put.iter().find(|(known, _)| *known == sequence) else { return };
        let waited = now.saturating_duration_since(*put);
        self.shortest = Some(self.shortest.map_or(waited, |shortest| shortest.min(waited)));
    }
}

/// The questions of one tunnel.
#[derive(Debug)]
pub(crate) struct Probe {
    questions: Vec<Question>,
    id: u16,
    port: u16,
    sequence: AtomicU16,
    timing: Mutex<Timing>,
    answers: AtomicU64,
    /// Told of each answer.
    pub(crate) answered: Notify,
}

impl Probe {
    /// An echo to each gateway address and a DNS query to each resolver that the peer carries and that we have a source
    /// address for. `None` if there is nobody to ask: then a completed handshake is all there is to know.
    pub(crate) fn new(plan: &TunnelPlan) -> Option<Self> {
        let ask = |kind, addresses: &[IpAddr]| -> Vec<Question> {
            let carried = addresses.iter().filter(|to| plan.allowed_ips.iter().any(|net| net.contains(*to)));
            let questions = carried.filter_map(|to| {
                let from = plan.addresses.iter().map(IpNet::addr).find(|from| from.is_ipv4() == to.is_ipv4())?;
                Some(Question { kind, from, to: *to })
            });
            questions.take(TARGETS_PER_KIND).collect()
        };
        let mut questions = ask(Kind::Echo, &plan.gateway);
        questions.extend(ask(Kind::Dns, &plan.resolvers));
        if questions.is_empty() {
            return None;
        }
        Some(Self {
            questions,
            id: rand::random(),
            port: rand::random_range(SOURCE_PORTS),
            sequence: AtomicU16::new(0),
            timing: Mutex::default(),
            answers: AtomicU64::new(0),
            answered: Notify::new(),
        })
    }

    /// How many answers have come.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// One packet for each question.
    pub(crate) fn packets(&self) -> Vec<BytesMut> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.timing.lock().unwrap_or_else(PoisonError::into_inner).put(sequence, Instant::now());
        self.questions
            .iter()
            .map(|question| {
                let payload = match question.kind {
                    Kind::Echo => self.echo(question, sequence),
                    Kind::Dns => self.query(question),
                };
                ip_packet(question, &payload)
            })
            .collect()
    }

    /// True if the packet answers one of our questions; it is then of no interest to the host.
    pub(crate) fn take_answer(&self, packet: &[u8]) -> bool {
        let Some((from, protocol, payload)) = parse(packet) else { return false };
        let answers = match protocol {
            ICMP | ICMPV6 => self.asked(Kind::Echo, from) && self.is_echo_reply(protocol, payload),
            UDP => self.asked(Kind::Dns, from) && self.is_dns_answer(payload),
            _ => false,
        };
        if answers {
            // A question is put again before its answer can be there, and only an echo says to which it belongs.
            if let Some(sequence) = (protocol != UDP).then(|| read_u16(payload, 6)).flatten() {
                self.timing.lock().unwrap_or_else(PoisonError::into_inner).answered(sequence, Instant::now());
            }
            self.answers.fetch_add(1, Ordering::Relaxed);
            self.answered.notify_one();
        }
        answers
    }

    /// The shortest time from an echo request to its own answer, in milliseconds and at least 1. `None` until one came, and
    /// where only resolvers are asked.
    pub(crate) fn round_trip_ms(&self) -> Option<u32> {
        let shortest = self.timing.lock().unwrap_or_else(PoisonError::into_inner).shortest?;
        Some(u32::try_from(shortest.as_millis()).unwrap_or(u32::MAX).max(1))
    }

    fn asked(&self, kind: Kind, from: IpAddr) -> bool {
        self.questions.iter().any(|question| question.kind == kind && question.to == from)
    }

    fn is_echo_reply(&self, protocol: u8, payload: &[u8]) -> bool {
        let reply = if protocol == ICMP { 0 } else { 129 };
        payload.first() == Some(&reply) && read_u16(payload, 4) == Some(self.id)
    }

    /// A DNS answer (RFC 1035 section 4.1.1) to our question, whatever it says.
    fn is_dns_answer(&self, payload: &[u8]) -> bool {
        let Some(message) = payload.get(8..) else { return false };
        let is_response = read_u16(message, 2).is_some_and(|flags| flags & 0xf800 == 0x8000);
        let same_question = match read_u16(message, 4) {
            // An error may come without the question.
            Some(0) => read_u16(message, 2).is_some_and(|flags| flags & 0x000f != 0),
            Some(1) => message.get(12..).is_some_and(|rest| rest.starts_with(&QUESTION)),
            Some(_) | None => false,
        };
        read_u16(payload, 0) == Some(DNS_PORT)
            && read_u16(payload, 2) == Some(self.port)
            && read_u16(message, 0) == Some(self.id)
            && is_response
            && same_question
    }

    fn echo(&self, question: &Question, sequence: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(16);
        message.put_u8(if question.to.is_ipv4() { 8 } else { 128 });
        message.put_u8(0);
        message.put_u16(0);
        message.put_u16(self.id);
        message.put_u16(sequence);
        message.put_slice(b"hamn-ask");
        // ICMPv6 is checksummed with the addresses (RFC 4443 section 2.3), ICMP without (RFC 792).
        let sum = if question.to.is_ipv4() { checksum(0, &message) } else { transport_sum(question, ICMPV6, &message) };
        write_u16(&mut message, 2, sum);
        message
    }

    fn query(&self, question: &Question) -> Vec<u8> {
        const RECURSION_DESIRED: u16 = 0x0100;
        let mut message = Vec::with_capacity(32);
        message.put_u16(self.port);
        message.put_u16(DNS_PORT);
        message.put_u16(8 + 12 + 5);
        message.put_u16(0);
        message.put_u16(self.id);
        message.put_u16(RECURSION_DESIRED);
        message.put_u16(1);
        message.put_slice(&[0; 6]);
        message.put_slice(&QUESTION);
        let sum = transport_sum(question, UDP, &message);
        // 0 would mean "no checksum" (RFC 768).
        write_u16(&mut message, 6, if sum == 0 { 0xffff } else { sum });
        message
    }
}

fn ip_packet(question: &Question, payload: &[u8]) -> BytesMut {
    let mut packet = BytesMut::with_capacity(40 + payload.len());
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    match (question.from, question.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = Vec::with_capacity(20);
            header.put_slice(&[0x45, 0]);
            header.put_u16(length.saturating_add(20));
            header.put_slice(&[0, 0, 0x40, 0, HOP_LIMIT]);
            header.put_u8(if question.kind == Kind::Echo { ICMP } else { UDP });
            header.put_u16(0);
            header.put_slice(&from.octets());
            header.put_slice(&to.octets());
            let sum = checksum(0, &header);
            write_u16(&mut header, 10, sum);
            packet.put_slice(&header);
        }
        (from, to) => {
            packet.put_u32(0x6000_0000);
            packet.put_u16(length);
            packet.put_u8(if question.kind == Kind::Echo { ICMPV6 } else { UDP });
            packet.put_u8(HOP_LIMIT);
            packet.put_slice(&octets(from));
            packet.put_slice(&octets(to));
        }
    }
    packet.put_slice(payload);
    packet
}

/// Source address, protocol and payload of an unfragmented packet without extension headers.
fn parse(packet: &[u8]) -> Option<(IpAddr, u8, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            Some((IpAddr::from(from), *packet.get(9)?, packet.get(header..)?))
        }
        6 => {
            let from: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            Some((IpAddr::from(from), *packet.get(6)?, packet.get(40..)?))
        }
        _ => None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Checksum over the pseudo-header (RFC 768, RFC 8200 section 8.1) and the message.
fn transport_sum(question: &Question, protocol: u8, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut pseudo = [octets(question.from), octets(question.to)].concat();
    pseudo.put_u32(length);
    pseudo.put_u32(u32::from(protocol));
    checksum(u32::from(!checksum(0, &pseudo)), message)
}

/// The Internet checksum (RFC 1071) of `bytes`, going on from `sum`.
fn checksum(sum: u32, bytes: &[u8]) -> u16 {
    let mut sum = sum;
    for pair in bytes.chunks(2) {
        let high = pair.first().copied().unwrap_or(0);
        let low = pair.get(1).copied().unwrap_or(0);
        sum = sum.wrapping_add(u32::from(u16::from_be_bytes([high, low])));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(u16::from_be_bytes(pair))
}

fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(2)) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamn_core::key::PublicKey;
    use hamn_core::plan::{KeySource, Place};

    fn plan() -> TunnelPlan {
        TunnelPlan {
            place: Place::default(),
            endpoints: vec![],
            peer: PublicKey::new([9; 32]).unwrap(),
            key: KeySource::Device,
            has_preshared_key: false,
            addresses: vec!["10.64.0.2/32".parse().unwrap(), "fd00::2/128".parse().unwrap()],
            allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            resolvers: vec!["10.64.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            gateway: vec!["10.64.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            mtu: 1420,
            keepalive_s: None,
        }
    }

    /// Turns a question into its answer.
    fn answer(question: &[u8]) -> Vec<u8> {
        let mut reply = question.to_vec();
        let (source, target, start) = if question[0] >> 4 == 4 { (12..16, 16..20, 20) } else { (8..24, 24..40, 40) };
        reply[source.clone()].copy_from_slice(&question[target.clone()]);
        reply[target].copy_from_slice(&question[source]);
        match question[if start == 20 { 9 } else { 6 }] {
            ICMP => reply[start] = 0,
            ICMPV6 => reply[start] = 129,
            _ => {
                reply[start..start + 2].copy_from_slice(&question[start + 2..start + 4]);
                reply[start + 2..start + 4].copy_from_slice(&question[start..start + 2]);
                reply[start + 10] |= 0x80;
            }
        }
        reply
    }

    #[test]
    fn every_question_has_a_valid_checksum_and_its_answer_is_taken() {
        let probe = Probe::new(&plan()).unwrap();
        let packets = probe.packets();
        assert_eq!(packets.len(), 4);
        for packet in packets {
            let (from, protocol, payload) = parse(&packet).unwrap();
            let to = if from.is_ipv4() {
                assert_eq!(checksum(0, &packet[..20]), 0);
                IpAddr::from(<[u8; 4]>::try_from(&packet[16..20]).unwrap())
            } else {
                IpAddr::from(<[u8; 16]>::try_from(&packet[24..40]).unwrap())
            };
            let question = Question { kind: Kind::Dns, from, to };
            let sum = if protocol == ICMP { checksum(0, payload) } else { transport_sum(&question, protocol, payload) };
            assert_eq!(sum, 0, "protocol {protocol}");
            assert!(!probe.take_answer(&packet), "a question is no answer");
            assert!(probe.take_answer(&answer(&packet)), "protocol {protocol}");
        }
    }

    #[test]
    fn answers_to_others_and_broken_ones_reach_the_host() {
        let probe = Probe::new(&plan()).unwrap();
        for packet in probe.packets() {
            let reply = answer(&packet);
            for length in 0..reply.len() {
                if probe.take_answer(&reply[..length]) {
                    assert!(length >= 26, "{length} bytes are no answer");
                }
            }
            for bit in 0..8 * reply.len() {
                let mut other = reply.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                // No panic, whatever arrives.
                let _ = probe.take_answer(&other);
            }
            let mut other_id = reply.clone();
            let (at, protocol) = if packet[0] >> 4 == 4 { (20, packet[9]) } else { (40, packet[6]) };
            let id_at = if protocol == UDP { at + 8 } else { at + 4 };
            other_id[id_at] ^= 1;
            assert!(!probe.take_answer(&other_id));
        }
    }

    #[test]
    fn an_answer_is_timed_from_its_own_question_and_not_from_the_newest() {
        let probe = Probe::new(&plan()).unwrap();
        let first = probe.packets();
        assert_eq!(probe.round_trip_ms(), None);
        std::thread::sleep(Duration::from_millis(60));
        probe.packets();
        for packet in &first {
            assert!(probe.take_answer(&answer(packet)));
        }
        let waited = probe.round_trip_ms().unwrap();
        assert!((60..10_000).contains(&waited), "{waited}");
        for _ in 0..TIMED {
            probe.packets();
        }
        let mut timing = Timing::default();
        let start = Instant::now();
        for sequence in 0..100 {
            timing.put(sequence, start);
        }
        timing.answered(3, start);
        assert_eq!((timing.put.len(), timing.shortest), (TIMED, None), "too old to be known");
        timing.answered(99, start + Duration::from_millis(7));
        timing.answered(98, start + Duration::from_millis(9));
        assert_eq!(timing.shortest, Some(Duration::from_millis(7)));
    }

    #[test]
    fn only_what_the_peer_carries_is_asked() {
        let mut narrow = plan();
        narrow.allowed_ips = vec!["10.64.0.0/24".parse().unwrap()];
        assert_eq!(Probe::new(&narrow).unwrap().packets().len(), 2);
        narrow.addresses = vec!["fd00::2/128".parse().unwrap()];
        assert!(Probe::new(&narrow).is_none(), "no source address of that family");
        let mut nobody = plan();
        nobody.gateway.clear();
        nobody.resolvers.clear();
        assert!(Probe::new(&nobody).is_none());
    }
}
