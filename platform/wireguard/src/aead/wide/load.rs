//! Vectors from and to memory: the only places of the wide cipher that take a pointer.
#![expect(unsafe_code, reason = "the vector loads and stores of the processor take pointers")]

use std::arch::x86_64::{
    __m512i, __mmask64, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_maskz_mov_epi8,
    _mm512_storeu_si512,
};

/// The 64 bytes of a block.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn block(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference vouches for 64 readable bytes, and this load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Writes the 64 bytes of a block.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn store_block(bytes: &mut [u8; 64], vector: __m512i) {
    // SAFETY: the reference vouches for 64 writable bytes, and this store asks for no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

/// The bytes of a block's beginning (the first 64 of `bytes`), followed by zeros.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn part(bytes: &[u8]) -> __m512i {
    // SAFETY: the mask has a bit for each of the slice's first 64 bytes and none beyond its end; bytes that are masked
    // off are not touched.
    unsafe { _mm512_maskz_loadu_epi8(mask(bytes.len()), bytes.as_ptr().cast()) }
}

/// Writes as much of a block as `bytes` has room for.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn store_part(bytes: &mut [u8], vector: __m512i) {
    // SAFETY: as in `part`.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask(bytes.len()), vector) }
}

/// The first `length` bytes of a vector, followed by zeros.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn truncate(vector: __m512i, length: usize) -> __m512i {
    _mm512_maskz_mov_epi8(mask(length), vector)
}

/// One word for each lane.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn words(words: &[u64; 8]) -> __m512i {
    // SAFETY: eight words are 64 readable bytes, and this load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// The word of each lane.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
pub(super) fn to_words(vector: __m512i) -> [u64; 8] {
    let mut words = [0; 8];
    // SAFETY: eight words are 64 writable bytes, and this store asks for no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
    words
}

/// One bit for each of the first `length` bytes of a vector; all of them from 64 on.
const fn mask(length: usize) -> __mmask64 {
    match length {
        0..64 => (1 << length) - 1,
        _ => u64::MAX,
    }
}
