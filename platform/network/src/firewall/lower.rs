//! The only place where a policy becomes rules. The order of the calls in `output`, `input` and `forward` is the order in force.

use super::ruleset::{Action, IcmpType, IcmpV6Type, Interface, Match, Purpose, Rule, Ruleset};
use hamn_core::net::{Endpoint, InterfaceName, Transport, lan_prefixes};
use hamn_core::policy::{Enforced, NetworkPolicy, TunnelAccess, TunnelTraffic};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const DNS: u16 = 53;
/// DNS over TLS (RFC 7858) and DNS over QUIC (RFC 9250).
const ENCRYPTED_DNS: u16 = 853;
const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// Multicast and broadcast that routers do not pass on, plus SSDP, which most home devices are found by.
const LAN_MULTICAST: [IpNet; 4] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 24)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(239, 255, 255, 250), 32)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16)),
];
/// Where DHCPv6 clients send: `All_DHCP_Relay_Agents_and_Servers` and `All_DHCP_Servers` (RFC 8415 §7.1).
const DHCP_V6_SERVERS: [Ipv6Addr; 2] = [Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3)];
const LINK_LOCAL_V6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));

impl Ruleset {
    /// The rules that make the policy true; `None` for an open policy, which has no rule of ours.
    #[must_use]
    pub fn lower(policy: &NetworkPolicy) -> Option<Self> {
        match policy {
            NetworkPolicy::Open => None,
            NetworkPolicy::Enforce(enforced) => Some(Self::enforce(enforced)),
        }
    }

    /// The rules of an enforcing policy.
    #[must_use]
    pub fn enforce(policy: &Enforced) -> Self {
        let facts = Facts {
            policy,
            tunnel: policy.tunnel.as_ref(),
            // Checked once more here: a public or huge prefix is no LAN, whoever built the policy (G9).
            lan: lan_prefixes(&policy.lan),
        };
        let mut guard = Chain::default();
        guard.drop_for_tunnel_address(&facts);
        let mut mark_in = Chain::default();
        mark_in.restore_own_mark(&facts);
        let mut mark_out = Chain::default();
        mark_out.save_own_mark(&facts);
        let (arp_in, arp_out) = arp(&facts);
        Self {
            guard: guard.0,
            mark_in: mark_in.0,
            mark_out: mark_out.0,
            output: output(&facts),
            input: input(&facts),
            forward: forward(&facts),
            arp_in,
            arp_out,
        }
    }

    /// The rules of lockdown without exceptions: set X only. In force from before the network comes up at boot (G7).
    #[must_use]
    pub fn lockdown() -> Self {
        Self::enforce(&Enforced::default())
    }
}

struct Facts<'a> {
    policy: &'a Enforced,
    tunnel: Option<&'a TunnelAccess>,
    lan: Vec<IpNet>,
}

fn output(facts: &Facts<'_>) -> Vec<Rule> {
    let mut chain = Chain::default();
    chain.drop_from_tunnel_address(facts);
    chain.allow_loopback_out();
    chain.allow_dhcp_v4_out();
    chain.allow_dhcp_v6_out();
    chain.allow_neighbour_discovery_out();
    chain.allow_endpoints(facts);
    chain.allow_api(facts);
    // A gateway may listen on port 53, so DNS comes after it; LAN and tunnel must not carry DNS, so it comes before them (G3).
    chain.allow_tunnel_resolvers(facts);
    chain.allow_lan_resolvers(facts);
    chain.refuse_dns(facts);
    chain.allow_tunnel(facts);
    chain.allow_lan_out(facts);
    chain.refuse_rest();
    chain.0
}

fn input(facts: &Facts<'_>) -> Vec<Rule> {
    let mut chain = Chain::default();
    chain.drop_for_tunnel_address(facts);
    chain.allow_loopback_in();
    chain.drop_redirects();
    chain.allow_dhcp_v4_in();
    chain.allow_dhcp_v6_in();
    chain.allow_neighbour_discovery_in();
    chain.allow_own_answers(facts);
    chain.allow_own_icmp_errors(facts);
    chain.allow_answers_from_tunnel(facts);
    chain.allow_lan_resolver_answers(facts);
    chain.allow_lan_in(facts);
    chain.drop_rest();
    chain.0
}

