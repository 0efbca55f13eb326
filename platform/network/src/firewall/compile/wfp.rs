//! Windows: the ruleset as filters of the Windows Filtering Platform, and the objects that hold them.
//!
//! How the platform decides (Microsoft, "Filter Arbitration"): at a layer every sublayer is asked, in order of weight; within
//! one, the matching filter of the highest weight decides; a block in any sublayer is final, a permit is not. Conditions on
//! the same field are alternatives, conditions on different fields must all hold. So the order of the rules becomes weights,
//! and DNS gets a sublayer of its own above the rest, which nothing below can overrule (G3).
//!
//! Connections are authorised when they are opened, at the ALE layers, and again when a filter changes; answers follow their
//! connection. Rules about answers therefore have no filter. Boot-time filters are separate objects: they hold from the start
//! of the TCP/IP driver until the Base Filtering Engine runs, the persistent ones from then on (G7).

use crate::firewall::ruleset::{Action, Interface, Match, Purpose, Rule, Ruleset};
use hamn_core::net::{InterfaceName, Transport};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};

/// Key of the provider object that owns everything of ours (made at random once).
pub const PROVIDER: u128 = 0x5b0a_41f6_9c0d_4b5e_8f3a_6861_6d6e_0001;
/// Key of the sublayer for DNS.
pub const DNS_SUBLAYER: u128 = 0x5b0a_41f6_9c0d_4b5e_8f3a_6861_6d6e_0002;
/// Key of the sublayer for everything else.
pub const BASE_SUBLAYER: u128 = 0x5b0a_41f6_9c0d_4b5e_8f3a_6861_6d6e_0003;

const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// A filtering layer (`FWPM_LAYER_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// `ALE_AUTH_CONNECT_V4`: a connection, or the first datagram, that leaves.
    ConnectV4,
    /// `ALE_AUTH_CONNECT_V6`.
    ConnectV6,
    /// `ALE_AUTH_RECV_ACCEPT_V4`: a connection, or the first datagram, that arrives.
    AcceptV4,
    /// `ALE_AUTH_RECV_ACCEPT_V6`.
    AcceptV6,
    /// `INBOUND_TRANSPORT_V4`: every packet that arrives, whatever connection it claims.
    ArriveV4,
    /// `INBOUND_TRANSPORT_V6`.
    ArriveV6,
    /// `INBOUND_ICMP_ERROR_V4`: an ICMP error, with the header of the packet it speaks of.
    ErrorV4,
    /// `INBOUND_ICMP_ERROR_V6`.
    ErrorV6,
    /// `IPFORWARD_V4`: passed on. Knows neither ports nor connections.
    ForwardV4,
    /// `IPFORWARD_V6`.
    ForwardV6,
}

impl Layer {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::ConnectV4,
        Self::ConnectV6,
        Self::AcceptV4,
        Self::AcceptV6,
        Self::ArriveV4,
        Self::ArriveV6,
        Self::ErrorV4,
        Self::ErrorV6,
        Self::ForwardV4,
        Self::ForwardV6,
    ];

    /// True for the layers of IPv4.
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        matches!(self, Self::ConnectV4 | Self::AcceptV4 | Self::ArriveV4 | Self::ErrorV4 | Self::ForwardV4)
    }
}

/// A sublayer of ours; the first has the greater weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sublayer {
    /// DNS only: above, so that no permit below reopens port 53.
    Dns,
    /// Everything.
    Base,
}

impl Sublayer {
    /// Both, by falling weight.
    pub const ALL: [Self; 2] = [Self::Dns, Self::Base];

    /// The weight of the sublayer: the greatest that there is, so that ours are asked before anybody's.
    #[must_use]
    pub const fn weight(self) -> u16 {
        match self {
            Self::Dns => u16::MAX,
            Self::Base => u16::MAX - 1,
        }
    }

    /// Its key.
    #[must_use]
    pub const fn key(self) -> u128 {
        match self {
            Self::Dns => DNS_SUBLAYER,
            Self::Base => BASE_SUBLAYER,
        }
    }
}

