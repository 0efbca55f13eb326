//! ChaCha20-Poly1305 (RFC 8439, section 2.8, without associated data) of eight packets of one length side by side.
//!
//! Every packet has a lane, so nothing is added up across lanes. Each 64 bytes are authenticated as they are sealed or
//! opened, while they are in registers. No branch and no address depends on a key, a text or a tag.

mod chacha;
mod load;
mod poly;
#[cfg(test)]
mod tests;
mod transpose;

use std::arch::x86_64::{__m512i, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_xor_si512};

use subtle::ConstantTimeEq;

use self::chacha::Start;
use self::poly::{Block, Poly};

/// The packets of a group.
pub(super) const LANES: usize = 8;

/// Evidence that the processor has the instructions of this module.
#[derive(Clone, Copy)]
pub(super) struct Wide(());

/// One packet; a lane without one has an empty text and no tag.
#[derive(Default)]
pub(super) struct Packet<'a> {
    /// The nonce.
    pub(super) counter: u64,
    pub(super) text: &'a mut [u8],
    pub(super) tag: Option<&'a mut [u8; 16]>,
}

impl Wide {
    /// None where the processor (or the system, which has to save the registers) lacks any of it.
    pub(super) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512ifma");
        all.then_some(Self(()))
    }

    /// Seals packets whose texts are as long as the first one's and writes their tags.
    #[expect(unsafe_code, reason = "only this module's callers know that the instructions are there")]
    pub(super) fn seal(self, key: &[u32; 8], mut packets: [Packet<'_>; LANES]) {
        // SAFETY: a `Wide` comes from `detect` alone, which found every feature that `seal` is compiled for.
        unsafe { seal(key, &mut packets) }
    }

    /// Opens packets whose texts are as long as the first one's. Tells which ones are genuine; the texts of the others are
    /// zeroed.
    #[expect(unsafe_code, reason = "only this module's callers know that the instructions are there")]
    pub(super) fn open(self, key: &[u32; 8], mut packets: [Packet<'_>; LANES]) -> [bool; LANES] {
        // SAFETY: a `Wide` comes from `detect` alone, which found every feature that `open` is compiled for.
        unsafe { open(key, &mut packets) }
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
fn seal(key: &[u32; 8], packets: &mut [Packet<'_>; LANES]) {
    let [low, high] = apply::<false>(key, packets);
    let (low, high) = (load::to_words(low), load::to_words(high));
    for ((packet, low), high) in packets.iter_mut().zip(low).zip(high) {
        if let Some(tag) = &mut packet.tag {
            **tag = (u128::from(low) | u128::from(high) << 64).to_le_bytes();
        }
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
fn open(key: &[u32; 8], packets: &mut [Packet<'_>; LANES]) -> [bool; LANES] {
    let [low, high] = apply::<true>(key, packets);
    let (low, high) = (load::to_words(low), load::to_words(high));
    let mut good = [false; LANES];
    for (((packet, low), high), good) in packets.iter_mut().zip(low).zip(high).zip(&mut good) {
        let Some(claimed) = &packet.tag else { continue };
        let tag = u128::from(low) | u128::from(high) << 64;
        *good = u128::from_le_bytes(**claimed).ct_eq(&tag).into();
        if !*good {
            packet.text.fill(0);
        }
    }
    good
}

/// Turns the texts over and returns the low and the high words of the tags over their sealed form.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn apply<const OPEN: bool>(key: &[u32; 8], packets: &mut [Packet<'_>; LANES]) -> [__m512i; 2] {
    let mut counters = [0; LANES];
    for (counter, packet) in counters.iter_mut().zip(packets.iter()) {
        *counter = packet.counter;
    }
    let length = packets[0].text.len();
    let mut start = Start::new(key, &counters);
    let [first, second] = start.next();
    let mut poly = Poly::new(chacha::one_time_keys(&first));
    let mut texts = Texts::new(packets);
    // The first block of the key stream is the authenticator's, so the text begins with the one after it.
    let (_, b0) = transpose::blocks(first);
    texts.turn::<OPEN>(0, b0, &mut poly);
    texts.turn_pair::<OPEN>(1, second, &mut poly);
    for index in (3..length.div_ceil(64)).step_by(4) {
        let [first, second] = start.next();
        texts.turn_pair::<OPEN>(index, first, &mut poly);
        texts.turn_pair::<OPEN>(index + 2, second, &mut poly);
    }
    // The lengths: no associated data, and the text's.
    let length = _mm512_set1_epi64(i64::try_from(length).unwrap_or(i64::MAX));
    poly.absorb(Block::whole((_mm512_setzero_si512(), length)));
    poly.tags()
}

/// The texts of a group in blocks of 64 bytes.
struct Texts<'a> {
    lanes: [Lane<'a>; LANES],
    /// How many whole blocks each text has.
    whole: usize,
    /// How many bytes are left after them.
    left: usize,
}

#[derive(Default)]
struct Lane<'a> {
    blocks: &'a mut [[u8; 64]],
    left: &'a mut [u8],
}

impl<'a> Texts<'a> {
    #[inline]
    fn new(packets: &'a mut [Packet<'_>; LANES]) -> Self {
        let mut lanes: [Lane<'a>; LANES] = Default::default();
        for (lane, packet) in lanes.iter_mut().zip(packets) {
            let (blocks, left) = packet.text.as_chunks_mut();
            *lane = Lane { blocks, left };
        }
        let (whole, left) = (lanes[0].blocks.len(), lanes[0].left.len());
        Self { lanes, whole, left }
    }

    /// Turns over blocks `index` and `index + 1`.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn turn_pair<const OPEN: bool>(&mut self, index: usize, words: [__m512i; 16], poly: &mut Poly) {
        let (even, odd) = transpose::blocks(words);
        self.turn::<OPEN>(index, even, poly);
        self.turn::<OPEN>(index + 1, odd, poly);
    }

    /// Turns over block `index` of each text, if there is one, and authenticates its sealed form.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn turn<const OPEN: bool>(&mut self, index: usize, stream: [__m512i; LANES], poly: &mut Poly) {
        if index < self.whole {
            let [b0, b1, b2, b3] = transpose::lanes(self.turn_block::<OPEN>(index, stream));
            poly.absorb_four([Block::whole(b0), Block::whole(b1), Block::whole(b2), Block::whole(b3)]);
        } else if index == self.whole && self.left > 0 {
            let blocks = transpose::lanes(self.turn_left::<OPEN>(stream));
            for block in blocks.into_iter().take(self.left.div_ceil(16)) {
                poly.absorb(Block::whole(block));
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn turn_block<const OPEN: bool>(&mut self, index: usize, stream: [__m512i; LANES]) -> [__m512i; LANES] {
        let mut sealed = [_mm512_setzero_si512(); LANES];
        for ((lane, stream), sealed) in self.lanes.iter_mut().zip(stream).zip(&mut sealed) {
            if let Some(block) = lane.blocks.get_mut(index) {
                let before = load::block(block);
                let after = _mm512_xor_si512(before, stream);
                load::store_block(block, after);
                *sealed = if OPEN { before } else { after };
            }
        }
        sealed
    }

    /// The bytes after the whole blocks; the sealed form is padded with zeros.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn turn_left<const OPEN: bool>(&mut self, stream: [__m512i; LANES]) -> [__m512i; LANES] {
        let mut sealed = [_mm512_setzero_si512(); LANES];
        for ((lane, stream), sealed) in self.lanes.iter_mut().zip(stream).zip(&mut sealed) {
            // An empty lane's address would be a fault for the processor to suppress, at the cost of a whole packet.
            if lane.left.is_empty() {
                continue;
            }
            let before = load::part(lane.left);
            let after = _mm512_xor_si512(before, load::truncate(stream, lane.left.len()));
            load::store_part(lane.left, after);
            *sealed = if OPEN { before } else { after };
        }
        sealed
    }
}
