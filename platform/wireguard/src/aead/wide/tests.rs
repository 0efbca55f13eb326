//! The pieces of the wide cipher: the vectors of RFC 8439 in every lane, and Poly1305 against schoolbook arithmetic.
#![expect(unsafe_code, reason = "the instructions must be there")]

use std::arch::x86_64::{__m512i, _mm512_set1_epi32};

use super::chacha::{self, Start};
use super::poly::{Block, Poly};
use super::{LANES, Wide, load, transpose};
use crate::aead::tests::Random;

/// Says why where a test cannot run.
fn wide() -> Option<Wide> {
    let wide = Wide::detect();
    if wide.is_none() {
        eprintln!("SKIPPED: this processor has no AVX-512 F, VL, BW, DQ and IFMA, so nothing of the wide cipher was tested");
    }
    wide
}

fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "{digits}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// A message of a lane and its key.
#[derive(Clone)]
struct Message {
    key: [u8; 32],
    text: Vec<u8>,
}

/// Messages of one length through the lanes, by fours where they last or block by block.
fn tags(_: Wide, messages: &[Message; LANES], fours: bool) -> [[u8; 16]; LANES] {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    fn rows(messages: &[Message; LANES], piece: impl Fn(&Message) -> Vec<u8>) -> [(__m512i, __m512i); 4] {
        let mut rows = [_mm512_set1_epi32(0); LANES];
        for (row, message) in rows.iter_mut().zip(messages) {
            *row = load::part(&piece(message));
        }
        transpose::lanes(rows)
    }
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    fn tags(messages: &[Message; LANES], fours: bool) -> [[u8; 16]; LANES] {
        let [r, s, ..] = rows(messages, |message| message.key.to_vec());
        let mut poly = Poly::new([r.0, r.1, s.0, s.1]);
        let length = messages[0].text.len();
        let mut at = 0;
        while at < length {
            if fours && length - at >= 64 {
                let blocks = rows(messages, |message| message.text[at..at + 64].to_vec());
                poly.absorb_four(blocks.map(|block| Block::whole(block)));
                at += 64;
            } else if length - at >= 16 {
                poly.absorb(Block::whole(rows(messages, |message| message.text[at..at + 16].to_vec())[0]));
                at += 16;
            } else {
                poly.absorb(Block::padded(rows(messages, |message| [&message.text[at..], &[1]].concat())[0]));
                at = length;
            }
        }
        let [low, high] = poly.tags();
        let (low, high) = (load::to_words(low), load::to_words(high));
        std::array::from_fn(|lane| (u128::from(low[lane]) | u128::from(high[lane]) << 64).to_le_bytes())
    }
    // SAFETY: a `Wide` is evidence of the features.
    unsafe { tags(messages, fours) }
}

/// Poly1305 as RFC 8439, section 2.5.1 says it, byte by byte.
fn schoolbook(message: &Message) -> [u8; 16] {
    let mut r: Vec<u64> = message.key[..16].iter().map(|byte| u64::from(*byte)).collect();
    for top in [3, 7, 11, 15] {
        r[top] &= 15;
    }
    for low in [4, 8, 12] {
        r[low] &= 252;
    }
    r.push(0);
    let mut sum = [0_u64; 17];
    for chunk in message.text.chunks(16) {
        for (digit, byte) in sum.iter_mut().zip(chunk.iter().chain(&[1])) {
            *digit += u64::from(*byte);
        }
        let mut product = [0_u64; 17];
        for (i, digit) in product.iter_mut().enumerate() {
            for j in 0..17 {
                // 2^136 is 2^6 * 5 modulo 2^130 - 5.
                *digit += if j <= i { sum[j] * r[i - j] } else { 320 * sum[j] * r[i + 17 - j] };
            }
        }
        sum = normal(product);
    }
    // p is subtracted if that leaves something.
    let mut less = sum;
    less[0] += 5;
    let less = carried(less);
    if less[16] >= 4 {
        sum = less;
        sum[16] -= 4;
    }
    for (digit, byte) in sum.iter_mut().zip(&message.key[16..]) {
        *digit += u64::from(*byte);
    }
    let sum = carried(sum);
    std::array::from_fn(|at| u8::try_from(sum[at]).unwrap())
}

/// Digits below 256, and the last one whatever is left.
fn carried(mut digits: [u64; 17]) -> [u64; 17] {
    for at in 0..16 {
        digits[at + 1] += digits[at] >> 8;
        digits[at] &= 255;
    }
    digits
}

/// Below 2^130 or a little more.
fn normal(digits: [u64; 17]) -> [u64; 17] {
    let mut digits = carried(digits);
    for _ in 0..2 {
        digits[0] += 5 * (digits[16] >> 2);
        digits[16] &= 3;
        digits = carried(digits);
    }
    digits
}

