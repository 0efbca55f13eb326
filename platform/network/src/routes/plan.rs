//! Which routing rules and routes make a policy true, for both address families. Pure.
//!
//! With the firewall in force these rules decide only whether traffic works; without it (another program flushed it)
//! they alone keep traffic out of the physical links. Everything that is not excepted is looked up in our own table,
//! which ends in `unreachable default`: a hostile DHCP route in the main table neither leaks nor cuts traffic off (G10),
//! DNS follows no LAN route (G3), and when the tunnel device disappears traffic is unreachable (G6).

use hamn_core::net::{FWMARK, InterfaceName, lan_prefixes};
use hamn_core::policy::{Enforced, NetworkPolicy, TunnelAccess, TunnelTraffic};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The protocol number on every rule and route of ours, so that they can be told from others ("h" in ASCII).
pub const PROTOCOL: u8 = 0x68;
/// Our rules have priorities in this range: before main (32766), wg-quick (32764) and Tailscale (5210..5270).
pub const PRIORITIES: std::ops::RangeInclusive<u32> = 4200..=4299;
/// The number of our routing table.
pub const TABLE: u32 = FWMARK;

const OWN_SOCKETS: u32 = 4200;
const DHCP: u32 = 4210;
const LINK_LOCAL: u32 = 4215;
const LAN_RESOLVERS: u32 = 4220;
const DNS: u32 = 4230;
const LAN: u32 = 4240;
const EVERYTHING: u32 = 4290;

const TUNNEL_METRIC: u32 = 50;
/// The last resort: every other route of the table wins.
const UNREACHABLE_METRIC: u32 = u32::MAX - 1;

/// Neighbours answer on these without an address of their prefix. IPv6 multicast is in the kernel's local table already.
const LAN_MULTICAST: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(239, 255, 255, 250), 32),
    Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32),
];
const LINK_LOCAL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// Both, in the order in which they are applied.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// `0.0.0.0/0` or `::/0`.
    #[must_use]
    pub const fn everything(self) -> IpNet {
        match self {
            Self::V4 => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
            Self::V6 => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// IP protocol of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// UDP
    Udp,
    /// TCP
    Tcp,
    /// ICMPv6
    Icmpv6,
}

/// Where a rule sends the lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The table that everybody else writes.
    Main,
    /// Ours.
    Hamn,
}

/// One routing rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleSpec {
    /// Address family.
    pub family: Family,
    /// Lower is looked up first.
    pub priority: u32,
    /// Only packets with exactly this mark.
    pub mark: Option<u32>,
    /// Only to here.
    pub destination: Option<IpNet>,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// Only from this port.
    pub source_port: Option<u16>,
    /// Only to this port.
    pub destination_port: Option<u16>,
    /// Where to look.
    pub table: Table,
}

/// What a route of our table does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Into the tunnel interface.
    Tunnel,
    /// "Network is unreachable", at once.
    Unreachable,
}

/// One route of our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteSpec {
    /// Destination prefix, host bits zero.
    pub destination: IpNet,
    /// Where to.
    pub kind: RouteKind,
    /// Lower wins among equal prefixes.
    pub metric: u32,
}

/// Rules and routes that make one policy true. The default is that of an open policy: nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RoutePlan {
    /// Sorted by family and priority.
    pub rules: Vec<RuleSpec>,
    /// Sorted.
    pub routes: Vec<RouteSpec>,
    /// The interface of the routes of kind `Tunnel`.
    pub tunnel: Option<InterfaceName>,
    /// True when applying fails if that interface is not there or not up: all traffic is meant to use it. While a
    /// tunnel is being verified its routes are added once the interface appears.
    pub tunnel_required: bool,
}

impl RoutePlan {
    /// The plan for a policy.
    #[must_use]
    pub fn for_policy(policy: &NetworkPolicy) -> Self {
        match policy {
            NetworkPolicy::Open => Self::default(),
            NetworkPolicy::Enforce(enforced) => Self::enforce(enforced),
        }
    }

    fn enforce(policy: &Enforced) -> Self {
        let mut rules: Vec<RuleSpec> = Family::BOTH.into_iter().flat_map(|family| rules(family, policy)).collect();
        rules.sort();
        rules.dedup();
        let mut routes: Vec<RouteSpec> = Family::BOTH.into_iter().map(unreachable).collect();
        if let Some(tunnel) = &policy.tunnel {
            routes.extend(tunnel_destinations(tunnel).into_iter().map(into_tunnel));
        }
        routes.sort();
        routes.dedup();
        let tunnel = policy.tunnel.as_ref();
        Self {
            rules,
            routes,
            tunnel: tunnel.map(|tunnel| tunnel.interface.clone()),
            tunnel_required: tunnel.is_some_and(|tunnel| matches!(tunnel.traffic, TunnelTraffic::Everything { .. })),
        }
    }

    /// One line for each rule and route, for people and snapshots.
    #[must_use]
    pub fn describe(&self) -> String {
        let rules = self.rules.iter().map(ToString::to_string);
        let routes = self.routes.iter().map(|route| route.describe(self.tunnel.as_ref()));
        rules.chain(routes).map(|line| line + "\n").collect()
    }
}

