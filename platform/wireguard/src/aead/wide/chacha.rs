//! ChaCha20 (RFC 8439, section 2.3) for eight packets side by side: 16 lanes of 32 bits, two consecutive blocks of each packet.
//!
//! Lane `2n` is the even block of packet `n` and lane `2n + 1` the odd one, so that a pair of lanes is also a 64-bit lane
//! of the authenticator.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_andnot_si512, _mm512_or_si512, _mm512_rol_epi32, _mm512_set1_epi32,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_xor_si512,
};

use super::load;

/// "expand 32-byte k" (RFC 8439, section 2.3).
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// What the blocks of eight packets begin with; only the block counter differs between them.
pub(super) struct Start(pub(super) [__m512i; 16]);

impl Start {
    /// Block counters 0 and 1; the packet counters are the nonces (four zero bytes, then the counter, little-endian).
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn new(key: &[u32; 8], counters: &[u64; 8]) -> Self {
        let [c0, c1, c2, c3] = CONSTANTS;
        let [k0, k1, k2, k3, k4, k5, k6, k7] = *key;
        let counters = load::words(counters);
        let low_half = low_half();
        let low = _mm512_or_si512(_mm512_and_si512(counters, low_half), _mm512_slli_epi64::<32>(counters));
        let high = _mm512_or_si512(_mm512_andnot_si512(low_half, counters), _mm512_srli_epi64::<32>(counters));
        Self([
            splat(c0),
            splat(c1),
            splat(c2),
            splat(c3),
            splat(k0),
            splat(k1),
            splat(k2),
            splat(k3),
            splat(k4),
            splat(k5),
            splat(k6),
            splat(k7),
            _mm512_set1_epi64(1 << 32),
            _mm512_setzero_si512(),
            low,
            high,
        ])
    }

    /// The words of the next four blocks, a vector for a word: two blocks, then two more. Both pairs are worked on at the same
    /// time, so that one fills the waits of the other.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn next(&mut self) -> [[__m512i; 16]; 2] {
        let start = self.0;
        self.advance();
        let further = self.0;
        self.advance();
        let (mut first, mut second) = (start, further);
        for _ in 0..10 {
            first = double_round(first);
            second = double_round(second);
        }
        [sum(first, start), sum(second, further)]
    }

    /// Two blocks further in every packet.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn advance(&mut self) {
        let counter = &mut self.0[12];
        *counter = _mm512_add_epi32(*counter, splat(2));
    }
}

/// The one-time keys of the authenticator (RFC 8439, section 2.6), from the words of blocks 0 and 1: the low and high words
/// of `r` and of `s`, a 64-bit lane for a packet.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn one_time_keys(words: &[__m512i; 16]) -> [__m512i; 4] {
    let [w0, w1, w2, w3, w4, w5, w6, w7, ..] = *words;
    [even_pair(w0, w1), even_pair(w2, w3), even_pair(w4, w5), even_pair(w6, w7)]
}

/// The even lanes of two words as one word of 64 bits.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn even_pair(low: __m512i, high: __m512i) -> __m512i {
    _mm512_or_si512(_mm512_and_si512(low, low_half()), _mm512_slli_epi64::<32>(high))
}

/// A column round and a diagonal round (RFC 8439, section 2.3).
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn double_round(state: [__m512i; 16]) -> [__m512i; 16] {
    let [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15] = state;
    let [x0, x4, x8, x12] = quarter_round([x0, x4, x8, x12]);
    let [x1, x5, x9, x13] = quarter_round([x1, x5, x9, x13]);
    let [x2, x6, x10, x14] = quarter_round([x2, x6, x10, x14]);
    let [x3, x7, x11, x15] = quarter_round([x3, x7, x11, x15]);
    let [x0, x5, x10, x15] = quarter_round([x0, x5, x10, x15]);
    let [x1, x6, x11, x12] = quarter_round([x1, x6, x11, x12]);
    let [x2, x7, x8, x13] = quarter_round([x2, x7, x8, x13]);
    let [x3, x4, x9, x14] = quarter_round([x3, x4, x9, x14]);
    [x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15]
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn sum(mut state: [__m512i; 16], start: [__m512i; 16]) -> [__m512i; 16] {
    for (word, start) in state.iter_mut().zip(start) {
        *word = _mm512_add_epi32(*word, start);
    }
    state
}

/// RFC 8439, section 2.1.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn quarter_round([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let a = _mm512_add_epi32(a, b);
    let d = _mm512_rol_epi32::<16>(_mm512_xor_si512(d, a));
    let c = _mm512_add_epi32(c, d);
    let b = _mm512_rol_epi32::<12>(_mm512_xor_si512(b, c));
    let a = _mm512_add_epi32(a, b);
    let d = _mm512_rol_epi32::<8>(_mm512_xor_si512(d, a));
    let c = _mm512_add_epi32(c, d);
    let b = _mm512_rol_epi32::<7>(_mm512_xor_si512(b, c));
    [a, b, c, d]
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// The even lanes.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn low_half() -> __m512i {
    _mm512_set1_epi64(0xffff_ffff)
}
