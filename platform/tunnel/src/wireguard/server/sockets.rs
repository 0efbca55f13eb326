//! The gateway's own sockets: a fixed port, both families where the host has both.

use crate::wireguard::outer::enlarge;
use gotatun::udp::socket::{UdpSocket, UdpSocketFactory};
use gotatun::udp::{UdpTransportFactory, UdpTransportFactoryParams};
use std::io;

pub(super) struct ServerSockets;

impl UdpTransportFactory for ServerSockets {
    type Send = UdpSocket;
    type Recv = UdpSocket;

    async fn bind(&mut self, params: &UdpTransportFactoryParams) -> io::Result<(UdpSocket, UdpSocket)> {
        let (send, receive) = UdpSocketFactory::default().bind(params).await?;
        enlarge(&send);
        Ok((send, receive))
    }
}
