//! Property tests of splitting and merging against a naive path that builds and checks one packet at a time.

use crate::faults::{Fault, seed};
use crate::merge::{Accepts, Merger};
use crate::split::Split;
use crate::virtio::{Header, Segmentation};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

const ALL: Accepts = Accepts { tcp: true, udp: true };

/// A packet as a table of its fields.
#[derive(Clone, Debug)]
struct Spec {
    v6: bool,
    udp: bool,
    host: u8,
    ports: (u16, u16),
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    urgent: u16,
    options: Vec<u8>,
    identification: u16,
    fragment: u16,
    ttl: u8,
    class: u8,
    payload: Vec<u8>,
}

fn naive_sum(bytes: &[u8], mut sum: u32) -> u32 {
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

impl Spec {
    fn tcp(payload: Vec<u8>) -> Self {
        Self {
            v6: false,
            udp: false,
            host: 1,
            ports: (40_000, 443),
            sequence: 1_000,
            acknowledgement: 77,
            flags: 0x10,
            window: 512,
            urgent: 0,
            options: vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7],
            identification: 9,
            fragment: 0x4000,
            ttl: 64,
            class: 0,
            payload,
        }
    }

    fn addresses(&self) -> Vec<u8> {
        let mut addresses = vec![10; if self.v6 { 32 } else { 8 }];
        *addresses.last_mut().unwrap() = self.host;
        addresses
    }

    fn transport_header(&self, length: usize) -> Vec<u8> {
        let mut bytes = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        if self.udp {
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            bytes.extend([0, 0]);
        } else {
            bytes.extend(self.sequence.to_be_bytes());
            bytes.extend(self.acknowledgement.to_be_bytes());
            bytes.extend([u8::try_from((20 + self.options.len()) << 2).unwrap(), self.flags]);
            bytes.extend(self.window.to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(self.urgent.to_be_bytes());
            bytes.extend(&self.options);
        }
        bytes
    }

    /// With `partial`, the transport checksum is the sum of the pseudo header, as the kernel leaves it.
    fn build(&self, partial: bool) -> Vec<u8> {
        let length = self.payload.len() + if self.udp { 8 } else { 20 + self.options.len() };
        let mut transport = self.transport_header(length);
        transport.extend(&self.payload);
        let protocol = if self.udp { 17 } else { 6 };
        let pseudo = naive_sum(&self.addresses(), u32::try_from(length).unwrap() + protocol);
        let sum = if partial { naive_sum(&[], pseudo) } else { !naive_sum(&transport, pseudo) & 0xffff };
        let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        let at = if self.udp { 6 } else { 16 };
        let sum = if sum == 0 && !partial { 0xffff } else { sum };
        transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut packet = Vec::new();
        if self.v6 {
            packet.extend([0x60 | self.class >> 4, self.class << 4, 0, 5]);
            packet.extend(u16::try_from(length).unwrap().to_be_bytes());
            packet.extend([u8::try_from(protocol).unwrap(), self.ttl]);
            packet.extend(self.addresses());
        } else {
            packet.extend([0x45, self.class]);
            packet.extend(u16::try_from(length + 20).unwrap().to_be_bytes());
            packet.extend(self.identification.to_be_bytes());
            packet.extend(self.fragment.to_be_bytes());
            packet.extend([self.ttl, u8::try_from(protocol).unwrap(), 0, 0]);
            packet.extend(self.addresses());
            let sum = u16::try_from(!naive_sum(&packet, 0) & 0xffff).unwrap();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        packet.extend(transport);
        packet
    }

    /// The segments of this super-packet, one at a time.
    fn cut(&self, size: usize) -> Vec<Vec<u8>> {
        let count = self.payload.chunks(size).len();
        let pieces = self.payload.chunks(size).enumerate();
        let pieces = pieces.map(|(index, payload)| {
            let mut piece = self.clone();
            piece.payload = payload.to_vec();
            piece.sequence = self.sequence.wrapping_add(u32::try_from(index * size).unwrap());
            piece.identification = self.identification.wrapping_add(u16::try_from(index).unwrap());
            if index > 0 {
                piece.flags &= !0x80;
            }
            if index + 1 < count {
                piece.flags &= !0x09;
            }
            piece.build(false)
        });
        pieces.collect()
    }

    fn virtio(&self, size: usize) -> Header {
        let transport_at = if self.v6 { 40 } else { 20 };
        Header {
            needs_checksum: true,
            segmentation: match (self.udp, self.v6) {
                (true, _) => Segmentation::Udp,
                (false, true) => Segmentation::Tcp6,
                (false, false) => Segmentation::Tcp4,
            },
            header_length: 0,
            segment_size: u16::try_from(size).unwrap(),
            checksum_start: transport_at,
            checksum_offset: if self.udp { 6 } else { 16 },
        }
    }
}

fn spec(payload: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Spec> {
    let words = proptest::collection::vec(any::<u8>(), 0..=10).prop_map(|bytes| bytes.repeat(4));
    let kind = (any::<bool>(), any::<bool>(), 1_u8..3, 0_u16..3, any::<u32>(), any::<u8>());
    (kind, any::<(u16, u16, u8)>(), words, payload).prop_map(|(kind, numbers, options, payload)| {
        let (v6, udp, host, port, sequence, flags) = kind;
        let (window, identification, class) = numbers;
        let spec = Spec::tcp(payload);
        Spec { v6, udp, host, ports: (40_000, 443 + port), sequence, flags, window, identification, class, options, ..spec }
    })
}

fn bytes(range: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), range)
}

fn split_all(header: &Header, frame: &[u8]) -> Vec<Vec<u8>> {
    let mut split = Split::new(header, frame).unwrap();
    let mut packets = Vec::new();
    let (expected, longest) = (split.remaining(), split.longest());
    while let Some(segment) = split.next_segment() {
        assert!(segment.length() <= longest);
        packets.push([segment.header, segment.payload].concat());
    }
    assert_eq!(packets.len(), expected);
    packets
}

/// What comes out after merging, and cutting again as the kernel would.
fn there_and_back(packets: &[Vec<u8>]) -> (Vec<Vec<u8>>, usize) {
    let mut merger = Merger::new(ALL);
    for packet in packets {
        merger.push(packet.clone());
    }
    let mut out = Vec::new();
    let mut joined = 0;
    for train in merger.trains() {
        let mut frame = train.headers().to_vec();
        train.payloads().for_each(|payload| frame.extend_from_slice(payload));
        assert_eq!(frame.len(), train.length());
        joined += train.pieces() - 1;
        out.extend(split_all(&train.virtio(), &frame));
    }
    (out, joined)
}

/// The packets of each flow in order; the identification of what must not be fragmented means nothing (RFC 6864).
fn by_flow(packets: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut flows: Vec<(Vec<u8>, Vec<Vec<u8>>)> = Vec::new();
    for packet in packets {
        let mut packet = packet.clone();
        let (proto, addresses, at) = if packet[0] >> 4 == 4 { (9, 12..20, 20) } else { (6, 8..40, 40) };
        let key = [&packet[proto..=proto], &packet[addresses], packet.get(at..at + 4).unwrap_or(&[])].concat();
        if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        match flows.iter_mut().find(|(other, _)| *other == key) {
            Some((_, list)) => list.push(packet),
            None => flows.push((key, vec![packet])),
        }
    }
    flows.sort();
    flows
}

/// Flows in many pieces, mixed with one another, some packets changed so that they must not be joined.
fn traffic() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let one = (spec(bytes(1..4_000)), 1_usize..1_500, any::<(u8, bool)>());
    let flows = proptest::collection::vec(one, 1..6);
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>());
    let changes = proptest::collection::vec(change, 0..4);
    let order = bytes(64);
    (flows, changes, order, any::<bool>()).prop_map(|(mut flows, changes, order, twins)| {
        if twins {
            // Flows that differ in nothing but a port and their bytes.
            let count = u16::try_from(flows.len()).unwrap();
            let (spec, size, extra) = flows.swap_remove(0);
            flows = (0..count)
                .map(|port| {
                    let payload = spec.payload.iter().map(|byte| byte.wrapping_add(u8::try_from(port).unwrap())).collect();
                    (Spec { ports: (40_000, port), payload, ..spec.clone() }, size, extra)
                })
                .collect();
        }
        let cut = flows.into_iter().map(|(mut spec, size, (flags, fragmentable))| {
            spec.flags = if flags < 200 { 0x10 | flags & 0x08 } else { flags };
            spec.fragment = if fragmentable { 0 } else { 0x4000 };
            std::collections::VecDeque::from(spec.cut(size.max(spec.payload.len() / 60 + 1)))
        });
        let mut queues: Vec<_> = cut.collect();
        let mut packets = Vec::new();
        for turn in order.iter().cycle() {
            queues.retain(|queue| !queue.is_empty());
            if queues.is_empty() {
                break;
            }
            let index = usize::from(turn >> 3) % queues.len();
            packets.extend((0..=turn & 7).filter_map(|_| queues[index].pop_front()));
        }
        for (which, place, value) in changes {
            let packet = which.get(&packets).clone();
            let at = place.index(packet.len());
            // Not the version and the lengths: whoever pushes packets has checked those.
            let fixed = if packet[0] >> 4 == 4 { at == 0 || at == 2 || at == 3 } else { at == 0 || at == 4 || at == 5 };
            if !fixed {
                let index = which.index(packets.len());
                packets[index][at] = value;
            }
        }
        packets
    })
}

