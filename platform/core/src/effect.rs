//! What the machine asks the shell to do, in order.

use crate::location::{Destination, Target};
use crate::plan::TunnelPlan;
use crate::policy::NetworkPolicy;
use crate::state::{Attempt, Generation, Timer};

/// One thing to do. The shell runs effects in order and answers where a variant says so.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write the intent to disk, durably, before anything that follows in the list.
    PersistTarget(Target),
    /// Make this policy true; answered by `Event::PolicyApplied` with the same generation.
    Apply {
        /// Number of this apply, growing.
        generation: Generation,
        /// The policy.
        policy: NetworkPolicy,
    },
    /// Resolve the destination to a plan (list, device, keys); answered by `Event::Prepared`.
    Prepare {
        /// Attempt.
        attempt: Attempt,
        /// Where to.
        destination: Destination,
        /// How many attempts in a row have failed: the shell passes over servers that just failed.
        failures: u32,
    },
    /// Create the device and start the handshake; answered by `Event::Tunnel`.
    StartTunnel {
        /// Attempt.
        attempt: Attempt,
        /// The plan.
        plan: TunnelPlan,
    },
    /// End the tunnel of this attempt; answered by `Event::TunnelStopped`.
    StopTunnel {
        /// Attempt.
        attempt: Attempt,
    },
    /// The outer path changed: rebind the socket and send a handshake at once.
    Rebind {
        /// Attempt.
        attempt: Attempt,
    },
    /// Fire `Event::Timer(timer)` after `after_ms`. A timer of the same kind replaces the older one.
    SetTimer {
        /// Which.
        timer: Timer,
        /// Milliseconds.
        after_ms: u64,
    },
    /// Status changed; publish it.
    Publish,
    /// The helper may end now.
    Exit,
}
