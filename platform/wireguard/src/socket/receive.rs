//! Takes datagrams from a socket, many at a time: trains that the kernel joined, or single ones.

use super::Socket;
use super::address::{Control, Name, word};
use crate::packet::ECN_MASK;
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

/// Bytes of the longest train.
const TRAIN: usize = 65_536;
/// Messages taken at a time while trains come: about as much as the caches hold.
const TRAINS: usize = 4;
/// Messages taken at a time while single datagrams come.
const SINGLES: usize = 32;
/// Average size, in bytes, that tells one from the other.
const SINGLE: usize = 4_096;

/// Datagrams of one sender.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// One datagram after the other.
    pub(crate) bytes: BytesMut,
    /// Bytes of each, the last one excepted.
    pub(crate) segment: usize,
    /// Who sent them.
    pub(crate) from: SocketAddr,
    /// The ECN bits of their outer headers.
    pub(crate) ecn: u8,
}

struct Slot {
    buffer: BytesMut,
    name: Name,
    control: Control,
    length: usize,
    control_length: usize,
}

/// Buffers, used again and again. Pages that no datagram reached are never touched.
pub(crate) struct Receiver {
    slots: Vec<Slot>,
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    wanted: usize,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        let slot = || Slot { buffer: BytesMut::new(), name: Name::EMPTY, control: Control::EMPTY, length: 0, control_length: 0 };
        let slots = std::iter::repeat_with(slot).take(SINGLES).collect();
        Self { slots, vectors: Vec::with_capacity(SINGLES), messages: Vec::with_capacity(SINGLES), wanted: TRAINS }
    }

    /// Receives what is there, up to a bound. Take the result with [`Self::take`].
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there.
    pub(crate) fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        self.vectors.clear();
        self.messages.clear();
        let slots = self.slots.get_mut(..self.wanted).unwrap_or_default();
        for slot in &mut *slots {
            slot.buffer.reserve(TRAIN);
            let room = slot.buffer.spare_capacity_mut();
            self.vectors.push(libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len().min(TRAIN) });
        }
        for (slot, vector) in slots.iter_mut().zip(&mut self.vectors) {
            self.messages.push(message(&mut slot.name, &mut slot.control, vector));
        }
        let count = libc::c_uint::try_from(self.messages.len()).unwrap_or_default();
        #[expect(unsafe_code, reason = "recvmmsg has no safe wrapper that keeps its buffers")]
        // SAFETY: every header points to a name, a control buffer and an iovec of a slot, and that to spare capacity of the
        // slot's buffer; all of them live in `self`, are not moved during the call, and their lengths are those written above.
        let received = unsafe {
            libc::recvmmsg(socket.file.as_raw_fd(), self.messages.as_mut_ptr(), count, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let mut total = 0_usize;
        for (slot, message) in slots.iter_mut().zip(&self.messages).take(received) {
            let truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            slot.length = if truncated { 0 } else { usize::try_from(message.msg_len).unwrap_or(0) };
            slot.control_length = message.msg_hdr.msg_controllen;
            total += slot.length;
            #[expect(unsafe_code, reason = "the kernel filled the buffer")]
            // SAFETY: the buffer is empty with at least TRAIN bytes of capacity, of which the kernel wrote this many.
            unsafe {
                slot.buffer.set_len(slot.length.min(TRAIN));
            }
        }
        self.adapt(received, total);
        Ok(received)
    }

    /// The `index`th of what was received.
    pub(crate) fn take(&mut self, index: usize, v6: bool) -> Option<Datagram> {
        let slot = self.slots.get_mut(index)?;
        let bytes = slot.buffer.split();
        if bytes.is_empty() {
            return None;
        }
        let (mut segment, mut ecn) = (bytes.len(), 0);
        slot.control.each(slot.control_length, |level, kind, data| {
            if level == libc::SOL_UDP && kind == libc::UDP_GRO {
                segment = word(data, 0).and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0).unwrap_or(segment);
            } else if (level, kind) == (libc::IPPROTO_IP, libc::IP_TOS)
                || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            {
                // A byte in IPv4, an int in IPv6.
                ecn = word(data, 0).and_then(|class| u8::try_from(class).ok()).or(data.first().copied()).unwrap_or(0) & ECN_MASK;
            }
        });
        Some(Datagram { bytes, segment, from: slot.name.address(v6)?, ecn })
    }

    /// Many buffers only where many small datagrams come: filling them with trains would outgrow the caches.
    fn adapt(&mut self, received: usize, total: usize) {
        let average = total.checked_div(received).unwrap_or(0);
        if average >= SINGLE {
            self.wanted = TRAINS;
        } else if received == self.wanted {
            self.wanted = SINGLES;
        }
    }
}

fn message(name: &mut Name, control: &mut Control, vector: &mut libc::iovec) -> libc::mmsghdr {
    let mut message = empty_message();
    message.msg_hdr.msg_name = name.as_mut_ptr();
    message.msg_hdr.msg_namelen = Name::capacity();
    message.msg_hdr.msg_iov = ptr::from_mut(vector);
    message.msg_hdr.msg_iovlen = 1;
    message.msg_hdr.msg_control = control.as_mut_ptr();
    message.msg_hdr.msg_controllen = Control::CAPACITY;
    message
}

/// A message header of zeros; the C library may have private padding in it.
#[expect(unsafe_code, reason = "the structure cannot be written out on every C library")]
pub(super) fn empty_message() -> libc::mmsghdr {
    // SAFETY: mmsghdr consists of integers and pointers, for which zeros are valid.
    unsafe { std::mem::zeroed() }
}
