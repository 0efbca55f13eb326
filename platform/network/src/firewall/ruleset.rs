//! The OS-neutral ruleset: chains of rules, each a conjunction of matches with a verdict and the reason it exists.
//!
//! Within a chain the first rule that matches decides. Every filtering chain ends with a rule that matches all packets,
//! so that no chain depends on its default policy (design.md §4: the kernel applies that policy late in a commit).

use hamn_core::net::{FWMARK, InterfaceName, Transport};
use ipnet::IpNet;
use std::fmt;
use std::net::Ipv4Addr;

/// Everything that the firewall holds while a policy is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    /// Before routing and before connection tracking: packets for the tunnel's addresses from any other link (G11).
    pub guard: Vec<Rule>,
    /// Before routing: replies to our own marked flows get the mark, so that strict `rp_filter` accepts them.
    pub mark_in: Vec<Rule>,
    /// On the way out: our own mark is noted in the connection.
    pub mark_out: Vec<Rule>,
    /// What this computer sends.
    pub output: Vec<Rule>,
    /// What this computer receives.
    pub input: Vec<Rule>,
    /// What this computer passes on for containers, virtual machines and hotspot clients.
    pub forward: Vec<Rule>,
    /// ARP received.
    pub arp_in: Vec<Rule>,
    /// ARP sent.
    pub arp_out: Vec<Rule>,
}

/// Where in the path of a packet a list of rules stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainName {
    /// See [`Ruleset::guard`].
    Guard,
    /// See [`Ruleset::mark_in`].
    MarkIn,
    /// See [`Ruleset::mark_out`].
    MarkOut,
    /// See [`Ruleset::output`].
    Output,
    /// See [`Ruleset::input`].
    Input,
    /// See [`Ruleset::forward`].
    Forward,
    /// See [`Ruleset::arp_in`].
    ArpIn,
    /// See [`Ruleset::arp_out`].
    ArpOut,
}

impl Ruleset {
    /// All chains, in the order in which they are written down.
    #[must_use]
    pub fn chains(&self) -> [(ChainName, &[Rule]); 8] {
        let Self { guard, mark_in, mark_out, output, input, forward, arp_in, arp_out } = self;
        [
            (ChainName::Guard, guard),
            (ChainName::MarkIn, mark_in),
            (ChainName::MarkOut, mark_out),
            (ChainName::Output, output),
            (ChainName::Input, input),
            (ChainName::Forward, forward),
            (ChainName::ArpIn, arp_in),
            (ChainName::ArpOut, arp_out),
        ]
    }

    /// The rules in words, one a line under a heading for each chain that has rules; for `hamn policy show`.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (chain, rules) in self.chains() {
            if rules.is_empty() {
                continue;
            }
            text.push_str(chain.heading());
            text.push('\n');
            for rule in rules {
                text.push_str("  ");
                text.push_str(&rule.describe());
                text.push('\n');
            }
        }
        text
    }
}

impl ChainName {
    /// A heading for people.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Guard => "Arriving, before anything else:",
            Self::MarkIn => "Arriving, before routing:",
            Self::MarkOut => "Leaving, before the rules below:",
            Self::Output => "Sent by this computer:",
            Self::Input => "Received by this computer:",
            Self::Forward => "Passed on for containers and hotspot clients:",
            Self::ArpIn => "Address questions (ARP) received:",
            Self::ArpOut => "Address questions (ARP) sent:",
        }
    }
}

