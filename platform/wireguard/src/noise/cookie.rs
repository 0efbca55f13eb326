//! MACs of handshake messages, and cookies of a peer under load (WireGuard paper §5.3, §5.4.4 and §5.4.7), on the sending side.

use super::hash::{hash, mac, open_extended};
use gotatun::packet::{WgCookieReply, WgHandshakeBase};
use gotatun::x25519::PublicKey;
use zeroize::Zeroizing;

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";
/// How long a cookie is good: the peer changes what it is made of every two minutes.
const COOKIE_MS: u64 = 120_000;

/// What MACs to one peer are made with.
pub(super) struct Macs {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    /// Index and MAC of the last message, if no cookie came for it.
    last: Option<(u32, [u8; 16])>,
    /// The last cookie and when it came.
    cookie: Option<(Zeroizing<[u8; 16]>, u64)>,
}

impl Macs {
    pub(super) fn new(peer: &PublicKey) -> Self {
        let label = |label| hash(&[label, peer.as_bytes()]);
        Self { mac1_key: label(LABEL_MAC1), cookie_key: label(LABEL_COOKIE), last: None, cookie: None }
    }

    /// Completes a message of ours.
    pub(super) fn write<M: WgHandshakeBase>(&mut self, now_ms: u64, message: &mut M) -> Option<()> {
        let mac1 = mac(&self.mac1_key, message.until_mac1())?;
        *message.mac1_mut() = mac1;
        self.last = Some((message.sender_idx(), mac1));
        self.cookie.take_if(|(_, came_ms)| now_ms >= came_ms.saturating_add(COOKIE_MS));
        if let Some((cookie, _)) = &self.cookie {
            *message.mac2_mut() = mac(cookie.as_slice(), message.until_mac2())?;
        }
        Some(())
    }

    /// Takes the answer of a peer under load. `None` if it does not belong to the last message.
    pub(super) fn take(&mut self, now_ms: u64, message: &WgCookieReply) -> Option<()> {
        let (_, mac1) = self.last.filter(|(index, _)| *index == message.receiver_idx.get())?;
        let sealed = &message.encrypted_cookie;
        let cookie = open_extended(&self.cookie_key, &message.nonce, &mac1, sealed.encrypted, &sealed.tag)?;
        self.cookie = Some((Zeroizing::new(cookie), now_ms));
        self.last = None;
        Some(())
    }

    /// Forgets what it heard.
    pub(super) fn reset(&mut self) {
        (self.last, self.cookie) = (None, None);
    }
}
