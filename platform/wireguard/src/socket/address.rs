//! Socket addresses and control messages as bytes, so that neither needs a pointer cast.
//!
//! Layouts: `struct sockaddr_in`, `sockaddr_in6` and `cmsghdr` of Linux' user-space interface.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of `sockaddr_in6`, the longer one.
const NAME: usize = 28;
const NAME4: usize = 16;
/// Room for a segment size and a traffic class, each with its header and padding, twice.
const CONTROL: usize = 96;
const WORD: usize = size_of::<usize>();
/// `cmsg_len`, `cmsg_level`, `cmsg_type`.
const CONTROL_HEADER: usize = WORD + 8;

/// A socket address as the kernel reads and writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Name {
    bytes: [u8; NAME],
}

impl Name {
    pub(super) const EMPTY: Self = Self { bytes: [0; NAME] };

    pub(super) fn new(address: SocketAddr) -> (Self, usize) {
        let mut name = Self::EMPTY;
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        name.put(0, &u16::try_from(family).unwrap_or_default().to_ne_bytes());
        name.put(2, &address.port().to_be_bytes());
        match address {
            SocketAddr::V4(address) => {
                name.put(4, &address.ip().octets());
                (name, NAME4)
            }
            SocketAddr::V6(address) => {
                name.put(4, &address.flowinfo().to_be_bytes());
                name.put(8, &address.ip().octets());
                name.put(24, &address.scope_id().to_ne_bytes());
                (name, NAME)
            }
        }
    }

    pub(super) fn address(&self, v6: bool) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(self.get(2)?);
        if v6 {
            let address = Ipv6Addr::from(self.get::<16>(8)?);
            let (flow, scope) = (u32::from_be_bytes(self.get(4)?), u32::from_ne_bytes(self.get(24)?));
            Some(SocketAddrV6::new(address, port, flow, scope).into())
        } else {
            Some(SocketAddrV4::new(Ipv4Addr::from(self.get::<4>(4)?), port).into())
        }
    }

    pub(super) const fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    pub(super) const fn capacity() -> libc::socklen_t {
        28
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    fn get<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..at + N)?.try_into().ok()
    }
}

/// A buffer for control messages.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; CONTROL],
}

impl Control {
    pub(super) const EMPTY: Self = Self { bytes: [0; CONTROL] };
    pub(super) const CAPACITY: usize = CONTROL;

    /// Writes a message at `at` and returns where the next one begins.
    pub(super) fn put(&mut self, at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let length = CONTROL_HEADER + data.len();
        let next = at + length.next_multiple_of(WORD);
        let Some(place) = self.bytes.get_mut(at..next) else { return at };
        let parts = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data];
        for (place, byte) in place.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        next
    }

    /// Calls `see` with level, type and data of each message in the first `length` bytes.
    pub(super) fn each(&self, length: usize, mut see: impl FnMut(i32, i32, &[u8])) {
        let mut rest = self.bytes.get(..length).unwrap_or_default();
        while let Some(own) = rest.first_chunk::<WORD>().map(|field| usize::from_ne_bytes(*field)) {
            let Some(message) = rest.get(..own) else { return };
            let (Some(level), Some(kind)) = (word(message, WORD), word(message, WORD + 4)) else { return };
            see(level, kind, message.get(CONTROL_HEADER..).unwrap_or_default());
            rest = own.checked_next_multiple_of(WORD).and_then(|next| rest.get(next..)).unwrap_or_default();
        }
    }

    pub(super) const fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.bytes.as_mut_ptr().cast()
    }
}

/// 32 bits of a control message.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4)?.try_into().ok().map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["192.0.2.7:51820", "[2001:db8::7]:1", "0.0.0.0:0", "[::]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::new(address).0.address(address.is_ipv6()), Some(address));
        }
    }

    #[test]
    fn control_messages_come_back_and_lies_end_the_list() {
        let mut control = Control::EMPTY;
        let next = control.put(0, 17, 103, &[1, 2]);
        assert_eq!(next, 24);
        let end = control.put(next, 0, 1, &3_i32.to_ne_bytes());
        let mut seen = Vec::new();
        control.each(end, |level, kind, data| seen.push((level, kind, data.to_vec())));
        assert_eq!(seen, [(17, 103, vec![1, 2]), (0, 1, vec![3, 0, 0, 0])]);
        for length in [0, 1, 15, usize::MAX, usize::MAX - 3, CONTROL + 1] {
            control.bytes[..8].copy_from_slice(&length.to_ne_bytes());
            control.each(CONTROL, |_, _, _| panic!("{length} is no length"));
        }
    }
}
