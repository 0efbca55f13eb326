//! What the caller chooses (secrets, options, limits) and what it gets to see (statistics).

use hamn_core::key::SecretKey;
use hamn_core::net::{Endpoint, FWMARK, InterfaceName};

/// The secrets of a plan. No `Debug`, wiped on drop.
#[derive(Clone)]
pub struct Secrets {
    /// Our private key.
    pub private_key: SecretKey,
    /// Preshared key, if the plan has one.
    pub preshared_key: Option<SecretKey>,
}

/// How to run a plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the interface to create.
    pub interface: InterfaceName,
    /// Mark on the outer socket, set before it is bound. `None` for a gateway or a test without policy routing. Linux
    /// only.
    pub fwmark: Option<u32>,
    /// Index of the interface that the outer socket is tied to, before it is bound, so that no route can lead it into the
    /// tunnel. `None` for a test. Not on Linux, where the mark does it. [`crate::Tunnel::set_outer_interface`] changes it.
    pub outer_interface: Option<u32>,
    /// Which of the plan's endpoints comes first, modulo their number: the attempt number.
    pub endpoint_index: usize,
    /// Waits.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interface: InterfaceName::tunnel(),
            fwmark: Some(FWMARK),
            outer_interface: None,
            endpoint_index: 0,
            limits: Limits::default(),
        }
    }
}

/// Which WireGuard data plane to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Ours where the kernel is Linux and hands over large pieces on TUN devices, else gotatun's.
    #[default]
    Best,
    /// gotatun's, as on a kernel that refuses ours, and on every other system. For comparing tests and benches.
    Gotatun,
    /// The kernel's own WireGuard at the client, where it has one; else as [`Engine::Best`]. Only where the administrator asks
    /// for it: it cannot renew keys within a session, and a tunnel outlives a helper that is killed.
    Kernel,
}

impl Engine {
    /// Name of the environment variable that says `gotatun` (tests and benches) or `kernel` (an administrator). The environment
    /// of the helper and of a gateway belongs to who starts the service; no caller of their interfaces reaches it, nor this
    /// choice.
    pub const VARIABLE: &str = "HAMN_TUNNEL_ENGINE";

    /// What the environment says; anything but `gotatun` and `kernel` is [`Engine::Best`].
    #[must_use]
    pub fn from_environment() -> Self {
        Self::named(&std::env::var(Self::VARIABLE).unwrap_or_default())
    }

    fn named(name: &str) -> Self {
        match name {
            "gotatun" => Self::Gotatun,
            "kernel" => Self::Kernel,
            _ => Self::Best,
        }
    }
}

/// All waits of a tunnel, in milliseconds.
///
/// A gateway that lost its state ignores what we send, and every WireGuard implementation notices only after 15 s
/// (keepalive 10 s + rekey 5 s). These limits act after 2 s. A peer that only receives answers nothing for up
/// to 10 s, so silence alone proves little: `probe_after_ms` asks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The first handshake must be complete by then.
    pub handshake_timeout_ms: u64,
    /// After the handshake, the first answer from inside the tunnel must come by then.
    pub verify_timeout_ms: u64,
    /// Between two questions while verifying.
    pub verify_every_ms: u64,
    /// Sent but heard nothing for so long: ask the gateway something that it must answer.
    pub probe_after_ms: u64,
    /// Between two questions while nothing is heard.
    pub probe_every_ms: u64,
    /// Sent but heard nothing for so long: a handshake, in case the gateway lost its state. Up to 250 ms later, the
    /// engine's tick.
    pub handshake_after_ms: u64,
    /// Sent but heard nothing for so long: stalled.
    pub stall_after_ms: u64,
    /// Sent but heard nothing for so long: failed.
    pub fail_after_ms: u64,
    /// Neither sent nor heard anything for so long: ask, so that a dead gateway is noticed while idle (NET-04).
    pub idle_probe_ms: u64,
    /// While stalled, the next of several endpoints is tried after so long.
    pub switch_endpoint_ms: u64,
    /// An unanswered handshake is sent again after so long (WireGuard's own value is 5 s).
    pub handshake_retry_ms: u64,
    /// Persistent keepalive in seconds where the plan asks for none: it keeps the NAT mapping of the outer path open
    /// so that the gateway can reach us. 25 s is below the shortest UDP timeout of common routers (30 s).
    pub keepalive_s: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout_ms: 10_000,
            verify_timeout_ms: 8_000,
            verify_every_ms: 250,
            probe_after_ms: 1_000,
            probe_every_ms: 1_000,
            handshake_after_ms: 2_000,
            stall_after_ms: 2_500,
            fail_after_ms: 10_000,
            idle_probe_ms: 18_000,
            switch_endpoint_ms: 3_000,
            handshake_retry_ms: 1_000,
            keepalive_s: 25,
        }
    }
}

impl Limits {
    /// What the engine does alone, without watching for silence. The negative control of recovery tests and benches.
    #[must_use]
    pub fn engine_only() -> Self {
        const NEVER_MS: u64 = 24 * 3_600_000;
        Self {
            probe_after_ms: NEVER_MS,
            handshake_after_ms: NEVER_MS,
            stall_after_ms: NEVER_MS,
            fail_after_ms: NEVER_MS,
            idle_probe_ms: NEVER_MS,
            switch_endpoint_ms: NEVER_MS,
            handshake_retry_ms: 5_000,
            ..Self::default()
        }
    }
}

/// What a tunnel shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelStats {
    /// Which data plane carries the packets: `hamn`, `gotatun` or `kernel`.
    pub engine: &'static str,
    /// Bytes that came out of the tunnel.
    pub rx_bytes: u64,
    /// Bytes that went into the tunnel.
    pub tx_bytes: u64,
    /// Milliseconds since the last handshake was completed.
    pub last_handshake_age_ms: Option<u64>,
    /// The gateway in use.
    pub endpoint: Endpoint,
    /// MTU of the interface in bytes.
    pub mtu: u16,
    /// Shortest time from a probe to its answer, in milliseconds, when one was answered.
    pub round_trip_ms: Option<u32>,
    /// Nothing is heard at the moment.
    pub stalled: bool,
    /// Traffic was seen to flow at least once.
    pub verified: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_words_choose_another_data_plane() {
        let named = ["gotatun", "kernel", "", "Kernel", "kernel ", "hamn"].map(Engine::named);
        assert_eq!(named, [Engine::Gotatun, Engine::Kernel, Engine::Best, Engine::Best, Engine::Best, Engine::Best]);
    }
}
