//! What the machine is told. Events carry the attempt or generation they belong to; late ones change nothing.

use crate::location::{Destination, Target};
use crate::net::Endpoint;
use crate::plan::TunnelPlan;
use crate::settings::Settings;
use crate::state::{Attempt, BlockReason, Generation, Timer};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A fact or a wish.
#[expect(clippy::large_enum_variant, reason = "one event is alive at a time; a box would only add an allocation")]
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The helper starts; `target` is `None` when the persisted intent exists but cannot be read (G16: treated as closed).
    Started {
        /// Persisted intent.
        target: Option<Target>,
    },
    /// An authorised caller asks for something.
    Command(Command),
    /// Settings were changed and stored.
    SettingsChanged(Settings),
    /// The answer to one `Effect::Apply`.
    PolicyApplied {
        /// Generation of that effect.
        generation: Generation,
        /// `Err` holds a short reason for people.
        result: Result<(), String>,
    },
    /// The answer to one `Effect::Prepare`.
    Prepared {
        /// Attempt of that effect.
        attempt: Attempt,
        /// A checked plan, or why there is none.
        result: Result<TunnelPlan, BlockReason>,
    },
    /// The tunnel of `attempt` says something.
    Tunnel {
        /// Attempt of the `StartTunnel` that made it.
        attempt: Attempt,
        /// What it says.
        event: TunnelEvent,
    },
    /// The tunnel of `attempt` is gone: the answer to `Effect::StopTunnel`.
    TunnelStopped {
        /// Attempt.
        attempt: Attempt,
    },
    /// Links, addresses or default routes changed.
    Host {
        /// What the host looks like.
        facts: HostFacts,
        /// The outer path may be another one: rebind at once.
        path_changed: bool,
    },
    /// The policy in force was damaged and could not be restored at once, for this reason: apply it again.
    PolicyLost(String),
    /// The API addresses that may be reached in a blocked state.
    ApiAddresses(Vec<Endpoint>),
    /// Login, logout, device or profile changes: worth another try when that was the reason to be blocked.
    CredentialsChanged,
    /// A timer of `Effect::SetTimer` fired.
    Timer(Timer),
    /// The helper is asked to end.
    Shutdown {
        /// True on restart and upgrade: everything stays as it is in the kernel. False on stop and system shutdown: the
        /// rules become those of lockdown when the intent is closed, and go when it is open.
        keep_blocking: bool,
    },
}

/// What a caller may ask of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Bring up a tunnel to this destination, leaving the current one if it differs.
    Connect(Destination),
    /// Give up the intent.
    Disconnect,
    /// A new attempt to the same destination, even when connected.
    Reconnect,
}

/// What a tunnel reports about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum TunnelEvent {
    /// The handshake is complete and a probe inside the tunnel was answered: traffic flows.
    Verified,
    /// Sent, but nothing received for a while; a new handshake was forced. The tunnel goes on trying.
    Stalled,
    /// Traffic flows again after `Stalled`.
    Recovered,
    /// The tunnel cannot go on: gateway silent past the limit, device gone, socket refused.
    Failed(BlockReason),
}

/// What the host looks like, as far as decisions depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// A physical link is up and has an address other than a link-local one. A default route is not asked for: the
    /// gateway may be on the attached network.
    pub online: bool,
    /// Prefixes directly attached to physical links that are up, sorted.
    pub attached: Vec<IpNet>,
    /// A default route for IPv4 exists on a physical link.
    pub ipv4: bool,
    /// A default route for IPv6 exists on a physical link.
    pub ipv6: bool,
}

/// What the network side tells the helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// Facts changed; `path_changed` when an address or default route is new, so that the tunnel must rebind at once.
    Facts {
        /// The new facts.
        facts: HostFacts,
        /// The outer path may be another one.
        path_changed: bool,
    },
    /// Another program changed our rules, routes or DNS; they are restored. Microseconds from notice to restored.
    Tampered {
        /// What was changed, for people ("firewall table deleted", "rule 5200 removed").
        what: String,
        /// Time from the kernel's notice to the restored state.
        restored_after_us: u64,
    },
    /// Restoring failed: the policy must be applied again.
    RestoreFailed {
        /// Why.
        reason: String,
    },
    /// A route that the network handed out would have taken traffic out of the tunnel (TunnelVision); it had no effect.
    NetworkInterferes {
        /// The route, for people.
        what: String,
    },
    /// The machine slept for about this long (CLOCK_BOOTTIME against CLOCK_MONOTONIC).
    Resumed {
        /// Milliseconds asleep.
        asleep_ms: u64,
    },
    /// The tunnel interface was deleted, renamed or set down by somebody else.
    TunnelInterfaceLost,
}
