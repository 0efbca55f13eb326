//! From the sockets to the device.

use super::{HANDSHAKES_SEEN, PeerId, Plane, boottime_ms, size};
use crate::control::{Event, Roaming};
use crate::device::is_gone;
use crate::packet::{self, ECN_CE};
use crate::socket::{Datagram, Outgoing};
use gotatun::noise::TunnResult;
use gotatun::noise::handshake::parse_handshake_anon;
use gotatun::packet::{Packet, WgCookieReply, WgData, WgHandshakeInit, WgHandshakeResp, WgKind};
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
        while !bytes.is_empty() {
            let one = bytes.split_to(segment.min(bytes.len()));
            let (kind, length) = (one.first().copied().unwrap_or(0), one.len());
            let packet = Packet::from_bytes(one);
            match (kind, length) {
                (4, WgData::OVERHEAD..) => self.take_data(packet, from, ecn),
                (1, WgHandshakeInit::LEN) | (2, WgHandshakeResp::LEN) | (3, WgCookieReply::LEN) => {
                    self.take_handshake(packet, from)
                }
                _ => self.counts.refused += 1,
            }
        }
    }

    fn take_data(&mut self, packet: Packet, from: SocketAddr, ecn: u8) {
        let index = packet.get(4..8).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes);
        let Some((index, id)) = index.and_then(|index| Some((index, self.peers.by_index(index)?))) else {
            self.counts.refused += 1;
            return;
        };
        self.refresh(id);
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(id) else { return };
        if !peer.hears(from) {
            self.counts.refused += 1;
            return;
        }
        let Ok(wireguard) = packet.try_into_wg() else { return };
        let TunnResult::WriteToTunnel(packet) = peer.tunn.handle_incoming_packet(wireguard) else {
            self.counts.refused += 1;
            return;
        };
        let starts = peer.schedule.heard(now_ms, !packet.is_empty());
        let confirmed = peer.unconfirmed == Some(index);
        if confirmed {
            peer.unconfirmed = None;
        }
        let (holds, key) = (peer.holds_packets, peer.key);
        self.follow(id, from);
        if confirmed {
            self.event(Event::Handshake(key));
        }
        if holds {
            self.release(id);
        }
        if starts {
            self.plan(id);
        }
        if !packet.is_empty() {
            self.take_inner(id, packet, ecn);
        }
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

    fn take_handshake(&mut self, packet: Packet, from: SocketAddr) {
        let load = &mut self.identity.load;
        if self.now_ms.saturating_sub(load.since_ms) >= 1_000 {
            *load = super::Load { since_ms: self.now_ms, ..super::Load::default() };
            self.identity.limiter.try_reset_count();
            self.identity.strict.try_reset_count();
        }
        load.seen += 1;
        if load.seen > HANDSHAKES_SEEN || self.handshakes_left == 0 || self.queue.len() > ANSWERS {
            self.counts.refused += 1;
            return;
        }
        let under_load = load.handled >= self.options.handshakes_per_second;
        let checked = if under_load {
            self.identity.strict.verify_packet(from, packet)
        } else {
            self.identity.limiter.verify_packet(from, packet)
        };
        match checked {
            Ok(message) => {
                self.handshakes_left -= 1;
                load.handled += 1;
                self.answer_handshake(message, from);
            }
            Err(TunnResult::WriteToNetwork(cookie)) => {
                self.counts.cookies += 1;
                self.queue.push(Outgoing { packet: cookie.into(), to: from, ecn: 0 });
            }
            Err(TunnResult::Done | TunnResult::Err(_) | TunnResult::WriteToTunnel(_)) => self.counts.refused += 1,
        }
    }

    fn answer_handshake(&mut self, message: WgKind, from: SocketAddr) {
        let initiation = matches!(message, WgKind::HandshakeInit(_));
        let id = match &message {
            WgKind::HandshakeInit(message) => parse_handshake_anon(&self.identity.private, &self.identity.public, message)
                .ok()
                .and_then(|half| self.peers.by_key(&half.peer_static_public)),
            WgKind::HandshakeResp(message) => self.peers.by_index(message.receiver_idx.get()),
            WgKind::CookieReply(message) => self.peers.by_index(message.receiver_idx.get()),
            WgKind::Data(_) => None,
        };
        let Some(id) = id else {
            self.counts.refused += 1;
            return;
        };
        self.refresh(id);
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(id) else { return };
        if !peer.hears(from) {
            self.counts.refused += 1;
            return;
        }
        match peer.tunn.handle_incoming_packet(message) {
            TunnResult::WriteToNetwork(answer) => {
                peer.schedule.established(now_ms, !initiation);
                let key = peer.key;
                self.follow(id, from);
                self.send_control(id, answer);
                if !initiation {
                    self.release(id);
                    self.event(Event::Handshake(key));
                }
            }
            TunnResult::Done => {}
            TunnResult::Err(_) | TunnResult::WriteToTunnel(_) => self.counts.refused += 1,
        }
        // Key agreement takes long enough to be noticed by timers.
        self.now_ms = boottime_ms();
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
