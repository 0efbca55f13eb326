//! WireGuard on a data plane of our own, or on `gotatun`'s where the system lacks what ours needs.

mod carrier;
#[cfg(target_os = "linux")]
#[path = "choice/linux.rs"]
mod choice;
#[cfg(not(target_os = "linux"))]
#[path = "choice/stock_only.rs"]
mod choice;
mod client;
#[cfg(target_os = "linux")]
mod kernel;
mod liveness;
#[cfg(target_os = "linux")]
#[path = "outer/linux.rs"]
mod outer;
#[cfg(target_os = "macos")]
#[path = "outer/macos.rs"]
mod outer;
#[cfg(windows)]
#[path = "outer/windows.rs"]
mod outer;
mod outer_interface;
#[cfg(target_os = "linux")]
mod own;
#[cfg(any(test, not(target_os = "linux")))]
mod plain_socket;
pub(crate) mod probe;
#[cfg(target_os = "linux")]
pub mod server;
mod session;
mod socket;
mod stock;

pub(crate) use carrier::{Meter, Totals};

use crate::alarm::Alarm;
use crate::error::TunnelError;
use crate::options::{Engine, Limits, Options, Secrets};
use client::Client;
use gotatun::device::Peer;
use gotatun::noise::TimerParams;
use gotatun::x25519;
use hamn_core::event::TunnelEvent;
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::{Endpoint, Transport};
use hamn_core::plan::TunnelPlan;
use ipnet::IpNet;
use outer_interface::OuterInterface;
use probe::Probe;
use session::{Session, WireGuard};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Creates the device and the socket and sends the first handshake.
pub(crate) async fn start(
    plan: &TunnelPlan,
    secrets: &Secrets,
    options: Options,
    engine: Engine,
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
    let keepalive_s = plan.keepalive_s.filter(|seconds| *seconds > 0).unwrap_or(options.limits.keepalive_s);
    let alarm = Alarm::new().map_err(TunnelError::Alarm)?;
    let (endpoint, client_probe) = (endpoint.address, probe.clone());
    let outer = OuterInterface::new(options.outer_interface);
    let client =
        Client { plan, secrets, options: &options, addresses, endpoint, keepalive_s, probe: client_probe, outer: outer.clone() };
    let carrier = choice::start(client, engine).await?;
    tracing::info!(engine = carrier.name(), "the tunnel's data plane");
    let session = Session { carrier, alarm, endpoint, endpoints, probe, limits: options.limits, mtu: plan.mtu, outer };
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
