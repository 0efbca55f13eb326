//! The machine's state as readers see it.

use super::Machine;
use crate::location::Target;
use crate::plan::TunnelPlan;
use crate::state::State;
use crate::status::{AttemptStatus, Blocked, Protection, ProviderStatus, StateKind, Status, TunnelStatus};

impl Machine {
    /// The snapshot for readers, as far as the core knows it; the shell adds counters, provider and warnings.
    #[must_use]
    pub fn status(&self) -> Status {
        let destination = match &self.target {
            Target::Connected { destination } => Some(destination.clone()),
            Target::Disconnected => None,
        };
        let (kind, attempt, phase, plan) = match &self.state {
            State::Disconnected => (StateKind::Disconnected, None, None, None),
            State::Connecting { attempt, phase, plan } => (StateKind::Connecting, Some(*attempt), Some(*phase), plan.as_ref()),
            State::Connected { attempt, plan, .. } => (StateKind::Connected, Some(*attempt), None, Some(plan)),
            State::Disconnecting { plan, .. } => (StateKind::Disconnecting, None, None, Some(plan)),
            State::Stopping { .. } => (StateKind::Disconnecting, None, None, None),
            State::Blocked { .. } => (StateKind::Blocked, None, None, None),
        };
        let enforcing = self.wanted.as_ref().is_some_and(|policy| !policy.is_open());
        Status {
            sequence: 0,
            version: String::new(),
            state: kind,
            protected: enforcing && self.in_force(),
            target: self.target.clone(),
            destination,
            blocked: self.blocked_status(),
            attempt: attempt.map(|number| AttemptStatus { number, phase, failures: self.failures }),
            tunnel: plan.map(|plan| self.tunnel_status(plan)),
            protection: Protection {
                kill_switch: self.settings.kill_switch,
                allow_lan: self.settings.allow_lan,
                enforcing,
                applied_generation: self.acknowledged,
                in_force: self.in_force(),
                error: self.apply_error.clone(),
                tampered: 0,
                dns_backend: None,
            },
            provider: ProviderStatus::default(),
            warnings: Vec::new(),
            managed_by: None,
        }
    }

    fn blocked_status(&self) -> Option<Blocked> {
        let State::Blocked { reason, retry } = &self.state else { return None };
        Some(Blocked {
            code: *reason,
            message: reason.message().to_owned(),
            action: reason.action().to_owned(),
            retrying: retry.is_some(),
        })
    }

    fn tunnel_status(&self, plan: &TunnelPlan) -> TunnelStatus {
        let (since, stalled) = match &self.state {
            State::Connected { since, stalled, .. } => (Some(since.unix_s), *stalled),
            State::Disconnected
            | State::Connecting { .. }
            | State::Disconnecting { .. }
            | State::Stopping { .. }
            | State::Blocked { .. } => (None, false),
        };
        TunnelStatus {
            place: plan.place.clone(),
            interface: crate::net::TUNNEL_INTERFACE.to_owned(),
            endpoint: plan.endpoints.first().copied(),
            addresses: plan.addresses.clone(),
            resolvers: plan.resolvers.clone(),
            mtu: plan.mtu,
            engine: String::new(),
            rx_bytes: 0,
            tx_bytes: 0,
            last_handshake_s: None,
            connected_since_unix_s: since,
            stalled,
            exit_addresses: Vec::new(),
            provisional: false,
        }
    }
}