/// How long a filter lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lifetime {
    /// `FWPM_FILTER_FLAG_PERSISTENT`: until it is deleted, across restarts of the engine.
    Persistent,
    /// `FWPM_FILTER_FLAG_BOOTTIME`: from the start of the driver until the engine runs.
    BootTime,
}

/// What a filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// `FWP_ACTION_PERMIT`
    Permit,
    /// `FWP_ACTION_BLOCK`
    Block,
}

/// One condition of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `IP_LOCAL_INTERFACE` equals (true) or differs from (false) the LUID of this interface.
    LocalInterface(InterfaceName, bool),
    /// `FLAGS` has (true) or lacks (false) `IS_LOOPBACK`.
    Loopback(bool),
    /// `IP_LOCAL_ADDRESS` in the prefix.
    LocalAddress(IpNet),
    /// `IP_REMOTE_ADDRESS` in the prefix.
    RemoteAddress(IpNet),
    /// `IP_PROTOCOL`
    Protocol(u8),
    /// `IP_LOCAL_PORT`
    LocalPort(u16),
    /// `IP_REMOTE_PORT`
    RemotePort(u16),
    /// `ICMP_TYPE` (the same field as the local port).
    IcmpType(u8),
    /// `ALE_APP_ID` is the helper's program and `ALE_USER_ID` admits the service's SID (G8).
    OwnProcess,
    /// The packet that an ICMP error speaks of was sent to this address, protocol and port.
    ErrorAbout(IpNet, u8, u16),
}

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Key: from the content, so that the same filter has the same key and can be found again after a crash.
    pub key: u128,
    /// Where it stands.
    pub layer: Layer,
    /// In which sublayer.
    pub sublayer: Sublayer,
    /// Weight within sublayer and layer: the greatest that matches decides.
    pub weight: u64,
    /// What it does.
    pub verdict: Verdict,
    /// When it matches.
    pub conditions: Vec<Condition>,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Why it exists; the filter's display name.
    pub purpose: Purpose,
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layer, sublayer, verdict, conditions, lifetime, purpose, .. } = self;
        let does = match verdict {
            Verdict::Permit => "permit",
            Verdict::Block => "block",
        };
        write!(f, "{lifetime:?} {layer:?} {sublayer:?}: {does}")?;
        for condition in conditions {
            write!(f, " {condition}")?;
        }
        write!(f, " # {}", purpose.words())
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalInterface(name, true) => write!(f, "interface {name}"),
            Self::LocalInterface(name, false) => write!(f, "interface not {name}"),
            Self::Loopback(true) => f.write_str("loopback"),
            Self::Loopback(false) => f.write_str("not loopback"),
            Self::LocalAddress(net) => write!(f, "local {net}"),
            Self::RemoteAddress(net) => write!(f, "remote {net}"),
            Self::Protocol(number) => write!(f, "protocol {number}"),
            Self::LocalPort(port) => write!(f, "local port {port}"),
            Self::RemotePort(port) => write!(f, "remote port {port}"),
            Self::IcmpType(kind) => write!(f, "ICMP type {kind}"),
            Self::OwnProcess => f.write_str("our program and service"),
            Self::ErrorAbout(net, protocol, port) => write!(f, "about protocol {protocol} to {net} port {port}"),
        }
    }
}

/// The filters that make a ruleset true while the system runs, and those that hold while it boots.
#[must_use]
pub fn compile(rules: &Ruleset) -> Vec<Filter> {
    let mut list = List::default();
    list.running(rules, Lifetime::Persistent);
    list.running(&Ruleset::lockdown(), Lifetime::BootTime);
    list.0
}

#[derive(Default)]
struct List(Vec<Filter>);