fn splits_as_the_naive_path(cases: u32) -> Result<(), TestError<(Spec, usize)>> {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner.run(&(spec(bytes(0..20_000)), 1_usize..4_000), |(spec, size)| {
        let size = if spec.udp { size.max(spec.payload.len() / 64 + 1) } else { size };
        let mut expected = spec.cut(size);
        if expected.is_empty() {
            expected.push(spec.build(false));
        }
        prop_assert_eq!(split_all(&spec.virtio(size), &spec.build(true)), expected);
        Ok(())
    })
}

fn merging_keeps_every_byte_of_every_flow(cases: u32) -> Result<usize, TestError<Vec<Vec<u8>>>> {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let joined = std::cell::Cell::new(0);
    runner.run(&traffic(), |packets| {
        let (out, count) = there_and_back(&packets);
        joined.set(joined.get() + count);
        prop_assert_eq!(by_flow(&out), by_flow(&packets));
        Ok(())
    })?;
    Ok(joined.get())
}

#[test]
fn a_super_packet_splits_as_the_naive_path_builds_it() {
    splits_as_the_naive_path(1_500).unwrap();
    println!("1500 super-packets split as the naive path does");
}

#[test]
fn merging_and_splitting_keep_every_byte_of_every_flow() {
    let joined = merging_keeps_every_byte_of_every_flow(1_500).unwrap();
    println!("1500 mixtures of flows: {joined} packets were joined to others, no byte differs");
    assert!(joined > 3_000, "the test sees joined packets: {joined}");
}

