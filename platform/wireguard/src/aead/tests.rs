//! Trains against ring, packet by packet: what is sealed, what opens, and what is refused.

use proptest::prelude::*;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::wide::Wide;
use super::{HEADER, Key, LANES, LEAST, LONGEST, Refused, TAG};

/// Bytes that look random and are the same in every run (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.word().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

/// A train in the clear: packets of header (type, receiver, counter), text and room for the tag.
struct Train {
    key: [u8; 32],
    first: u64,
    stride: usize,
    packets: Vec<u8>,
}

impl Train {
    /// `count` packets with `length` bytes of text each; the last one has `last`.
    fn new(random: &mut Random, first: u64, count: usize, length: usize, last: usize) -> Self {
        let stride = HEADER + length + TAG;
        let mut packets = random.bytes(stride * (count - 1) + HEADER + last + TAG);
        for (packet, counter) in packets.chunks_mut(stride).zip(first..=u64::MAX) {
            packet[8..16].copy_from_slice(&counter.to_le_bytes());
        }
        Self { key: random.bytes(32).try_into().unwrap(), first, stride, packets }
    }

    fn count(&self) -> usize {
        self.packets.len().div_ceil(self.stride)
    }

    /// As ring seals it.
    fn sealed(&self) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &self.key).unwrap());
        let mut packets = self.packets.clone();
        for (packet, counter) in packets.chunks_mut(self.stride).zip(self.first..=u64::MAX) {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_le_bytes());
            let end = packet.len() - TAG;
            let (text, tag) = packet[HEADER..].split_at_mut(end - HEADER);
            let nonce = Nonce::assume_unique_for_key(nonce);
            tag.copy_from_slice(key.seal_in_place_separate_tag(nonce, Aad::empty(), text).unwrap().as_ref());
        }
        packets
    }

    /// The texts of the train, or of another form of it.
    fn texts<'a>(&self, packets: &'a [u8]) -> Vec<&'a [u8]> {
        packets.chunks(self.stride).map(|packet| &packet[HEADER..packet.len() - TAG]).collect()
    }

    /// Sealing gives what ring gives, and what ring seals opens, on this processor and on one without a wide cipher.
    fn check(&self) {
        let mut key = Key::new(&self.key);
        self.check_with(&key);
        key.wide = None;
        self.check_with(&key);
    }

    fn check_with(&self, key: &Key) {
        let sealed = self.sealed();
        let context = || format!("first {}, {} packets of {}, {} bytes", self.first, self.count(), self.stride, sealed.len());
        let mut packets = self.packets.clone();
        assert_eq!(key.seal_train(self.first, self.stride, &mut packets), Ok(()), "{}", context());
        assert!(packets == sealed, "sealed: {}", context());
        let mut good = vec![false; 3];
        key.open_train(self.stride, &mut packets, &mut good);
        assert_eq!(good, vec![true; self.count()], "{}", context());
        assert!(self.texts(&packets) == self.texts(&self.packets), "opened: {}", context());
    }
}

#[test]
fn the_wide_cipher_is_used_where_the_processor_has_it() {
    let key = Key::new(&[1; 32]);
    assert_eq!(key.wide.is_some(), Wide::detect().is_some());
    let mut group = vec![0; 100 * LANES];
    for count in 0..=LANES {
        let (wide, singles) = key.split_group(100, &mut group[..100 * count]);
        assert_eq!(wide.is_some(), count >= LEAST && Wide::detect().is_some(), "{count} packets");
        assert_eq!(singles.len(), if wide.is_some() { 0 } else { 100 * count });
    }
    if Wide::detect().is_none() {
        eprintln!("SKIPPED: this processor has no wide cipher, so trains were tested with ring against ring");
    }
}