fn forward(facts: &Facts<'_>) -> Vec<Rule> {
    let mut chain = Chain::default();
    chain.allow_answers_passed_on(facts);
    chain.allow_forwarded_tunnel_resolvers(facts);
    chain.refuse_dns(facts);
    chain.allow_forwarded_tunnel(facts);
    chain.allow_forwarded_lan(facts);
    chain.refuse_rest();
    chain.0
}

fn arp(facts: &Facts<'_>) -> (Vec<Rule>, Vec<Rule>) {
    let (mut received, mut sent) = (Chain::default(), Chain::default());
    if let Some(tunnel) = facts.tunnel {
        for address in tunnel.addresses.iter().filter_map(|net| ipv4_of(net.addr())) {
            let elsewhere = Match::ArrivedNotOn(named(&tunnel.interface));
            received.drop(Purpose::TunnelAddressGuard, vec![elsewhere, Match::ArpRequest, Match::ArpTarget(address)]);
            let elsewhere = Match::LeavesNotBy(named(&tunnel.interface));
            sent.drop(Purpose::TunnelAddressGuard, vec![elsewhere, Match::ArpSender(address)]);
        }
    }
    (received.0, sent.0)
}

/// A list of rules that is being written.
#[derive(Default)]
struct Chain(Vec<Rule>);

/// The guards and the mark.
impl Chain {
    fn drop_from_tunnel_address(&mut self, facts: &Facts<'_>) {
        let Some(tunnel) = facts.tunnel else { return };
        for net in &tunnel.addresses {
            let elsewhere = [Match::LeavesNotBy(named(&tunnel.interface)), Match::LeavesNotBy(Interface::Loopback)];
            self.drop(Purpose::TunnelSourceGuard, with(elsewhere, Match::From(host(net.addr()))));
        }
    }

    /// Twice in the path, before connection tracking and again as the first rule of input (CVE-2019-14899).
    fn drop_for_tunnel_address(&mut self, facts: &Facts<'_>) {
        let Some(tunnel) = facts.tunnel else { return };
        for net in &tunnel.addresses {
            let elsewhere = [Match::ArrivedNotOn(named(&tunnel.interface)), Match::ArrivedNotOn(Interface::Loopback)];
            self.drop(Purpose::TunnelAddressGuard, with(elsewhere, Match::To(host(net.addr()))));
        }
    }

    fn restore_own_mark(&mut self, facts: &Facts<'_>) {
        if has_own_flows(facts) {
            self.push(Action::RestoreMark, Purpose::OwnMark, vec![Match::ReplyDirection, Match::OwnConnection]);
        }
    }

    fn save_own_mark(&mut self, facts: &Facts<'_>) {
        if has_own_flows(facts) {
            self.push(Action::SaveMark, Purpose::OwnMark, vec![Match::OwnMark]);
        }
    }
}

/// Set X: what a link needs to come up, in every protected state.
impl Chain {
    fn allow_loopback_out(&mut self) {
        self.allow(Purpose::Loopback, vec![Match::LeavesBy(Interface::Loopback)]);
    }

    fn allow_loopback_in(&mut self) {
        self.allow(Purpose::Loopback, vec![Match::ArrivedOn(Interface::Loopback)]);
    }

    fn allow_dhcp_v4_out(&mut self) {
        self.allow(Purpose::DhcpV4, with([Match::IsIpv4], udp(68, 67)));
    }

    fn allow_dhcp_v4_in(&mut self) {
        self.allow(Purpose::DhcpV4, with([Match::IsIpv4], udp(67, 68)));
    }

    fn allow_dhcp_v6_out(&mut self) {
        for server in DHCP_V6_SERVERS {
            self.allow(Purpose::DhcpV6, with([Match::To(host(server.into()))], udp(546, 547)));
        }
    }

    fn allow_dhcp_v6_in(&mut self) {
        self.allow(Purpose::DhcpV6, with([Match::From(LINK_LOCAL_V6)], udp(547, 546)));
    }

