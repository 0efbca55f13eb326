//! What the fuzz target and the bounded test do with one input: it must neither panic nor break the promises below.

use hamn_wireguard::merge::{Accepts, Merger};
use hamn_wireguard::packet;
use hamn_wireguard::split::Split;
use hamn_wireguard::virtio::{Header, LENGTH};

/// Returns how many packets were cut and how many were joined to another.
///
/// An even first byte makes the rest a frame of the device: a virtio header and a packet. An odd one makes it a list of
/// packets, each after its length in two bytes.
pub fn exercise(data: &[u8]) -> (usize, usize) {
    match data {
        [kind, rest @ ..] if kind & 1 == 0 => (frame(rest), 0),
        [_, rest @ ..] => (0, packets(rest)),
        [] => (0, 0),
    }
}

/// Every frame that is not refused is cut into packets that are together no longer than its bytes and their headers.
fn frame(bytes: &[u8]) -> usize {
    let Some((header, frame)) = bytes.split_first_chunk::<LENGTH>() else { return 0 };
    let Ok(header) = Header::parse(*header) else { return 0 };
    let Ok(mut split) = Split::new(&header, frame) else { return 0 };
    let (count, longest) = (split.remaining(), split.longest());
    assert!(count <= frame.len().max(1) && longest <= frame.len());
    let (mut seen, mut payload) = (0, 0);
    let mut cut = Vec::new();
    while let Some(segment) = split.next_segment() {
        assert!(segment.length() <= longest);
        (seen, payload) = (seen + 1, payload + segment.payload.len());
        let packet = [segment.header, segment.payload].concat();
        if count > 1 {
            assert_eq!(packet::length(&packet), Some(packet.len()), "a packet says how long it is");
        }
        cut.push(packet);
    }
    assert_eq!(seen, count);
    assert!(payload <= frame.len());
    for packet in cut.iter().filter(|packet| packet::length(packet) == Some(packet.len())) {
        packet::mark_congestion(&mut packet.clone());
    }
    join(cut);
    count
}

fn packets(mut bytes: &[u8]) -> usize {
    let mut list = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (packet, after) = rest.split_at(length);
        // The engine pushes nothing else.
        if packet::length(packet) == Some(packet.len()) {
            list.push(packet.to_vec());
        }
        bytes = after;
    }
    join(list)
}

/// Each super-packet, cut again, is the packets that it was made of.
fn join(list: Vec<Vec<u8>>) -> usize {
    let mut merger = Merger::new(Accepts { tcp: true, udp: true });
    let expected: usize = list.iter().map(Vec::len).sum();
    let count = list.len();
    list.into_iter().for_each(|packet| merger.push(packet));
    let (mut pieces, mut bytes, mut joined) = (0, 0, 0);
    for train in merger.trains() {
        let mut frame = train.headers().to_vec();
        train.payloads().for_each(|payload| frame.extend_from_slice(payload));
        assert_eq!(frame.len(), train.length());
        (pieces, joined) = (pieces + train.pieces(), joined + train.pieces() - 1);
        bytes += train.packets().map(<[u8]>::len).sum::<usize>();
        if train.pieces() == 1 {
            assert!(train.packets().eq([frame.as_slice()]));
            continue;
        }
        let mut split = Split::new(&train.virtio(), &frame).expect("what was joined can be cut");
        for packet in train.packets() {
            let segment = split.next_segment().expect("as many packets as before");
            let again = [segment.header, segment.payload].concat();
            assert!(same(packet, &again), "{packet:02x?}\n{again:02x?}");
        }
        assert!(split.next_segment().is_none());
    }
    assert_eq!((pieces, bytes), (count, expected), "nothing is lost and nothing is new");
    joined
}

/// Equal, except for the identification of what must not be fragmented, and for the two zeros of one's complement.
fn same(one: &[u8], other: &[u8]) -> bool {
    let strip = |packet: &[u8]| {
        let mut packet = packet.to_vec();
        let v4 = packet::version(&packet) == Some(4);
        let (protocol, transport) = if v4 { (9, 20) } else { (6, 40) };
        if v4 {
            packet[10..12].fill(0);
            if packet[6] & 0x40 != 0 {
                packet[4..6].fill(0);
            }
        }
        let at = transport + if packet[protocol] == packet::TCP { 16 } else { 6 };
        if packet[at..at + 2] == [0, 0] {
            packet[at..at + 2].fill(0xff);
        }
        packet
    };
    strip(one) == strip(other)
}