#[test]
fn every_length_to_1600_seals_and_opens_as_with_ring() {
    let mut random = Random::new(10);
    for length in 0..=1_600 {
        // A full group, a group with empty lanes and a shorter packet.
        let last = length * 2 / 3;
        Train::new(&mut random, u64::try_from(length).unwrap() << 20, 14, length, last).check();
    }
    for length in [1_984, 2_047, 2_048, 2_049, 4_095, 4_096, 4_111, 8_191, 8_967, 9_000, LONGEST - HEADER - TAG] {
        Train::new(&mut random, 5, 9, length, length).check();
    }
}

#[test]
fn every_count_to_64_seals_and_opens_as_with_ring() {
    let mut random = Random::new(11);
    for count in 1..=64 {
        for length in [0, 1, 16, 48, 63, 64, 65, 128, 1_424] {
            for last in [length, length / 2] {
                let first = random.word() >> 1;
                Train::new(&mut random, first, count, length, last).check();
            }
        }
    }
}

#[test]
fn counters_carry_from_word_to_word_and_end_at_the_last_one() {
    let mut random = Random::new(12);
    for count in [4, 7, 8, 13, 16, 45] {
        let until_end = u64::MAX - (count - 1);
        for first in [0, 1, (1 << 32) - 20, (1 << 32) - 5, (1 << 32) - 1, 1 << 32, u64::MAX - 64, until_end] {
            Train::new(&mut random, first, usize::try_from(count).unwrap(), 100, 100).check();
        }
        let train = Train::new(&mut random, 0, usize::try_from(count).unwrap(), 100, 100);
        let mut packets = train.packets.clone();
        assert_eq!(Key::new(&train.key).seal_train(until_end + 1, train.stride, &mut packets), Err(Refused));
        assert!(packets == train.packets, "a refused train is left as it is");
    }
}

#[test]
fn packets_of_a_train_may_have_any_counters_when_they_are_opened() {
    let mut random = Random::new(13);
    for count in [1, 5, 8, 21] {
        let train = Train::new(&mut random, 1_000, count, 333, 333);
        let sealed = train.sealed();
        // The same packets the other way round: counters fall.
        let mut packets: Vec<u8> = sealed.chunks(train.stride).rev().flatten().copied().collect();
        let mut good = Vec::new();
        Key::new(&train.key).open_train(train.stride, &mut packets, &mut good);
        assert_eq!(good, vec![true; count]);
        let texts: Vec<_> = train.texts(&train.packets).into_iter().rev().collect();
        assert!(train.texts(&packets) == texts);
    }
}

/// Flips one bit of one packet: that packet fails and is zeroed, the others open.
fn check_flipped(train: &Train, key: &Key, sealed: &[u8], bad: usize, bit: usize) {
    let mut packets = sealed.to_vec();
    packets[bad * train.stride + bit / 8] ^= 1 << (bit % 8);
    let mut good = Vec::new();
    key.open_train(train.stride, &mut packets, &mut good);
    let expected: Vec<bool> = (0..train.count()).map(|at| at != bad).collect();
    assert_eq!(good, expected, "bit {bit} of packet {bad}");
    for (at, (text, clear)) in train.texts(&packets).into_iter().zip(train.texts(&train.packets)).enumerate() {
        let zeroed = at == bad && text.iter().all(|byte| *byte == 0);
        assert!(zeroed || (at != bad && text == clear), "packet {at} after bit {bit} of packet {bad}");
    }
}

#[test]
fn a_flipped_bit_of_counter_text_or_tag_fails_exactly_that_packet() {
    let mut random = Random::new(14);
    // Every bit of short packets; a full group, a group with empty lanes and a single packet.
    for length in [0, 1, 16, 100] {
        let train = Train::new(&mut random, 77, 14, length, length / 2);
        let (key, sealed) = (Key::new(&train.key), train.sealed());
        for bad in 0..train.count() {
            let bits = (sealed.len() - bad * train.stride).min(train.stride) * 8;
            for bit in 64..bits {
                check_flipped(&train, &key, &sealed, bad, bit);
            }
        }
    }
    // A bit of every byte of a full-sized packet, each in another lane.
    let train = Train::new(&mut random, 99, 13, 1_424, 1_424);
    let (key, sealed) = (Key::new(&train.key), train.sealed());
    for byte in 8..train.stride {
        check_flipped(&train, &key, &sealed, byte % 13, byte * 8 + byte / 8 % 8);
    }
}

