//! A second, naive reading of `SECURITY.md` §3 and §5: may this packet pass? It shares no code with `policy_for` or the ruleset.

use hamn_core::net::{Endpoint, Transport};
use hamn_core::plan::TunnelPlan;
use hamn_core::policy::Facts;
use hamn_core::settings::{Dns, KillSwitch, Settings};
use hamn_core::state::{BlockReason, Phase, State};
use hamn_network::firewall::eval::{ConnectionState, Packet, Path, Payload};
use hamn_network::firewall::ruleset::Interface;
use ipnet::IpNet;
use std::net::IpAddr;

/// What this page's table asks about: one row of §5, with the world it applies to.
pub struct Row<'a> {
    kind: Kind<'a>,
    settings: &'a Settings,
    facts: &'a Facts,
}

/// The rows of §5, by what they have in common.
enum Kind<'a> {
    /// S0, S6 with mode `off`, S9 not closed.
    Open,
    /// S1, S2 without a plan, S6.
    Blocked,
    /// S9 closed.
    Stopped,
    /// S2 with a plan, S5 from there.
    Proving(&'a TunnelPlan),
    /// S3, S4, S5 from there.
    Carrying(&'a TunnelPlan),
}

impl<'a> Row<'a> {
    /// The row for this state.
    #[must_use]
    pub fn of(state: &'a State, settings: &'a Settings, facts: &'a Facts) -> Self {
        let mode = settings.kill_switch;
        let kind = match state {
            State::Disconnected => {
                if mode == KillSwitch::Always {
                    Kind::Blocked
                } else {
                    Kind::Open
                }
            }
            State::Connecting { plan: None, .. } => Kind::Blocked,
            State::Connecting { plan: Some(plan), phase: Phase::Routing, .. }
            | State::Connected { plan, .. }
            | State::Disconnecting { plan, verified: true, .. } => Kind::Carrying(plan),
            State::Connecting { plan: Some(plan), .. } | State::Disconnecting { plan, verified: false, .. } => {
                Kind::Proving(plan)
            }
            State::Stopping { closed: true } => Kind::Stopped,
            State::Stopping { closed: false } => Kind::Open,
            State::Blocked { reason: BlockReason::IntentUnreadable, .. } => Kind::Blocked,
            State::Blocked { .. } => {
                if mode == KillSwitch::Off {
                    Kind::Open
                } else {
                    Kind::Blocked
                }
            }
        };
        Self { kind, settings, facts }
    }

    /// No rule of ours exists.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Open)
    }

    /// The packet may pass.
    #[must_use]
    pub fn passes(&self, packet: &Packet) -> bool {
        if self.is_open() {
            return true;
        }
        match &packet.path {
            Path::Output { link } => self.may_leave(packet, link),
            Path::Input { link } => self.may_arrive(packet, link),
            Path::Forward { from, to } => self.may_be_forwarded(packet, from, to),
        }
    }

    fn may_leave(&self, packet: &Packet, link: &Interface) -> bool {
        if self.is_tunnel_address(packet.source) && !self.is_tunnel(link) && !is_loopback(link) {
            return false;
        }
        if is_loopback(link) || set_x_leaves(packet) {
            return true;
        }
        let to_own = |endpoint: &Endpoint| same(endpoint, packet.destination, destination_port(packet));
        if packet.own_mark && self.own_endpoints().iter().any(to_own) {
            return true;
        }
        if self.is_tunnel(link) { self.may_leave_inside(packet) } else { self.may_leave_outside(packet) }
    }

    fn may_leave_inside(&self, packet: &Packet) -> bool {
        let to = packet.destination;
        let dns = is_port(packet, &[53]);
        match self.kind {
            Kind::Proving(plan) => plan.resolvers.contains(&to) || (!dns && plan.gateway.contains(&to)),
            Kind::Carrying(plan) => {
                if dns {
                    self.inside_resolvers(plan).contains(&to)
                } else {
                    // A flow that was opened before the tunnel has another source, and ends (G5).
                    self.is_tunnel_address(packet.source) && self.carried(plan, to)
                }
            }
            Kind::Open | Kind::Blocked | Kind::Stopped => false,
        }
    }

    fn may_leave_outside(&self, packet: &Packet) -> bool {
        let to = packet.destination;
        if is_port(packet, &[53]) {
            return matches!(self.kind, Kind::Carrying(_)) && self.own_lan_resolvers().contains(&to);
        }
        if is_port(packet, &[853]) {
            return false;
        }
        self.is_allowed_lan(to) || (self.has_allowed_lan() && is_lan_multicast(to))
    }

    fn may_arrive(&self, packet: &Packet, link: &Interface) -> bool {
        if self.is_tunnel_address(packet.destination) && !self.is_tunnel(link) && !is_loopback(link) {
            return false;
        }
        if is_loopback(link) {
            return true;
        }
        if matches!(packet.payload, Payload::Icmp(5) | Payload::IcmpV6(137)) {
            return false;
        }
        if set_x_arrives(packet) || self.answers_own(packet) {
            return true;
        }
        let known = packet.connection.state != ConnectionState::New;
        if self.is_tunnel(link) {
            return known;
        }
        let resolver = matches!(self.kind, Kind::Carrying(_))
            && packet.connection.state == ConnectionState::Established
            && source_port(packet).is_some_and(|(_, port)| port == 53)
            && self.own_lan_resolvers().contains(&packet.source);
        resolver || self.is_allowed_lan(packet.source)
    }

    fn answers_own(&self, packet: &Packet) -> bool {
        let endpoints = self.own_endpoints();
        if !packet.connection.own || endpoints.is_empty() {
            return false;
        }
        match packet.connection.state {
            ConnectionState::New => false,
            ConnectionState::Established => endpoints.iter().any(|endpoint| same(endpoint, packet.source, source_port(packet))),
            ConnectionState::Related => matches!(packet.payload, Payload::Icmp(3 | 11 | 12) | Payload::IcmpV6(1..=4)),
        }
    }

    fn may_be_forwarded(&self, packet: &Packet, from: &Interface, to: &Interface) -> bool {
        if self.is_tunnel_address(packet.destination) && !self.is_tunnel(from) && !is_loopback(from) {
            return false;
        }
        if let Kind::Carrying(plan) = self.kind {
            if self.is_tunnel(from) && !self.is_tunnel(to) && packet.connection.state != ConnectionState::New {
                return true;
            }
            if self.is_tunnel(to) && is_port(packet, &[53]) {
                return self.inside_resolvers(plan).contains(&packet.destination);
            }
            if self.is_tunnel(to) {
                return !self.is_tunnel(from) && self.carried(plan, packet.destination);
            }
        }
        let outside = !self.is_tunnel(from) && !self.is_tunnel(to);
        outside && !is_port(packet, &[53, 853]) && self.is_allowed_lan(packet.source) && self.is_allowed_lan(packet.destination)
    }

    // ---- the columns ---------------------------------------------------------------------------------------------

    fn own_endpoints(&self) -> Vec<Endpoint> {
        let api = self.facts.api.iter();
        match self.kind {
            Kind::Open | Kind::Stopped => Vec::new(),
            Kind::Blocked => api.copied().collect(),
            Kind::Proving(plan) => plan.endpoints.iter().chain(api).copied().collect(),
            Kind::Carrying(plan) => plan.endpoints.clone(),
        }
    }

    fn is_tunnel_address(&self, address: IpAddr) -> bool {
        match self.kind {
            Kind::Proving(plan) | Kind::Carrying(plan) => plan.addresses.iter().any(|net| net.addr() == address),
            Kind::Open | Kind::Blocked | Kind::Stopped => false,
        }
    }

    /// A row without a tunnel has no link of ours.
    fn is_tunnel(&self, link: &Interface) -> bool {
        let exists = matches!(self.kind, Kind::Proving(_) | Kind::Carrying(_));
        exists && matches!(link, Interface::Named(name) if name.as_str() == "hamn0")
    }

    fn carried(&self, plan: &TunnelPlan, to: IpAddr) -> bool {
        let family = plan.addresses.iter().any(|net| net.addr().is_ipv4() == to.is_ipv4());
        let wanted = to.is_ipv4() || self.settings.ipv6;
        family && wanted && plan.allowed_ips.iter().any(|net| net.contains(&to))
    }

    fn own_lan_resolvers(&self) -> Vec<IpAddr> {
        match &self.settings.dns {
            Dns::Provider => Vec::new(),
            Dns::Custom { addresses } => addresses.iter().copied().filter(|address| self.is_lan(*address)).collect(),
        }
    }

    fn inside_resolvers(&self, plan: &TunnelPlan) -> Vec<IpAddr> {
        match &self.settings.dns {
            Dns::Provider => plan.resolvers.clone(),
            Dns::Custom { addresses } => addresses.iter().copied().filter(|address| !self.is_lan(*address)).collect(),
        }
    }

    fn is_lan(&self, address: IpAddr) -> bool {
        self.facts.attached.iter().any(|net| counts_as_lan(net) && net.contains(&address))
    }

    fn is_allowed_lan(&self, address: IpAddr) -> bool {
        self.settings.allow_lan && self.is_lan(address)
    }

    fn has_allowed_lan(&self) -> bool {
        self.settings.allow_lan && self.facts.attached.iter().any(counts_as_lan)
    }
}

