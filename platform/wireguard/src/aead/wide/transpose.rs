//! Turns "one word of every lane" into "all words of one lane", and back.

use std::arch::x86_64::{
    __m512i, _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

/// From vectors that each hold one word of 16 blocks to the blocks: those at even places, and those at odd ones.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn blocks(words: [__m512i; 16]) -> ([__m512i; 8], [__m512i; 8]) {
    let [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15] = words;
    let [a0, a1, a2, a3] = four_words(w0, w1, w2, w3);
    let [b0, b1, b2, b3] = four_words(w4, w5, w6, w7);
    let [c0, c1, c2, c3] = four_words(w8, w9, w10, w11);
    let [d0, d1, d2, d3] = four_words(w12, w13, w14, w15);
    let [even0, even2, even4, even6] = quarters(a0, b0, c0, d0);
    let [odd0, odd2, odd4, odd6] = quarters(a1, b1, c1, d1);
    let [even1, even3, even5, even7] = quarters(a2, b2, c2, d2);
    let [odd1, odd3, odd5, odd7] = quarters(a3, b3, c3, d3);
    ([even0, even1, even2, even3, even4, even5, even6, even7], [odd0, odd1, odd2, odd3, odd4, odd5, odd6, odd7])
}

/// From 64 bytes of each of eight packets to the low and the high word of their four 16-byte blocks, a lane for a packet.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn lanes(rows: [__m512i; 8]) -> [(__m512i, __m512i); 4] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    let [low0, low1, low2, low3] = quarters(
        _mm512_unpacklo_epi64(r0, r1),
        _mm512_unpacklo_epi64(r2, r3),
        _mm512_unpacklo_epi64(r4, r5),
        _mm512_unpacklo_epi64(r6, r7),
    );
    let [high0, high1, high2, high3] = quarters(
        _mm512_unpackhi_epi64(r0, r1),
        _mm512_unpackhi_epi64(r2, r3),
        _mm512_unpackhi_epi64(r4, r5),
        _mm512_unpackhi_epi64(r6, r7),
    );
    [(low0, high0), (low1, high1), (low2, high2), (low3, high3)]
}

/// Result `n` holds, in each of its quarters, all four words of lane `n` of that quarter.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn four_words(w0: __m512i, w1: __m512i, w2: __m512i, w3: __m512i) -> [__m512i; 4] {
    let (low01, high01) = (_mm512_unpacklo_epi32(w0, w1), _mm512_unpackhi_epi32(w0, w1));
    let (low23, high23) = (_mm512_unpacklo_epi32(w2, w3), _mm512_unpackhi_epi32(w2, w3));
    [
        _mm512_unpacklo_epi64(low01, low23),
        _mm512_unpackhi_epi64(low01, low23),
        _mm512_unpacklo_epi64(high01, high23),
        _mm512_unpackhi_epi64(high01, high23),
    ]
}

/// Result `n` is the quarters `n` of `a`, `b`, `c` and `d`.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn quarters(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    // Selectors of two bits a quarter, lowest first: 0x44 is 0, 1, 0, 1; 0xEE is 2, 3, 2, 3; 0x88 is 0, 2, 0, 2; 0xDD is 1, 3, 1, 3.
    let (ab_low, ab_high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xEE>(a, b));
    let (cd_low, cd_high) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xEE>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0xDD>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xDD>(ab_high, cd_high),
    ]
}