#[test]
fn all_packets_of_a_group_may_fail_and_none_opens_with_another_key() {
    let mut random = Random::new(15);
    let train = Train::new(&mut random, 0, 14, 200, 30);
    let mut packets = train.sealed();
    let mut key = train.key;
    key[31] ^= 0x80;
    let mut good = Vec::new();
    Key::new(&key).open_train(train.stride, &mut packets, &mut good);
    assert_eq!(good, vec![false; 14]);
    assert!(train.texts(&packets).concat().iter().all(|byte| *byte == 0));
}

#[test]
fn one_packet_seals_and_opens_as_with_ring_and_is_refused_when_it_is_short() {
    let mut random = Random::new(16);
    for length in 0..200 {
        let train = Train::new(&mut random, 1 << 40, 1, length, length);
        let key = Key::new(&train.key);
        let mut packet = train.packets.clone();
        assert_eq!(key.seal(train.first, &mut packet), Ok(()));
        assert_eq!(packet, train.sealed());
        let mut copy = packet.clone();
        assert_eq!(key.open(train.first, &mut copy), Ok(()));
        assert_eq!(train.texts(&copy), train.texts(&train.packets));
        assert_eq!(key.open(train.first + 1, &mut packet), Err(Refused));
        assert!(train.texts(&packet).concat().iter().all(|byte| *byte == 0));
    }
    let key = Key::new(&[3; 32]);
    for length in 0..HEADER + TAG {
        assert_eq!(key.seal(0, &mut vec![7; length]), Err(Refused));
        assert_eq!(key.open(0, &mut vec![7; length]), Err(Refused));
    }
}

#[test]
fn strides_and_last_packets_that_cannot_be_are_refused_whole() {
    let key = Key::new(&[3; 32]);
    let mut good = vec![true];
    for (stride, length) in [(0, 100), (1, 100), (31, 310), (100, 831), (100, 801), (LONGEST + 1, 4 * (LONGEST + 1))] {
        let mut packets = vec![7; length];
        assert_eq!(key.seal_train(0, stride, &mut packets), Err(Refused), "{stride}, {length}");
        assert!(packets.iter().all(|byte| *byte == 7), "a refused train is left as it is");
        key.open_train(stride, &mut packets, &mut good);
        assert_eq!(good, vec![false; length.checked_div(stride).map_or(0, |_| length.div_ceil(stride))]);
    }
    for stride in [0, 31, 100, usize::MAX] {
        assert_eq!(key.seal_train(0, stride, &mut []), Ok(()));
        key.open_train(stride, &mut [], &mut good);
        assert_eq!(good, []);
    }
    // The stride of a single packet may be as long as it likes to be, up to the longest.
    let mut single = vec![7; 40];
    assert_eq!(key.seal_train(0, LONGEST, &mut single), Ok(()));
    single[8..16].fill(0);
    key.open_train(usize::MAX, &mut single, &mut good);
    assert_eq!(good, [true]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn trains_seal_and_open_as_with_ring(
        seed: u64,
        first in prop_oneof![0..100_u64, (1_u64 << 32) - 64..(1 << 32) + 64, u64::MAX - 200..=u64::MAX - 64, any::<u64>().prop_map(|first| first >> 1)],
        count in 1..=64_usize,
        length in prop_oneof![4 => 0..=1_600_usize, 1 => 1_600..=9_000_usize],
        last in any::<prop::sample::Index>(),
    ) {
        let last = last.index(length + 1);
        Train::new(&mut Random::new(seed), first, count, length, last).check();
    }
}
