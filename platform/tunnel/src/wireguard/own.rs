//! The data plane of this workspace (`hamn-wireguard`), at the client.

use super::carrier::{Carrier, Handshakes, Meter, Totals};
use super::client::Client;
use super::{private_key, timers};
use crate::Pending;
use crate::clock::boottime_ms;
use crate::error::TunnelError;
use crate::tun::platform;
use bytes::BytesMut;
use hamn_core::key::SecretKey;
use hamn_core::net::InterfaceName;
use hamn_core::state::BlockReason;
use hamn_wireguard::x25519::PublicKey;
use hamn_wireguard::{
    Counters, Device, DeviceError, Engine, EngineError, EngineOptions, Event, Inspect, Listen, Offload, PeerConfig, Roaming,
};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// As shown.
pub(super) const NAME: &str = "hamn";
/// How long to wait for the data thread, which ends within one pass of its loop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl From<EngineError> for TunnelError {
    fn from(error: EngineError) -> Self {
        Self::DataPlane(Box::new(error))
    }
}

/// Makes the interface, or `None` where the kernel does not hand over TCP in large pieces: then this data plane has
/// nothing to offer, and the stock one serves.
pub(super) fn open(interface: &InterfaceName) -> Result<Option<Device>, TunnelError> {
    match Device::open(interface.as_str(), Offload::TcpUdp) {
        Ok(device) if device.offload() >= Offload::Tcp => Ok(Some(device)),
        Ok(device) => {
            tracing::warn!(offload = ?device.offload(), "the kernel refuses segmentation on TUN devices");
            Ok(None)
        }
        Err(DeviceError::Exists(_)) => Err(TunnelError::InterfaceExists(interface.clone())),
        Err(error) => {
            // If no device can be made at all, the stock data plane says so.
            tracing::warn!(%error, "no device for the own data plane");
            Ok(None)
        }
    }
}

/// What the data thread tells.
#[derive(Debug, Default)]
struct Told {
    heard: AtomicU64,
    handshakes: AtomicU64,
    /// Of the last handshake; 0 if there was none.
    handshake_ms: AtomicU64,
}

struct OwnMeter {
    counters: Arc<Counters>,
    told: Arc<Told>,
}

impl Meter for OwnMeter {
    fn totals(&self) -> Totals {
        let totals = self.counters.totals();
        let heard = self.told.heard.load(Ordering::Relaxed);
        Totals { rx_bytes: totals.rx_bytes, heard, tx_bytes: totals.tx_bytes, sent: totals.tx_packets }
    }

    fn await_traffic(&self) {
        self.counters.await_traffic();
    }
}

pub(super) struct Own {
    engine: Engine,
    peer: PublicKey,
    told: Arc<Told>,
    bell: Arc<Notify>,
    lost: watch::Receiver<bool>,
}

