//! States, identities and reasons.

use crate::plan::TunnelPlan;
use crate::time::Now;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of a connection attempt, growing by one; answers with an older number are stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct Attempt(pub u64);

/// Number of a policy application, growing by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct Generation(pub u64);

/// A timer and what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// Start the next attempt.
    Retry(Attempt),
    /// The attempt took too long (G22).
    AttemptTimeout(Attempt),
    /// Apply the current policy again after a failure.
    Reapply(Generation),
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waiting for the blocking policy to be in force.
    Securing,
    /// Asking the provider (or the cache) for a server and credentials.
    Preparing,
    /// Waiting for the policy that admits this gateway.
    Admitting,
    /// Handshake and first traffic.
    Verifying,
    /// Traffic flows; waiting for the policy that routes everything into the tunnel.
    Routing,
}

/// The machine's state. The policy is computed from it, never set by it.
#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// No tunnel and none wanted.
    Disconnected,
    /// An attempt is under way.
    Connecting {
        /// Which.
        attempt: Attempt,
        /// How far.
        phase: Phase,
        /// The plan, once prepared.
        plan: Option<TunnelPlan>,
    },
    /// Traffic flows inside the tunnel.
    Connected {
        /// Which attempt made it.
        attempt: Attempt,
        /// Its plan.
        plan: TunnelPlan,
        /// Since when.
        since: Now,
        /// Nothing is received at the moment; the tunnel is trying.
        stalled: bool,
    },
    /// The tunnel of `attempt` is being taken down.
    Disconnecting {
        /// Which.
        attempt: Attempt,
        /// Its plan: the policy stays as it was until the tunnel is gone (S5).
        plan: TunnelPlan,
        /// It had been verified.
        verified: bool,
        /// What comes next.
        then: AfterDisconnect,
    },
    /// The helper ends: the last policy is being applied.
    Stopping {
        /// The rules stay.
        closed: bool,
    },
    /// A tunnel is wanted and there is none. Nothing leaves (unless the kill switch is off).
    Blocked {
        /// Why, with one thing the user can do.
        reason: BlockReason,
        /// A retry is scheduled under this attempt number.
        retry: Option<Attempt>,
    },
}

/// What follows when the old tunnel is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterDisconnect {
    /// Disconnected.
    Rest,
    /// A new attempt at once.
    Connect,
    /// The helper ends.
    Stop,
    /// Blocked for this reason, with a retry where the reason allows one.
    Block(BlockReason),
}

/// Why a wanted tunnel does not exist. Closed: each reason has one action (see `message` and `action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockReason {
    /// No link with a default route.
    Offline,
    /// No provider is configured, and the destination needs one.
    NoProvider,
    /// The provider's API cannot be reached and there is no usable cached list.
    ApiUnreachable,
    /// Nobody is logged in.
    LoggedOut,
    /// The provider refused the credentials.
    CredentialsRejected,
    /// The account has run out.
    AccountExpired,
    /// The account has its maximum of devices.
    TooManyDevices,
    /// This device was revoked.
    DeviceRevoked,
    /// No server matches the destination.
    NoServer,
    /// The imported profile does not exist.
    NoProfile,
    /// The gateway does not answer.
    GatewaySilent,
    /// The tunnel device could not be created or was taken away.
    TunnelDevice,
    /// Firewall, routes or DNS could not be set: protection is not certain.
    CannotProtect,
    /// The stored intent could not be read; treated as closed.
    IntentUnreadable,
    /// The clock is so wrong that certificates cannot be checked.
    ClockWrong,
    /// Something of ours failed that has no better name; the log says more.
    Internal,
}

impl BlockReason {
    /// All reasons, for tests and translations.
    pub const ALL: [Self; 16] = [
        Self::Offline,
        Self::NoProvider,
        Self::ApiUnreachable,
        Self::LoggedOut,
        Self::CredentialsRejected,
        Self::AccountExpired,
        Self::TooManyDevices,
        Self::DeviceRevoked,
        Self::NoServer,
        Self::NoProfile,
        Self::GatewaySilent,
        Self::TunnelDevice,
        Self::CannotProtect,
        Self::IntentUnreadable,
        Self::ClockWrong,
        Self::Internal,
    ];

