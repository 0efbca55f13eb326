//! The client's outer UDP socket: tied to the outer path before it is bound, never connected, a new random port each time,
//! one correspondent.

use super::outer::{self, Outer};
use super::outer_interface::OuterInterface;
use gotatun::packet::{Packet, PacketBufPool};
use gotatun::udp::{UdpRecv, UdpTransportFactory, UdpTransportFactoryParams};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

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
/// Between creation and bind it gets the mark (Linux), or is tied to the outer interface, so that neither the choice of the
/// source address nor any packet is ever made without it. The factory ignores the port that the engine remembers: each bind
/// gets a new one from the kernel (WG-05), and never waits for an old socket to be closed. The family is the gateway's, so
/// no socket listens in the other.
pub(crate) struct ClientSockets {
    pub(crate) gateway: Gateway,
    pub(crate) mark: Option<u32>,
    pub(crate) outer: OuterInterface,
}

impl UdpTransportFactory for ClientSockets {
    type Send = Outer;
    type Recv = FromGateway;

    async fn bind(&mut self, _params: &UdpTransportFactoryParams) -> io::Result<(Outer, FromGateway)> {
        let gateway = self.gateway.address();
        let local: IpAddr = if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = outer::open(SocketAddr::new(local, 0), self.mark, &self.outer)?;
        Ok((socket.clone(), FromGateway { socket, gateway }))
    }
}

/// Hears one correspondent only. WireGuard would follow an authenticated packet to whatever address it came from, and
/// the firewall admits the gateway's exact address and port (G8): following would end the tunnel.
pub(crate) struct FromGateway {
    socket: Outer,
    gateway: SocketAddr,
}

impl FromGateway {
    fn knows(&self, source: SocketAddr) -> bool {
        // Not flow label and scope.
        source.ip() == self.gateway.ip() && source.port() == self.gateway.port()
    }
}

impl UdpRecv for FromGateway {
    type RecvManyBuf = <Outer as UdpRecv>::RecvManyBuf;

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