/// Configures the device, opens the socket and starts the data thread.
pub(super) async fn start(device: Device, client: Client<'_>) -> Result<Own, TunnelError> {
    let Client { plan, secrets, options, addresses, endpoint, keepalive_s, probe, .. } = client;
    platform::configure(&options.interface, &addresses, plan.mtu).await?;
    let (told, bell) = (Arc::new(Told::default()), Arc::new(Notify::new()));
    let (lost_tx, lost) = watch::channel(false);
    let mut settings = EngineOptions::new(private_key(&secrets.private_key), Listen::OnDemand);
    settings.mtu = plan.mtu;
    if let Some(mark) = options.fwmark {
        // Before the socket is bound, so that neither the choice of the source address nor any packet is ever made without
        // it (G8).
        settings.prepare = Arc::new(move |socket| Ok(setsockopt(&socket, sockopt::Mark, &mark)?));
    }
    let hears = Arc::clone(&told);
    let inspect: Inspect = Box::new(move |packet| {
        // Written by this thread alone. First the count, then the news of an answer.
        hears.heard.store(hears.heard.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        probe.as_deref().is_some_and(|probe| probe.take_answer(packet))
    });
    settings.inspect = Some(inspect);
    let (tells, rings) = (Arc::clone(&told), Arc::clone(&bell));
    settings.on_event = Some(Box::new(move |event| match event {
        Event::Handshake(_) => {
            tells.handshake_ms.store(boottime_ms(), Ordering::Relaxed);
            tells.handshakes.fetch_add(1, Ordering::Release);
            rings.notify_one();
        }
        Event::Traffic => rings.notify_one(),
        Event::DeviceLost => drop(lost_tx.send_replace(true)),
    }));
    let engine = Engine::start(device, settings)?;
    let peer = PublicKey::from(*plan.peer.as_bytes());
    let carrier = Own { engine, peer, told, bell, lost };
    let config = PeerConfig {
        preshared_key: secrets.preshared_key.as_ref().map(|key| *key.reveal()),
        endpoint: Some(endpoint),
        // The firewall admits the gateway's exact address and port (G8): following it elsewhere would end the tunnel.
        roaming: Roaming::Fixed,
        keepalive_s: Some(keepalive_s),
        timers: Some(timers(&options.limits)),
        ..PeerConfig::new(peer, plan.allowed_ips.clone())
    };
    carrier.engine.add_peer(config).await?;
    Ok(carrier)
}

impl Own {
    async fn send_initiation(&self) {
        if let Err(error) = self.engine.handshake(self.peer).await {
            tracing::warn!(%error, "no handshake");
        }
    }

    /// Resuming opens a socket and sends a handshake. If it fails, the engine stays suspended, and this may be tried again.
    async fn begin_again(&self) -> Result<(), EngineError> {
        self.engine.suspend().await?;
        self.engine.resume().await
    }
}

impl Carrier for Own {
    fn name(&self) -> &'static str {
        NAME
    }

    fn meter(&self) -> Arc<dyn Meter> {
        Arc::new(OwnMeter { counters: Arc::clone(self.engine.counters()), told: Arc::clone(&self.told) })
    }

    fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    fn handshake_look_ms(&self) -> Option<u64> {
        None
    }

    fn handshakes(&mut self, _now_ms: u64) -> Pending<'_, Handshakes> {
        let count = self.told.handshakes.load(Ordering::Acquire);
        let last_ms = Some(self.told.handshake_ms.load(Ordering::Relaxed)).filter(|_| count > 0);
        Box::pin(std::future::ready(Handshakes { count, last_ms }))
    }

    fn inject(&self, packet: BytesMut) {
        self.engine.inject(packet);
    }

    fn initiate(&mut self) -> Pending<'_, ()> {
        Box::pin(self.send_initiation())
    }

    fn renew(&mut self) -> Pending<'_, ()> {
        Box::pin(self.send_initiation())
    }

    fn rebind(&mut self) -> Pending<'_, Result<(), TunnelError>> {
        Box::pin(async move { Ok(self.engine.rebind().await?) })
    }

    fn restart(&mut self) -> Pending<'_, Result<(), TunnelError>> {
        Box::pin(async move { Ok(self.begin_again().await?) })
    }

    fn set_private_key(&mut self, key: &SecretKey) -> Pending<'_, Result<(), TunnelError>> {
        let key = private_key(key);
        Box::pin(async move {
            self.engine.suspend().await?;
            self.engine.set_private_key(key).await?;
            Ok(self.engine.resume().await?)
        })
    }

    fn set_endpoint(&mut self, address: SocketAddr) -> Pending<'_, Result<(), TunnelError>> {
        Box::pin(async move {
            // Suspended first, so that only the new family's socket is opened, once.
            self.engine.suspend().await?;
            self.engine.set_endpoint(self.peer, address).await?;
            Ok(self.engine.resume().await?)
        })
    }

    fn ended(&mut self) -> Pending<'_, BlockReason> {
        Box::pin(gone(self.lost.clone()))
    }

    fn stop(self: Box<Self>) -> Pending<'static, ()> {
        Box::pin(stop(self.engine))
    }
}

/// Waits until the device was taken away, or the data thread is gone.
pub(super) async fn gone(mut lost: watch::Receiver<bool>) -> BlockReason {
    // The thread owns the other end.
    if lost.wait_for(|lost| *lost).await.is_ok() { BlockReason::TunnelDevice } else { BlockReason::Internal }
}

/// Ends the data thread; afterwards the interface is gone.
pub(super) async fn stop(engine: Engine) {
    engine.request_stop();
    let ended = tokio::task::spawn_blocking(move || engine.stop());
    if timeout(STOP_TIMEOUT, ended).await.is_err() {
        tracing::warn!("the data thread did not stop in time");
    }
}
