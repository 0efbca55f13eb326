//! One session: two keys, two counters (WireGuard paper §5.4.6), and how long they may be used (§6.1 and §6.2).

use super::handshake::Keys;
use super::replay::Window;
use crate::aead::Key;
use gotatun::noise::index_table::Index;

/// Bytes before the text: type, three zeros, receiver's index, counter.
pub(crate) const HEADER: usize = 16;
/// Bytes around the text, the tag included. A packet of so many is a keepalive.
pub(crate) const OVERHEAD: usize = HEADER + 16;

/// Packets under one key before another is asked for.
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Counters from here on are not used: a nonce must never come again.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// Age at which a session's keys are wiped.
pub(super) const REJECT_AFTER_MS: u64 = 180_000;
/// Age at which its initiator asks for another when something comes in: Reject-After-Time − Keepalive-Timeout − Rekey-Timeout.
const REKEY_ON_RECEIVE_MS: u64 = 165_000;

/// Type of a data packet, with the three zeros behind it.
const DATA: u32 = 4;

pub(super) struct Session {
    /// Freed for others with the session.
    index: Index,
    peer_index: u32,
    send: Key,
    receive: Key,
    /// The counter of the next packet.
    next: u64,
    window: Window,
    born_ms: u64,
    /// We asked for it, and ask for the next.
    initiator: bool,
    rekey_after_ms: u64,
    /// The other side has used it; before that, who responded does not.
    pub(super) confirmed: bool,
}

/// What the header of a data packet says: whose session, which packet.
pub(crate) fn index_of(packet: &[u8]) -> Option<u32> {
    packet.get(4..8).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes)
}

/// Type, index and counter, all little endian.
fn header_of(peer_index: u32, counter: u64) -> [u8; HEADER] {
    (u128::from(counter) << 64 | u128::from(peer_index) << 32 | u128::from(DATA)).to_le_bytes()
}

fn counter_of(packet: &[u8]) -> Option<u64> {
    packet.get(8..HEADER).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes)
}

impl Session {
    /// An initiator's session is confirmed by the response.
    pub(super) fn new(index: Index, keys: &Keys, initiator: bool, now_ms: u64, rekey_after_ms: u64) -> Self {
        Self {
            index,
            peer_index: keys.index,
            send: Key::new(&keys.send),
            receive: Key::new(&keys.receive),
            next: 0,
            window: Window::new(),
            born_ms: now_ms,
            initiator,
            rekey_after_ms,
            confirmed: initiator,
        }
    }

    pub(super) fn index(&self) -> u32 {
        self.index.value()
    }

    /// When its keys were agreed on.
    pub(super) const fn born_ms(&self) -> u64 {
        self.born_ms
    }

    pub(super) const fn ends_ms(&self) -> u64 {
        self.born_ms.saturating_add(REJECT_AFTER_MS)
    }

    /// May be used for another packet, in either direction.
    pub(super) const fn is_live(&self, now_ms: u64) -> bool {
        now_ms < self.ends_ms()
    }

    /// May be used for sending.
    pub(super) const fn can_send(&self, now_ms: u64) -> bool {
        self.is_live(now_ms) && self.confirmed && self.next < REJECT_AFTER_MESSAGES
    }

    /// Whether something that was just sent asks for another session.
    pub(super) const fn rekeys_on_send(&self, now_ms: u64) -> bool {
        self.next >= REKEY_AFTER_MESSAGES || (self.initiator && now_ms >= self.born_ms.saturating_add(self.rekey_after_ms))
    }

    /// Whether something that just came asks for another session.
    pub(super) const fn rekeys_on_receive(&self, now_ms: u64) -> bool {
        self.initiator && now_ms >= self.born_ms.saturating_add(REKEY_ON_RECEIVE_MS)
    }

    /// Writes headers and seals packets of `stride` bytes, the last of which may be shorter. `None`, and nothing changed, if
    /// there are not as many counters left.
    pub(super) fn seal(&mut self, stride: usize, train: &mut [u8]) -> Option<()> {
        let stride = stride.max(1);
        let count = u64::try_from(train.len().div_ceil(stride)).ok()?;
        let (first, end) = (self.next, self.next.checked_add(count).filter(|end| *end <= REJECT_AFTER_MESSAGES)?);
        if train.chunks(stride).any(|packet| packet.len() < OVERHEAD) {
            return None;
        }
        for (packet, counter) in train.chunks_mut(stride).zip(first..) {
            if let Some(header) = packet.first_chunk_mut::<HEADER>() {
                *header = header_of(self.peer_index, counter);
            }
        }
        // Whatever happens below, these counters are used.
        self.next = end;
        self.send.seal_train(first, stride, train).ok()
    }

    /// Opens packets of `stride` bytes in place, the last of which may be shorter. One verdict for each: authentic, and not seen
    /// before.
    pub(super) fn open(&mut self, stride: usize, train: &mut [u8], verdicts: &mut Vec<bool>) {
        let stride = stride.max(1);
        verdicts.clear();
        let Self { receive, window, .. } = self;
        let fresh =
            |packet: &[u8]| counter_of(packet).filter(|counter| *counter < REJECT_AFTER_MESSAGES && window.is_fresh(*counter));
        if train.chunks(stride).all(|packet| fresh(packet).is_some()) {
            receive.open_train(stride, train, verdicts);
        } else {
            // What was seen costs no key work.
            let open = |packet: &mut [u8]| fresh(packet).is_some_and(|counter| receive.open(counter, packet).is_ok());
            verdicts.extend(train.chunks_mut(stride).map(open));
        }
        for (verdict, packet) in verdicts.iter_mut().zip(train.chunks(stride)) {
            // Only what is authentic moves the window.
            *verdict = *verdict && counter_of(packet).is_some_and(|counter| window.accept(counter));
        }
    }

    /// Near the end of the counters without that many packets.
    #[cfg(test)]
    pub(super) const fn skip_to(&mut self, next: u64) {
        self.next = next;
    }

    /// A packet with this counter, allowed or not.
    #[cfg(test)]
    pub(super) fn seal_at(&self, counter: u64) -> Vec<u8> {
        let mut packet = vec![0; OVERHEAD + 16];
        packet[..HEADER].copy_from_slice(&header_of(self.peer_index, counter));
        self.send.seal(counter, &mut packet).unwrap();
        packet
    }
}

#[cfg(test)]
pub(super) const LIMITS: [u64; 2] = [REKEY_AFTER_MESSAGES, REJECT_AFTER_MESSAGES];