    fn allow_neighbour_discovery_out(&mut self) {
        use IcmpV6Type::{NeighbourAdvertisement, NeighbourSolicitation, RouterSolicitation};
        for kind in [RouterSolicitation, NeighbourSolicitation, NeighbourAdvertisement] {
            self.allow(Purpose::NeighbourDiscovery, vec![Match::HopLimit255, Match::IcmpV6(kind)]);
        }
    }

    fn allow_neighbour_discovery_in(&mut self) {
        use IcmpV6Type::{NeighbourAdvertisement, NeighbourSolicitation, RouterAdvertisement};
        let advert = vec![Match::From(LINK_LOCAL_V6), Match::HopLimit255, Match::IcmpV6(RouterAdvertisement)];
        self.allow(Purpose::NeighbourDiscovery, advert);
        for kind in [NeighbourSolicitation, NeighbourAdvertisement] {
            self.allow(Purpose::NeighbourDiscovery, vec![Match::HopLimit255, Match::IcmpV6(kind)]);
        }
    }

    /// Also from neighbours on an allowed LAN.
    fn drop_redirects(&mut self) {
        self.drop(Purpose::RefuseRedirect, vec![Match::Icmp(IcmpType::Redirect)]);
        self.drop(Purpose::RefuseRedirect, vec![Match::IcmpV6(IcmpV6Type::Redirect)]);
    }
}

/// Our own marked sockets.
impl Chain {
    fn allow_endpoints(&mut self, facts: &Facts<'_>) {
        for endpoint in &facts.policy.endpoints {
            self.allow(Purpose::Endpoint, own_flow_to(endpoint));
        }
    }

    fn allow_api(&mut self, facts: &Facts<'_>) {
        for endpoint in &facts.policy.api {
            self.allow(Purpose::Api, own_flow_to(endpoint));
        }
    }

    fn allow_own_answers(&mut self, facts: &Facts<'_>) {
        let gateways = facts.policy.endpoints.iter().map(|endpoint| (Purpose::Endpoint, endpoint));
        let api = facts.policy.api.iter().map(|endpoint| (Purpose::Api, endpoint));
        for (purpose, endpoint) in gateways.chain(api) {
            let from = [Match::From(host(endpoint.address.ip()))];
            let port = Match::SourcePort(endpoint.transport, endpoint.address.port());
            self.allow(purpose, with(from, [port, Match::OwnConnection, Match::Established]));
        }
    }

    /// "Fragmentation needed" and "packet too big" come from routers on the way, not from the endpoint.
    fn allow_own_icmp_errors(&mut self, facts: &Facts<'_>) {
        if !has_own_flows(facts) {
            return;
        }
        let v4 = [IcmpType::DestinationUnreachable, IcmpType::TimeExceeded, IcmpType::ParameterProblem].map(Match::Icmp);
        let v6 = [
            IcmpV6Type::DestinationUnreachable,
            IcmpV6Type::PacketTooBig,
            IcmpV6Type::TimeExceeded,
            IcmpV6Type::ParameterProblem,
        ]
        .map(Match::IcmpV6);
        for kind in v4.into_iter().chain(v6) {
            self.allow(Purpose::OwnIcmpError, vec![Match::OwnConnection, Match::Related, kind]);
        }
    }
}

/// DNS (G3).
impl Chain {
    fn allow_tunnel_resolvers(&mut self, facts: &Facts<'_>) {
        let Some(tunnel) = facts.tunnel else { return };
        for resolver in usable_resolvers(tunnel) {
            self.allow_dns_to(Purpose::TunnelResolver, Match::LeavesBy(named(&tunnel.interface)), *resolver);
        }
    }

    fn allow_lan_resolvers(&mut self, facts: &Facts<'_>) {
        let Some(tunnel) = facts.tunnel else { return };
        for resolver in &tunnel.lan_resolvers {
            self.allow_dns_to(Purpose::LanResolver, Match::LeavesNotBy(named(&tunnel.interface)), *resolver);
        }
    }

    fn allow_forwarded_tunnel_resolvers(&mut self, facts: &Facts<'_>) {
        let Some((tunnel, _)) = fully_used(facts) else { return };
        for resolver in &tunnel.resolvers {
            self.allow_dns_to(Purpose::TunnelResolver, Match::LeavesBy(named(&tunnel.interface)), *resolver);
        }
    }

