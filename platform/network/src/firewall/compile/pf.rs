//! macOS: the ruleset as the text of a pf anchor, rule by rule in order, each `quick` so that the first match decides.
//!
//! pf keeps state: what leaves under `keep state` is answered without a rule, so rules about answers have none here. States
//! outlive a change of the rules; whoever applies this must kill them (G5). They are bound to their interface: a floating one
//! would let in what arrives for the tunnel's flows on another link, before any rule is asked (CVE-2019-14899, G11). pf knows users, not sockets: `user root` stands for
//! our own sockets. Forwarded packets pass the rules twice, as received and as sent.

use crate::firewall::ruleset::{Action, Interface, Match, Purpose, Rule, Ruleset, Short, transport_name};
use hamn_core::net::Transport;
use ipnet::IpNet;
use std::fmt::{self, Write as _};

/// Name of the anchor; the main ruleset must refer to it.
pub const ANCHOR: &str = "org.hamn";

/// One rule of the anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PfRule {
    /// What it does.
    pub action: PfAction,
    /// Received (true) or sent.
    pub inward: bool,
    /// The first match ends the search; without it the last match of the whole ruleset decides.
    pub quick: bool,
    /// On (true) or off (false) this interface.
    pub interface: Option<(String, bool)>,
    /// IPv4 (true) or IPv6.
    pub family: Option<bool>,
    /// What it carries.
    pub protocol: Option<Protocol>,
    /// Source prefix.
    pub from: Option<IpNet>,
    /// Source port.
    pub from_port: Option<u16>,
    /// Destination prefix.
    pub to: Option<IpNet>,
    /// Destination port.
    pub to_port: Option<u16>,
    /// Only packets of these sockets.
    pub socket: Option<Socket>,
    /// Answers pass without a rule.
    pub keep_state: bool,
    /// Why.
    pub purpose: Purpose,
}

/// Whose packets a rule is for. What is passed on belongs to no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// `user root`
    Root,
    /// `user != unknown`: any socket on this computer.
    Local,
}

/// What a pf rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PfAction {
    /// `pass`
    Pass,
    /// `block drop`
    Drop,
    /// `block return`
    Return,
}

/// A protocol with what rules say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// UDP or TCP.
    Transport(Transport),
    /// ICMP of this type.
    Icmp(u8),
    /// ICMPv6 of this type.
    IcmpV6(u8),
}

/// The anchor's rules. Loopback comes first: the exceptions for it in later rules then hold by themselves.
#[must_use]
pub fn compile(rules: &Ruleset) -> Vec<PfRule> {
    let loopback = |rule: &&Rule| rule.purpose == Purpose::Loopback;
    let both = || rules.input.iter().map(|rule| (rule, true)).chain(rules.output.iter().map(|rule| (rule, false)));
    let first = both().filter(|(rule, _)| loopback(rule));
    let rest = both().filter(|(rule, _)| !loopback(rule));
    let mut compiled: Vec<PfRule> = first.chain(rest).filter_map(|(rule, inward)| one(rule, inward)).collect();
    // "Refuse the rest" and "drop the rest" match the same packets: pf would warn about the second.
    let mut ended = [false; 2];
    compiled.retain(|rule| {
        let end = ended.get_mut(usize::from(rule.inward));
        end.is_none_or(|end| !std::mem::replace(end, *end || rule.matches_all()))
    });
    compiled
}

/// The rules as `pfctl -a org.hamn -f -` reads them.
#[must_use]
pub fn text(rules: &[PfRule]) -> String {
    let mut text = String::new();
    for rule in rules {
        let _ = writeln!(text, "{rule}");
    }
    text
}

