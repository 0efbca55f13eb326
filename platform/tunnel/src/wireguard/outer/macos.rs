//! The outer socket of macOS: tied to the outer interface by IP_BOUND_IF and IPV6_BOUND_IF (XNU `bsd/netinet/in.h`).

use super::outer_interface::OuterInterface;
use super::plain_socket::PlainSocket;
use std::io;
use std::net::SocketAddr;

pub(crate) type Outer = PlainSocket;

/// Binds to `local`, tied to the outer interface before. There are no marks here.
pub(super) fn open(local: SocketAddr, _mark: Option<u32>, outer: &OuterInterface) -> io::Result<Outer> {
    PlainSocket::bind(local, |socket| match outer.get() {
        None => Ok(()),
        Some(index) if local.is_ipv4() => socket.bind_device_by_index_v4(Some(index)),
        Some(index) => socket.bind_device_by_index_v6(Some(index)),
    })
}