#[test]
fn seeded_faults_are_caught() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let split = [Fault::Checksum, Fault::Length].map(|fault| seed(fault, || splits_as_the_naive_path(300)).is_err());
    let merge = [Fault::Checksum, Fault::Length, Fault::FlowKey]
        .map(|fault| seed(fault, || merging_keeps_every_byte_of_every_flow(300)).is_err());
    std::panic::set_hook(hook);
    println!("seeded faults caught: checksum, length by splitting {split:?}; checksum, length, flow key by merging {merge:?}");
    assert_eq!((split, merge), ([true; 2], [true; 3]));
}

#[test]
fn packets_that_differ_are_not_joined() {
    let first = Spec::tcp(vec![1; 1_000]);
    let next = Spec { sequence: 2_000, identification: 10, ..first.clone() };
    let pieces = |first: &Spec, second: Vec<u8>| {
        let mut merger = Merger::new(ALL);
        merger.push(first.build(false));
        merger.push(second);
        let pieces: Vec<usize> = merger.trains().map(|train| train.pieces()).collect();
        pieces
    };
    type Change = fn(&mut Spec);
    let different: [(&str, Change); 19] = [
        ("FIN", |spec| spec.flags |= 1),
        ("SYN", |spec| spec.flags |= 2),
        ("RST", |spec| spec.flags |= 4),
        ("URG", |spec| spec.flags |= 0x20),
        ("ECE", |spec| spec.flags |= 0x40),
        ("CWR", |spec| spec.flags |= 0x80),
        ("no ACK", |spec| spec.flags = 0),
        ("urgent pointer", |spec| spec.urgent = 1),
        ("sequence", |spec| spec.sequence += 1),
        ("acknowledgement", |spec| spec.acknowledgement += 1),
        ("window", |spec| spec.window += 1),
        ("options", |spec| spec.options[7] += 1),
        ("fewer options", |spec| spec.options.truncate(4)),
        ("TTL", |spec| spec.ttl -= 1),
        ("CE", |spec| spec.class = 3),
        ("DSCP", |spec| spec.class = 0x20),
        ("identification", |spec| spec.identification += 5),
        ("no payload", |spec| spec.payload.clear()),
        ("longer", |spec| spec.payload.push(0)),
    ];
    for v6 in [false, true] {
        let (first, next) = (Spec { v6, ..first.clone() }, Spec { v6, ..next.clone() });
        assert_eq!(pieces(&first, next.build(false)), [2]);
        assert_eq!(pieces(&first, Spec { flags: 0x18, ..next.clone() }.build(false)), [2], "PSH may end it");
        assert_eq!(pieces(&Spec { flags: 0x18, ..first.clone() }, next.build(false)), [1, 1], "nothing follows PSH");
        for (name, change) in different {
            if v6 && name == "identification" {
                continue;
            }
            let mut other = next.clone();
            change(&mut other);
            assert_eq!(pieces(&first, other.build(false)), [1, 1], "{name}");
        }
        let mut damaged = next.build(false);
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(pieces(&first, damaged), [1, 1], "a wrong checksum stays visible");
        let udp = Spec { udp: true, ..first.clone() };
        assert_eq!(pieces(&udp, Spec { udp: true, ..next.clone() }.build(false)), [2]);
        let mut without = Spec { udp: true, ..next.clone() }.build(false);
        let at = if v6 { 46 } else { 26 };
        without[at..at + 2].fill(0);
        assert_eq!(pieces(&udp, without), [1, 1], "no checksum");
    }
    let fragment = Spec { fragment: 0x2000, ..next.clone() };
    assert_eq!(pieces(&first, fragment.build(false)), [1, 1]);
    assert_eq!(pieces(&Spec { fragment: 0, ..first.clone() }, next.build(false)), [1, 1], "DF differs");
    let fixed = Spec { identification: 9, ..next };
    assert_eq!(pieces(&first, fixed.build(false)), [2], "no identification with DF");
    assert_eq!(pieces(&Spec { fragment: 0, ..first }, Spec { fragment: 0, ..fixed }.build(false)), [1, 1]);
}

