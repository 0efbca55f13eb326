//! The outer UDP socket: marked before it is bound, never connected, a new random port each time, one correspondent.

use gotatun::packet::{Packet, PacketBufPool};
use gotatun::udp::socket::{SockOpt, UdpSocket};
use gotatun::udp::{UdpRecv, UdpTransportFactory, UdpTransportFactoryParams};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Room for what arrives while the engine is busy, in bytes. The kernel's default of about 200 kB loses bursts.
const BUFFER_BYTES: usize = 2 << 20;

/// The gateway's address, shared with the socket factory.
#[derive(Clone, Debug)]
pub(crate) struct Gateway(Arc<Mutex<SocketAddr>>);

impl Gateway {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(address)))
    }
    pub(crate) fn address(&self) -> SocketAddr {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn set(&self, address: SocketAddr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// Opens the client's socket.
///
/// gotatun's socket sets SO_MARK between creation and bind, so that neither the choice of the source address nor any
/// packet is ever made without it. The factory ignores the port that the engine remembers: each bind gets a new one from
/// the kernel (WG-05), and never waits for an old socket to be closed. The family is the gateway's, so no socket listens
/// in the other.
pub(crate) struct MarkedSockets {
    pub(crate) gateway: Gateway,
}

impl UdpTransportFactory for MarkedSockets {
    type Send = UdpSocket;
    type Recv = FromGateway;

    async fn bind(&mut self, params: &UdpTransportFactoryParams) -> io::Result<(UdpSocket, FromGateway)> {
        let gateway = self.gateway.address();
        let local: IpAddr = if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let options = SockOpt { fwmark: params.fwmark, only_v6: Some(true), ..SockOpt::default() };
        let socket = UdpSocket::bind(SocketAddr::new(local, 0), options)?;
        enlarge(&socket);
        Ok((socket.clone(), FromGateway { socket, gateway }))
    }
}

/// The gateway's own sockets: a fixed port, both families where the host has both.
pub(crate) struct ServerSockets;

impl UdpTransportFactory for ServerSockets {
    type Send = UdpSocket;
    type Recv = UdpSocket;

    async fn bind(&mut self, params: &UdpTransportFactoryParams) -> io::Result<(UdpSocket, UdpSocket)> {
        let mut stock = gotatun::udp::socket::UdpSocketFactory::default();
        let (send, receive) = stock.bind(params).await?;
        enlarge(&send);
        Ok((send, receive))
    }
}

/// Best effort: both need CAP_NET_ADMIN and only cost speed when they fail.
fn enlarge(socket: &UdpSocket) {
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

/// Hears one correspondent only. WireGuard would follow an authenticated packet to whatever address it came from, and
/// the firewall admits the gateway's exact address and port (G8): following would end the tunnel.
pub(crate) struct FromGateway {
    socket: UdpSocket,
    gateway: SocketAddr,
}

impl FromGateway {
    fn knows(&self, source: SocketAddr) -> bool {
        // Not flow label and scope.
        source.ip() == self.gateway.ip() && source.port() == self.gateway.port()
    }
}

impl UdpRecv for FromGateway {
    type RecvManyBuf = <UdpSocket as UdpRecv>::RecvManyBuf;

    async fn recv_from(&mut self, pool: &mut PacketBufPool) -> io::Result<(Packet, SocketAddr)> {
        loop {
            let (packet, source) = self.socket.recv_from(pool).await?;
            if self.knows(source) {
                return Ok((packet, source));
            }
        }
    }

    async fn recv_many_from(
        &mut self,
        buffers: &mut Self::RecvManyBuf,
        pool: &mut PacketBufPool,
        packets: &mut Vec<(Packet, SocketAddr)>,
    ) -> io::Result<()> {
        self.socket.recv_many_from(buffers, pool, packets).await?;
        packets.retain(|(_, source)| self.knows(*source));
        Ok(())
    }

    fn enable_udp_gro(&self) -> io::Result<()> {
        self.socket.enable_udp_gro()
    }
}
