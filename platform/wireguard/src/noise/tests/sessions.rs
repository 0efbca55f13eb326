//! Packets under sessions: order, repetition, damage, change of keys, bounds.

use super::*;
use crate::noise::session::LIMITS;
use proptest::prelude::*;

/// Packets of one length, sealed as a train.
fn train(side: &mut Side, now_ms: u64, count: usize, text: usize, last: usize) -> Vec<u8> {
    let stride = text + OVERHEAD;
    let mut train = vec![0; stride * (count - 1) + last + OVERHEAD];
    for (number, packet) in train.chunks_mut(stride).enumerate() {
        let end = packet.len() - 16;
        packet[HEADER..end].fill(u8::try_from(number % 251).unwrap());
    }
    side.channel.seal(now_ms, stride, &mut train).unwrap();
    train
}

fn open(side: &mut Side, now_ms: u64, stride: usize, train: &mut [u8]) -> Vec<bool> {
    let mut verdicts = vec![true; 3];
    let opened = side.channel.open(now_ms, stride, train, &mut verdicts);
    assert_eq!(opened.good, verdicts.iter().filter(|good| **good).count());
    verdicts
}

#[test]
fn trains_are_opened_whole_and_by_gotatun_one_by_one() {
    let (mut one, mut other) = pair(0);
    let mut theirs = Other::new(THEIRS, OURS, None, 100);
    let mut to_theirs = Side::new(OURS, THEIRS);
    let response = theirs.hear(&to_theirs.initiation(0)).answer.unwrap();
    assert!(to_theirs.hear(0, &response).taken);
    for (count, text, last) in [(1, 0, 0), (1, 16, 16), (2, 48, 16), (8, 1_424, 1_424), (45, 1_424, 160), (64, 96, 0)] {
        let stride = text + OVERHEAD;
        let sealed = train(&mut to_theirs, 1, count, text, last);
        for (number, packet) in sealed.chunks(stride).enumerate() {
            let text = theirs.hear(packet).text.unwrap();
            assert!(text.iter().all(|byte| usize::from(*byte) == number % 251) && text.len() == packet.len() - OVERHEAD);
        }
        let mut sealed = train(&mut one, 1, count, text, last);
        assert_eq!(open(&mut other, 1, stride, &mut sealed.clone()), vec![true; count]);
        assert_eq!(open(&mut other, 1, stride, &mut sealed), vec![false; count], "again");
    }
}

