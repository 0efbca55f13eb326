//! From the device to the sockets.

use super::{PASS_BYTES, PASS_FRAMES, PeerId, Plane, size};
use crate::device::Frame;
use crate::packet;
use crate::socket::Outgoing;
use crate::split::Split;
use crate::virtio::Header;
use gotatun::packet::Packet;

/// Memory for packets before they are sealed. Each is copied by gotatun then, so this stays in the nearest cache.
const ARENA: usize = 16 * 1_024;
/// WireGuard pads to multiples of this.
const PADDING: usize = 16;

impl Plane {
    /// Takes what the device has, up to a bound, and sends it. False if it had nothing.
    pub(super) fn transmit_pass(&mut self) -> bool {
        if self.lost || self.suspended || self.blocked {
            return false;
        }
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
        self.refresh(id);
        let now_ms = self.now_ms;
        let peer = self.peers.get_mut(id)?;
        let Some(to) = peer.endpoint else {
            self.counts.refused += 1;
            return None;
        };
        let starts = peer.schedule.sent(now_ms, true);
        let ecn = packet::outer_ecn(packet::traffic_class(packet));
        let mtu = usize::from(self.options.mtu);
        let (mut packets, mut bytes) = (0, 0);
        let mut initiation = None;
        while let Some(segment) = split.next_segment() {
            let length = segment.length();
            let padded = length.next_multiple_of(PADDING).min(mtu).max(length);
            if self.arena.capacity() < padded {
                self.arena.reserve(padded.max(ARENA));
            }
            self.arena.extend_from_slice(segment.header);
            self.arena.extend_from_slice(segment.payload);
            self.arena.resize(padded, 0);
            (packets, bytes) = (packets + 1, bytes + size(length));
            match peer.tunn.encapsulate_with_session(Packet::from_bytes(self.arena.split())) {
                Ok(sealed) => self.queue.push(Outgoing { packet: sealed.into(), to, ecn }),
                Err(plain) => {
                    // It waits for a session, in memory of its own: the arena is used again.
                    peer.holds_packets = true;
                    let copy = Packet::copy_from(plain.get(..length).unwrap_or_default());
                    initiation = peer.tunn.handle_outgoing_packet(copy, None).or(initiation);
                }
            }
        }
        if let Some(initiation) = initiation {
            self.send_control(id, initiation);
        } else if starts {
            self.plan(id);
        }
        Some((id, packets, bytes))
    }
}
