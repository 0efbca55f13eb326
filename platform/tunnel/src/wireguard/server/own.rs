//! A gateway on the data plane of this workspace.

use super::{PeerStats, ServerOptions};
use crate::error::TunnelError;
use crate::tun::platform;
use crate::wireguard::own::{gone, stop};
use crate::wireguard::private_key;
use hamn_core::key::{PublicKey, SecretKey};
use hamn_wireguard::{Device, Engine, EngineError, EngineOptions, Event, Listen, PeerConfig, PeerUpdate, x25519};
use ipnet::IpNet;
use std::time::Duration;
use tokio::sync::watch;

pub(super) struct Server {
    engine: Engine,
    lost: watch::Receiver<bool>,
    pub(super) port: u16,
}

impl Server {
    pub(super) async fn start(device: Device, options: ServerOptions) -> Result<Self, TunnelError> {
        let ServerOptions { interface, addresses, mtu, listen_port, private_key: key } = options;
        platform::configure(&interface, &addresses, mtu).await?;
        let (lost_tx, lost) = watch::channel(false);
        let mut settings = EngineOptions::new(private_key(&key), Listen::Port(listen_port));
        settings.mtu = mtu;
        settings.on_event = Some(Box::new(move |event| match event {
            Event::DeviceLost => drop(lost_tx.send_replace(true)),
            Event::Handshake(_) | Event::Traffic => {}
        }));
        let engine = Engine::start(device, settings)?;
        let port = engine.port().await?.unwrap_or(listen_port);
        Ok(Self { engine, lost, port })
    }

    pub(super) async fn add_peer(
        &self,
        key: PublicKey,
        allowed_ips: &[IpNet],
        preshared_key: Option<&SecretKey>,
    ) -> Result<(), TunnelError> {
        let (key, allowed_ips) = (x25519::PublicKey::from(*key.as_bytes()), allowed_ips.to_vec());
        let preshared_key = preshared_key.map(|key| *key.reveal());
        let update =
            PeerUpdate { allowed_ips: Some(allowed_ips.clone()), preshared_key: Some(preshared_key), ..PeerUpdate::default() };
        // Changed in place, so that its sessions and its endpoint stay.
        match self.engine.update_peer(key, update).await {
            Err(EngineError::NoPeer) => {
                let peer = PeerConfig { preshared_key, ..PeerConfig::new(key, allowed_ips) };
                Ok(self.engine.add_peer(peer).await?)
            }
            other => Ok(other?),
        }
    }

    pub(super) async fn remove_peer(&self, key: &PublicKey) -> Result<bool, TunnelError> {
        match self.engine.remove_peer(x25519::PublicKey::from(*key.as_bytes())).await {
            Ok(()) => Ok(true),
            Err(EngineError::NoPeer) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn peers(&self) -> Vec<PeerStats> {
        // Without an answer the gateway has ended, and has no clients.
        let peers = self.engine.peers().await.unwrap_or_default().into_iter();
        let ms = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        peers
            .filter_map(|peer| {
                Some(PeerStats {
                    key: PublicKey::new(peer.public_key.to_bytes()).ok()?,
                    rx_bytes: peer.rx_bytes,
                    tx_bytes: peer.tx_bytes,
                    last_handshake_age_ms: peer.last_handshake_age.map(ms),
                    endpoint: peer.endpoint,
                })
            })
            .collect()
    }

    pub(super) async fn failed(&self) {
        gone(self.lost.clone()).await;
    }

    pub(super) async fn stop(self) {
        stop(self.engine).await;
    }
}