    fn allow_lan_resolver_answers(&mut self, facts: &Facts<'_>) {
        let Some(tunnel) = facts.tunnel else { return };
        for (resolver, transport) in tunnel.lan_resolvers.iter().flat_map(|resolver| TRANSPORTS.map(|t| (resolver, t))) {
            let from = [Match::ArrivedNotOn(named(&tunnel.interface)), Match::From(host(*resolver))];
            self.allow(Purpose::LanResolver, with(from, [Match::SourcePort(transport, DNS), Match::Established]));
        }
    }

    fn refuse_dns(&mut self, facts: &Facts<'_>) {
        for transport in TRANSPORTS {
            self.refuse(Purpose::RefuseDns, vec![Match::DestinationPort(transport, DNS)]);
        }
        let outside = facts.tunnel.map(|tunnel| Match::LeavesNotBy(named(&tunnel.interface)));
        for transport in TRANSPORTS {
            let port = Match::DestinationPort(transport, ENCRYPTED_DNS);
            self.refuse(Purpose::RefuseEncryptedDns, with(outside.clone(), port));
        }
    }

    fn allow_dns_to(&mut self, purpose: Purpose, link: Match, resolver: IpAddr) {
        for transport in TRANSPORTS {
            let to = [link.clone(), Match::To(host(resolver))];
            self.allow(purpose, with(to, Match::DestinationPort(transport, DNS)));
        }
    }
}

/// The tunnel.
impl Chain {
    fn allow_tunnel(&mut self, facts: &Facts<'_>) {
        let Some(tunnel) = facts.tunnel else { return };
        let inside = Match::LeavesBy(named(&tunnel.interface));
        match &tunnel.traffic {
            TunnelTraffic::VerifyOnly { peers } => {
                for peer in peers {
                    self.allow(Purpose::Verify, vec![inside.clone(), Match::To(host(*peer))]);
                }
            }
            // What the tunnel does not carry falls through to the refusal at the end (G2). So does a flow that was opened
            // outside: its source is another address, and its program hears at once that it is over (G5).
            TunnelTraffic::Everything { carries } => {
                for net in carries {
                    for own in tunnel.addresses.iter().filter(|own| own.addr().is_ipv4() == net.addr().is_ipv4()) {
                        self.allow(Purpose::Tunnel, vec![inside.clone(), Match::From(host(own.addr())), Match::To(net.trunc())]);
                    }
                }
            }
        }
    }

    fn allow_answers_from_tunnel(&mut self, facts: &Facts<'_>) {
        let Some(tunnel) = facts.tunnel else { return };
        let inside = Match::ArrivedOn(named(&tunnel.interface));
        self.allow(Purpose::Tunnel, vec![inside, Match::EstablishedOrRelated]);
    }

    fn allow_forwarded_tunnel(&mut self, facts: &Facts<'_>) {
        let Some((tunnel, carries)) = fully_used(facts) else { return };
        let link = named(&tunnel.interface);
        for net in carries {
            let through = [Match::ArrivedNotOn(link.clone()), Match::LeavesBy(link.clone())];
            self.allow(Purpose::Tunnel, with(through, Match::To(net.trunc())));
        }
    }

    fn allow_answers_passed_on(&mut self, facts: &Facts<'_>) {
        let Some((tunnel, _)) = fully_used(facts) else { return };
        let link = named(&tunnel.interface);
        let back = [Match::ArrivedOn(link.clone()), Match::LeavesNotBy(link)];
        self.allow(Purpose::Tunnel, with(back, Match::EstablishedOrRelated));
    }
}

/// The LAN (G9). DNS is refused before these rules.
impl Chain {
    fn allow_lan_out(&mut self, facts: &Facts<'_>) {
        let outside = facts.tunnel.map(|tunnel| Match::LeavesNotBy(named(&tunnel.interface)));
        for net in &facts.lan {
            self.allow(Purpose::Lan, with(outside.clone(), Match::To(*net)));
        }
        if !facts.lan.is_empty() {
            for net in LAN_MULTICAST {
                self.allow(Purpose::LanMulticast, with(outside.clone(), Match::To(net)));
            }
        }
    }

