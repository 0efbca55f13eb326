//! WireGuard with one peer: handshakes, sessions and timers, without sockets and without a clock of its own.
//!
//! Written from the WireGuard paper (<https://www.wireguard.com/papers/wireguard.pdf>). What it decides, and where it is free to:
//! * Up to [`SESSIONS`] sessions are open for what still comes under them: the current one, those before it, and those that we
//!   responded to and the other side has not used yet. Each ends at the age of Reject-After-Time (§6.1). Only the current one
//!   sends, and as responder none before its first packet came (§5.1).
//! * Up to [`PENDING`] initiations wait for their response, each for Rekey-Attempt-Time (§6.4): where a response takes longer than
//!   Rekey-Timeout, it is still good. With the sessions that end at Reject-After-Time nothing is left to wipe at three times that.
//! * An attempt that nobody answers drops what waited for it; sessions end at their own age.
//! * Whatever makes a handshake desirable sets a timer that is due now, so that initiations come from one place,
//!   [`Channel::tick`], and never closer together than Rekey-Timeout unless somebody asks for one.
//!
//! Keys, ephemeral keys and chaining keys are wiped when they are dropped, and do not move until then. What is on the stack while
//! they are used is overwritten by what is used next.

mod cookie;
mod handshake;
mod hash;
mod replay;
mod session;
mod stamp;
#[cfg(test)]
mod tests;
mod timers;

pub(crate) use handshake::{Initiation, Local};
pub(crate) use session::{HEADER, OVERHEAD, index_of};

use bytes::BytesMut;
use cookie::Macs;
use gotatun::noise::TimerParams;
use gotatun::noise::index_table::{Index, IndexTable};
use gotatun::packet::{Packet, WgCookieReply, WgHandshakeResp};
use gotatun::x25519::{PublicKey, StaticSecret};
use handshake::{Remote, Sent};
use session::Session;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use timers::{Due, REKEY_ATTEMPT_MS, Timers};

/// Sessions open at a time.
const SESSIONS: usize = 4;
/// Initiations that wait for their response. Who repeats them each second still hears one that takes six.
const PENDING: usize = 6;
/// Initiations of one peer closer together than this are a flood, as the kernel has it (`messages.h`: `INITIATIONS_PER_SECOND`).
const INITIATION_GAP_MS: u64 = 20;
/// Packets that wait for a session.
const QUEUE: usize = 256;

/// A peer's settings.
pub(crate) struct Settings {
    pub(crate) public: PublicKey,
    pub(crate) psk: Option<[u8; 32]>,
    pub(crate) keepalive_s: Option<u16>,
    pub(crate) timers: TimerParams,
}

/// A message of ours, complete.
pub(crate) enum Message {
    /// Of a handshake, with the index under which we hear the answer.
    Handshake(u32, Packet),
    /// A keepalive.
    Keepalive(Packet),
}

/// What [`Channel::tick`] asks for.
pub(crate) enum Tick {
    /// To be sent.
    Send(Message),
    /// The peer did not answer in time: packets that waited are dropped.
    Expired,
}

/// What opening a train found, besides the verdicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Packets that were good.
    pub(crate) good: usize,
    /// It is the first use of a session that we responded to.
    pub(crate) confirmed: bool,
}

/// An initiation that waits for its response.
struct Pending {
    index: Index,
    sent: Sent,
    sent_ms: u64,
}

impl Pending {
    /// When it is wiped, and no response to it is taken any more.
    const fn ends_ms(&self) -> u64 {
        self.sent_ms.saturating_add(REKEY_ATTEMPT_MS)
    }
}

/// The secure channel to one peer.
pub(crate) struct Channel {
    local: Arc<Local>,
    remote: Remote,
    indices: IndexTable,
    macs: Macs,
    /// The greatest time stamp of the peer's initiations.
    greatest: [u8; 12],
    /// When the peer's last initiation was taken.
    initiated_ms: Option<u64>,
    /// Oldest first.
    #[expect(clippy::vec_box, reason = "as of sessions")]
    pending: Vec<Box<Pending>>,
    /// Oldest first.
    #[expect(clippy::vec_box, reason = "a session that is moved would leave its keys where it was")]
    sessions: Vec<Box<Session>>,
    /// The index of the session that sends.
    current: Option<u32>,
    queue: VecDeque<BytesMut>,
    timers: Timers,
}

impl Channel {
    pub(crate) fn new(local: Arc<Local>, settings: Settings, indices: IndexTable) -> Self {
        let Settings { public, psk, keepalive_s, timers } = settings;
        Self {
            remote: Remote::new(&local, public, psk),
            local,
            indices,
            macs: Macs::new(&public),
            greatest: [0; 12],
            initiated_ms: None,
            pending: Vec::new(),
            sessions: Vec::new(),
            current: None,
            queue: VecDeque::new(),
            timers: Timers::new(timers, keepalive_s),
        }
    }

    /// The preshared key of the next handshakes. Sessions stay in use.
    pub(crate) fn set_psk(&mut self, psk: Option<[u8; 32]>) {
        self.remote.set_psk(psk);
    }

