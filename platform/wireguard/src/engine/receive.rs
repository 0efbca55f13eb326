//! From the sockets to the device.

use super::{HANDSHAKES_SEEN, PeerId, Plane, boottime_ms, size};
use crate::control::{Event, Roaming};
use crate::device::is_gone;
use crate::noise::{HEADER, Initiation, OVERHEAD, index_of};
use crate::packet::{self, ECN_CE};
use crate::socket::{Datagram, Outgoing};
use bytes::{Buf, BytesMut};
use gotatun::noise::TunnResult;
use gotatun::noise::errors::WireGuardError;
use gotatun::packet::{Packet, WgCookieReply, WgHandshakeInit, WgHandshakeResp, WgKind};
use nix::errno::Errno;
use std::io;
use std::net::SocketAddr;

/// Handshake messages wait in the queue only up to this length of it: a flood of them must not fill memory.
const ANSWERS: usize = 1_024;

impl Plane {
    /// Takes what the sockets have, up to a bound, and writes it to the device. False if they had nothing.
    pub(super) fn receive_pass(&mut self) -> bool {
        let mut any = false;
        for v6 in [false, true] {
            let Some(socket) = self.sockets.get(v6) else { continue };
            let count = match self.trains.receive(socket) {
                Ok(count) => count,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!(%error, "receive");
                    }
                    continue;
                }
            };
            any = true;
            for index in 0..count {
                if let Some(datagram) = self.trains.take(index, v6) {
                    self.take_train(datagram);
                }
            }
            self.deliver();
        }
        any
    }

    fn take_train(&mut self, datagram: Datagram) {
        let Datagram { mut bytes, segment, from, ecn } = datagram;
        let segment = segment.max(1);
        while !bytes.is_empty() {
            if let Some(index) = bytes.chunks(segment).next().and_then(data_index) {
                let same = bytes.chunks(segment).take_while(|packet| data_index(packet) == Some(index));
                let length = same.map(<[u8]>::len).sum();
                self.take_data(bytes.split_to(length), segment, (from, ecn));
                continue;
            }
            let one = bytes.split_to(segment.min(bytes.len()));
            match (one.first().copied().unwrap_or(0), one.len()) {
                (1, WgHandshakeInit::LEN) | (2, WgHandshakeResp::LEN) => self.take_handshake(Packet::from_bytes(one), from),
                // It has no check of its own: it counts only if it is for one of ours.
                (3, WgCookieReply::LEN) if self.is_ours(&one) => self.take_handshake(Packet::from_bytes(one), from),
                _ => self.counts.refused += 1,
            }
        }
    }

    /// Packets of one session, `stride` bytes each, the last one perhaps shorter.
    fn take_data(&mut self, mut train: BytesMut, stride: usize, (from, ecn): (SocketAddr, u8)) {
        let count = train.len().div_ceil(stride);
        let id = index_of(&train).and_then(|index| self.peers.by_index(index));
        let now_ms = self.now_ms;
        let Some((id, peer)) = id.and_then(|id| Some((id, self.peers.get_mut(id)?))).filter(|(_, peer)| peer.hears(from)) else {
            self.counts.refused += size(count);
            return;
        };
        let opened = peer.channel.open(now_ms, stride, &mut train, &mut self.verdicts);
        let key = peer.key;
        self.counts.refused += size(count - opened.good);
        if opened.good == 0 {
            return;
        }
        self.follow(id, from);
        if opened.confirmed {
            self.event(Event::Handshake(key));
        }
        self.release(id);
        let verdicts = std::mem::take(&mut self.verdicts);
        for good in &verdicts {
            let mut packet = train.split_to(stride.min(train.len()));
            if *good && packet.len() > OVERHEAD {
                packet.advance(HEADER);
                packet.truncate(packet.len() + HEADER - OVERHEAD);
                self.take_inner(id, Packet::from_bytes(packet), ecn);
            }
        }
        self.verdicts = verdicts;
    }

    /// A packet out of the tunnel. It may come only from an address of the peer.
    fn take_inner(&mut self, id: PeerId, mut packet: Packet, ecn: u8) {
        let length = packet::length(&packet);
        let owner = packet::source(&packet).and_then(|source| self.peers.by_address(source));
        let (Some(length), true) = (length, owner == Some(id)) else {
            self.counts.refused += 1;
            return;
        };
        packet.truncate(length);
        if ecn == ECN_CE {
            packet::mark_congestion(&mut packet);
        }
        self.counts.rx_packets += 1;
        if let Some(inspect) = &mut self.options.inspect
            && inspect(&packet)
        {
            return;
        }
        self.counts.rx_bytes += size(length);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.rx_bytes += size(length);
        }
        self.merger.push(packet);
    }

    /// The endpoint of a peer that roams is where it last spoke from.
    fn follow(&mut self, id: PeerId, from: SocketAddr) {
        if let Some(peer) = self.peers.get_mut(id)
            && peer.roaming == Roaming::Follow
            && peer.endpoint != Some(from)
        {
            tracing::debug!(%from, "the peer's endpoint moves");
            peer.endpoint = Some(from);
        }
    }

    /// Whether the receiver that a message names has an index of ours.
    fn is_ours(&mut self, message: &[u8]) -> bool {
        index_of(message).is_some_and(|index| self.peers.by_index(index).is_some())
    }

    fn take_handshake(&mut self, packet: Packet, from: SocketAddr) {
        let load = &mut self.identity.load;
        if self.now_ms.saturating_sub(load.since_ms) >= 1_000 {
            *load = super::Load { since_ms: self.now_ms, ..super::Load::default() };
            self.identity.limiter.try_reset_count();
            self.identity.strict.try_reset_count();
        }
        if load.seen >= HANDSHAKES_SEEN || self.handshakes_left == 0 || self.queue.len() > ANSWERS {
            self.counts.refused += 1;
            return;
        }
        let under_load = load.handled >= self.options.handshakes_per_second;
        let checked = if under_load {
            self.identity.strict.verify_packet(from, packet)
        } else {
            self.identity.limiter.verify_packet(from, packet)
        };
        // Without our public key nobody gets further, nor makes the limiters remember anything.
        load.seen += u64::from(!matches!(checked, Err(TunnResult::Err(WireGuardError::InvalidMac))));
        match checked {
            Ok(message) => {
                self.handshakes_left -= 1;
                load.handled += 1;
                self.answer_handshake(&message, from);
            }
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.counts.cookies += 1;
                self.queue.push(Outgoing { packet: cookie.into(), to: from, ecn: 0 });
            }
            Err(TunnResult::Done | TunnResult::Err(_) | TunnResult::WriteToTunnel(_)) => self.counts.refused += 1,
        }
    }

    fn answer_handshake(&mut self, message: &WgKind, from: SocketAddr) {
        let taken = match message {
            WgKind::HandshakeInit(message) => self.answer_initiation(message, from),
            WgKind::HandshakeResp(message) => self.take_response(message, from),
            WgKind::CookieReply(message) => self.take_cookie(message, from),
            WgKind::Data(_) => None,
        };
        if taken.is_none() {
            self.counts.refused += 1;
        }
        // Key agreement takes long enough to be noticed by timers.
        self.now_ms = boottime_ms();
    }

    fn answer_initiation(&mut self, message: &WgHandshakeInit, from: SocketAddr) -> Option<()> {
        let initiation = Initiation::read(&self.identity.local, message)?;
        let id = self.peers.by_key(initiation.claims().as_bytes())?;
        let now_ms = self.now_ms;
        let peer = self.peers.get_mut(id).filter(|peer| peer.hears(from))?;
        let response = peer.channel.take_initiation(now_ms, initiation)?;
        self.follow(id, from);
        self.send_control(id, response);
        Some(())
    }

    fn take_response(&mut self, message: &WgHandshakeResp, from: SocketAddr) -> Option<()> {
        let id = self.peers.by_index(message.receiver_idx.get())?;
        let now_ms = self.now_ms;
        let peer = self.peers.get_mut(id).filter(|peer| peer.hears(from))?;
        peer.channel.take_response(now_ms, message)?;
        // The other side waits for a packet before it sends any (WireGuard paper §5.1).
        let (keepalive, key) = (peer.channel.keepalive(now_ms), peer.key);
        self.follow(id, from);
        if let Some(keepalive) = keepalive {
            self.send_control(id, keepalive);
        }
        self.release(id);
        self.event(Event::Handshake(key));
        Some(())
    }

    fn take_cookie(&mut self, message: &WgCookieReply, from: SocketAddr) -> Option<()> {
        let id = self.peers.by_index(message.receiver_idx.get())?;
        let now_ms = self.now_ms;
        self.peers.get_mut(id).filter(|peer| peer.hears(from))?.channel.take_cookie(now_ms, message)
    }

    /// Writes what was collected to the device.
    fn deliver(&mut self) {
        if self.merger.is_empty() {
            return;
        }
        let mut lost = self.lost;
        for joined in self.merger.trains() {
            if lost {
                break;
            }
            self.counts.frames += 1;
            match self.device.write(&joined) {
                Ok(()) => {}
                Err(errno) if is_gone(errno) => lost = true,
                // The kernel does not take this super-packet; it takes its packets.
                Err(Errno::EINVAL) if joined.pieces() > 1 => {
                    for packet in joined.packets() {
                        // What it refuses singly is lost, as on any network.
                        let _ = self.device.write_packet(packet);
                    }
                }
                // The interface is down, or memory is short.
                Err(error) => tracing::trace!(%error, "write to the device"),
            }
        }
        self.merger.clear();
        if lost {
            self.lose_device();
        }
    }
}

/// Whose session a data packet is of, if it is one.
fn data_index(packet: &[u8]) -> Option<u32> {
    if packet.first() == Some(&4) && packet.len() >= OVERHEAD { index_of(packet) } else { None }
}
