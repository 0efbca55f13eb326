//! The functions of the WireGuard paper §5.4: HASH and MAC (BLAKE2s, RFC 7693), HMAC (RFC 2104), KDF (RFC 5869), AEAD and XAEAD
//! (ChaCha20-Poly1305, RFC 8439) for handshake messages. Whatever may be secret is wiped when it is dropped.

use blake2::digest::consts::U16;
use blake2::digest::{Digest, FixedOutput, KeyInit as _, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20poly1305::aead::{AeadInPlace, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag, XChaCha20Poly1305, XNonce};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// 32 secret bytes.
pub(super) type Secret = Zeroizing<[u8; 32]>;

/// BLAKE2s takes blocks of so many bytes.
const BLOCK: usize = 64;

/// HASH of the parts, one after the other.
pub(super) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    parts.iter().for_each(|part| Digest::update(&mut hash, part));
    hash.finalize().into()
}

/// MAC: keyed BLAKE2s of 16 bytes. `None` for a key of more than 32 bytes, which nobody has.
pub(super) fn mac(key: &[u8], message: &[u8]) -> Option<[u8; 16]> {
    let mut mac = Blake2sMac::<U16>::new_from_slice(key).ok()?;
    mac.update(message);
    Some(mac.finalize_fixed().into())
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Secret {
    let pad = |byte: u8| {
        let mut block = Zeroizing::new([byte; BLOCK]);
        block.iter_mut().zip(key).for_each(|(place, key)| *place ^= key);
        block
    };
    let (inner_pad, outer_pad) = (pad(0x36), pad(0x5c));
    let mut inner = Blake2s256::new();
    Digest::update(&mut inner, inner_pad.as_slice());
    parts.iter().for_each(|part| Digest::update(&mut inner, part));
    let inner = Zeroizing::<[u8; 32]>::new(inner.finalize().into());
    let mut outer = Blake2s256::new();
    Digest::update(&mut outer, outer_pad.as_slice());
    Digest::update(&mut outer, inner.as_slice());
    Zeroizing::new(outer.finalize().into())
}

/// KDF: `N` keys out of one and what is mixed in.
pub(super) fn kdf<const N: usize>(key: &[u8; 32], input: &[u8]) -> [Secret; N] {
    let root = hmac(key, &[input]);
    let (mut last, mut number) = (None::<Secret>, 0_u8);
    std::array::from_fn(|_| {
        number += 1;
        let before = last.as_ref().map_or(&[][..], |last| last.as_slice());
        let next = hmac(&root, &[before, &[number]]);
        last = Some(next.clone());
        next
    })
}

/// AEAD with nonce 0: encrypts in place and gives the tag.
pub(super) fn seal(key: &Secret, additional: &[u8], text: &mut [u8]) -> Option<[u8; 16]> {
    let cipher = ChaCha20Poly1305::new_from_slice(key.as_slice()).ok()?;
    cipher.encrypt_in_place_detached(&Nonce::default(), additional, text).ok().map(Into::into)
}

/// The reverse; `None` and nothing readable if it is not authentic.
pub(super) fn open(key: &Secret, additional: &[u8], text: &mut [u8], tag: &[u8; 16]) -> Option<()> {
    let cipher = ChaCha20Poly1305::new_from_slice(key.as_slice()).ok()?;
    cipher.decrypt_in_place_detached(&Nonce::default(), additional, text, Tag::from_slice(tag)).ok()
}

/// XAEAD, for cookies.
pub(super) fn open_extended(
    key: &[u8; 32],
    nonce: &[u8; 24],
    additional: &[u8],
    mut text: [u8; 16],
    tag: &[u8; 16],
) -> Option<[u8; 16]> {
    let cipher = XChaCha20Poly1305::new_from_slice(key).ok()?;
    cipher.decrypt_in_place_detached(XNonce::from_slice(nonce), additional, &mut text, Tag::from_slice(tag)).ok()?;
    Some(text)
}

/// Random bytes of the operating system. `None` if it has none, and then there is no handshake.
pub(super) fn random<const N: usize>() -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut_slice()).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 7693 appendix B, and BLAKE2's own keyed test vector of the empty message with a key of 32 bytes.
    #[test]
    fn hashes_are_those_of_the_standard() {
        assert_eq!(hex(&hash(&[b"a", b"bc"])), "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
        let key: Vec<u8> = (0..32).collect();
        let full = <blake2::Blake2sMac256 as blake2::digest::KeyInit>::new_from_slice(&key).unwrap().finalize_fixed();
        assert_eq!(hex(&full), "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49");
        assert_ne!(mac(&key, b""), mac(&key[..16], b""));
    }

    /// Computed with Python's `hmac` and `hashlib.blake2s`.
    #[test]
    fn derived_keys_are_those_of_another_implementation() {
        let key: [u8; 32] = std::array::from_fn(|place| u8::try_from(place).unwrap());
        let [one, two, three] = kdf::<3>(&key, b"input");
        assert_eq!(hex(one.as_slice()), "87b7f70b24183c6db5dc4f6d9f4c47cdb203321aa2a0bef714896adb3107a040");
        assert_eq!(hex(two.as_slice()), "538a02e1eb2e31b7e4d4b82476d1fe2acf50085d3fb584537279195f5d1f5824");
        assert_eq!(hex(three.as_slice()), "9ad858025593be88de0f9442a589cfe84a88dc19e4753d93684d1c5efc4837f9");
        assert_eq!(kdf::<1>(&key, b"input")[0], one);
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_only() {
        let (key, other) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let mut text = *b"twelve bytes";
        let tag = seal(&key, b"hash", &mut text).unwrap();
        for (key, additional) in [(&other, &b"hash"[..]), (&key, b"hush")] {
            assert_eq!(open(key, additional, &mut text.clone(), &tag), None);
        }
        assert_eq!(open(&key, b"hash", &mut text, &tag), Some(()));
        assert_eq!(&text, b"twelve bytes");
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    }
}
