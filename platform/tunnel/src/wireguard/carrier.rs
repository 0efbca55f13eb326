//! What a client's session asks of whatever carries its packets.

use crate::Pending;
use crate::error::TunnelError;
use bytes::BytesMut;
use hamn_core::key::SecretKey;
use hamn_core::state::BlockReason;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Notify;

/// Traffic inside the tunnel so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Bytes out of the tunnel, answers to probes excluded.
    pub(crate) rx_bytes: u64,
    /// Packets out of the tunnel, answers to probes included: proof that the gateway is there.
    pub(crate) heard: u64,
    /// Bytes into the tunnel, probes excluded.
    pub(crate) tx_bytes: u64,
    /// Packets into the tunnel, probes excluded.
    pub(crate) sent: u64,
}

/// Counts traffic, and says when it begins.
pub(crate) trait Meter: Send + Sync {
    fn totals(&self) -> Totals;
    /// The next packet into the tunnel rings [`Carrier::bell`], once.
    fn await_traffic(&self);
}

/// Handshakes that were completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handshakes {
    pub(crate) count: u64,
    /// When the last one was, on `CLOCK_BOOTTIME`.
    pub(crate) last_ms: Option<u64>,
}

/// A data plane with its device, its socket and its one peer. Dropping it ends it, too.
pub(crate) trait Carrier: Send + Sync {
    /// As shown.
    fn name(&self) -> &'static str;
    fn meter(&self) -> Arc<dyn Meter>;
    /// Rung by awaited traffic, and by completed handshakes where `handshake_look_ms` says so.
    fn bell(&self) -> Arc<Notify>;
    /// How long to wait before asking again whether a handshake is complete; `None` where the bell tells.
    fn handshake_look_ms(&self) -> Option<u64>;
    fn handshakes(&mut self, now_ms: u64) -> Pending<'_, Handshakes>;
    /// A packet that enters the tunnel as if it came from the device. Dropped if the data plane does not keep up.
    fn inject(&self, packet: BytesMut);
    /// The first handshake. Ends when it is sent.
    fn initiate(&mut self) -> Pending<'_, ()>;
    /// A handshake while the session in use goes on.
    fn renew(&mut self) -> Pending<'_, ()>;
    /// Another socket with another port. Sessions stay.
    fn rebind(&mut self) -> Pending<'_, Result<(), TunnelError>>;
    /// Another socket, no sessions, a handshake at once. After an error there is no socket, and only this helps.
    fn restart(&mut self) -> Pending<'_, Result<(), TunnelError>>;
    /// Another private key, then as [`Self::restart`].
    fn set_private_key(&mut self, key: &SecretKey) -> Pending<'_, Result<(), TunnelError>>;
    /// Another address of the gateway, then as [`Self::restart`].
    fn set_endpoint(&mut self, address: SocketAddr) -> Pending<'_, Result<(), TunnelError>>;
    /// Waits until it has ended by itself, and says why.
    fn ended(&mut self) -> Pending<'_, BlockReason>;
    /// Ends it. The interface is gone afterwards.
    fn stop(self: Box<Self>) -> Pending<'static, ()>;
}