fn rules(family: Family, policy: &Enforced) -> Vec<RuleSpec> {
    let to_main = |priority| RuleSpec::plain(family, priority, Table::Main);
    let to_ours = |priority| RuleSpec::plain(family, priority, Table::Hamn);
    let mut rules = vec![RuleSpec { mark: Some(FWMARK), ..to_main(OWN_SOCKETS) }];
    let (client, server) = match family {
        Family::V4 => (68, 67),
        Family::V6 => (546, 547),
    };
    let udp = Some(Protocol::Udp);
    rules.push(RuleSpec { protocol: udp, source_port: Some(client), destination_port: Some(server), ..to_main(DHCP) });
    if family == Family::V6 {
        // Neighbour discovery by programs (the kernel's own needs no rule): link-local addresses stay on their link.
        let destination = Some(IpNet::V6(LINK_LOCAL_V6));
        rules.push(RuleSpec { protocol: Some(Protocol::Icmpv6), destination, ..to_main(LINK_LOCAL) });
    }
    let resolvers = policy.tunnel.iter().flat_map(|tunnel| &tunnel.lan_resolvers);
    for resolver in resolvers.filter(|resolver| Family::of(**resolver) == family) {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let destination = Some(IpNet::from(*resolver));
            let port = Some(53);
            rules.push(RuleSpec { protocol: Some(protocol), destination, destination_port: port, ..to_main(LAN_RESOLVERS) });
        }
    }
    // Before the LAN, so that DNS reaches no LAN resolver even without a firewall (G3).
    for (protocol, port) in [(Protocol::Udp, 53), (Protocol::Tcp, 53), (Protocol::Udp, 853), (Protocol::Tcp, 853)] {
        rules.push(RuleSpec { protocol: Some(protocol), destination_port: Some(port), ..to_ours(DNS) });
    }
    rules.extend(lan(family, policy).into_iter().map(|net| RuleSpec { destination: Some(net), ..to_main(LAN) }));
    rules.push(to_ours(EVERYTHING));
    rules
}

/// Checked once more here: a public or huge prefix is no LAN, whoever built the policy (G9).
fn lan(family: Family, policy: &Enforced) -> Vec<IpNet> {
    let mut lan = lan_prefixes(&policy.lan);
    if !lan.is_empty() {
        lan.extend(LAN_MULTICAST.map(IpNet::V4));
    }
    lan.retain(|net| Family::of(net.addr()) == family);
    lan
}

/// Only of families in which the tunnel has an address: without one the kernel has no source to send from.
fn tunnel_destinations(tunnel: &TunnelAccess) -> Vec<IpNet> {
    let destinations: Vec<IpNet> = match &tunnel.traffic {
        TunnelTraffic::VerifyOnly { peers } => peers.iter().copied().map(IpNet::from).collect(),
        TunnelTraffic::Everything { carries } => carries.iter().map(IpNet::trunc).collect(),
    };
    let has = |family| tunnel.addresses.iter().any(|net| Family::of(net.addr()) == family);
    destinations.into_iter().filter(|net| has(Family::of(net.addr()))).collect()
}

const fn unreachable(family: Family) -> RouteSpec {
    RouteSpec { destination: family.everything(), kind: RouteKind::Unreachable, metric: UNREACHABLE_METRIC }
}

const fn into_tunnel(destination: IpNet) -> RouteSpec {
    RouteSpec { destination, kind: RouteKind::Tunnel, metric: TUNNEL_METRIC }
}

impl RuleSpec {
    const fn plain(family: Family, priority: u32, table: Table) -> Self {
        Self { family, priority, mark: None, destination: None, protocol: None, source_port: None, destination_port: None, table }
    }
}

impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}:", self.family, self.priority)?;
        if let Some(mark) = self.mark {
            write!(f, " mark {mark:#x}")?;
        }
        match self.protocol {
            Some(Protocol::Udp) => f.write_str(" udp")?,
            Some(Protocol::Tcp) => f.write_str(" tcp")?,
            Some(Protocol::Icmpv6) => f.write_str(" icmpv6")?,
            None => {}
        }
        if let Some(port) = self.source_port {
            write!(f, " from port {port}")?;
        }
        if let Some(net) = self.destination {
            write!(f, " to {net}")?;
        }
        if let Some(port) = self.destination_port {
            write!(f, " to port {port}")?;
        }
        f.write_str(match self.table {
            Table::Main => " -> main",
            Table::Hamn => " -> hamn",
        })
    }
}

impl RouteSpec {
    fn describe(&self, tunnel: Option<&InterfaceName>) -> String {
        let family = Family::of(self.destination.addr());
        match self.kind {
            RouteKind::Unreachable => format!("{family} route unreachable {} metric {}", self.destination, self.metric),
            RouteKind::Tunnel => {
                let interface = tunnel.map_or("tunnel", InterfaceName::as_str);
                format!("{family} route {} dev {interface} metric {}", self.destination, self.metric)
            }
        }
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(None))
    }
}

#[cfg(test)]
mod tests;