fn one(rule: &Rule, inward: bool) -> Option<PfRule> {
    let action = match rule.action {
        Action::Accept => PfAction::Pass,
        Action::Drop => PfAction::Drop,
        Action::Reject => PfAction::Return,
        Action::SaveMark | Action::RestoreMark => return None,
    };
    let mut made = PfRule {
        action,
        inward,
        quick: true,
        interface: None,
        family: None,
        protocol: None,
        from: None,
        from_port: None,
        to: None,
        to_port: None,
        socket: socket_of(rule.purpose),
        keep_state: action == PfAction::Pass && !inward && is_answered(rule.purpose),
        purpose: rule.purpose,
    };
    for condition in &rule.matches {
        match condition {
            Match::LeavesBy(link) | Match::ArrivedOn(link) => made.interface = Some((name(link), true)),
            Match::LeavesNotBy(Interface::Loopback) | Match::ArrivedNotOn(Interface::Loopback) => {}
            Match::LeavesNotBy(link) | Match::ArrivedNotOn(link) => made.interface = Some((name(link), false)),
            Match::From(net) => (made.from, made.family) = (Some(*net), Some(net.addr().is_ipv4())),
            Match::To(net) => (made.to, made.family) = (Some(*net), Some(net.addr().is_ipv4())),
            Match::IsIpv4 => made.family = Some(true),
            Match::SourcePort(transport, port) => {
                (made.protocol, made.from_port) = (Some(Protocol::Transport(*transport)), Some(*port));
            }
            Match::DestinationPort(transport, port) => {
                (made.protocol, made.to_port) = (Some(Protocol::Transport(*transport)), Some(*port));
            }
            Match::Icmp(kind) => (made.protocol, made.family) = (Some(Protocol::Icmp(kind.number())), Some(true)),
            Match::IcmpV6(kind) => (made.protocol, made.family) = (Some(Protocol::IcmpV6(kind.number())), Some(false)),
            // pf has no condition on the hop limit; the system's own neighbour discovery checks it (RFC 4861 §7.1).
            Match::HopLimit255 => made.family = Some(false),
            Match::OwnMark => made.socket = Some(Socket::Root),
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
    Some(made)
}

const fn socket_of(purpose: Purpose) -> Option<Socket> {
    // Without this, a virtual machine's packet that is passed on could pose as ours; the DHCP client runs as root.
    if matches!(purpose, Purpose::DhcpV4 | Purpose::DhcpV6) {
        Some(Socket::Root)
    } else if matches!(purpose, Purpose::LanResolver) {
        Some(Socket::Local)
    } else {
        None
    }
}

/// True for what is answered by state. Neighbours and set X have rules for both directions, which keep no state: a state
/// would let a neighbour's port 53 be answered.
const fn is_answered(purpose: Purpose) -> bool {
    matches!(
        purpose,
        Purpose::Endpoint | Purpose::Api | Purpose::TunnelResolver | Purpose::LanResolver | Purpose::Verify | Purpose::Tunnel
    )
}

fn name(link: &Interface) -> String {
    match link {
        Interface::Loopback => "lo0".to_owned(),
        Interface::Named(name) => name.to_string(),
    }
}

impl PfRule {
    fn matches_all(&self) -> bool {
        self.interface.is_none()
            && self.family.is_none()
            && self.protocol.is_none()
            && self.from.is_none()
            && self.to.is_none()
            && self.socket.is_none()
    }
}

impl fmt::Display for PfRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            PfAction::Pass => "pass",
            PfAction::Drop => "block drop",
            PfAction::Return => "block return",
        })?;
        f.write_str(if self.inward { " in" } else { " out" })?;
        if self.quick {
            f.write_str(" quick")?;
        }
        match &self.interface {
            Some((name, true)) => write!(f, " on {name}")?,
            Some((name, false)) => write!(f, " on ! {name}")?,
            None => {}
        }
        match self.family {
            Some(true) => f.write_str(" inet")?,
            Some(false) => f.write_str(" inet6")?,
            None => {}
        }
        match self.protocol {
            Some(Protocol::Transport(transport)) => write!(f, " proto {}", transport_name(transport))?,
            Some(Protocol::Icmp(_)) => f.write_str(" proto icmp")?,
            Some(Protocol::IcmpV6(_)) => f.write_str(" proto ipv6-icmp")?,
            None => {}
        }
        side(f, " from", self.from, self.from_port)?;
        side(f, " to", self.to, self.to_port)?;
        match self.socket {
            Some(Socket::Root) => f.write_str(" user root")?,
            Some(Socket::Local) => f.write_str(" user != unknown")?,
            None => {}
        }
        match self.protocol {
            Some(Protocol::Icmp(kind)) => write!(f, " icmp-type {kind}")?,
            Some(Protocol::IcmpV6(kind)) => write!(f, " icmp6-type {kind}")?,
            Some(Protocol::Transport(_)) | None => {}
        }
        if self.action != PfAction::Pass {
            return Ok(());
        }
        // Without this pfctl would add "flags S/SA", and a connection that lost its state could never go on.
        if self.keep_state && matches!(self.protocol, None | Some(Protocol::Transport(Transport::Tcp))) {
            f.write_str(" flags any")?;
        }
        f.write_str(if self.keep_state { " keep state (if-bound)" } else { " no state" })
    }
}

fn side(f: &mut fmt::Formatter<'_>, word: &str, net: Option<IpNet>, port: Option<u16>) -> fmt::Result {
    f.write_str(word)?;
    match net {
        Some(net) => write!(f, " {}", Short(&net))?,
        None => f.write_str(" any")?,
    }
    port.map_or(Ok(()), |port| write!(f, " port {port}"))
}
