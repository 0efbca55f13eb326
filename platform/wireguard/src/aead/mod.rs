//! The cipher of WireGuard's data messages: ChaCha20-Poly1305 (RFC 8439) with the packet counter as nonce and without
//! associated data.
//!
//! One packet is ring's work. A train of packets of one length goes through [`wide`] in groups of eight where the processor
//! has AVX-512 with its 52-bit multiplier (Intel since Ice Lake, AMD since Zen 4), and through ring elsewhere.

#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide;
#[cfg(not(target_arch = "x86_64"))]
#[path = "narrow.rs"]
mod wide;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use self::wide::{LANES, Packet, Wide};

/// The header before the text (receiver and counter), in bytes.
const HEADER: usize = 16;
/// The tag after the text, in bytes.
const TAG: usize = 16;
/// How many packets are worth a group with empty lanes. A group takes as long as two and a half packets of ring's where the
/// processor works on 512 bits at a time, and longer where it takes them in halves.
const LEAST: usize = 4;
/// The longest packet of a train, in bytes: what a UDP datagram can carry. The block counter of the cipher lasts longer.
pub(crate) const LONGEST: usize = 65_535;

/// A packet that is too short or too long, counters that run out, or a tag that does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet cannot be sealed or opened")]
pub(crate) struct Refused;

/// The key of one direction of one session.
pub(crate) struct Key {
    words: [u32; 8],
    wide: Option<Wide>,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.words.zeroize();
    }
}

impl Key {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self { words, wide: Wide::detect() }
    }

    /// ring's form of the key, made for each use: ring does not wipe what it holds, and on the stack it does not last.
    fn single(&self) -> Result<LessSafeKey, Refused> {
        let mut key = [0; 32];
        for (bytes, word) in key.as_chunks_mut().0.iter_mut().zip(self.words) {
            *bytes = word.to_le_bytes();
        }
        let single = UnboundKey::new(&CHACHA20_POLY1305, &key).map(LessSafeKey::new);
        key.zeroize();
        // ring refuses nothing but keys of another length.
        single.map_err(|_| Refused)
    }

    /// Seals the text of `packet` = header | text | room for the tag in place. The header is not touched.
    #[cfg(test)]
    pub(crate) fn seal(&self, counter: u64, packet: &mut [u8]) -> Result<(), Refused> {
        seal_one(&self.single()?, counter, packet)
    }

    /// Opens the text of `packet` = header | sealed text | tag in place. The text of a packet that is refused is zeroed.
    pub(crate) fn open(&self, counter: u64, packet: &mut [u8]) -> Result<(), Refused> {
        open_one(&self.single()?, counter, packet)
    }

    /// Seals packets that lie one after another, `stride` bytes each; the last one may be shorter. The counter of the first
    /// is `first`, those of the others follow. A train that is refused is left as it is.
    pub(crate) fn seal_train(&self, first: u64, stride: usize, packets: &mut [u8]) -> Result<(), Refused> {
        let Some(last) = packets.len().checked_sub(1).and_then(|last| last.checked_div(stride)) else {
            return if packets.is_empty() { Ok(()) } else { Err(Refused) };
        };
        let shortest = packets.len() - last * stride;
        let last = u64::try_from(last).ok().and_then(|last| first.checked_add(last)).ok_or(Refused)?;
        if shortest < HEADER + TAG || stride > LONGEST {
            return Err(Refused);
        }
        let single = self.single()?;
        let mut counters = first..=last;
        for group in packets.chunks_mut(stride.saturating_mul(LANES)) {
            let (wide, singles) = self.split_group(stride, group);
            if let Some((wide, mut lanes)) = wide {
                for (packet, counter) in lanes.iter_mut().filter(|packet| packet.tag.is_some()).zip(&mut counters) {
                    packet.counter = counter;
                }
                wide.seal(&self.words, lanes);
            }
            for (packet, counter) in singles.chunks_mut(stride).zip(&mut counters) {
                seal_one(&single, counter, packet)?;
            }
        }
        Ok(())
    }

    /// Opens packets that lie one after another, `stride` bytes each (a stride of 0 is no packet); the last one may be
    /// shorter. Their headers hold their counters. `good` becomes one answer for each packet; the text of a packet that is
    /// not genuine is zeroed.
    pub(crate) fn open_train(&self, stride: usize, packets: &mut [u8], good: &mut Vec<bool>) {
        good.clear();
        if stride == 0 {
            return;
        }
        let single = self.single();
        for group in packets.chunks_mut(stride.saturating_mul(LANES)) {
            let (wide, singles) = self.split_group(stride, group);
            if let Some((wide, lanes)) = wide {
                let count = lanes.iter().filter(|packet| packet.tag.is_some()).count();
                good.extend(wide.open(&self.words, lanes).into_iter().take(count));
            }
            for packet in singles.chunks_mut(stride) {
                let counter = parts(packet).map(|(counter, ..)| counter);
                let opened = single.as_ref().ok().zip(counter).map(|(single, counter)| open_one(single, counter, packet));
                good.push(matches!(opened, Some(Ok(()))));
            }
        }
    }

    /// The packets of a group that are sealed or opened side by side, and the memory of those that are not.
    fn split_group<'a>(&self, stride: usize, group: &'a mut [u8]) -> (Option<(Wide, [Packet<'a>; LANES])>, &'a mut [u8]) {
        let whole = group.len().checked_div(stride).unwrap_or(0);
        let Some(wide) = self.wide.filter(|_| whole >= LEAST && (HEADER + TAG..=LONGEST).contains(&stride)) else {
            return (None, group);
        };
        let mut lanes: [Packet<'a>; LANES] = Default::default();
        let mut packets = group.chunks_exact_mut(stride);
        for (lane, packet) in lanes.iter_mut().zip(&mut packets) {
            if let Some((counter, text, tag)) = parts(packet) {
                *lane = Packet { counter, text, tag: Some(tag) };
            }
        }
        (Some((wide, lanes)), packets.into_remainder())
    }
}

fn seal_one(key: &LessSafeKey, counter: u64, packet: &mut [u8]) -> Result<(), Refused> {
    let (_, text, tag) = parts(packet).ok_or(Refused)?;
    let sealed = key.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text).map_err(|_| Refused)?;
    tag.copy_from_slice(sealed.as_ref());
    Ok(())
}

fn open_one(key: &LessSafeKey, counter: u64, packet: &mut [u8]) -> Result<(), Refused> {
    let sealed = packet.get_mut(HEADER..).ok_or(Refused)?;
    let opened = key.open_in_place(nonce(counter), Aad::empty(), sealed).is_ok();
    if !opened {
        // ring does not promise what a refused packet holds.
        sealed.fill(0);
    }
    opened.then_some(()).ok_or(Refused)
}

/// The counter in the header, the text and the tag of a packet.
fn parts(packet: &mut [u8]) -> Option<(u64, &mut [u8], &mut [u8; TAG])> {
    let (header, rest) = packet.split_first_chunk_mut::<HEADER>()?;
    let (text, tag) = rest.split_last_chunk_mut::<TAG>()?;
    let counter = u64::from_le_bytes(*header.last_chunk::<8>()?);
    Some((counter, text, tag))
}

/// RFC 8439 takes 96 bits: four zero bytes, then the counter (WireGuard, section 5.4.6).
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    let (_, low) = nonce.split_at_mut(4);
    low.copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