#[test]
fn a_damaged_packet_is_refused_alone_and_the_right_one_still_comes() {
    let (mut one, mut other) = pair(0);
    for damaged in 0..9_usize {
        // Counter, text, tag.
        for place in [8, 15, HEADER, HEADER + 31, HEADER + 32, HEADER + 47] {
            let whole = train(&mut one, 1, 9, 32, 32);
            let mut train = whole.clone();
            train[damaged * 64 + place] ^= 0x80;
            let expected: Vec<bool> = (0..9).map(|number| number != damaged).collect();
            assert_eq!(open(&mut other, 1, 64, &mut train), expected, "packet {damaged}, byte {place}");
            let mut packet = whole[damaged * 64..(damaged + 1) * 64].to_vec();
            assert_eq!(open(&mut other, 1, 64, &mut packet), [true], "what is not authentic moves no window");
        }
    }
    let packet = one.send(2, b"data").unwrap();
    for place in 4..8 {
        let mut wrong = packet.clone();
        wrong[place] ^= 1;
        assert_eq!(other.hear(2, &wrong), Heard::default(), "no such session");
    }
    assert!(!one.hear(2, &packet).taken, "our own packet comes back");
    assert!(other.hear(2, &packet).taken);
    // A counter twice in one train counts once.
    let packet = one.send(3, &[5; 32]).unwrap();
    let mut twice = [packet.clone(), packet].concat();
    assert_eq!(open(&mut other, 3, 64, &mut twice), [true, false]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn packets_in_any_order_and_any_number_come_once_each(
        order in prop::collection::vec(0..400_usize, 1..900),
    ) {
        let (mut one, mut other) = pair(0);
        let packets: Vec<Vec<u8>> = (0..400).map(|_| one.send(1, &[0; 16]).unwrap()).collect();
        let mut seen = std::collections::HashSet::new();
        for number in order {
            prop_assert_eq!(other.hear(1, &packets[number]).taken, seen.insert(number));
        }
    }
}

#[test]
fn who_responds_does_not_send_before_the_first_packet_under_the_session() {
    let (mut one, mut other) = pair(0);
    let initiation = one.initiation(130_000);
    let response = other.hear(130_000, &initiation).answer.unwrap();
    // The old session is used until then, and heard afterwards.
    let under_old = other.send(130_001, b"old").unwrap();
    let keepalive = one.hear(130_002, &response).answer.unwrap();
    assert_ne!(keepalive[4..8], initiation[4..8]);
    assert_eq!(one.hear(130_003, &under_old).text.unwrap(), b"old");
    assert!(other.hear(130_004, &keepalive).confirmed);
    let under_new = other.send(130_005, b"new").unwrap();
    assert_ne!(under_old[4..8], under_new[4..8]);
    assert_eq!(under_new[4..8], initiation[4..8]);
    assert_eq!(one.hear(130_006, &under_new).text.unwrap(), b"new");
}

#[test]
fn a_change_of_keys_loses_nothing_of_what_is_under_way() {
    let (mut one, mut other) = pair(0);
    // Each datagram takes 40 ms, and every third 90 ms more.
    let mut network: Vec<(u64, bool, Vec<u8>)> = Vec::new();
    let (mut sent, mut heard, mut handshakes, mut number) = ([0_u32; 2], [0_u32; 2], 0, 0_u64);
    for now in (0..600_000_u64).step_by(10) {
        let mut out = Vec::new();
        for (place, side) in [&mut one, &mut other].into_iter().enumerate() {
            while side.channel.due_ms().is_some_and(|due| due <= now) {
                if let Some(Tick::Send(message)) = side.channel.tick(now) {
                    out.push((place == 0, bytes(message)));
                }
            }
            if now < 599_000 {
                out.push((place == 0, side.send(now, b"data").expect("there is always a session")));
                sent[place] += 1;
            }
        }
        let (due, later): (Vec<_>, Vec<_>) = network.into_iter().partition(|(moment, ..)| *moment <= now);
        network = later;
        for (_, from_one, datagram) in due {
            let to = if from_one { &mut other } else { &mut one };
            let result = to.hear(now, &datagram);
            assert!(result.taken);
            handshakes += u32::from(datagram[0] == 2);
            heard[usize::from(!from_one)] += u32::from(result.text.is_some_and(|text| text == b"data"));
            out.extend(result.answer.map(|answer| (!from_one, answer)));
        }
        for (from_one, datagram) in out {
            number += 1;
            network.push((now + if number.is_multiple_of(3) { 130 } else { 40 }, from_one, datagram));
        }
    }
    assert_eq!((sent, handshakes), (heard, 4));
}

#[test]
fn old_sessions_are_heard_and_there_are_never_more_than_four() {
    let (mut one, mut other) = pair(0);
    let mut packets = vec![one.send(0, b"session 0").unwrap()];
    for round in 1..6_u8 {
        let now_ms = u64::from(round) * INITIATION_GAP_MS;
        agree(now_ms, &mut one, &mut other);
        packets.push(one.send(now_ms, b"session n").unwrap());
    }
    assert_eq!((one.channel.sessions.len(), other.channel.sessions.len()), (SESSIONS, SESSIONS));
    let taken: Vec<bool> = packets.iter().map(|packet| other.hear(110, packet).taken).collect();
    assert_eq!(taken, [false, false, true, true, true, true]);
    // A peer that asks again and again without using what it gets does not take away the session in use.
    let (mut one, mut other) = pair(0);
    for now_ms in (20..420).step_by(20) {
        assert!(other.hear(now_ms, &one.initiation(now_ms)).taken);
    }
    carries(420, &mut other, &mut one);
    assert!(other.channel.sessions.len() <= SESSIONS);
}

#[test]
fn packets_wait_for_a_session_and_the_oldest_goes_first() {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    for number in 0..300_u16 {
        one.channel.enqueue(0, BytesMut::from(number.to_le_bytes().as_slice()));
    }
    assert_eq!(one.channel.dequeue(0), None);
    let Some(Tick::Send(initiation)) = one.channel.tick(0) else { panic!("an initiation") };
    let response = other.hear(0, &bytes(initiation)).answer.unwrap();
    assert!(one.hear(0, &response).taken);
    let waited: Vec<u16> =
        std::iter::from_fn(|| one.channel.dequeue(0)).map(|packet| u16::from_le_bytes(packet[..].try_into().unwrap())).collect();
    assert_eq!(waited, (44..300).collect::<Vec<_>>());
    // Another key of ours: they wait on. Suspended: they do not.
    one.channel.enqueue(1, BytesMut::from(&b"waits"[..]));
    one.channel.set_local(Arc::new(Local::new(secret(9))));
    assert_eq!((one.channel.queue.len(), one.channel.age(1)), (1, None));
    one.channel.reset();
    assert_eq!((one.channel.queue.len(), one.channel.due_ms()), (0, None));
}

#[test]
fn counters_end_before_they_come_again() {
    let [rekey, reject] = LIMITS;
    assert_eq!((rekey, reject), (1 << 60, u64::MAX - 8_192));
    let (mut one, mut other) = pair(0);
    let skip = |side: &mut Side, next| side.channel.sessions.iter_mut().for_each(|session| session.skip_to(next));
    let asked = |side: &mut Side| side.wait(6_000).iter().any(|(_, what)| *what == "initiation");
    skip(&mut other, rekey - 2);
    assert!(other.send(5_100, b"data").is_some() && !asked(&mut other));
    assert!(other.send(5_101, b"data").is_some() && asked(&mut other), "the responder asks as well");
    // The last three counters: a train of four does not fit, one of three does, and then there is no session.
    skip(&mut one, reject - 3);
    let mut four = vec![0; 4 * 48];
    assert_eq!(one.channel.seal(6_001, 48, &mut four), None);
    assert_eq!(four, vec![0; 4 * 48], "nothing is written");
    let mut three = train(&mut one, 6_001, 3, 16, 16);
    assert_eq!(three[2 * 48 + 8..2 * 48 + 16], (reject - 1).to_le_bytes());
    assert_eq!(open(&mut other, 6_001, 48, &mut three), [true; 3]);
    assert_eq!((one.send(6_002, b"data"), one.channel.age(6_002)), (None, None));
    one.channel.enqueue(6_003, BytesMut::new());
    assert!(one.wait(12_000).iter().any(|(_, what)| *what == "initiation"));
}

#[test]
fn the_last_counters_are_not_heard_even_if_somebody_uses_them() {
    let (mut one, mut other) = pair(0);
    let session = one.channel.sessions.last_mut().unwrap();
    let packet = session.seal_at(LIMITS[1]);
    assert!(!other.hear(1, &packet).taken);
    let packet = one.channel.sessions.last_mut().unwrap().seal_at(LIMITS[1] - 1);
    assert!(other.hear(1, &packet).taken);
}
