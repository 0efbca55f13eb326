//! What a ruleset does to one packet: first match decides. The model tests compare it with a plain reading of the guarantees.

pub mod pf;
pub mod wfp;

use super::ruleset::{Action, Interface, Match, Purpose, Rule, Ruleset};
use hamn_core::net::Transport;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// One packet, as far as rules can tell packets apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which way it goes, and by which links.
    pub path: Path,
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// What it carries.
    pub payload: Payload,
    /// IPv6 hop limit or IPv4 time to live.
    pub hop_limit: u8,
    /// Sent by a socket that carries our mark.
    pub own_mark: bool,
    /// What connection tracking knows.
    pub connection: Connection,
}

/// Which way a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// Sent by this computer.
    Output {
        /// Leaves by.
        link: Interface,
    },
    /// For this computer.
    Input {
        /// Arrived on.
        link: Interface,
    },
    /// Passed on.
    Forward {
        /// Arrived on.
        from: Interface,
        /// Leaves by.
        to: Interface,
    },
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// UDP or TCP.
    Ports {
        /// Which.
        transport: Transport,
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP of this type (IPv4).
    Icmp(u8),
    /// ICMPv6 of this type (IPv6).
    IcmpV6(u8),
    /// Any other protocol, by number.
    Other(u8),
}

/// What connection tracking knows about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// State.
    pub state: ConnectionState,
    /// One of our own marked sockets opened the connection.
    pub own: bool,
}

/// State of the packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// First packet of an unknown connection, or untracked.
    New,
    /// Part of a connection that was answered.
    Established,
    /// An ICMP error about a known connection.
    Related,
}

impl Connection {
    /// A packet that no connection is known for.
    pub const NEW: Self = Self { state: ConnectionState::New, own: false };
}

/// What happens to a packet, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// The reason of the rule that decided.
    pub by: Purpose,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It disappears.
    Drop,
    /// It does not pass and the sender is told.
    Reject,
}

/// What the ruleset does to the packet.
#[must_use]
pub fn evaluate(rules: &Ruleset, packet: &Packet) -> Decision {
    let guarded = match &packet.path {
        Path::Output { .. } => None,
        Path::Input { .. } | Path::Forward { .. } => first(&rules.guard, packet),
    };
    let chain = match &packet.path {
        Path::Output { .. } => &rules.output,
        Path::Input { .. } => &rules.input,
        Path::Forward { .. } => &rules.forward,
    };
    // The default policy of these chains is drop.
    guarded.or_else(|| first(chain, packet)).unwrap_or(Decision { verdict: Verdict::Drop, by: Purpose::DropRest })
}

/// Whether an ARP request for `address` that arrives on `link` reaches the kernel, which would answer it.
#[must_use]
pub fn arp_request_passes(rules: &Ruleset, link: &Interface, address: Ipv4Addr) -> bool {
    let asked = [Match::ArpRequest, Match::ArpTarget(address)];
    let stops =
        |condition: &Match| asked.contains(condition) || matches!(condition, Match::ArrivedNotOn(exempt) if link != exempt);
    !rules.arp_in.iter().any(|rule| rule.matches.iter().all(stops))
}

fn first(chain: &[Rule], packet: &Packet) -> Option<Decision> {
    chain.iter().find_map(|rule| {
        let verdict = match rule.action {
            Action::Accept => Verdict::Accept,
            Action::Drop => Verdict::Drop,
            Action::Reject => Verdict::Reject,
            Action::SaveMark | Action::RestoreMark => return None,
        };
        let holds = rule.matches.iter().all(|condition| matches(condition, packet));
        holds.then_some(Decision { verdict, by: rule.purpose })
    })
}

fn matches(condition: &Match, packet: &Packet) -> bool {
    let state = packet.connection.state;
    match condition {
        Match::LeavesBy(link) => packet.leaves_by() == Some(link),
        Match::LeavesNotBy(link) => packet.leaves_by() != Some(link),
        Match::ArrivedOn(link) => packet.arrived_on() == Some(link),
        Match::ArrivedNotOn(link) => packet.arrived_on() != Some(link),
        Match::From(net) => contains(net, packet.source),
        Match::To(net) => contains(net, packet.destination),
        Match::IsIpv4 => packet.source.is_ipv4(),
        Match::SourcePort(wanted, port) => packet.ports().is_some_and(|(t, source, _)| t == *wanted && source == *port),
        Match::DestinationPort(wanted, port) => packet.ports().is_some_and(|(t, _, to)| t == *wanted && to == *port),
        Match::Icmp(kind) => packet.payload == Payload::Icmp(kind.number()),
        Match::IcmpV6(kind) => packet.payload == Payload::IcmpV6(kind.number()),
        Match::HopLimit255 => packet.source.is_ipv6() && packet.hop_limit == 255,
        Match::OwnMark => packet.own_mark,
        Match::OwnConnection => packet.connection.own,
        Match::ReplyDirection => state != ConnectionState::New,
        Match::Established => state == ConnectionState::Established,
        Match::EstablishedOrRelated => state != ConnectionState::New,
        Match::Related => state == ConnectionState::Related,
        Match::ArpRequest | Match::ArpTarget(_) | Match::ArpSender(_) => false,
    }
}

impl Packet {
    const fn leaves_by(&self) -> Option<&Interface> {
        match &self.path {
            Path::Output { link } | Path::Forward { to: link, .. } => Some(link),
            Path::Input { .. } => None,
        }
    }

    const fn arrived_on(&self) -> Option<&Interface> {
        match &self.path {
            Path::Input { link } | Path::Forward { from: link, .. } => Some(link),
            Path::Output { .. } => None,
        }
    }

    const fn ports(&self) -> Option<(Transport, u16, u16)> {
        match self.payload {
            Payload::Ports { transport, source, destination } => Some((transport, source, destination)),
            Payload::Icmp(_) | Payload::IcmpV6(_) | Payload::Other(_) => None,
        }
    }
}

/// `IpNet::contains` for an address of either family.
fn contains(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address)
}

/// No system takes a packet from a group address for the answer to what was sent there (RFC 1122 §3.2.1.3, RFC 4291 §2.7).
const fn answers_can_come_from(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_multicast(),
    }
}