const IETF: &str = "Any submission to the IETF intended by the Contributor for publication as all or part of an IETF \
    Internet-Draft or RFC and any statement made within the context of an IETF activity is considered an \"IETF \
    Contribution\". Such statements include oral statements in IETF sessions, as well as written and electronic \
    communications made at any time or place, which are addressed to";

const JABBERWOCKY: &str = "'Twas brillig, and the slithy toves\nDid gyre and gimble in the wabe:\nAll mimsy were the \
    borogoves,\nAnd the mome raths outgrabe.";

/// r and s, the message and its tag: section 2.5.2, then appendix A.3 in order.
fn vectors() -> Vec<(String, Vec<u8>, &'static str)> {
    let zeros = "00".repeat(16);
    let ones = "ff".repeat(16);
    let key = |r: &str, s: &str| format!("{r:0<32}{s:0<32}");
    vec![
        (
            key("85d6be7857556d337f4452fe42d506a8", "0103808afb0db2fd4abff6af4149f51b"),
            b"Cryptographic Forum Research Group".to_vec(),
            "a8061dc1305136c6c22b8baf0c0127a9",
        ),
        (key("", ""), vec![0; 64], "00000000000000000000000000000000"),
        (key("", "36e5f6b5c5e06070f0efca96227a863e"), IETF.into(), "36e5f6b5c5e06070f0efca96227a863e"),
        (key("36e5f6b5c5e06070f0efca96227a863e", ""), IETF.into(), "f3477e7cd95417af89a6b8794c310cf0"),
        (
            key("1c9240a5eb55d38af333888604f6b5f0", "473917c1402b80099dca5cbc207075c0"),
            JABBERWOCKY.into(),
            "4541669a7eaaee61e708dc7cbcc5eb62",
        ),
        (key("02", ""), hex(&ones), "03000000000000000000000000000000"),
        (key("02", &ones), hex(&format!("{:0<32}", "02")), "03000000000000000000000000000000"),
        (key("01", ""), hex(&format!("{ones}f0{}11{}", &ones[2..], &zeros[2..])), "05000000000000000000000000000000"),
        (key("01", ""), hex(&format!("{ones}fb{}{}", "fe".repeat(15), "01".repeat(16))), "00000000000000000000000000000000"),
        (key("02", ""), hex(&format!("fd{}", &ones[2..])), "faffffffffffffffffffffffffffffff"),
        (
            key("01000000000000000400000000000000", ""),
            hex(
                "e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000000000000000000001000000000000000000000000000000",
            ),
            "14000000000000005500000000000000",
        ),
        (
            key("01000000000000000400000000000000", ""),
            hex("e33594d7505e43b900000000000000003394d7505e4379cd010000000000000000000000000000000000000000000000"),
            "13000000000000000000000000000000",
        ),
    ]
}

#[test]
fn poly1305_gives_the_tags_of_rfc_8439_in_every_lane() {
    let Some(wide) = wide() else { return };
    let mut random = Random::new(1);
    for (at, (key, text, tag)) in vectors().into_iter().enumerate() {
        let vector = Message { key: hex(&key).try_into().unwrap(), text };
        assert_eq!(schoolbook(&vector).to_vec(), hex(tag), "the reference, vector {at}");
        for lane in 0..LANES {
            let mut messages: [Message; LANES] = std::array::from_fn(|_| random_message(&mut random, vector.text.len()));
            messages[lane] = vector.clone();
            for fours in [false, true] {
                let tags = tags(wide, &messages, fours);
                assert_eq!(tags[lane].to_vec(), hex(tag), "vector {at}, lane {lane}, fours {fours}");
                assert_eq!(tags, messages.each_ref().map(schoolbook), "vector {at} in lane {lane} disturbs its neighbours");
            }
        }
    }
}

fn random_message(random: &mut Random, length: usize) -> Message {
    Message { key: random.bytes(32).try_into().unwrap(), text: random.bytes(length) }
}

#[test]
fn poly1305_is_right_where_limbs_are_fullest_and_where_sums_end_near_p() {
    let Some(wide) = wide() else { return };
    let mut random = Random::new(2);
    // Bytes that fill limbs, empty them, or let a carry run through all of them.
    let pick = |random: &mut Random, length: usize| -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let run = 1 + usize::from(random.bytes(1)[0] % 24);
            let value = [0xff, 0x00, 0xff, 0xfe, 0x01, 0x0f, 0xfc, 0xfb][usize::from(random.bytes(1)[0] % 8)];
            bytes.extend(std::iter::repeat_n(value, run));
        }
        bytes.truncate(length);
        bytes
    };
    for round in 0..6_000 {
        let length = [16, 32, 48, 64, 80, 128, 144, 208, 640, 1_424][round % 10];
        let messages = std::array::from_fn(|_| {
            let mut key: [u8; 32] = pick(&mut random, 32).try_into().unwrap();
            if round % 3 == 0 {
                // A small factor keeps what the message says: sums end within a few units of p and of 2^128.
                key[..16].fill(0);
                key[0] = 1 + random.bytes(1)[0] % 4;
            }
            Message { key, text: pick(&mut random, length) }
        });
        for fours in [false, true] {
            assert_eq!(tags(wide, &messages, fours), messages.each_ref().map(schoolbook), "round {round}, fours {fours}");
        }
    }
    let full = Message { key: [0xff; 32], text: vec![0xff; 65_536] };
    let messages = std::array::from_fn(|_| full.clone());
    assert_eq!(tags(wide, &messages, true), [schoolbook(&full); LANES]);
}