#[test]
fn what_hides_a_flow_closes_every_flow() {
    let first = Spec::tcp(vec![1; 500]);
    let next = Spec { sequence: 1_500, identification: 10, ..first.clone() };
    let mut extension = Spec { v6: true, ..first.clone() }.build(false);
    extension[6] = 0;
    let fragment = Spec { fragment: 0x0010, host: 9, ..first.clone() }.build(false);
    let mut options = first.build(false);
    options[0] = 0x46;
    let mut icmp = first.build(false);
    icmp[9] = 1;
    for (between, expected) in
        [(extension, vec![1, 1, 1]), (fragment, vec![1, 1, 1]), (options, vec![1, 1, 1]), (icmp, vec![2, 1])]
    {
        let mut merger = Merger::new(ALL);
        for packet in [first.build(false), between, next.build(false)] {
            merger.push(packet);
        }
        let pieces: Vec<usize> = merger.trains().map(|train| train.pieces()).collect();
        assert_eq!(pieces, expected);
        merger.clear();
        assert!(merger.is_empty() && merger.trains().next().is_none());
    }
}

#[test]
fn joins_within_the_kernels_bounds() {
    let spec = Spec::tcp(vec![7; 65_000]);
    let mut merger = Merger::new(ALL);
    for packet in spec.cut(1_300) {
        merger.push(packet);
    }
    // One byte more than fits follows.
    merger.push(Spec { sequence: 66_000, identification: 59, payload: vec![7; 1_300], ..spec.clone() }.build(false));
    let lengths: Vec<usize> = merger.trains().map(|train| train.length()).collect();
    assert_eq!(lengths, [52 + 65_000, 52 + 1_300]);
    let small = Spec { udp: true, payload: vec![1; 100 * 20], ..spec };
    let mut merger = Merger::new(ALL);
    small.cut(20).into_iter().for_each(|packet| merger.push(packet));
    let pieces: Vec<usize> = merger.trains().map(|train| train.pieces()).collect();
    assert_eq!(pieces, [64, 36]);
    let mut merger = Merger::new(Accepts { tcp: true, udp: false });
    small.cut(1_000).into_iter().for_each(|packet| merger.push(packet));
    assert_eq!(merger.trains().count(), 2, "the device takes no UDP");
}