    /// Seconds between persistent keepalives, or none.
    pub(crate) fn set_keepalive(&mut self, now_ms: u64, seconds: Option<u16>) {
        self.timers.set_keepalive(now_ms, seconds);
    }

    /// Another private key of ours: sessions end, packets wait for the next.
    pub(crate) fn set_local(&mut self, local: Arc<Local>) {
        self.remote.set_local(&local);
        self.local = local;
        self.wipe();
        self.timers.reset();
    }

    /// As new, but for the time stamps that the peer has used.
    pub(crate) fn reset(&mut self) {
        self.wipe();
        self.queue.clear();
        self.macs.reset();
        self.timers.reset();
    }

    fn wipe(&mut self) {
        self.sessions.clear();
        self.pending.clear();
        self.current = None;
    }

    /// Takes the place of another channel with the same peer: what that one has heard is not taken again.
    pub(crate) const fn succeed(&mut self, before: &Self) {
        self.greatest = before.greatest;
        self.initiated_ms = before.initiated_ms;
    }

    /// Whether a session is wanted: there is one, packets wait for one, or keepalives ask for one.
    pub(crate) fn is_wanted(&self, now_ms: u64) -> bool {
        self.age(now_ms).is_some() || !self.queue.is_empty() || self.timers.keeps_alive()
    }

    /// Since keys were agreed on, if there is a session.
    pub(crate) fn age(&self, now_ms: u64) -> Option<Duration> {
        let born_ms = self.sending(now_ms)?.born_ms();
        Some(Duration::from_millis(now_ms.saturating_sub(born_ms)))
    }

    fn sending(&self, now_ms: u64) -> Option<&Session> {
        let current = self.current?;
        self.sessions.iter().map(Box::as_ref).find(|session| session.index() == current && session.can_send(now_ms))
    }