#[test]
fn sums_on_both_sides_of_the_multiples_of_p_are_reduced() {
    let Some(wide) = wide() else { return };
    // With r = 1 the sum is that of the blocks: 2n full ones make n * 2^130 - 2n, and n * p is 3n below that.
    for n in [1, 2, 3, 4, 8, 16, 32, 64] {
        for less in 0..=255_u128 {
            let mut text = vec![0xff; 16 * (2 * n - 1)];
            text.extend((u128::MAX - less).to_le_bytes());
            let mut key = [0; 32];
            key[0] = 1;
            let message = Message { key, text };
            let messages = std::array::from_fn(|_| message.clone());
            let expected = [schoolbook(&message); LANES];
            for fours in [false, true] {
                assert_eq!(tags(wide, &messages, fours), expected, "{n} times p, {less} less");
            }
        }
    }
}

/// Key stream of 8 lanes from block 0 on; the first word of the nonce is `first` in all of them.
fn stream(_: Wide, key: &[u8], first: u8, counters: &[u64; LANES]) -> ([[u8; 32]; LANES], Vec<Vec<u8>>) {
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")]
    fn stream(key: &[u8], first: u8, counters: &[u64; LANES]) -> ([[u8; 32]; LANES], Vec<Vec<u8>>) {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.chunks(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap());
        }
        let mut start = Start::new(&words, counters);
        start.0[13] = _mm512_set1_epi32(i32::from(first));
        let [first, second] = start.next();
        let [third, _] = start.next();
        let keys = chacha::one_time_keys(&first).map(|word| load::to_words(word));
        let keys = std::array::from_fn(|lane| {
            let words: Vec<u8> = keys.iter().flat_map(|words| words[lane].to_le_bytes()).collect();
            words.try_into().unwrap()
        });
        let mut streams = vec![Vec::new(); LANES];
        for words in [first, second, third] {
            let (even, odd) = transpose::blocks(words);
            for ((stream, even), odd) in streams.iter_mut().zip(even).zip(odd) {
                for row in [even, odd] {
                    let mut block = [0; 64];
                    load::store_block(&mut block, row);
                    stream.extend(block);
                }
            }
        }
        (keys, streams)
    }
    // SAFETY: a `Wide` is evidence of the features.
    unsafe { stream(key, first, counters) }
}

const SUNSCREEN: &str = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
    sunscreen would be it.";

fn xor(text: &[u8], stream: &[u8]) -> Vec<u8> {
    text.iter().zip(stream).map(|(text, stream)| text ^ stream).collect()
}

#[test]
fn chacha20_gives_the_text_of_rfc_8439_section_2_4_2_in_every_lane() {
    let Some(wide) = wide() else { return };
    let key: Vec<u8> = (0..32).collect();
    let sealed = hex(
        "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a35be6b40b8eedf2785e42874d",
    );
    for lane in 0..LANES {
        let mut counters = [u64::MAX; LANES];
        counters[lane] = 0x4a00_0000;
        // Block counter 1.
        let (_, streams) = stream(wide, &key, 0, &counters);
        assert_eq!(xor(SUNSCREEN.as_bytes(), &streams[lane][64..]), sealed, "lane {lane}");
    }
}

#[test]
fn the_pieces_make_the_sealed_message_of_rfc_8439_section_2_8_2() {
    let Some(wide) = wide() else { return };
    let key: Vec<u8> = (0x80..0xa0).collect();
    let counters = [u64::from_le_bytes([0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47]); LANES];
    let (keys, streams) = stream(wide, &key, 7, &counters);
    let messages = std::array::from_fn(|lane| {
        let sealed = xor(SUNSCREEN.as_bytes(), &streams[lane][64..]);
        assert_eq!(
            sealed,
            hex(
                "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116"
            ),
        );
        assert_eq!(keys[lane][..], streams[lane][..32]);
        let mut text = hex("50515253c0c1c2c3c4c5c6c700000000");
        text.extend(&sealed);
        text.extend([0; 14]);
        text.extend(12_u64.to_le_bytes());
        text.extend(114_u64.to_le_bytes());
        Message { key: keys[lane], text }
    });
    for fours in [false, true] {
        for tag in tags(wide, &messages, fours) {
            assert_eq!(tag.to_vec(), hex("1ae10b594f09e26a7e902ecbd0600691"));
        }
    }
}
