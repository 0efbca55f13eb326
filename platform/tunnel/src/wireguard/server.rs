//! The gateway's side of WireGuard on the same device and engine: for the reference provider and for tests.

use super::socket::ServerSockets;
use super::{peer, private_key};
use crate::error::TunnelError;
use crate::tun::{self, DeviceHandle, TunReader, TunWriter};
use gotatun::device::{Device, DeviceBuilder, Peer};
use gotatun::x25519;
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How to run a gateway.
pub struct ServerOptions {
    /// Interface to create; it must not exist.
    pub interface: InterfaceName,
    /// The gateway's addresses inside the tunnel, with the prefix that its clients are in: the kernel makes the routes.
    pub addresses: Vec<IpNet>,
    /// MTU in bytes.
    pub mtu: u16,
    /// UDP port, on all addresses of both families; 0 takes any.
    pub listen_port: u16,
    /// The gateway's private key.
    pub private_key: SecretKey,
}

/// What a gateway knows of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// The client's public key.
    pub key: PublicKey,
    /// Bytes received from it, as the engine counts them.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// Milliseconds since the last handshake.
    pub last_handshake_age_ms: Option<u64>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
}

/// A running gateway. Dropping it ends it, too; [`WireGuardServer::stop`] waits until the interface is gone.
pub struct WireGuardServer {
    engine: Device<(ServerSockets, TunWriter, TunReader)>,
    placeholder: x25519::PublicKey,
    gone: oneshot::Receiver<()>,
    port: u16,
}

impl WireGuardServer {
    /// Creates the interface and listens.
    ///
    /// # Errors
    /// If the interface exists, or the device or the socket cannot be made.
    pub async fn start(options: ServerOptions) -> Result<Self, TunnelError> {
        let ServerOptions { interface, addresses, mtu, listen_port, private_key: key } = options;
        let device = tun::create(&interface, &addresses, mtu).await?;
        let (writer, reader, link) =
            tun::pair(device, mtu, None).map_err(|source| TunnelError::Device { name: interface, source })?;
        // gotatun opens its socket only when the first peer is there from the start. This one has no private key that
        // anyone knows and carries nothing.
        let nobody: [u8; 32] = rand::random();
        let placeholder = x25519::PublicKey::from(&x25519::StaticSecret::from(nobody));
        let engine = DeviceBuilder::new()
            .with_udp(ServerSockets)
            .with_ip_pair(writer, reader)
            .with_listen_port(listen_port)
            .with_private_key(private_key(&key))
            .with_peer(Peer::new(placeholder))
            .build()
            .await?;
        let port = engine.read(async |engine| engine.listen_port()).await;
        let DeviceHandle { gone, .. } = link;
        Ok(Self { engine, placeholder, gone, port })
    }

    /// The UDP port in use.
    #[must_use]
    pub const fn listen_port(&self) -> u16 {
        self.port
    }

    /// Admits a client, or changes what it may use. An address that another client has moves to this one.
    ///
    /// # Errors
    /// If the engine refuses.
    pub async fn add_peer(
        &self,
        key: PublicKey,
        allowed_ips: &[IpNet],
        preshared_key: Option<&SecretKey>,
    ) -> Result<(), TunnelError> {
        let peer = peer(&key, allowed_ips, preshared_key);
        if !self.engine.add_peer(peer.clone()).await? {
            // Changed in place: its sessions and its endpoint stay.
            let networks = peer.allowed_ips;
            let change = async |engine: &mut gotatun::device::configure::DeviceWrite<_>| {
                engine
                    .modify_peer(&peer.public_key, |known| {
                        known.clear_allowed_ips();
                        known.add_allowed_ips(networks);
                        known.set_preshared_key(peer.preshared_key);
                    })
                    .await
            };
            self.engine.write(change).await?;
        }
        Ok(())
    }

    /// Turns a client away: at once, its sessions end. False if it was not known.
    ///
    /// # Errors
    /// If the engine refuses.
    pub async fn remove_peer(&self, key: &PublicKey) -> Result<bool, TunnelError> {
        Ok(self.engine.remove_peer(&x25519::PublicKey::from(*key.as_bytes())).await?)
    }

    /// All clients.
    pub async fn peers(&self) -> Vec<PeerStats> {
        let count = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
        let peers = self.engine.peers().await.into_iter().filter(|known| known.peer.public_key != self.placeholder);
        peers
            .filter_map(|known| {
                Some(PeerStats {
                    key: PublicKey::new(known.peer.public_key.to_bytes()).ok()?,
                    rx_bytes: count(known.stats.rx_bytes),
                    tx_bytes: count(known.stats.tx_bytes),
                    last_handshake_age_ms: known
                        .stats
                        .last_handshake
                        .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
                    endpoint: known.peer.endpoint,
                })
            })
            .collect()
    }

    /// Ends when the gateway cannot go on: its interface was deleted, or its socket failed.
    pub async fn failed(&mut self) {
        self.engine.wait().await;
    }

    /// Ends the gateway; afterwards the interface is gone and the port free.
    pub async fn stop(self) {
        let Self { engine, gone, .. } = self;
        // Both time-outs only guard against a hang; what remains ends with the process.
        let _ = timeout(STOP_TIMEOUT, engine.stop()).await;
        let _ = timeout(STOP_TIMEOUT, gone).await;
    }
}
