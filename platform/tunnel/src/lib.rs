//! Tunnels: a `TunnelPlan` becomes a running tunnel that says when traffic flows, when it stalls and when it is over.
//!
//! * [`start`] creates the TUN device, the outer socket and the WireGuard data plane, and returns a [`Tunnel`]. On Linux the
//!   data plane is our own (`hamn-wireguard`); gotatun's serves where the kernel refuses what ours needs, and on Windows and
//!   macOS. See [`Engine`].
//! * The device is `/dev/net/tun` on Linux, an adapter of Wintun on Windows (its library is checked before it is loaded, see
//!   `WINTUN.md`), a `utun` control socket on macOS. It goes with the process. Routes and DNS are the caller's.
//! * What happens afterwards is told as `hamn_core::event::TunnelEvent` on the channel given to [`start`].
//! * `wireguard::server` is the gateway's side, for the reference provider and for tests; on Linux only.
//!
//! # Clocks (TIME-01)
//!
//! Every duration here is measured on a clock that counts through suspend and that no one can set ([`clock`]), as gotatun
//! does: `CLOCK_BOOTTIME` on Linux.
//! A WireGuard handshake carries a TAI64N time stamp, and a gateway refuses one that is not newer than the last it saw
//! from the same key. gotatun reads the wall clock *once*, when a tunnel starts, and adds `CLOCK_BOOTTIME` to it: a jump
//! of the clock while a tunnel is up changes nothing. It offers no hook for the start value, so a tunnel that starts
//! after the clock was set *back* stays unanswered ([`BlockReason::GatewaySilent`]) until the clock passes the old value,
//! for as long as the gateway remembers. The way out is another device key, which the gateway knows nothing of: whoever
//! stores keys compares the wall clock with the time of the last verified tunnel and rotates the key when it lies behind.
//! A clock far ahead is accepted by the gateway.
//!
//! [`BlockReason::GatewaySilent`]: hamn_core::state::BlockReason::GatewaySilent

mod alarm;
pub mod clock;
mod error;
mod options;
pub mod tun;
pub mod wireguard;

pub use error::TunnelError;
pub use options::{Engine, Limits, Options, Secrets, TunnelStats};

use hamn_core::event::TunnelEvent;
use hamn_core::key::SecretKey;
use hamn_core::plan::TunnelPlan;
use std::future::Future;
use std::pin::Pin;
use tokio::sync::mpsc;

/// A boxed future, so that [`Tunnel`] can be a trait object.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A running tunnel, whatever carries it.
///
/// Dropping it stops it, too, but only [`Tunnel::stop`] waits until the interface is gone. After
/// `TunnelEvent::Failed` the interface stays until then, so that packets go nowhere rather than elsewhere.
pub trait Tunnel: Send + Sync {
    /// Counters and ages, without waiting. At most one second old, the byte counters exact.
    fn stats(&self) -> TunnelStats;
    /// The index of the interface that outer sockets are tied to from now on: call it before [`Tunnel::rebind`] when the
    /// outer path changed. No effect on Linux. See [`Options::outer_interface`].
    fn set_outer_interface(&self, index: Option<u32>);
    /// The outer path changed: a new socket with a new source port, and a handshake at once.
    fn rebind(&self) -> Pending<'_, Result<(), TunnelError>>;
    /// A handshake at once, without giving up the session in use.
    fn force_handshake(&self) -> Pending<'_, Result<(), TunnelError>>;
    /// Goes on with another private key, which the gateway must know by now. Packets wait for the new handshake, so
    /// flows inside the tunnel survive (KEY-01).
    fn set_private_key(&self, key: SecretKey) -> Pending<'_, Result<(), TunnelError>>;
    /// Ends the tunnel. When the future is done, the interface is gone.
    fn stop(self: Box<Self>) -> Pending<'static, ()>;
}

/// Starts the tunnel of `plan` on the best data plane that the kernel allows, unless the environment asks for the other one
/// ([`Engine::from_environment`]). Events come until the tunnel is stopped; none comes before this returns.
///
/// # Errors
/// [`TunnelError::reason`] gives the reason to show.
pub async fn start(
    plan: &TunnelPlan,
    secrets: Secrets,
    options: Options,
    events: mpsc::Sender<TunnelEvent>,
) -> Result<Box<dyn Tunnel>, TunnelError> {
    start_on(Engine::from_environment(), plan, secrets, options, events).await
}

/// As [`start`], on this data plane.
///
/// # Errors
/// As [`start`].
pub async fn start_on(
    engine: Engine,
    plan: &TunnelPlan,
    secrets: Secrets,
    options: Options,
    events: mpsc::Sender<TunnelEvent>,
) -> Result<Box<dyn Tunnel>, TunnelError> {
    let tunnel = wireguard::start(plan, &secrets, options, engine, events).await?;
    Ok(Box::new(tunnel))
}
