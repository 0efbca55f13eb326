//! The handshake: `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s` with WireGuard's messages (WireGuard paper §5.4.1 to §5.4.5). Pure:
//! random numbers and time stamps come from the caller.

use super::hash::{Secret, hash, kdf, open, seal};
use gotatun::packet::{WgHandshakeInit, WgHandshakeResp};
use gotatun::x25519::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// Who we are. No `Debug`: it holds the private key, which is wiped when it is dropped.
pub(crate) struct Local {
    private: StaticSecret,
    public: PublicKey,
}

impl Local {
    pub(crate) fn new(private: StaticSecret) -> Self {
        Self { public: PublicKey::from(&private), private }
    }

    pub(crate) const fn public(&self) -> &PublicKey {
        &self.public
    }
}

/// Who the other side is.
pub(super) struct Remote {
    pub(super) public: PublicKey,
    /// Of both static keys: it is the same in each handshake.
    shared: SharedSecret,
    psk: Secret,
}

impl Remote {
    pub(super) fn new(local: &Local, public: PublicKey, psk: Option<[u8; 32]>) -> Self {
        Self { public, shared: local.private.diffie_hellman(&public), psk: Zeroizing::new(psk.unwrap_or_default()) }
    }

    /// We are somebody else.
    pub(super) fn set_local(&mut self, local: &Local) {
        self.shared = local.private.diffie_hellman(&self.public);
    }

    pub(super) fn set_psk(&mut self, psk: Option<[u8; 32]>) {
        self.psk = Zeroizing::new(psk.unwrap_or_default());
    }
}

/// What a handshake agrees on: the transport keys (§5.4.5) and the other side's index.
pub(super) struct Keys {
    pub(super) send: Secret,
    pub(super) receive: Secret,
    pub(super) index: u32,
}

/// The chaining key C and the hash H of everything so far.
#[derive(Clone)]
struct Transcript {
    chain: Secret,
    hash: [u8; 32],
}

impl Transcript {
    fn new(responder: &PublicKey) -> Self {
        let chain = hash(&[CONSTRUCTION]);
        let start = hash(&[&chain, IDENTIFIER]);
        Self { chain: Zeroizing::new(chain), hash: hash(&[&start, responder.as_bytes()]) }
    }

    fn mix(&mut self, parts: [&[u8]; 2]) {
        self.hash = hash(&[&self.hash, parts[0], parts[1]]);
    }

    fn mix_ephemeral(&mut self, ephemeral: &[u8; 32]) {
        self.mix([ephemeral, &[]]);
        let [chain] = kdf(&self.chain, ephemeral);
        self.chain = chain;
    }

    /// The next key. `None` if the other side's public key is one of the few that make the secret zero, whatever ours is.
    fn mix_shared(&mut self, shared: &SharedSecret) -> Option<Secret> {
        if !shared.was_contributory() {
            return None;
        }
        let [chain, key] = kdf(&self.chain, shared.as_bytes());
        self.chain = chain;
        Some(key)
    }

    fn mix_psk(&mut self, psk: &Secret) -> Secret {
        let [chain, temporary, key] = kdf(&self.chain, psk.as_slice());
        self.chain = chain;
        self.mix([temporary.as_slice(), &[]]);
        key
    }

    fn seal<const N: usize>(&mut self, key: &Secret, mut text: [u8; N]) -> Option<([u8; N], [u8; 16])> {
        let tag = seal(key, &self.hash, &mut text)?;
        self.mix([&text, &tag]);
        Some((text, tag))
    }

    fn open<const N: usize>(&mut self, key: &Secret, sealed: &[u8; N], tag: &[u8; 16]) -> Option<[u8; N]> {
        let mut text = *sealed;
        open(key, &self.hash, &mut text, tag)?;
        self.mix([sealed, tag]);
        Some(text)
    }

    /// The initiator's sending key, and its receiving key.
    fn split(&self) -> [Secret; 2] {
        kdf(&self.chain, &[])
    }
}

/// The initiator's half until the response comes. The ephemeral key is wiped with it.
pub(super) struct Sent {
    transcript: Transcript,
    ephemeral: StaticSecret,
}