/// One rule: when all matches hold, the action is taken. No match at all holds for every packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of these must hold.
    pub matches: Vec<Match>,
    /// What happens then.
    pub action: Action,
    /// Why the rule exists.
    pub purpose: Purpose,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let the packet pass this chain.
    Accept,
    /// Discard the packet silently.
    Drop,
    /// Discard the packet and tell the sender: TCP reset, or ICMP "administratively prohibited".
    Reject,
    /// Note the packet's mark in its connection and go on.
    SaveMark,
    /// Give the packet the mark of its connection and go on.
    RestoreMark,
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Leaves by this interface.
    LeavesBy(Interface),
    /// Leaves by any interface but this one.
    LeavesNotBy(Interface),
    /// Arrived on this interface.
    ArrivedOn(Interface),
    /// Arrived on any interface but this one.
    ArrivedNotOn(Interface),
    /// Source address lies in the prefix.
    From(IpNet),
    /// Destination address lies in the prefix.
    To(IpNet),
    /// Is an IPv4 packet.
    IsIpv4,
    /// UDP or TCP with this source port.
    SourcePort(Transport, u16),
    /// UDP or TCP with this destination port.
    DestinationPort(Transport, u16),
    /// ICMP (IPv4) of this type.
    Icmp(IcmpType),
    /// ICMPv6 of this type.
    IcmpV6(IcmpV6Type),
    /// IPv6 hop limit is 255: the sender is on this link (RFC 4861 §6.1).
    HopLimit255,
    /// The packet carries our mark: one of our own sockets sent it (G8).
    OwnMark,
    /// The packet's connection was opened by one of our own marked sockets.
    OwnConnection,
    /// The packet goes against the direction in which its connection was opened.
    ReplyDirection,
    /// Connection tracking knows the packet as part of a connection seen in both directions.
    Established,
    /// As `Established`, or an ICMP error about such a connection.
    EstablishedOrRelated,
    /// An ICMP error about a known connection.
    Related,
    /// An ARP request.
    ArpRequest,
    /// Any ARP that asks for, or answers to, this address.
    ArpTarget(Ipv4Addr),
    /// Any ARP that names this address as the sender's.
    ArpSender(Ipv4Addr),
}

/// A network interface in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The loopback interface.
    Loopback,
    /// An interface by name.
    Named(InterfaceName),
}

/// ICMP types that rules speak of (RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpType {
    /// Type 3; code 4 of it is "fragmentation needed".
    DestinationUnreachable,
    /// Type 5.
    Redirect,
    /// Type 11.
    TimeExceeded,
    /// Type 12.
    ParameterProblem,
}

/// ICMPv6 types that rules speak of (RFC 4443, RFC 4861).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpV6Type {
    /// Type 1.
    DestinationUnreachable,
    /// Type 2.
    PacketTooBig,
    /// Type 3.
    TimeExceeded,
    /// Type 4.
    ParameterProblem,
    /// Type 133.
    RouterSolicitation,
    /// Type 134.
    RouterAdvertisement,
    /// Type 135.
    NeighbourSolicitation,
    /// Type 136.
    NeighbourAdvertisement,
    /// Type 137.
    Redirect,
}

impl IcmpType {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::DestinationUnreachable => 3,
            Self::Redirect => 5,
            Self::TimeExceeded => 11,
            Self::ParameterProblem => 12,
        }
    }
}

impl IcmpV6Type {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::DestinationUnreachable => 1,
            Self::PacketTooBig => 2,
            Self::TimeExceeded => 3,
            Self::ParameterProblem => 4,
            Self::RouterSolicitation => 133,
            Self::RouterAdvertisement => 134,
            Self::NeighbourSolicitation => 135,
            Self::NeighbourAdvertisement => 136,
            Self::Redirect => 137,
        }
    }
}

/// Why a rule exists. Guarantees are those of `platform/SECURITY.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// G5: nothing with the tunnel's address leaves by another link.
    TunnelSourceGuard,
    /// G11: nothing for the tunnel's address arrives by another link.
    TunnelAddressGuard,
    /// G10: ICMP redirects change no route.
    RefuseRedirect,
    /// Set X: loopback.
    Loopback,
    /// Set X: DHCP for IPv4.
    DhcpV4,
    /// Set X: DHCP for IPv6.
    DhcpV6,
    /// Set X: IPv6 router and neighbour discovery.
    NeighbourDiscovery,
    /// G1, G8: a gateway of this attempt, for our own sockets only.
    Endpoint,
    /// G1, G8: an address of the provider's API, for our own sockets only.
    Api,
    /// ICMP errors about our own flows (path MTU, unreachable).
    OwnIcmpError,
    /// G3: a resolver inside the tunnel.
    TunnelResolver,
    /// G3: the user's own resolver on the LAN.
    LanResolver,
    /// G3: no other DNS.
    RefuseDns,
    /// G3: no DNS over TLS or QUIC outside the tunnel.
    RefuseEncryptedDns,
    /// Until traffic is proven to flow: the addresses that prove it.
    Verify,
    /// G2: traffic inside the tunnel.
    Tunnel,
    /// G9: neighbours on the LAN.
    Lan,
    /// G9: multicast and broadcast that stay on the LAN.
    LanMulticast,
    /// G1, G2: everything else is refused, so that programs fail at once.
    RefuseRest,
    /// Everything that is left.
    DropRest,
    /// Keeps strict `rp_filter` from dropping the gateway's answers.
    OwnMark,
}

