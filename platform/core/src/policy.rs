//! What may leave the computer: the declarative policy, and `policy_for`, the only function that decides it.
//!
//! The rows of `platform/SECURITY.md` are the specification; the comments cite its numbers.

use crate::net::{Endpoint, InterfaceName, lan_prefixes};
use crate::plan::TunnelPlan;
use crate::settings::{Dns, KillSwitch, Settings};
use crate::state::{BlockReason, Phase, State};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What the operating system must enforce. `hamn-network` makes it true: firewall, routes and DNS together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum NetworkPolicy {
    /// No rule, route or DNS setting of ours exists.
    Open,
    /// Everything that is not listed is dropped.
    Enforce(Enforced),
}

/// The exceptions of an enforcing policy. Loopback, DHCP and the neighbour discovery subset (set X) are always included.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Enforced {
    /// Gateways that marked sockets may reach outside the tunnel, exact tuples (G1, G8).
    pub endpoints: Vec<Endpoint>,
    /// API addresses that marked sockets may reach outside the tunnel (G1). Empty while connected: the API goes inside.
    pub api: Vec<Endpoint>,
    /// The tunnel, when an attempt has one.
    pub tunnel: Option<TunnelAccess>,
    /// Directly attached private prefixes that may be reached, never on port 53 (G9). Empty when LAN access is off.
    #[schemars(with = "Vec<String>")]
    pub lan: Vec<IpNet>,
}

/// How the tunnel interface may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TunnelAccess {
    /// Interface name.
    pub interface: InterfaceName,
    /// Our addresses inside the tunnel: guarded against packets from any other interface (G11).
    #[schemars(with = "Vec<String>")]
    pub addresses: Vec<IpNet>,
    /// Who may use it.
    pub traffic: TunnelTraffic,
    /// The only resolvers, inside the tunnel (G3).
    pub resolvers: Vec<IpAddr>,
    /// The user's own resolvers on the LAN: port 53 to exactly these, outside the tunnel (G3).
    pub lan_resolvers: Vec<IpAddr>,
}

/// Who may use the tunnel interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "use")]
pub enum TunnelTraffic {
    /// Until traffic is proven to flow: only these addresses inside the tunnel; no default route, no DNS change.
    VerifyOnly {
        /// Gateway and resolver addresses inside the tunnel.
        peers: Vec<IpAddr>,
    },
    /// Everything is routed into the tunnel; what the tunnel does not carry is rejected (G2).
    Everything {
        /// The destinations that the peer carries (`0.0.0.0/0`, `::/0` or narrower); all others are unreachable.
        #[schemars(with = "Vec<String>")]
        carries: Vec<IpNet>,
    },
}

impl NetworkPolicy {
    /// True when no protection is on.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

/// What `policy_for` knows of the world beside state and settings.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Facts {
    /// Pinned API addresses.
    pub api: Vec<Endpoint>,
    /// Prefixes directly attached to physical links.
    pub attached: Vec<IpNet>,
}

/// The only place that decides what may leave the computer (the matrix of `SECURITY.md`).
#[must_use]
pub fn policy_for(state: &State, settings: &Settings, facts: &Facts) -> NetworkPolicy {
    let view = View { settings, facts };
    match state {
        // S0 and S1.
        State::Disconnected => match settings.kill_switch {
            KillSwitch::Off | KillSwitch::WhileConnected => NetworkPolicy::Open,
            KillSwitch::Always => view.blocked(&facts.api),
        },
        // S2: even with the kill switch off an attempt is protected, or its first packets would leak.
        State::Connecting { plan: None, .. } => view.blocked(&facts.api),
        State::Connecting { plan: Some(plan), phase, .. } => match phase {
            Phase::Securing | Phase::Preparing | Phase::Admitting | Phase::Verifying => view.verifying(plan),
            Phase::Routing => view.connected(plan),
        },
        // S3, and S4 while the tunnel recovers by itself.
        State::Connected { plan, .. } => view.connected(plan),
        // S5: as before until the tunnel is gone.
        State::Disconnecting { plan, verified, .. } => {
            if *verified {
                view.connected(plan)
            } else {
                view.verifying(plan)
            }
        }
        // S9: nobody is left to use the API.
        State::Stopping { closed: true } => view.blocked(&[]),
        State::Stopping { closed: false } => NetworkPolicy::Open,
        // S6. An unreadable intent is closed whatever the settings say (G16).
        State::Blocked { reason, .. } => {
            if settings.kill_switch == KillSwitch::Off && *reason != BlockReason::IntentUnreadable {
                NetworkPolicy::Open
            } else {
                view.blocked(&facts.api)
            }
        }
    }
}

struct View<'a> {
    settings: &'a Settings,
    facts: &'a Facts,
}

impl View<'_> {
    fn lan(&self) -> Vec<IpNet> {
        if self.settings.allow_lan { lan_prefixes(&self.facts.attached) } else { Vec::new() }
    }

    fn blocked(&self, api: &[Endpoint]) -> NetworkPolicy {
        NetworkPolicy::Enforce(Enforced { endpoints: Vec::new(), api: api.to_vec(), tunnel: None, lan: self.lan() })
    }

    fn verifying(&self, plan: &TunnelPlan) -> NetworkPolicy {
        let mut peers: Vec<IpAddr> = plan.gateway.iter().chain(&plan.resolvers).copied().collect();
        peers.sort();
        peers.dedup();
        let tunnel = TunnelAccess {
            interface: InterfaceName::tunnel(),
            addresses: plan.addresses.clone(),
            traffic: TunnelTraffic::VerifyOnly { peers },
            resolvers: plan.resolvers.clone(),
            lan_resolvers: Vec::new(),
        };
        NetworkPolicy::Enforce(Enforced {
            endpoints: plan.endpoints.clone(),
            api: self.facts.api.clone(),
            tunnel: Some(tunnel),
            lan: self.lan(),
        })
    }

    fn connected(&self, plan: &TunnelPlan) -> NetworkPolicy {
        let (lan_resolvers, resolvers) = self.resolvers(plan);
        let carries = plan
            .allowed_ips
            .iter()
            .filter(|net| if net.addr().is_ipv4() { plan.has_ipv4() } else { plan.has_ipv6() && self.settings.ipv6 })
            .copied()
            .collect();
        let tunnel = TunnelAccess {
            interface: InterfaceName::tunnel(),
            addresses: plan.addresses.clone(),
            traffic: TunnelTraffic::Everything { carries },
            resolvers,
            lan_resolvers,
        };
        NetworkPolicy::Enforce(Enforced {
            endpoints: plan.endpoints.clone(),
            api: Vec::new(),
            tunnel: Some(tunnel),
            lan: self.lan(),
        })
    }

    /// The user's own resolvers, split into those on the attached LAN (asked outside) and the rest (asked inside).
    fn resolvers(&self, plan: &TunnelPlan) -> (Vec<IpAddr>, Vec<IpAddr>) {
        match &self.settings.dns {
            Dns::Provider => (Vec::new(), plan.resolvers.clone()),
            Dns::Custom { addresses } => {
                let lan = lan_prefixes(&self.facts.attached);
                addresses.iter().partition(|address| lan.iter().any(|net| net.contains(*address)))
            }
        }
    }
}