    /// True when trying again by itself can help; the others wait for the user (or for `CredentialsChanged`).
    #[must_use]
    pub const fn retries(self) -> bool {
        match self {
            Self::ApiUnreachable
            | Self::GatewaySilent
            | Self::TunnelDevice
            | Self::CannotProtect
            | Self::ClockWrong
            | Self::Internal => true,
            Self::Offline
            | Self::NoProvider
            | Self::LoggedOut
            | Self::CredentialsRejected
            | Self::AccountExpired
            | Self::TooManyDevices
            | Self::DeviceRevoked
            | Self::NoServer
            | Self::NoProfile
            | Self::IntentUnreadable => false,
        }
    }

    /// Stable code, the same in CLI, API and window.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::NoProvider => "no_provider",
            Self::ApiUnreachable => "api_unreachable",
            Self::LoggedOut => "logged_out",
            Self::CredentialsRejected => "credentials_rejected",
            Self::AccountExpired => "account_expired",
            Self::TooManyDevices => "too_many_devices",
            Self::DeviceRevoked => "device_revoked",
            Self::NoServer => "no_server",
            Self::NoProfile => "no_profile",
            Self::GatewaySilent => "gateway_silent",
            Self::TunnelDevice => "tunnel_device",
            Self::CannotProtect => "cannot_protect",
            Self::IntentUnreadable => "intent_unreadable",
            Self::ClockWrong => "clock_wrong",
            Self::Internal => "internal",
        }
    }

    /// What happened, in one sentence.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Offline => "There is no network connection.",
            Self::NoProvider => "No provider is configured.",
            Self::ApiUnreachable => "The provider cannot be reached and no saved server list can be used.",
            Self::LoggedOut => "You are not logged in.",
            Self::CredentialsRejected => "The provider refused the login.",
            Self::AccountExpired => "The account has expired.",
            Self::TooManyDevices => "The account already has its maximum number of devices.",
            Self::DeviceRevoked => "This device was removed from the account.",
            Self::NoServer => "No server matches what you asked for.",
            Self::NoProfile => "That profile does not exist.",
            Self::GatewaySilent => "The VPN server does not answer.",
            Self::TunnelDevice => "The tunnel device could not be created or was removed.",
            Self::CannotProtect => "The firewall, routes or DNS could not be set, so protection is not certain.",
            Self::IntentUnreadable => "The saved state could not be read, so the network stays blocked.",
            Self::ClockWrong => "The computer's clock is wrong, so the provider's certificate cannot be checked.",
            Self::Internal => "Something unexpected failed inside Hamn.",
        }
    }

    /// The one thing to do.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::Offline => "Connect to a network; Hamn goes on by itself.",
            Self::NoProvider => "Import a profile with `hamn profile import`, or set the provider's address for the helper.",
            Self::ApiUnreachable => "Check the network, or wait: Hamn tries again by itself.",
            Self::LoggedOut => "Log in with `hamn login`.",
            Self::CredentialsRejected => "Log in again with `hamn login`.",
            Self::AccountExpired => "Extend the account, then connect again.",
            Self::TooManyDevices => "Remove a device with `hamn devices remove`, then connect again.",
            Self::DeviceRevoked => "Log in again with `hamn login` to register this device.",
            Self::NoServer => "Choose another place; `hamn servers` lists them.",
            Self::NoProfile => "List the profiles with `hamn profile list`.",
            Self::GatewaySilent => "Wait for the next try, or choose another server.",
            Self::TunnelDevice => "Check that /dev/net/tun exists; Hamn tries again by itself.",
            Self::CannotProtect => {
                "Check that `nft` is installed and that no other program holds the firewall; Hamn tries again by itself."
            }
            Self::IntentUnreadable => "Run `hamn disconnect` to open the network, or `hamn connect`.",
            Self::ClockWrong => "Set the computer's clock; Hamn tries again by itself.",
            Self::Internal => "Look at the helper's log, and connect again.",
        }
    }
}