impl Purpose {
    /// A short sentence for people, with the guarantees that ask for the rule.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::TunnelSourceGuard => "tunnel address stays in the tunnel (G5)",
            Self::TunnelAddressGuard => "tunnel address is unknown outside (G11)",
            Self::RefuseRedirect => "redirects are ignored (G10)",
            Self::Loopback => "loopback",
            Self::DhcpV4 => "DHCP",
            Self::DhcpV6 => "DHCPv6",
            Self::NeighbourDiscovery => "IPv6 neighbour discovery",
            Self::Endpoint => "gateway, our own socket only (G1, G8)",
            Self::Api => "provider API, our own socket only (G1, G8)",
            Self::OwnIcmpError => "errors about our own flows",
            Self::TunnelResolver => "resolver inside the tunnel (G3)",
            Self::LanResolver => "your resolver on the LAN (G3)",
            Self::RefuseDns => "no other DNS (G3)",
            Self::RefuseEncryptedDns => "no DNS over TLS or QUIC outside the tunnel (G3)",
            Self::Verify => "checks that the tunnel carries traffic",
            Self::Tunnel => "inside the tunnel (G2)",
            Self::Lan => "LAN access (G9)",
            Self::LanMulticast => "LAN multicast (G9)",
            Self::RefuseRest => "everything else is refused (G1, G2)",
            Self::DropRest => "everything else is dropped (G1)",
            Self::OwnMark => "mark of our own flows",
        }
    }
}

impl Rule {
    /// The rule in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = match self.action {
            Action::Accept => "allow",
            Action::Drop => "drop",
            Action::Reject => "refuse",
            Action::SaveMark => "remember the mark of",
            Action::RestoreMark => "restore the mark of",
        }
        .to_owned();
        if self.matches.is_empty() {
            text.push_str(" everything");
        }
        for condition in &self.matches {
            text.push(' ');
            text.push_str(&condition.to_string());
        }
        text.push_str(": ");
        text.push_str(self.purpose.words());
        text
    }
}

impl Match {
    /// The transport that the condition asks for.
    pub(crate) const fn transport(&self) -> Option<Transport> {
        if let Self::SourcePort(transport, _) | Self::DestinationPort(transport, _) = self { Some(*transport) } else { None }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeavesBy(link) => write!(f, "leaving by {link}"),
            Self::LeavesNotBy(link) => write!(f, "not leaving by {link}"),
            Self::ArrivedOn(link) => write!(f, "arriving on {link}"),
            Self::ArrivedNotOn(link) => write!(f, "not arriving on {link}"),
            Self::From(net) => write!(f, "from {}", Short(net)),
            Self::To(net) => write!(f, "to {}", Short(net)),
            Self::IsIpv4 => f.write_str("IPv4"),
            Self::SourcePort(transport, port) => write!(f, "from {} port {port}", transport_name(*transport)),
            Self::DestinationPort(transport, port) => write!(f, "to {} port {port}", transport_name(*transport)),
            Self::Icmp(kind) => write!(f, "ICMP type {}", kind.number()),
            Self::IcmpV6(kind) => write!(f, "ICMPv6 type {}", kind.number()),
            Self::HopLimit255 => f.write_str("from this link only"),
            Self::OwnMark => write!(f, "marked {FWMARK:#x} by our own socket"),
            Self::OwnConnection => f.write_str("of our own connections"),
            Self::ReplyDirection => f.write_str("answers"),
            Self::Established => f.write_str("in answer"),
            Self::EstablishedOrRelated => f.write_str("in answer, or errors about it"),
            Self::Related => f.write_str("errors"),
            Self::ArpRequest => f.write_str("ARP requests"),
            Self::ArpTarget(address) => write!(f, "for {address}"),
            Self::ArpSender(address) => write!(f, "ARP sent as {address}"),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("lo"),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// A prefix as text; a single address without its length.
pub(crate) struct Short<'a>(pub(crate) &'a IpNet);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// `udp` or `tcp`.
#[must_use]
pub(crate) const fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}
