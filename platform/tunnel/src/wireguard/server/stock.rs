//! A gateway on gotatun's data plane.

use super::sockets::ServerSockets;
use super::{PeerStats, ServerOptions};
use crate::error::TunnelError;
use crate::tun::{self, DeviceHandle, TunReader, TunWriter};
use crate::wireguard::{peer, private_key};
use gotatun::device::{Device, DeviceBuilder, Peer};
use gotatun::x25519;
use hamn_core::key::{PublicKey, SecretKey};
use ipnet::IpNet;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Server {
    engine: Device<(ServerSockets, TunWriter, TunReader)>,
    placeholder: x25519::PublicKey,
    gone: oneshot::Receiver<()>,
    pub(super) port: u16,
}

impl Server {
    pub(super) async fn start(options: ServerOptions) -> Result<Self, TunnelError> {
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

    pub(super) async fn add_peer(
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

    pub(super) async fn remove_peer(&self, key: &PublicKey) -> Result<bool, TunnelError> {
        Ok(self.engine.remove_peer(&x25519::PublicKey::from(*key.as_bytes())).await?)
    }

    pub(super) async fn peers(&self) -> Vec<PeerStats> {
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

    pub(super) async fn failed(&mut self) {
        self.engine.wait().await;
    }

    pub(super) async fn stop(self) {
        let Self { engine, gone, .. } = self;
        // Both time-outs only guard against a hang; what remains ends with the process.
        let _ = timeout(STOP_TIMEOUT, engine.stop()).await;
        let _ = timeout(STOP_TIMEOUT, gone).await;
    }
}