impl List {
    fn running(&mut self, rules: &Ruleset, lifetime: Lifetime) {
        let dns_end = rules.output.iter().rposition(is_dns_refusal).map_or(0, |last| last + 1);
        let above: Vec<&Rule> = rules.output.iter().take(dns_end).collect();
        let below: Vec<&Rule> = rules.output.iter().filter(|rule| !is_dns_refusal(rule)).collect();
        for layer in [Layer::ConnectV4, Layer::ConnectV6] {
            self.add(layer, Sublayer::Dns, lifetime, above.iter().map(|rule| connect(rule)));
            self.add(layer, Sublayer::Base, lifetime, below.iter().map(|rule| connect(rule)));
        }
        for layer in [Layer::AcceptV4, Layer::AcceptV6] {
            self.add(layer, Sublayer::Base, lifetime, rules.input.iter().map(accept));
        }
        let arriving = |rule: &&Rule| matches!(rule.purpose, Purpose::Loopback | Purpose::RefuseRedirect);
        let guard = rules.guard.iter().chain(rules.input.iter().filter(arriving));
        for layer in [Layer::ArriveV4, Layer::ArriveV6] {
            self.add(layer, Sublayer::Base, lifetime, guard.clone().map(accept));
        }
        for layer in [Layer::ErrorV4, Layer::ErrorV6] {
            self.add(layer, Sublayer::Base, lifetime, errors(rules).into_iter().map(Some));
        }
        // This layer sees neither ports nor connections, so DNS and answers cannot be told apart: nothing is passed on.
        for layer in [Layer::ForwardV4, Layer::ForwardV6] {
            let block = Draft { verdict: Verdict::Block, conditions: Vec::new(), family: None, purpose: Purpose::RefuseRest };
            self.add(layer, Sublayer::Base, lifetime, std::iter::once(Some(block)));
        }
    }

    /// Adds drafts in order of falling weight; what follows a filter without conditions is never asked and left out.
    fn add(&mut self, layer: Layer, sublayer: Sublayer, lifetime: Lifetime, drafts: impl Iterator<Item = Option<Draft>>) {
        let mut weight = u64::from(u32::MAX);
        for draft in drafts.flatten().filter(|draft| draft.family.is_none_or(|v4| v4 == layer.is_ipv4())) {
            let Draft { verdict, conditions, family: _, purpose } = draft;
            let last = conditions.is_empty();
            let key = key_of(layer, sublayer, lifetime, weight, verdict, &conditions);
            self.0.push(Filter { key, layer, sublayer, weight, verdict, conditions, lifetime, purpose });
            weight = weight.saturating_sub(1);
            if last {
                break;
            }
        }
    }
}

/// A filter without its place.
struct Draft {
    verdict: Verdict,
    conditions: Vec<Condition>,
    /// IPv4 (true) or IPv6 only.
    family: Option<bool>,
    purpose: Purpose,
}

const fn is_dns_refusal(rule: &Rule) -> bool {
    matches!(rule.purpose, Purpose::RefuseDns | Purpose::RefuseEncryptedDns)
}

const fn verdict_of(action: Action) -> Option<Verdict> {
    match action {
        Action::Accept => Some(Verdict::Permit),
        // A blocked connect fails at once on Windows, so there is no other way to refuse.
        Action::Drop | Action::Reject => Some(Verdict::Block),
        Action::SaveMark | Action::RestoreMark => None,
    }
}

/// A rule about what is sent.
fn connect(rule: &Rule) -> Option<Draft> {
    draft(rule, true)
}

/// A rule about what arrives; none for answers, which follow their connection.
fn accept(rule: &Rule) -> Option<Draft> {
    draft(rule, false)
}