impl Sent {
    /// The first message (§5.4.2), without its MACs.
    pub(super) fn new(
        local: &Local,
        remote: &Remote,
        ephemeral: StaticSecret,
        stamp: [u8; 12],
        index: u32,
    ) -> Option<(WgHandshakeInit, Self)> {
        let mut message = WgHandshakeInit::new();
        let mut transcript = Transcript::new(&remote.public);
        message.sender_idx.set(index);
        message.unencrypted_ephemeral = PublicKey::from(&ephemeral).to_bytes();
        transcript.mix_ephemeral(&message.unencrypted_ephemeral);
        let key = transcript.mix_shared(&ephemeral.diffie_hellman(&remote.public))?;
        (message.encrypted_static.encrypted, message.encrypted_static.tag) = transcript.seal(&key, local.public.to_bytes())?;
        let key = transcript.mix_shared(&remote.shared)?;
        (message.timestamp.encrypted, message.timestamp.tag) = transcript.seal(&key, stamp)?;
        Some((message, Self { transcript, ephemeral }))
    }

    /// Takes the response (§5.4.3). `None` if it is not authentic, and then another one may be.
    pub(super) fn finish(&self, local: &Local, remote: &Remote, message: &WgHandshakeResp) -> Option<Keys> {
        let mut transcript = self.transcript.clone();
        let ephemeral = PublicKey::from(message.unencrypted_ephemeral);
        transcript.mix_ephemeral(ephemeral.as_bytes());
        transcript.mix_shared(&self.ephemeral.diffie_hellman(&ephemeral))?;
        transcript.mix_shared(&local.private.diffie_hellman(&ephemeral))?;
        let key = transcript.mix_psk(&remote.psk);
        transcript.open(&key, &[], &message.encrypted_nothing.tag)?;
        let [send, receive] = transcript.split();
        Some(Keys { send, receive, index: message.sender_idx.get() })
    }
}

/// A first message that was meant for us, from somebody who says who they are.
pub(crate) struct Initiation {
    transcript: Transcript,
    claims: PublicKey,
    index: u32,
    ephemeral: PublicKey,
    stamp: ([u8; 12], [u8; 16]),
}

impl Initiation {
    /// Reads as much of the message as needs no peer. `None` if whoever sent it does not know our public key.
    pub(crate) fn read(local: &Local, message: &WgHandshakeInit) -> Option<Self> {
        let mut transcript = Transcript::new(&local.public);
        let ephemeral = PublicKey::from(message.unencrypted_ephemeral);
        transcript.mix_ephemeral(ephemeral.as_bytes());
        let key = transcript.mix_shared(&local.private.diffie_hellman(&ephemeral))?;
        let claims = transcript.open(&key, &message.encrypted_static.encrypted, &message.encrypted_static.tag)?;
        Some(Self {
            transcript,
            claims: PublicKey::from(claims),
            index: message.sender_idx.get(),
            ephemeral,
            stamp: (message.timestamp.encrypted, message.timestamp.tag),
        })
    }

    /// Whom it claims to be from.
    pub(crate) const fn claims(&self) -> &PublicKey {
        &self.claims
    }

    /// Its time stamp, if it is from the peer.
    pub(super) fn authenticate(&mut self, remote: &Remote) -> Option<[u8; 12]> {
        if self.claims != remote.public {
            return None;
        }
        let key = self.transcript.mix_shared(&remote.shared)?;
        self.transcript.open(&key, &self.stamp.0, &self.stamp.1)
    }

    /// The second message (§5.4.3), without its MACs, to one that was authenticated.
    pub(super) fn respond(mut self, remote: &Remote, ephemeral: &StaticSecret, index: u32) -> Option<(WgHandshakeResp, Keys)> {
        let mut message = WgHandshakeResp::new(index, self.index, PublicKey::from(ephemeral).to_bytes());
        self.transcript.mix_ephemeral(&message.unencrypted_ephemeral);
        self.transcript.mix_shared(&ephemeral.diffie_hellman(&self.ephemeral))?;
        self.transcript.mix_shared(&ephemeral.diffie_hellman(&remote.public))?;
        let key = self.transcript.mix_psk(&remote.psk);
        ([], message.encrypted_nothing.tag) = self.transcript.seal(&key, [])?;
        let [receive, send] = self.transcript.split();
        Some((message, Keys { send, receive, index: self.index }))
    }
}
