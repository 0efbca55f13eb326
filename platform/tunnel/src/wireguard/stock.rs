//! The data plane of the `gotatun` crate: for systems that lack what ours needs.

use super::carrier::{Carrier, Handshakes, Meter};
use super::client::Client;
use super::socket::{ClientSockets, Gateway};
use super::{peer, private_key, timers};
use crate::Pending;
use crate::error::TunnelError;
use crate::options::Limits;
use crate::tun::{self, DeviceHandle, TunReader, TunWriter};
use bytes::BytesMut;
use gotatun::device::{Device, DeviceBuilder};
use gotatun::x25519;
use hamn_core::key::SecretKey;
use hamn_core::state::BlockReason;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// As shown.
pub(super) const NAME: &str = "gotatun";
/// Between two looks while a handshake is under way: this delays `Verified` by half of it on average.
const HANDSHAKE_LOOK_MS: u64 = 10;
/// How long the sending of an initiation may take; the answer is not awaited.
const INITIATION_TIMEOUT: Duration = Duration::from_millis(20);
/// How long to wait for the engine's tasks and the interface.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Session age after which the engine renews the keys (WireGuard paper section 6.2).
const REKEY_AFTER: Duration = Duration::from_secs(120);

pub(super) struct Stock {
    engine: Device<(ClientSockets, TunWriter, TunReader)>,
    peer: x25519::PublicKey,
    gateway: Gateway,
    link: DeviceHandle,
    limits: Limits,
    handshakes: Handshakes,
}

/// Creates the device and the socket.
pub(super) async fn start(client: Client<'_>) -> Result<Stock, TunnelError> {
    let Client { plan, secrets, options, addresses, endpoint, keepalive_s, probe, outer } = client;
    let device = tun::create(&options.interface, &addresses, plan.mtu).await?;
    let (writer, reader, link) =
        tun::pair(device, plan.mtu, probe).map_err(|source| TunnelError::Device { name: options.interface.clone(), source })?;
    let peer = peer(&plan.peer, &plan.allowed_ips, secrets.preshared_key.as_ref());
    let mut peer = peer.with_endpoint(endpoint).dangerously_with_timer_params(timers(&options.limits));
    peer.keepalive = Some(keepalive_s);
    let gateway = Gateway::new(endpoint);
    let sockets = ClientSockets { gateway: gateway.clone(), mark: options.fwmark, outer };
    let engine = DeviceBuilder::new()
        .with_udp(sockets)
        .with_ip_pair(writer, reader)
        .with_private_key(private_key(&secrets.private_key))
        .with_peer(peer)
        .build()
        .await?;
    let peer = x25519::PublicKey::from(*plan.peer.as_bytes());
    Ok(Stock { engine, peer, gateway, link, limits: options.limits, handshakes: Handshakes::default() })
}

impl Stock {
    async fn send_initiation(&self) {
        // The future sends at once and then waits for the answer, which the next look sees, too.
        let _ = timeout(INITIATION_TIMEOUT, self.engine.force_handshake(&self.peer)).await;
    }

    async fn set_rekey_after(&mut self, age: Duration) {
        let mut params = timers(&self.limits);
        params.rekey_after_time = age..=age;
        let change = self.engine.modify_peer(&self.peer, |peer| {
            peer.dangerously_set_timer_params(Some(params));
        });
        if let Err(error) = change.await {
            tracing::warn!(%error, "the engine keeps its timers");
        }
    }

    async fn begin_again(&self) -> Result<(), TunnelError> {
        self.engine.suspend().await;
        self.engine.resume().await?;
        self.send_initiation().await;
        Ok(())
    }
}

impl Carrier for Stock {
    fn name(&self) -> &'static str {
        NAME
    }

    fn meter(&self) -> Arc<dyn Meter> {
        self.link.counters.clone()
    }

    fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.link.counters.busy)
    }

    fn handshake_look_ms(&self) -> Option<u64> {
        Some(HANDSHAKE_LOOK_MS)
    }

    /// The engine tells handshakes only by their age.
    fn handshakes(&mut self, now_ms: u64) -> Pending<'_, Handshakes> {
        // The age is rounded and the two clocks are read one after the other.
        const SLACK_MS: u64 = 300;
        Box::pin(async move {
            if let Some(age) = self.engine.peers().await.first().and_then(|peer| peer.stats.last_handshake) {
                let then_ms = now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
                let seen = &mut self.handshakes;
                if seen.last_ms.is_none_or(|last| then_ms > last.saturating_add(SLACK_MS)) {
                    *seen = Handshakes { count: seen.count.saturating_add(1), last_ms: Some(then_ms) };
                }
            }
            self.handshakes
        })
    }

    fn inject(&self, packet: BytesMut) {
        let _ = self.link.inject.try_send(packet);
    }

    fn initiate(&mut self) -> Pending<'_, ()> {
        Box::pin(self.send_initiation())
    }

    /// The engine sends an initiation only if the session is due for renewal, so for a moment each is.
    fn renew(&mut self) -> Pending<'_, ()> {
        Box::pin(async move {
            self.set_rekey_after(Duration::ZERO).await;
            self.send_initiation().await;
            self.set_rekey_after(REKEY_AFTER).await;
        })
    }

    /// The engine remembers the port it got, so port 0 is a change, and a change of the port replaces the socket. After a
    /// failure it would remember 0, hence the other way then.
    fn rebind(&mut self) -> Pending<'_, Result<(), TunnelError>> {
        Box::pin(async move { Ok(self.engine.set_listen_port(0).await?) })
    }

    fn restart(&mut self) -> Pending<'_, Result<(), TunnelError>> {
        Box::pin(self.begin_again())
    }

    fn set_private_key(&mut self, key: &SecretKey) -> Pending<'_, Result<(), TunnelError>> {
        let key = private_key(key);
        Box::pin(async move {
            // Suspended, so that the engine takes the key without opening a socket for it, and forgets a handshake under
            // the old key that is still under way.
            self.engine.suspend().await;
            self.engine.set_private_key(key).await?;
            self.begin_again().await
        })
    }

    fn set_endpoint(&mut self, address: SocketAddr) -> Pending<'_, Result<(), TunnelError>> {
        Box::pin(async move {
            self.gateway.set(address);
            let change = self.engine.modify_peer(&self.peer, |peer| peer.set_endpoint(Some(address)));
            if let Err(error) = change.await {
                tracing::warn!(%error, "the engine keeps its endpoint");
            }
            self.begin_again().await
        })
    }

    fn ended(&mut self) -> Pending<'_, BlockReason> {
        let mut lost = self.link.lost.clone();
        Box::pin(async move {
            tokio::select! {
                () = taken_away(&mut lost) => BlockReason::TunnelDevice,
                () = self.engine.wait() => {
                    // The device is the usual reason, and says so by itself.
                    if *self.link.lost.borrow() { BlockReason::TunnelDevice } else { BlockReason::Internal }
                }
            }
        })
    }

    fn stop(self: Box<Self>) -> Pending<'static, ()> {
        let Self { engine, link, .. } = *self;
        Box::pin(async move {
            if timeout(STOP_TIMEOUT, engine.stop()).await.is_err() {
                tracing::warn!("the engine did not stop in time");
            }
            let DeviceHandle { gone, .. } = link;
            if timeout(STOP_TIMEOUT, gone).await.is_err() {
                tracing::warn!("the tunnel device is still in use");
            }
        })
    }
}

/// Ends when the device was taken away.
async fn taken_away(lost: &mut watch::Receiver<bool>) {
    if lost.wait_for(|lost| *lost).await.is_err() {
        std::future::pending::<()>().await;
    }
}
