//! A UDP socket for gotatun that can be prepared before it is bound: for systems where gotatun's own offers no way to tie
//! it to an interface.

use gotatun::packet::{Packet, PacketBufPool};
use gotatun::udp::{UdpRecv, UdpSend};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// Room for what arrives while the engine is busy, in bytes.
const BUFFER_BYTES: usize = 2 << 20;
/// Errors in a row that are taken for what single datagrams can cause; after so many the socket counts as broken.
const MOST_ERRORS: u32 = 64;
/// Pause after an error that may come again at once.
const AFTER_ERROR: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
pub(crate) struct PlainSocket(Arc<UdpSocket>);

impl PlainSocket {
    /// Opens a socket of the family of `local`, calls `prepare` and binds it.
    pub(super) fn bind(local: SocketAddr, prepare: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        prepare(&socket)?;
        // Best effort: they only cost speed when they fail.
        if let Err(error) = socket.set_recv_buffer_size(BUFFER_BYTES) {
            tracing::debug!(%error, "the receive buffer keeps its size");
        }
        if let Err(error) = socket.set_send_buffer_size(BUFFER_BYTES) {
            tracing::debug!(%error, "the send buffer keeps its size");
        }
        socket.bind(&local.into())?;
        Ok(Self(Arc::new(UdpSocket::from_std(socket.into())?)))
    }
}

impl UdpSend for PlainSocket {
    type SendManyBuf = ();

    async fn send_to(&self, packet: Packet, destination: SocketAddr) -> io::Result<()> {
        self.0.send_to(&packet, destination).await?;
        Ok(())
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.0.local_addr().map(Some)
    }
}

impl UdpRecv for PlainSocket {
    type RecvManyBuf = ();

    /// The engine takes any error for the end of the socket. Windows reports refusals of what was sent before
    /// (WSAECONNRESET, WSAENETRESET) and datagrams that are too large (WSAEMSGSIZE) as errors, and strangers can cause
    /// both: they are passed over.
    async fn recv_from(&mut self, pool: &mut PacketBufPool) -> io::Result<(Packet, SocketAddr)> {
        let mut errors = 0_u32;
        let mut packet = pool.get();
        loop {
            match self.0.recv_from(&mut packet).await {
                Ok((length, source)) => {
                    packet.truncate(length);
                    return Ok((packet, source));
                }
                Err(error) if errors >= MOST_ERRORS => return Err(error),
                Err(error) => {
                    tracing::trace!(%error, "nothing received");
                    errors = errors.saturating_add(1);
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use tokio::time::timeout;

    fn pair(local: SocketAddr) -> (PlainSocket, PlainSocket, SocketAddr) {
        let open = || PlainSocket::bind(local, |_| Ok(())).unwrap();
        let (sends, receives) = (open(), open());
        let address = receives.local_addr().unwrap().unwrap();
        (sends, receives, address)
    }

    #[tokio::test]
    async fn packets_go_over_both_families() {
        for local in [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))] {
            let (sends, mut receives, address) = pair(local);
            let mut pool = PacketBufPool::new(4);
            sends.send_to(Packet::from_bytes(b"ask"[..].into()), address).await.unwrap();
            let (packet, source) = timeout(Duration::from_secs(5), receives.recv_from(&mut pool)).await.unwrap().unwrap();
            assert_eq!(packet.into_bytes()[..], *b"ask");
            assert_eq!(Some(source), sends.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn a_datagram_that_is_too_large_ends_nothing() {
        let (sends, mut receives, address) = pair((Ipv4Addr::LOCALHOST, 0).into());
        let mut pool = PacketBufPool::new(4);
        let local = sends.local_addr().unwrap();
        sends.0.send_to(&[7; 9000], address).await.unwrap();
        sends.0.send_to(b"small", address).await.unwrap();
        let wanted = async {
            loop {
                let (packet, source) = receives.recv_from(&mut pool).await.unwrap();
                assert_eq!(Some(source), local);
                if packet.into_bytes()[..] == *b"small" {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(5), wanted).await.unwrap();
    }

    #[tokio::test]
    async fn what_prepares_the_socket_comes_before_the_bind_and_can_refuse() {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = PlainSocket::bind(local, |socket| {
            // Windows says so of a socket without an address; elsewhere it has port 0.
            let unbound = socket.local_addr().map_or(true, |address| address.as_socket().is_none_or(|it| it.port() == 0));
            assert!(unbound);
            Ok(())
        });
        assert_ne!(bound.unwrap().local_addr().unwrap().unwrap().port(), 0);
        let refused = PlainSocket::bind(local, |_| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
