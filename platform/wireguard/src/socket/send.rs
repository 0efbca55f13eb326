//! Sends datagrams, many at a time: runs of equal size to one address leave as one message that the kernel segments.

use super::address::{Control, Name};
use super::receive::empty_message;
use super::{Socket, Sockets};
use gotatun::packet::Packet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// Segments of one message (`UDP_MAX_SEGMENTS` of kernels before 6.9).
const SEGMENTS: usize = 64;
/// Bytes of one message: an IPv6 packet of 65535 bytes without its headers, which fits IPv4 as well.
const MESSAGE: usize = 65_535 - 40 - 8;
/// Messages handed over at a time.
const MESSAGES: usize = 64;
/// Datagrams handed over at a time.
const VECTORS: usize = 512;

/// A datagram on its way out.
pub(crate) struct Outgoing {
    /// Its bytes.
    pub(crate) packet: Packet,
    /// Where to.
    pub(crate) to: SocketAddr,
    /// The ECN bits of its outer header.
    pub(crate) ecn: u8,
}

#[derive(Clone, Copy)]
struct Span {
    datagrams: usize,
    size: usize,
}

/// What the queue did, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) datagrams: u64,
    pub(crate) messages: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
}

/// Datagrams of one pass of the loop. All memory is kept for the next.
pub(crate) struct SendQueue {
    queue: Vec<Outgoing>,
    done: usize,
    spans: Vec<Span>,
    names: Vec<(Name, usize)>,
    controls: Vec<(Control, usize)>,
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    pub(crate) sent: Sent,
}

impl SendQueue {
    pub(crate) fn new() -> Self {
        Self {
            queue: Vec::with_capacity(VECTORS),
            done: 0,
            spans: Vec::with_capacity(MESSAGES),
            names: Vec::with_capacity(MESSAGES),
            controls: Vec::with_capacity(MESSAGES),
            vectors: Vec::with_capacity(VECTORS),
            messages: Vec::with_capacity(MESSAGES),
            sent: Sent::default(),
        }
    }

    pub(crate) fn push(&mut self, outgoing: Outgoing) {
        self.queue.push(outgoing);
    }

    pub(crate) const fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands everything to the kernel. False if a socket's buffer is full: call again when it is writable.
    pub(crate) fn flush(&mut self, sockets: &mut Sockets, now_ms: u64) -> bool {
        while let Some(next) = self.queue.get(self.done) {
            let v6 = next.to.is_ipv6();
            let Some(socket) = sockets.get_mut(v6) else {
                self.done += 1;
                self.sent.lost += 1;
                continue;
            };
            self.gather(socket, v6, now_ms);
            match hand_over(socket, &mut self.messages) {
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => self.fail(socket, &error, now_ms),
            }
        }
        self.queue.clear();
        self.done = 0;
        true
    }

    fn advance(&mut self, messages: usize) {
        for span in self.spans.iter().take(messages) {
            self.done += span.datagrams;
            self.sent.datagrams += u64::try_from(span.datagrams).unwrap_or(0);
            self.sent.messages += 1;
        }
    }

    /// The first message was refused. A train is sent one by one; a single datagram is lost, as on any network.
    fn fail(&mut self, socket: &mut Socket, error: &io::Error, now_ms: u64) {
        let Some(first) = self.spans.first().copied() else {
            self.done = self.queue.len();
            return;
        };
        let code = error.raw_os_error().unwrap_or(0);
        // EIO: no checksum offload on the link. EINVAL, EMSGSIZE: a segment is longer than the path takes, or no such option.
        if first.datagrams > 1 && [libc::EIO, libc::EINVAL, libc::EMSGSIZE, libc::EOPNOTSUPP, libc::ENOPROTOOPT].contains(&code) {
            socket.refuse(first.size, !matches!(code, libc::EINVAL | libc::EMSGSIZE), now_ms);
            self.sent.refused += 1;
        } else {
            tracing::trace!(%error, "a datagram was not sent");
            self.done += first.datagrams;
            self.sent.lost += u64::try_from(first.datagrams).unwrap_or(0);
        }
    }