/// IPv4 options, and IPv6 extension headers in front of the transport header, are repeated in each segment as they are; the
/// merger takes none of them.
#[test]
fn options_and_extension_headers_are_kept_in_each_segment() {
    for (v6, udp) in [(false, false), (false, true), (true, false), (true, true)] {
        let spec =
            Spec { v6, udp, fragment: 0x4000, ..Spec::tcp((0..3_333).map(|at| u8::try_from(at % 256).unwrap()).collect()) };
        // IPv4: router alert and padding. IPv6: hop-by-hop with padding, then destination options, 24 bytes.
        let more: Vec<u8> = if v6 {
            let transport = if udp { 17 } else { 6 };
            vec![60, 0, 1, 4, 0, 0, 0, 0, transport, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        } else {
            vec![148, 4, 0, 0, 1, 1, 1, 0]
        };
        let ip = if v6 { 40 } else { 20 };
        let extend = |packet: &[u8]| {
            let mut packet = [&packet[..ip], &more, &packet[ip..]].concat();
            let length = u16::try_from(packet.len()).unwrap();
            if v6 {
                packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
                packet[6] = 0;
            } else {
                packet[0] = 0x47;
                packet[2..4].copy_from_slice(&length.to_be_bytes());
                packet[10..12].fill(0);
                let sum = u16::try_from(!naive_sum(&packet[..28], 0) & 0xffff).unwrap();
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            packet
        };
        let header = spec.virtio(500);
        let header = Header { checksum_start: header.checksum_start + u16::try_from(more.len()).unwrap(), ..header };
        let expected: Vec<Vec<u8>> = spec.cut(500).iter().map(|packet| extend(packet)).collect();
        assert_eq!(expected.len(), 7);
        let cut = split_all(&header, &extend(&spec.build(true)));
        assert_eq!(cut, expected, "v6 {v6}, udp {udp}");
        let mut merger = Merger::new(ALL);
        cut.into_iter().for_each(|packet| merger.push(packet));
        assert_eq!(merger.trains().count(), 7, "none is joined");
        // The transport header is not where the virtio header says.
        assert!(v6 || Split::new(&spec.virtio(500), &extend(&spec.build(true))).is_err());
    }
}

#[test]
fn contradictions_are_refused() {
    let spec = Spec::tcp(vec![1; 3_000]);
    let (frame, header) = (spec.build(true), spec.virtio(1_000));
    assert!(Split::new(&header, &frame).is_ok());
    let wrong = [
        Header { segment_size: 0, ..header },
        Header { segmentation: Segmentation::Tcp6, ..header },
        Header { segmentation: Segmentation::Udp, ..header },
        Header { checksum_offset: 6, ..header },
        Header { checksum_start: 24, ..header },
        Header { checksum_start: u16::MAX, ..header },
        Header { needs_checksum: false, ..header },
        Header { segmentation: Segmentation::None, checksum_start: u16::MAX, ..header },
        Header { segmentation: Segmentation::None, checksum_offset: u16::MAX, ..header },
    ];
    for header in wrong {
        assert!(Split::new(&header, &frame).is_err(), "{header:?}");
    }
    assert!(Split::new(&header, &frame[..2_000]).is_err(), "cut short");
    for length in 0..60 {
        assert!(Split::new(&header, &frame[..length]).is_err());
    }
    // A single packet gets its checksum.
    let single = Header { segmentation: Segmentation::None, segment_size: 0, ..header };
    assert_eq!(split_all(&single, &frame), [spec.build(false)]);
    assert_eq!(split_all(&Header::default(), &frame), std::slice::from_ref(&frame));
}