/// G9, written with octets: both ends of the prefix are private, and it is narrow.
fn counts_as_lan(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => {
            let private = |address: std::net::Ipv4Addr| match address.octets() {
                [10, ..] => 1,
                [172, second, ..] if (16..32).contains(&second) => 2,
                [192, 168, ..] => 3,
                [169, 254, ..] => 4,
                _ => 0,
            };
            net.prefix_len() >= 16 && private(net.network()) != 0 && private(net.network()) == private(net.broadcast())
        }
        IpNet::V6(net) => {
            let first = net.network().segments()[0];
            net.prefix_len() >= 48 && (first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80)
        }
    }
}

fn is_lan_multicast(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(v4) => matches!(v4.octets(), [224, 0, 0, _] | [239, 255, 255, 250] | [255, 255, 255, 255]),
        IpAddr::V6(v6) => v6.segments()[0] == 0xff02,
    }
}

fn set_x_leaves(packet: &Packet) -> bool {
    let servers = ["ff02::1:2", "ff05::1:3"].map(crate::fixtures::ip);
    match packet.payload {
        Payload::Ports { transport: Transport::Udp, source: 68, destination: 67 } => packet.source.is_ipv4(),
        Payload::Ports { transport: Transport::Udp, source: 546, destination: 547 } => servers.contains(&packet.destination),
        Payload::IcmpV6(133 | 135 | 136) => packet.hop_limit == 255,
        Payload::Ports { .. } | Payload::Icmp(_) | Payload::IcmpV6(_) | Payload::Other(_) => false,
    }
}