    /// Makes messages of the next datagrams of one family.
    fn gather(&mut self, socket: &Socket, v6: bool, now_ms: u64) {
        self.spans.clear();
        self.names.clear();
        self.controls.clear();
        self.vectors.clear();
        self.messages.clear();
        let mut rest = self.queue.get_mut(self.done..).unwrap_or_default();
        while self.spans.len() < MESSAGES && self.vectors.len() + SEGMENTS <= VECTORS {
            let Some(first) = rest.first() else { break };
            if first.to.is_ipv6() != v6 {
                break;
            }
            let (to, ecn, size) = (first.to, first.ecn, first.packet.len());
            let count = if socket.segments(size, now_ms) { run(rest) } else { 1 };
            let Some((span, after)) = rest.split_at_mut_checked(count) else { break };
            for outgoing in span {
                let bytes = outgoing.packet.buf_mut();
                self.vectors.push(libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() });
            }
            self.spans.push(Span { datagrams: count, size });
            self.names.push(Name::new(to));
            self.controls.push(control(v6, ecn, if count > 1 { size } else { 0 }));
            rest = after;
        }
        let mut vectors = self.vectors.as_mut_slice();
        for ((span, name), control) in self.spans.iter().zip(&mut self.names).zip(&mut self.controls) {
            let Some((own, after)) = vectors.split_at_mut_checked(span.datagrams) else { break };
            let mut message = empty_message();
            message.msg_hdr.msg_name = name.0.as_mut_ptr();
            message.msg_hdr.msg_namelen = libc::socklen_t::try_from(name.1).unwrap_or_default();
            message.msg_hdr.msg_iov = own.as_mut_ptr();
            message.msg_hdr.msg_iovlen = own.len();
            if control.1 > 0 {
                message.msg_hdr.msg_control = control.0.as_mut_ptr();
                message.msg_hdr.msg_controllen = control.1;
            }
            self.messages.push(message);
            vectors = after;
        }
    }
}

/// How many datagrams from the first on make one message: same address and mark, equal sizes, a shorter one at the end.
fn run(queue: &[Outgoing]) -> usize {
    let Some(first) = queue.first() else { return 0 };
    let size = first.packet.len();
    let (mut count, mut total) = (1, size);
    for next in queue.iter().skip(1).take(SEGMENTS - 1) {
        let length = next.packet.len();
        if next.to != first.to || next.ecn != first.ecn || length > size || total + length > MESSAGE {
            break;
        }
        count += 1;
        total += length;
        if length < size {
            break;
        }
    }
    count
}

fn control(v6: bool, ecn: u8, segment: usize) -> (Control, usize) {
    let mut control = Control::EMPTY;
    let mut end = 0;
    if segment > 0 {
        let size = u16::try_from(segment).unwrap_or(u16::MAX);
        end = control.put(end, libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
    }
    if ecn > 0 {
        let (level, kind) = if v6 { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) } else { (libc::IPPROTO_IP, libc::IP_TOS) };
        end = control.put(end, level, kind, &i32::from(ecn).to_ne_bytes());
    }
    (control, end)
}

fn hand_over(socket: &Socket, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let count = libc::c_uint::try_from(messages.len()).unwrap_or_default();
    #[expect(unsafe_code, reason = "sendmmsg has no safe wrapper that keeps its buffers")]
    // SAFETY: every header points to a name, a control buffer and iovecs that live in the queue and are not moved before the
    // call returns, and each iovec to the bytes of a packet in the queue.
    let sent =
        unsafe { libc::sendmmsg(socket.file.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    fn datagram(length: usize, to: &str, ecn: u8) -> Outgoing {
        Outgoing { packet: Packet::from_bytes(BytesMut::zeroed(length)), to: to.parse().unwrap(), ecn }
    }

    #[test]
    fn runs_end_where_they_must() {
        let (here, there) = ("10.0.0.1:1", "10.0.0.1:2");
        let lengths = |lengths: &[usize]| run(&lengths.iter().map(|length| datagram(*length, here, 0)).collect::<Vec<_>>());
        assert_eq!(lengths(&[1_000; 5]), 5);
        assert_eq!(lengths(&[1_000, 1_000, 500, 500]), 3, "the shorter one ends it");
        assert_eq!(lengths(&[500, 1_000]), 1);
        assert_eq!(lengths(&[100; 70]), 64);
        assert_eq!(lengths(&[1_452; 64]), 45, "65487 bytes");
        assert_eq!(run(&[datagram(9, here, 0), datagram(9, there, 0)]), 1);
        assert_eq!(run(&[datagram(9, here, 0), datagram(9, here, 2)]), 1);
    }
}
