//! Poly1305 (RFC 8439, section 2.5) of eight messages side by side, a 64-bit lane for a message.
//!
//! Numbers modulo p = 2^130 - 5 are three limbs of 44 bits: x = x0 + x1 * 2^44 + x2 * 2^88. Limbs are carried lazily: between
//! steps they are below 2^44 + 2^17, and 2^45.1 with a message block added. The multiplier takes factors below 2^52 and adds
//! either the low 52 bits of a product or the bits above them, which weigh 2^52 = 2^44 * 2^8. What leaves the third limb
//! weighs 2^132, which is 20 modulo p.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmplt_epu64_mask, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_mask_add_epi64, _mm512_mask_mov_epi64, _mm512_movepi64_mask, _mm512_or_si512, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_slli_epi64, _mm512_srli_epi64, _mm512_sub_epi64,
};

/// Three limbs, lowest first.
type Limbs = [__m512i; 3];

/// A 16-byte block of each message with the bit that marks its length, as limbs.
#[derive(Clone, Copy)]
pub(super) struct Block(Limbs);

impl Block {
    /// From the low and the high word of whole blocks: bit 128, which is bit 40 of the third limb, is set.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn whole((low, high): (__m512i, __m512i)) -> Self {
        let [b0, b1, b2] = limbs(low, high);
        Self([b0, b1, _mm512_or_si512(b2, _mm512_set1_epi64(1 << 40))])
    }

    /// A block that is already padded: the last one of a message that is no multiple of 16 bytes.
    #[cfg(test)]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    pub(super) fn padded((low, high): (__m512i, __m512i)) -> Self {
        Self(limbs(low, high))
    }
}

/// A factor, with its upper limbs times 20.
#[derive(Clone, Copy)]
struct Factor {
    limbs: Limbs,
    twenty: [__m512i; 2],
}

/// The authenticators of eight messages.
pub(super) struct Poly {
    sum: Limbs,
    /// r, r^2, r^3, r^4.
    powers: [Factor; 4],
    /// The low and the high word of what is added at the end.
    s: [__m512i; 2],
}

impl Poly {
    /// From the low and high words of `r` and of `s`; clamps `r`.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn new([r_low, r_high, s_low, s_high]: [__m512i; 4]) -> Self {
        let r = limbs(
            _mm512_and_si512(r_low, _mm512_set1_epi64(0x0fff_fffc_0fff_ffff)),
            _mm512_and_si512(r_high, _mm512_set1_epi64(0x0fff_fffc_0fff_fffc)),
        );
        let r1 = Factor::new(r);
        let r2 = Factor::new(Product::zero().add(r, &r1).carry());
        let r3 = Factor::new(Product::zero().add(r2.limbs, &r1).carry());
        let r4 = Factor::new(Product::zero().add(r2.limbs, &r2).carry());
        let zero = _mm512_setzero_si512();
        Self { sum: [zero; 3], powers: [r1, r2, r3, r4], s: [s_low, s_high] }
    }

    /// The next block of each message.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn absorb(&mut self, block: Block) {
        let [r1, ..] = &self.powers;
        self.sum = Product::zero().add(sum(self.sum, block.0), r1).carry();
    }

    /// The next four blocks of each message. The products that do not wait for the sum so far come first.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn absorb_four(&mut self, [b0, b1, b2, b3]: [Block; 4]) {
        let [r1, r2, r3, r4] = &self.powers;
        let later = Product::zero().add(b3.0, r1).add(b2.0, r2).add(b1.0, r3);
        self.sum = later.add(sum(self.sum, b0.0), r4).carry();
    }

    /// The low and the high word of the tags.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    pub(super) fn tags(self) -> [__m512i; 2] {
        let [h0, h1, h2] = reduce(self.sum);
        let low = _mm512_or_si512(h0, _mm512_slli_epi64::<44>(h1));
        let high = _mm512_or_si512(_mm512_srli_epi64::<20>(h1), _mm512_slli_epi64::<24>(h2));
        let [s_low, s_high] = self.s;
        let low = _mm512_add_epi64(low, s_low);
        let high = _mm512_add_epi64(high, s_high);
        let carry = _mm512_cmplt_epu64_mask(low, s_low);
        [low, _mm512_mask_add_epi64(high, carry, high, _mm512_set1_epi64(1))]
    }
}

impl Factor {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn new(limbs: Limbs) -> Self {
        let [_, l1, l2] = limbs;
        Self { limbs, twenty: [times_twenty(l1), times_twenty(l2)] }
    }
}

/// A sum of products: for each limb the low halves (52 bits) and the high ones, which weigh 2^52 more.
#[derive(Clone, Copy)]
struct Product {
    low: Limbs,
    high: Limbs,
}

impl Product {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn zero() -> Self {
        let zero = _mm512_setzero_si512();
        Self { low: [zero; 3], high: [zero; 3] }
    }

