//! From the device to the sockets.

use super::{MTU_MS, PASS_BYTES, PASS_FRAMES, PeerId, Plane, size};
use crate::aead::LONGEST;
use crate::device::Frame;
use crate::noise::{HEADER, OVERHEAD};
use crate::packet;
use crate::socket::Outgoing;
use crate::split::Split;
use crate::virtio::Header;
use bytes::BytesMut;
use gotatun::packet::Packet;

/// Memory for the packets of one pass: they lie there until they are handed to the sockets, and the next pass begins at its
/// start again.
const ARENA: usize = 256 * 1_024;
/// WireGuard pads to multiples of this.
const PADDING: usize = 16;

impl Plane {
    /// Takes what the device has, up to a bound, and sends it. False if it had nothing.
    pub(super) fn transmit_pass(&mut self) -> bool {
        if self.lost || self.suspended || self.blocked {
            return false;
        }
        // All packets of the pass before were sent, so that this makes room and seldom takes memory.
        self.arena.reserve(ARENA);
        let mut frame = std::mem::take(&mut self.frame);
        let (mut bytes, mut frames) = (0, 0);
        while bytes < PASS_BYTES && frames < PASS_FRAMES {
            match self.device.read(&mut frame) {
                Frame::Read(count) => {
                    (bytes, frames) = (bytes + count, frames + 1);
                    self.take_frame(frame.get(..count).unwrap_or_default());
                }
                Frame::Dry => break,
                Frame::Lost => {
                    self.lose_device();
                    break;
                }
            }
        }
        self.frame = frame;
        frames > 0
    }

    fn take_frame(&mut self, frame: &[u8]) {
        let Some((header, packet)) = self.device.parse(frame) else {
            self.counts.refused += 1;
            return;
        };
        if let Some((id, packets, bytes)) = self.send_packet(&header, packet) {
            self.counts.tx_packets += packets;
            self.counts.tx_bytes += bytes;
            if let Some(peer) = self.peers.get_mut(id) {
                peer.tx_bytes += bytes;
            }
        }
    }

    /// Puts a packet or a super-packet into the tunnel: to whom, how many packets of how many bytes. `None` if it goes
    /// nowhere.
    pub(super) fn send_packet(&mut self, header: &Header, packet: &[u8]) -> Option<(PeerId, u64, u64)> {
        let id = packet::destination(packet).and_then(|destination| self.peers.by_address(destination));
        let (Some(id), Ok(mut split)) = (id, Split::new(header, packet)) else {
            self.counts.refused += 1;
            return None;
        };
        if self.now_ms.saturating_sub(self.mtu_read_ms) >= MTU_MS {
            self.read_mtu();
        }
        let (now_ms, mtu) = (self.now_ms, usize::from(self.options.mtu));
        let peer = self.peers.get_mut(id)?;
        let Some(to) = peer.endpoint else {
            self.counts.refused += 1;
            return None;
        };
        let ecn = packet::outer_ecn(packet::traffic_class(packet));
        let (mut packets, mut bytes, mut stride) = (0, 0, 0);
        while let Some(segment) = split.next_segment() {
            // All are as long as the first, but for the last, which may be shorter.
            let length = lay_out(&mut self.arena, [segment.header, segment.payload], mtu);
            stride = stride.max(length);
            (packets, bytes) = (packets + 1, bytes + size(segment.length()));
        }
        let mut train = self.arena.split();
        if stride > LONGEST {
            // No datagram can carry it. An interface that long is somebody else's doing.
            self.counts.refused += 1;
            return None;
        }
        let sealed = peer.channel.seal(now_ms, stride, &mut train).is_some();
        while !train.is_empty() {
            let packet = train.split_to(stride.min(train.len()));
            if sealed {
                self.queue.push(Outgoing { packet: Packet::from_bytes(packet), to, ecn });
            } else if let Some(text) = packet.get(HEADER..) {
                // It waits for a session, in memory of its own: the arena is used again.
                let length = packet::length(text).unwrap_or_default();
                peer.channel.enqueue(now_ms, BytesMut::from(text.get(..length).unwrap_or_default()));
            }
        }
        self.plan(id);
        Some((id, packets, bytes))
    }

    /// Sends the packets that waited for a session, if there is one.
    pub(super) fn release(&mut self, id: PeerId) {
        let (now_ms, mtu) = (self.now_ms, usize::from(self.options.mtu));
        let Some(peer) = self.peers.get_mut(id) else { return };
        while let Some(to) = peer.endpoint
            && let Some(packet) = peer.channel.dequeue(now_ms)
        {
            let stride = lay_out(&mut self.arena, [&packet, &[]], mtu);
            let mut sealed = self.arena.split();
            if peer.channel.seal(now_ms, stride, &mut sealed).is_some() {
                let ecn = packet::outer_ecn(packet::traffic_class(&packet));
                self.queue.push(Outgoing { packet: Packet::from_bytes(sealed), to, ecn });
            }
        }
        self.plan(id);
    }
}

/// Puts one packet, in two parts, behind what lies there: room for the header, the text with its padding, room for the tag.
/// The bytes of all that.
fn lay_out(arena: &mut BytesMut, parts: [&[u8]; 2], mtu: usize) -> usize {
    let text = parts.iter().map(|part| part.len()).sum::<usize>();
    let length = text.next_multiple_of(PADDING).min(mtu).max(text) + OVERHEAD;
    let start = arena.len();
    arena.reserve(length);
    arena.resize(start + HEADER, 0);
    parts.iter().for_each(|part| arena.extend_from_slice(part));
    arena.resize(start + length, 0);
    length
}