fn draft(rule: &Rule, sending: bool) -> Option<Draft> {
    let verdict = verdict_of(rule.action)?;
    let mut conditions = Vec::new();
    let mut family = None;
    for condition in &rule.matches {
        match condition {
            Match::LeavesBy(link) | Match::ArrivedOn(link) => conditions.push(at(link, true)),
            Match::LeavesNotBy(link) | Match::ArrivedNotOn(link) => conditions.push(at(link, false)),
            Match::From(net) | Match::To(net) => {
                family = Some(net.addr().is_ipv4());
                let ours = matches!(condition, Match::From(_)) == sending;
                conditions.push(if ours { Condition::LocalAddress(*net) } else { Condition::RemoteAddress(*net) });
            }
            Match::IsIpv4 => family = Some(true),
            Match::SourcePort(transport, port) | Match::DestinationPort(transport, port) => {
                let ours = matches!(condition, Match::SourcePort(..)) == sending;
                conditions.push(Condition::Protocol(number(*transport)));
                conditions.push(if ours { Condition::LocalPort(*port) } else { Condition::RemotePort(*port) });
            }
            Match::Icmp(kind) => {
                family = Some(true);
                conditions.extend([Condition::Protocol(ICMP), Condition::IcmpType(kind.number())]);
            }
            Match::IcmpV6(kind) => {
                family = Some(false);
                conditions.extend([Condition::Protocol(ICMP_V6), Condition::IcmpType(kind.number())]);
            }
            // No layer shows the hop limit; the system's own neighbour discovery checks it (RFC 4861 §7.1).
            Match::HopLimit255 => family = Some(false),
            Match::OwnMark => conditions.push(Condition::OwnProcess),
            Match::OwnConnection
            | Match::ReplyDirection
            | Match::Established
            | Match::EstablishedOrRelated
            | Match::Related
            | Match::ArpRequest
            | Match::ArpTarget(_)
            | Match::ArpSender(_) => return None,
        }
    }
    // Two ports of one transport name the protocol twice.
    conditions.dedup();
    let mut unique: Vec<Condition> = Vec::new();
    for condition in conditions {
        if !unique.contains(&condition) {
            unique.push(condition);
        }
    }
    Some(Draft { verdict, conditions: unique, family, purpose: rule.purpose })
}

/// What may be heard of errors: about our own flows, from inside the tunnel, from neighbours.
fn errors(rules: &Ruleset) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for rule in &rules.input {
        let speaks_of_ports = rule.matches.iter().any(|condition| condition.transport().is_some());
        let inside =
            rule.matches.iter().find_map(|condition| if let Match::ArrivedOn(link) = condition { Some(link) } else { None });
        if rule.purpose == Purpose::OwnIcmpError {
            drafts.extend(own_errors(rule, rules));
        } else if let (Purpose::Tunnel, Some(link)) = (rule.purpose, inside) {
            let conditions = vec![at(link, true)];
            drafts.push(Draft { verdict: Verdict::Permit, conditions, family: None, purpose: rule.purpose });
        } else if !speaks_of_ports {
            drafts.extend(accept(rule));
        }
    }
    drafts
}

/// One filter for each address that our own sockets may talk to, and for each type of error.
fn own_errors(rule: &Rule, rules: &Ruleset) -> Vec<Draft> {
    let v4 = rule.matches.iter().find_map(|c| if let Match::Icmp(kind) = c { Some((true, kind.number())) } else { None });
    let v6 = rule.matches.iter().find_map(|c| if let Match::IcmpV6(kind) = c { Some((false, kind.number())) } else { None });
    let Some((is_ipv4, kind)) = v4.or(v6) else { return Vec::new() };
    let own = rules.output.iter().filter(|rule| rule.matches.contains(&Match::OwnMark));
    own.filter_map(|flow| {
        let to = flow.matches.iter().find_map(|condition| if let Match::To(net) = condition { Some(*net) } else { None })?;
        let (transport, port) = flow.matches.iter().find_map(|condition| {
            if let Match::DestinationPort(transport, port) = condition { Some((*transport, *port)) } else { None }
        })?;
        let conditions = vec![Condition::ErrorAbout(to, number(transport), port), Condition::IcmpType(kind)];
        (to.addr().is_ipv4() == is_ipv4).then_some(Draft {
            verdict: Verdict::Permit,
            conditions,
            family: Some(is_ipv4),
            purpose: rule.purpose,
        })
    })
    .collect()
}

fn at(link: &Interface, equal: bool) -> Condition {
    match link {
        Interface::Loopback => Condition::Loopback(equal),
        Interface::Named(name) => Condition::LocalInterface(name.clone(), equal),
    }
}

const fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

/// The first 128 bits of a hash of the filter's content.
fn key_of(layer: Layer, sublayer: Sublayer, lifetime: Lifetime, weight: u64, verdict: Verdict, conditions: &[Condition]) -> u128 {
    let mut text = String::new();
    let _ = write!(text, "{layer:?} {sublayer:?} {lifetime:?} {weight} {verdict:?} {conditions:?}");
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(16).fold(0, |key, byte| (key << 8) | u128::from(*byte))
}
