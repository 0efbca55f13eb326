//! The outer socket of Linux: gotatun's own, which sends and receives many packets with one call.

use super::outer_interface::OuterInterface;
use gotatun::udp::UdpRecv;
use gotatun::udp::socket::{SockOpt, UdpSocket};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;

/// Room for what arrives while the engine is busy, in bytes. The kernel's default of about 200 kB loses bursts.
const BUFFER_BYTES: usize = 2 << 20;

pub(crate) type Outer = UdpSocket;

/// Binds to `local`, with the mark set before. The mark leads past the tunnel on whatever interface the routes name.
pub(super) fn open(local: SocketAddr, mark: Option<u32>, outer: &OuterInterface) -> io::Result<Outer> {
    tracing::trace!(mark, interface = outer.get(), "an outer socket");
    let options = SockOpt { fwmark: mark, only_v6: Some(true), ..SockOpt::default() };
    let socket = UdpSocket::bind(local, options)?;
    enlarge(&socket);
    Ok(socket)
}

/// Best effort: both need CAP_NET_ADMIN and only cost speed when they fail.
pub(super) fn enlarge(socket: &UdpSocket) {
    if let Err(error) = setsockopt(socket, sockopt::RcvBufForce, &BUFFER_BYTES) {
        tracing::debug!(%error, "the receive buffer keeps its size");
    }
    if let Err(error) = setsockopt(socket, sockopt::SndBufForce, &BUFFER_BYTES) {
        tracing::debug!(%error, "the send buffer keeps its size");
    }
    if let Err(error) = socket.enable_udp_gro() {
        tracing::debug!(%error, "no receive offload");
    }
}