    /// Adds `x * factor`, for `x` below 2^45.1 a limb. Up to four products fit: low halves add up to less than 12 * 2^52.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn add(self, [x0, x1, x2]: Limbs, factor: &Factor) -> Self {
        let [f0, f1, f2] = factor.limbs;
        let [t1, t2] = factor.twenty;
        let [low0, low1, low2] = self.low;
        let [high0, high1, high2] = self.high;
        let (low0, high0) = multiply(low0, high0, x0, f0);
        let (low1, high1) = multiply(low1, high1, x0, f1);
        let (low2, high2) = multiply(low2, high2, x0, f2);
        let (low0, high0) = multiply(low0, high0, x1, t2);
        let (low1, high1) = multiply(low1, high1, x1, f0);
        let (low2, high2) = multiply(low2, high2, x1, f1);
        let (low0, high0) = multiply(low0, high0, x2, t1);
        let (low1, high1) = multiply(low1, high1, x2, t2);
        let (low2, high2) = multiply(low2, high2, x2, f0);
        Self { low: [low0, low1, low2], high: [high0, high1, high2] }
    }

    /// Brings the halves together (each limb below 2^57) and moves what is above 44 bits one limb up, all limbs at a time.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    #[inline]
    fn carry(self) -> Limbs {
        let [low0, low1, low2] = self.low;
        let [high0, high1, high2] = self.high;
        // The high half of the third limb weighs 2^132 * 2^8: 20 * 2^8 = 2^12 + 2^10 in the first limb.
        let wrapped = _mm512_add_epi64(_mm512_slli_epi64::<10>(high2), _mm512_slli_epi64::<12>(high2));
        let d0 = _mm512_add_epi64(low0, wrapped);
        let d1 = _mm512_add_epi64(low1, _mm512_slli_epi64::<8>(high0));
        let d2 = _mm512_add_epi64(low2, _mm512_slli_epi64::<8>(high1));
        [
            _mm512_add_epi64(low_bits::<44>(d0), times_twenty(_mm512_srli_epi64::<44>(d2))),
            _mm512_add_epi64(low_bits::<44>(d1), _mm512_srli_epi64::<44>(d0)),
            _mm512_add_epi64(low_bits::<44>(d2), _mm512_srli_epi64::<44>(d1)),
        ]
    }
}

/// Adds the halves of a product to what is there.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn multiply(low: __m512i, high: __m512i, x: __m512i, y: __m512i) -> (__m512i, __m512i) {
    (_mm512_madd52lo_epu64(low, x, y), _mm512_madd52hi_epu64(high, x, y))
}

/// The one representation of a number that is below p.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn reduce([h0, h1, h2]: Limbs) -> Limbs {
    // What is above 2^130 counts five times; after that the number is below 2^130 + 2^62, so below 2 * p.
    let above = _mm512_srli_epi64::<42>(h2);
    let five = _mm512_add_epi64(above, _mm512_slli_epi64::<2>(above));
    let h = ripple([_mm512_add_epi64(h0, five), h1, low_bits::<42>(h2)]);
    let [h0, h1, h2] = h;
    // The number is p or more exactly when adding five reaches 2^130; then that sum without this bit is the result.
    let [g0, g1, g2] = ripple([_mm512_add_epi64(h0, _mm512_set1_epi64(5)), h1, h2]);
    let g2 = _mm512_sub_epi64(g2, _mm512_set1_epi64(1 << 42));
    let below = _mm512_movepi64_mask(g2);
    [_mm512_mask_mov_epi64(g0, below, h0), _mm512_mask_mov_epi64(g1, below, h1), _mm512_mask_mov_epi64(g2, below, h2)]
}

/// Carries from limb to limb; the third keeps what is above it.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn ripple([h0, h1, h2]: Limbs) -> Limbs {
    let h1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<44>(h0));
    let h2 = _mm512_add_epi64(h2, _mm512_srli_epi64::<44>(h1));
    [low_bits::<44>(h0), low_bits::<44>(h1), h2]
}

/// The limbs of a number of 128 bits.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn limbs(low: __m512i, high: __m512i) -> Limbs {
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    [low_bits::<44>(low), low_bits::<44>(middle), _mm512_srli_epi64::<24>(high)]
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn sum([a0, a1, a2]: Limbs, [b0, b1, b2]: Limbs) -> Limbs {
    [_mm512_add_epi64(a0, b0), _mm512_add_epi64(a1, b1), _mm512_add_epi64(a2, b2)]
}

/// 20 = 16 + 4.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn times_twenty(x: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_slli_epi64::<4>(x), _mm512_slli_epi64::<2>(x))
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
#[inline]
fn low_bits<const BITS: u32>(x: __m512i) -> __m512i {
    _mm512_and_si512(x, _mm512_set1_epi64((1 << BITS) - 1))
}