    /// When to call [`Self::tick`]. Ask again after each other call.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let sessions = self.sessions.iter().map(|session| session.ends_ms());
        let ends = sessions.chain(self.pending.iter().map(|pending| pending.ends_ms())).min();
        [ends, self.timers.due_ms()].into_iter().flatten().min()
    }

    /// Does what is due, one thing at a time. Call it until it gives nothing.
    pub(crate) fn tick(&mut self, now_ms: u64) -> Option<Tick> {
        self.sessions.retain(|session| session.is_live(now_ms));
        self.pending.retain(|pending| now_ms < pending.ends_ms());
        match self.timers.take(now_ms)? {
            // No random numbers, or a peer's key that agrees with none: it is tried again in its time.
            Due::Initiation => self.initiate(now_ms).map(Tick::Send),
            Due::Keepalive => self.keepalive(now_ms).map(Tick::Send),
            Due::PersistentKeepalive => match self.keepalive(now_ms) {
                Some(message) => Some(Tick::Send(message)),
                None => {
                    self.timers.want_session(now_ms);
                    self.tick(now_ms)
                }
            },
            Due::GiveUp => {
                self.pending.clear();
                self.queue.clear();
                Some(Tick::Expired)
            }
        }
    }

    /// An initiation that goes out now, whatever the state, unless one has just gone.
    pub(crate) fn initiate_now(&mut self, now_ms: u64) -> Option<Message> {
        if self.timers.has_just_initiated(now_ms) { None } else { self.initiate(now_ms) }
    }

    fn initiate(&mut self, now_ms: u64) -> Option<Message> {
        // First, so that a failure below is not repeated without pause.
        self.timers.initiated(now_ms);
        let index = self.indices.new_index();
        let ephemeral = ephemeral()?;
        let (mut message, sent) = Sent::new(&self.local, &self.remote, ephemeral, stamp::next(), index.value())?;
        self.macs.write(now_ms, &mut message)?;
        let number = index.value();
        if self.pending.len() >= PENDING {
            self.pending.remove(0);
        }
        self.pending.push(Box::new(Pending { index, sent, sent_ms: now_ms }));
        Some(Message::Handshake(number, Packet::copy_from(&message).into()))
    }

    /// An empty packet, if there is a session.
    pub(crate) fn keepalive(&mut self, now_ms: u64) -> Option<Message> {
        let mut packet = BytesMut::zeroed(OVERHEAD);
        self.seal(now_ms, OVERHEAD, &mut packet)?;
        Some(Message::Keepalive(Packet::from_bytes(packet)))
    }

    /// Takes an initiation of this peer (§5.4.2) and makes the response. `None`, and nothing changed, if it is not authentic, not
    /// newer than the last, or comes too soon after it.
    pub(crate) fn take_initiation(&mut self, now_ms: u64, mut initiation: Initiation) -> Option<Message> {
        let stamp = initiation.authenticate(&self.remote)?;
        let soon = self.initiated_ms.is_some_and(|then| now_ms < then.saturating_add(INITIATION_GAP_MS));
        if soon || stamp <= self.greatest {
            return None;
        }
        let index = self.indices.new_index();
        let (mut message, keys) = initiation.respond(&self.remote, &ephemeral()?, index.value())?;
        self.macs.write(now_ms, &mut message)?;
        (self.greatest, self.initiated_ms) = (stamp, Some(now_ms));
        let number = index.value();
        let rekey_after_ms = self.timers.agreed(now_ms);
        self.timers.sent(now_ms, false);
        self.add(Session::new(index, &keys, false, now_ms, rekey_after_ms));
        Some(Message::Handshake(number, Packet::copy_from(&message).into()))
    }

    /// Takes the response to an initiation of ours (§5.4.3): there is a session, and the peer waits for a packet under it.
    /// `None`, and nothing changed, if it answers none or is not authentic.
    pub(crate) fn take_response(&mut self, now_ms: u64, message: &WgHandshakeResp) -> Option<()> {
        let index = message.receiver_idx.get();
        let answered = |pending: &Pending| pending.index.value() == index && now_ms < pending.ends_ms();
        let place = self.pending.iter().position(|pending| answered(pending))?;
        let keys = self.pending.get(place)?.sent.finish(&self.local, &self.remote, message)?;
        // Whatever comes for those before is older.
        let index = self.pending.drain(..=place).next_back()?.index;
        let rekey_after_ms = self.timers.agreed(now_ms);
        self.timers.confirmed();
        self.current = Some(index.value());
        self.add(Session::new(index, &keys, true, now_ms, rekey_after_ms));
        Some(())
    }

    /// Takes a cookie (§5.4.7): the next initiation carries it. `None` if it answers no message of ours.
    pub(crate) fn take_cookie(&mut self, now_ms: u64, message: &WgCookieReply) -> Option<()> {
        self.macs.take(now_ms, message)
    }

    /// In the place of the oldest that does not send, if there is no room.
    fn add(&mut self, session: Session) {
        if self.sessions.len() >= SESSIONS
            && let Some(oldest) = self.sessions.iter().position(|session| Some(session.index()) != self.current)
        {
            self.sessions.remove(oldest);
        }
        self.sessions.push(Box::new(session));
    }

    /// Seals packets of `stride` bytes, of which the last may be shorter: room for the header, text, room for the tag. `None`,
    /// and nothing changed, if there is no session for them.
    pub(crate) fn seal(&mut self, now_ms: u64, stride: usize, train: &mut [u8]) -> Option<()> {
        let current = self.current?;
        let session = self.sessions.iter_mut().find(|session| session.index() == current && session.can_send(now_ms))?;
        session.seal(stride, train)?;
        let renew = session.rekeys_on_send(now_ms);
        self.timers.sent(now_ms, train.len() > OVERHEAD);
        if renew {
            self.timers.want_session(now_ms);
        }
        Some(())
    }

    /// Opens packets that came under one index, in place: `stride` bytes each, of which the last may be shorter. Verdicts are
    /// those of the packets, in order, or none if the index is that of no session.
    pub(crate) fn open(&mut self, now_ms: u64, stride: usize, train: &mut [u8], verdicts: &mut Vec<bool>) -> Opened {
        verdicts.clear();
        let index = index_of(train);
        let named = |session: &Session| Some(session.index()) == index && session.is_live(now_ms);
        let Some(place) = self.sessions.iter().position(|session| named(session)) else { return Opened::default() };
        let Some(session) = self.sessions.get_mut(place) else { return Opened::default() };
        session.open(stride, train, verdicts);
        let good = verdicts.iter().filter(|good| **good).count();
        if good == 0 {
            return Opened::default();
        }
        let data = verdicts.iter().zip(train.chunks(stride.max(1))).any(|(good, packet)| *good && packet.len() > OVERHEAD);
        // What is late under an older session asks for nothing.
        let renew = Some(session.index()) == self.current && session.rekeys_on_receive(now_ms);
        let confirmed = !std::mem::replace(&mut session.confirmed, true);
        self.timers.heard(now_ms, data);
        if confirmed {
            self.confirm(place);
        }
        if renew {
            self.timers.want_session(now_ms);
        }
        Opened { good, confirmed }
    }

    /// The other side uses a session that we responded to: so do we, unless a newer one is in use.
    fn confirm(&mut self, place: usize) {
        self.timers.confirmed();
        let newest = self.sessions.iter().rposition(|session| Some(session.index()) == self.current);
        if newest.is_none_or(|current| current < place) {
            self.current = self.sessions.get(place).map(|session| session.index());
        }
    }

    /// Keeps a packet until there is a session, and asks for one. The oldest goes when there are too many.
    pub(crate) fn enqueue(&mut self, now_ms: u64, packet: BytesMut) {
        if self.queue.len() >= QUEUE {
            self.queue.pop_front();
        }
        self.queue.push_back(packet);
        self.timers.want_to_send(now_ms);
    }

    /// The next packet that waited, if there is a session for it.
    pub(crate) fn dequeue(&mut self, now_ms: u64) -> Option<BytesMut> {
        self.sending(now_ms)?;
        self.queue.pop_front()
    }
}

fn ephemeral() -> Option<StaticSecret> {
    hash::random::<32>().map(|bytes| StaticSecret::from(*bytes))
}
