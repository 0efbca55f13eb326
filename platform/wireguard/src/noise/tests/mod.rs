//! Both ends of the protocol, ours against ours and ours against gotatun's, on a clock that the test moves.

mod agreement;
mod cookies;
mod moments;
mod sessions;

use super::*;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::WgKind;
use std::net::SocketAddr;

pub(super) const OURS: u8 = 1;
pub(super) const THEIRS: u8 = 2;

/// What became of a datagram.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// It was authentic.
    pub(super) taken: bool,
    /// What goes back at once.
    pub(super) answer: Option<Vec<u8>>,
    /// What was in it.
    pub(super) text: Option<Vec<u8>>,
    /// It was the first under a session that we responded to.
    pub(super) confirmed: bool,
}

/// Our end.
pub(super) struct Side {
    pub(super) channel: Channel,
    local: Arc<Local>,
}

/// The end of gotatun.
pub(super) struct Other {
    pub(super) tunn: Tunn,
    limiter: Arc<RateLimiter>,
}

pub(super) fn secret(key: u8) -> StaticSecret {
    StaticSecret::from([key; 32])
}

pub(super) fn public(key: u8) -> PublicKey {
    PublicKey::from(&secret(key))
}

pub(super) fn address() -> SocketAddr {
    "192.0.2.1:51820".parse().unwrap()
}

pub(super) fn bytes(message: Message) -> Vec<u8> {
    match message {
        Message::Handshake(_, packet) | Message::Keepalive(packet) => packet.to_vec(),
    }
}

pub(super) fn parse(datagram: &[u8]) -> WgKind {
    Packet::from_bytes(BytesMut::from(datagram)).try_into_wg().unwrap()
}

impl Side {
    pub(super) fn new(own: u8, peer: u8) -> Self {
        Self::with(own, peer, None, None, TimerParams::default())
    }

    pub(super) fn with(own: u8, peer: u8, psk: Option<[u8; 32]>, keepalive_s: Option<u16>, timers: TimerParams) -> Self {
        let local = Arc::new(Local::new(secret(own)));
        let settings = Settings { public: public(peer), psk, keepalive_s, timers };
        Self { channel: Channel::new(Arc::clone(&local), settings, IndexTable::from_os_rng()), local }
    }

    pub(super) fn initiation(&mut self, now_ms: u64) -> Vec<u8> {
        bytes(self.channel.initiate(now_ms).unwrap())
    }

    pub(super) fn send(&mut self, now_ms: u64, text: &[u8]) -> Option<Vec<u8>> {
        let mut packet = vec![0; HEADER + text.len() + 16];
        packet[HEADER..HEADER + text.len()].copy_from_slice(text);
        let length = packet.len();
        self.channel.seal(now_ms, length, &mut packet).map(|()| packet)
    }

    pub(super) fn hear(&mut self, now_ms: u64, datagram: &[u8]) -> Heard {
        let (channel, mut heard) = (&mut self.channel, Heard::default());
        match parse(datagram) {
            WgKind::HandshakeInit(message) => {
                let initiation = Initiation::read(&self.local, &message);
                heard.answer = initiation.and_then(|initiation| channel.take_initiation(now_ms, initiation)).map(bytes);
                heard.taken = heard.answer.is_some();
            }
            WgKind::HandshakeResp(message) => {
                heard.taken = channel.take_response(now_ms, &message).is_some();
                heard.answer = if heard.taken { channel.keepalive(now_ms).map(bytes) } else { None };
            }
            WgKind::CookieReply(message) => heard.taken = channel.take_cookie(now_ms, &message).is_some(),
            WgKind::Data(_) => {
                let (mut packet, mut verdicts) = (datagram.to_vec(), Vec::new());
                let opened = channel.open(now_ms, packet.len(), &mut packet, &mut verdicts);
                assert_eq!(opened.good, verdicts.iter().filter(|good| **good).count());
                (heard.taken, heard.confirmed) = (opened.good == 1, opened.confirmed);
                heard.text = heard.taken.then(|| packet[HEADER..packet.len() - 16].to_vec());
            }
        }
        heard
    }

    /// Runs the timers up to a moment: when something was done, and what.
    pub(super) fn wait(&mut self, until_ms: u64) -> Vec<(u64, &'static str)> {
        let mut done = Vec::new();
        while let Some(due) = self.channel.due_ms().filter(|due| *due <= until_ms) {
            let acts = match self.channel.tick(due) {
                None => "look",
                Some(Tick::Expired) => "end",
                Some(Tick::Send(Message::Handshake(..))) => "initiation",
                Some(Tick::Send(Message::Keepalive(_))) => "keepalive",
            };
            done.push((due, acts));
            assert!(done.len() < 10_000, "it does not rest: {:?}", &done[..20]);
        }
        done
    }
}

impl Other {
    pub(super) fn new(own: u8, peer: u8, psk: Option<[u8; 32]>, limit: u64) -> Self {
        let limiter = Arc::new(RateLimiter::new(&public(own), limit));
        let tunn = Tunn::new(secret(own), public(peer), psk, None, IndexTable::from_os_rng(), Arc::clone(&limiter));
        Self { tunn, limiter }
    }

    pub(super) fn initiation(&mut self) -> Vec<u8> {
        Packet::<[u8]>::from(WgKind::from(self.tunn.format_handshake_initiation(true).unwrap())).to_vec()
    }

    pub(super) fn hear(&mut self, datagram: &[u8]) -> Heard {
        let result = match self.limiter.verify_packet(address(), Packet::from_bytes(BytesMut::from(datagram))) {
            Ok(message) => self.tunn.handle_incoming_packet(message),
            Err(refused) => refused,
        };
        match result {
            TunnResult::Done => Heard { taken: true, ..Heard::default() },
            TunnResult::Err(_) => Heard::default(),
            TunnResult::WriteToNetwork(answer) => {
                let taken = !matches!(answer, WgKind::CookieReply(_));
                Heard { taken, answer: Some(Packet::<[u8]>::from(answer).to_vec()), ..Heard::default() }
            }
            TunnResult::WriteToTunnel(packet) => Heard { taken: true, text: Some(packet.to_vec()), ..Heard::default() },
        }
    }

    pub(super) fn send(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.tunn.encapsulate_with_session(Packet::copy_from(text)).ok()?;
        Some(Packet::<[u8]>::from(sealed).to_vec())
    }
}

/// Two of ours that agreed at a moment, the first of which asked.
pub(super) fn pair(now_ms: u64) -> (Side, Side) {
    let (mut one, mut other) = (Side::new(OURS, THEIRS), Side::new(THEIRS, OURS));
    agree(now_ms, &mut one, &mut other);
    (one, other)
}

pub(super) fn agree(now_ms: u64, one: &mut Side, other: &mut Side) {
    let initiation = one.initiation(now_ms);
    let response = other.hear(now_ms, &initiation).answer.expect("a response");
    let keepalive = one.hear(now_ms, &response).answer.expect("a keepalive");
    let heard = other.hear(now_ms, &keepalive);
    assert!(heard.confirmed && heard.text == Some(vec![]));
}

/// A message from one to the other, which gets it whole.
pub(super) fn carries(now_ms: u64, from: &mut Side, to: &mut Side) {
    let text = now_ms.to_le_bytes().repeat(5);
    let packet = from.send(now_ms, &text).expect("a session");
    assert_eq!(to.hear(now_ms, &packet).text.as_deref(), Some(text.as_slice()));
}