fn set_x_arrives(packet: &Packet) -> bool {
    let link_local = matches!(packet.source, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
    match packet.payload {
        Payload::Ports { transport: Transport::Udp, source: 67, destination: 68 } => packet.source.is_ipv4(),
        Payload::Ports { transport: Transport::Udp, source: 547, destination: 546 } => link_local,
        Payload::IcmpV6(134) => link_local && packet.hop_limit == 255,
        Payload::IcmpV6(135 | 136) => packet.hop_limit == 255,
        Payload::Ports { .. } | Payload::Icmp(_) | Payload::IcmpV6(_) | Payload::Other(_) => false,
    }
}

fn is_loopback(link: &Interface) -> bool {
    *link == Interface::Loopback
}

fn is_port(packet: &Packet, ports: &[u16]) -> bool {
    destination_port(packet).is_some_and(|(_, port)| ports.contains(&port))
}

const fn destination_port(packet: &Packet) -> Option<(Transport, u16)> {
    match packet.payload {
        Payload::Ports { transport, destination, .. } => Some((transport, destination)),
        Payload::Icmp(_) | Payload::IcmpV6(_) | Payload::Other(_) => None,
    }
}

const fn source_port(packet: &Packet) -> Option<(Transport, u16)> {
    match packet.payload {
        Payload::Ports { transport, source, .. } => Some((transport, source)),
        Payload::Icmp(_) | Payload::IcmpV6(_) | Payload::Other(_) => None,
    }
}

fn same(endpoint: &Endpoint, address: IpAddr, port: Option<(Transport, u16)>) -> bool {
    endpoint.address.ip() == address && port == Some((endpoint.transport, endpoint.address.port()))
}