    fn allow_lan_in(&mut self, facts: &Facts<'_>) {
        let outside = facts.tunnel.map(|tunnel| Match::ArrivedNotOn(named(&tunnel.interface)));
        for net in &facts.lan {
            self.allow(Purpose::Lan, with(outside.clone(), Match::From(*net)));
        }
    }

    /// Both ends are neighbours: a container may reach the LAN, the Internet may not reach a container.
    fn allow_forwarded_lan(&mut self, facts: &Facts<'_>) {
        let outside = facts.tunnel.map(|tunnel| Match::LeavesNotBy(named(&tunnel.interface)));
        for from in &facts.lan {
            for to in facts.lan.iter().filter(|to| to.addr().is_ipv4() == from.addr().is_ipv4()) {
                let inside = facts.tunnel.map(|tunnel| Match::ArrivedNotOn(named(&tunnel.interface)));
                let links = inside.into_iter().chain(outside.clone());
                self.allow(Purpose::Lan, with(links, [Match::From(*from), Match::To(*to)]));
            }
        }
    }
}

/// The end of a chain, and the pieces that the others are made of.
impl Chain {
    fn refuse_rest(&mut self) {
        self.refuse(Purpose::RefuseRest, Vec::new());
        self.drop_rest();
    }

    fn drop_rest(&mut self) {
        self.drop(Purpose::DropRest, Vec::new());
    }

    fn allow(&mut self, purpose: Purpose, matches: Vec<Match>) {
        self.push(Action::Accept, purpose, matches);
    }

    fn drop(&mut self, purpose: Purpose, matches: Vec<Match>) {
        self.push(Action::Drop, purpose, matches);
    }

    fn refuse(&mut self, purpose: Purpose, matches: Vec<Match>) {
        self.push(Action::Reject, purpose, matches);
    }

    fn push(&mut self, action: Action, purpose: Purpose, matches: Vec<Match>) {
        self.0.push(Rule { matches, action, purpose });
    }
}

fn own_flow_to(endpoint: &Endpoint) -> Vec<Match> {
    let port = Match::DestinationPort(endpoint.transport, endpoint.address.port());
    vec![Match::OwnMark, Match::To(host(endpoint.address.ip())), port]
}

/// While verifying, a resolver is asked only when it is one of the addresses that prove the tunnel.
fn usable_resolvers(tunnel: &TunnelAccess) -> impl Iterator<Item = &IpAddr> {
    tunnel.resolvers.iter().filter(|resolver| match &tunnel.traffic {
        TunnelTraffic::VerifyOnly { peers } => peers.contains(resolver),
        TunnelTraffic::Everything { .. } => true,
    })
}

fn fully_used<'a>(facts: &Facts<'a>) -> Option<(&'a TunnelAccess, &'a [IpNet])> {
    let tunnel = facts.tunnel?;
    match &tunnel.traffic {
        TunnelTraffic::VerifyOnly { .. } => None,
        TunnelTraffic::Everything { carries } => Some((tunnel, carries)),
    }
}

const fn has_own_flows(facts: &Facts<'_>) -> bool {
    !(facts.policy.endpoints.is_empty() && facts.policy.api.is_empty())
}

fn named(name: &InterfaceName) -> Interface {
    Interface::Named(name.clone())
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

const fn ipv4_of(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

const fn udp(source: u16, destination: u16) -> [Match; 2] {
    [Match::SourcePort(Transport::Udp, source), Match::DestinationPort(Transport::Udp, destination)]
}

/// First these conditions, then those.
fn with(first: impl IntoIterator<Item = Match>, then: impl IntoMatches) -> Vec<Match> {
    first.into_iter().chain(then.into_matches()).collect()
}

/// One condition or several.
trait IntoMatches {
    fn into_matches(self) -> Vec<Match>;
}

impl IntoMatches for Match {
    fn into_matches(self) -> Vec<Match> {
        vec![self]
    }
}

impl<const N: usize> IntoMatches for [Match; N] {
    fn into_matches(self) -> Vec<Match> {
        self.into()
    }
}
