//! The outer socket of Windows: tied to the outer interface by IP_UNICAST_IF and IPV6_UNICAST_IF (learn.microsoft.com:
//! IPPROTO_IP socket options, IPPROTO_IPV6 socket options).
#![expect(unsafe_code, reason = "setsockopt is foreign")]

use super::outer_interface::OuterInterface;
use super::plain_socket::PlainSocket;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::windows::io::AsRawSocket;
use windows_sys::Win32::Networking::WinSock::{IP_UNICAST_IF, IPPROTO_IP, IPPROTO_IPV6, IPV6_UNICAST_IF, SOCKET, setsockopt};

pub(crate) type Outer = PlainSocket;

/// Binds to `local`, tied to the outer interface before. There are no marks here.
pub(super) fn open(local: SocketAddr, _mark: Option<u32>, outer: &OuterInterface) -> io::Result<Outer> {
    PlainSocket::bind(local, |socket| outer.get().map_or(Ok(()), |index| tie(socket, tie_to(local, index))))
}

/// Level, option and value. The pages want the index of IPv4 in network byte order, and that of IPv6 in the host's.
fn tie_to(local: SocketAddr, index: NonZeroU32) -> (i32, i32, [u8; 4]) {
    if local.is_ipv4() {
        (IPPROTO_IP, IP_UNICAST_IF, index.get().to_be_bytes())
    } else {
        (IPPROTO_IPV6, IPV6_UNICAST_IF, index.get().to_ne_bytes())
    }
}

fn tie(socket: &Socket, (level, option, index): (i32, i32, [u8; 4])) -> io::Result<()> {
    let socket = SOCKET::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    // SAFETY: the socket is open, and `index` holds the four bytes that are said.
    match unsafe { setsockopt(socket, level, option, index.as_ptr(), 4) } {
        0 => Ok(()),
        // WSAGetLastError is GetLastError.
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "0.0.0.0:0";
    const V6: &str = "[::]:0";

    #[tokio::test]
    async fn a_socket_of_ipv4_is_tied_and_one_without_an_interface_is_not() {
        // Windows numbers the loopback interface 1 on every machine. Wine lacks IPV6_UNICAST_IF.
        assert!(open(V4.parse().unwrap(), None, &OuterInterface::new(Some(1))).is_ok());
        for local in [V4, V6] {
            assert!(open(local.parse().unwrap(), None, &OuterInterface::new(None)).is_ok(), "{local}");
        }
    }

    #[test]
    fn the_index_is_written_as_each_family_wants_it() {
        let index = NonZeroU32::new(7).unwrap();
        assert_eq!(tie_to(V4.parse().unwrap(), index), (0, 31, [0, 0, 0, 7]));
        assert_eq!(tie_to(V6.parse().unwrap(), index), (41, 31, [7, 0, 0, 0]));
    }
}
