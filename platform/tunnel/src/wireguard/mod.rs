//! WireGuard by the `gotatun` engine, on our TUN device and our sockets.

mod liveness;
pub(crate) mod probe;
pub mod server;
mod session;
mod socket;

use crate::error::TunnelError;
use crate::options::{Limits, Options, Secrets};
use crate::tun;
use gotatun::device::{DeviceBuilder, Peer};
use gotatun::noise::TimerParams;
use gotatun::x25519;
use hamn_core::event::TunnelEvent;
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::{Endpoint, Transport};
use hamn_core::plan::TunnelPlan;
use ipnet::IpNet;
use probe::Probe;
use session::{Session, WireGuard};
use socket::{Gateway, MarkedSockets};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The implementation that carries the packets, as shown.
pub(crate) const ENGINE: &str = "gotatun";

/// Creates the device and the socket and sends the first handshake.
pub(crate) async fn start(
    plan: &TunnelPlan,
    secrets: &Secrets,
    options: Options,
    events: mpsc::Sender<TunnelEvent>,
) -> Result<WireGuard, TunnelError> {
    let mut endpoints: Vec<Endpoint> =
        plan.endpoints.iter().copied().filter(|endpoint| endpoint.transport == Transport::Udp).collect();
    let first = options.endpoint_index.checked_rem(endpoints.len()).ok_or(TunnelError::NoEndpoint)?;
    endpoints.rotate_left(first);
    let endpoint = endpoints.first().copied().ok_or(TunnelError::NoEndpoint)?;
    // Whole prefixes would make routes; the network side makes all of them.
    let addresses: Vec<IpNet> = plan.addresses.iter().map(|net| IpNet::from(net.addr())).collect();
    if addresses.is_empty() {
        return Err(TunnelError::NoAddress);
    }
    let probe = Probe::new(plan).map(Arc::new);
    let device = tun::create(&options.interface, &addresses, plan.mtu).await?;
    let (writer, reader, link) = tun::pair(device, plan.mtu, probe.clone())
        .map_err(|source| TunnelError::Device { name: options.interface.clone(), source })?;

    let peer_key = x25519::PublicKey::from(*plan.peer.as_bytes());
    let keepalive_s = plan.keepalive_s.filter(|seconds| *seconds > 0).unwrap_or(options.limits.keepalive_s);
    let peer = peer(&plan.peer, &plan.allowed_ips, secrets.preshared_key.as_ref());
    let mut peer = peer.with_endpoint(endpoint.address).dangerously_with_timer_params(timers(&options.limits));
    peer.keepalive = Some(keepalive_s);
    let gateway = Gateway::new(endpoint.address);
    let mut builder = DeviceBuilder::new()
        .with_udp(MarkedSockets { gateway: gateway.clone() })
        .with_ip_pair(writer, reader)
        .with_private_key(private_key(&secrets.private_key))
        .with_peer(peer);
    if let Some(mark) = options.fwmark {
        builder = builder.with_fwmark(mark);
    }
    let engine = builder.build().await?;
    let session = Session { engine, peer: peer_key, gateway, endpoints, probe, link, limits: options.limits, mtu: plan.mtu };
    Ok(session.spawn(events))
}

/// The engine's own timers. It notices silence after 15 s and repeats a handshake after 5 s unless told otherwise.
fn timers(limits: &Limits) -> TimerParams {
    const JITTER: Duration = Duration::from_millis(333);
    let default = TimerParams::default();
    let silence = Duration::from_millis(limits.handshake_after_ms).min(*default.new_handshake_timeout.start());
    let retry = Duration::from_millis(limits.handshake_retry_ms);
    TimerParams { new_handshake_timeout: silence..=silence, rekey_timeout: retry..=retry + JITTER, ..default }
}

fn peer(key: &PublicKey, allowed_ips: &[IpNet], preshared_key: Option<&SecretKey>) -> Peer {
    let mut peer = Peer::new(x25519::PublicKey::from(*key.as_bytes()));
    // The engine's own prefix type is not re-exported by it; both write and read the same notation.
    peer.allowed_ips = allowed_ips.iter().filter_map(|net| net.trunc().to_string().parse().ok()).collect();
    peer.preshared_key = preshared_key.map(|key| *key.reveal());
    peer
}

fn private_key(key: &SecretKey) -> x25519::StaticSecret {
    x25519::StaticSecret::from(*key.reveal())
}
