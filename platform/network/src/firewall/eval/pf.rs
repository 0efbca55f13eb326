//! What a pf anchor does to one packet: the last match decides unless a `quick` one comes first, and states carry answers.

use super::{ConnectionState, Packet, Path, Payload, answers_can_come_from};
use crate::firewall::compile::pf::{PfAction, PfRule, Protocol, Socket};
use crate::firewall::ruleset::Interface;
use std::net::IpAddr;

/// Whose socket sends, when it is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Another process of root: pf cannot tell it from ours.
    Root,
    /// Anybody else.
    Other,
}

/// True when the packet passes the anchor.
#[must_use]
pub fn passes(rules: &[PfRule], user: User, packet: &Packet) -> bool {
    match &packet.path {
        Path::Output { link } => {
            pass(rules, &View::sent(packet, link, Some(if packet.own_mark { User::Root } else { user }))).is_some()
        }
        Path::Input { link } => received(rules, packet, link),
        // Forwarded packets are seen twice: received on one link, sent on the other.
        // States are of flows that this computer opened, so no forwarded packet has one.
        Path::Forward { from, to } => {
            let (received, sent) = (View::received(packet, from, None), View::sent(packet, to, None));
            pass(rules, &received).is_some() && pass(rules, &sent).is_some()
        }
    }
}

/// The DHCP client's sockets belong to root.
const fn receiver(packet: &Packet) -> User {
    if matches!(packet.payload, Payload::Ports { destination: 68 | 546, .. }) { User::Root } else { User::Other }
}

fn received(rules: &[PfRule], packet: &Packet, link: &Interface) -> bool {
    // `pf_test_state_icmp`: errors are looked up by the packet they speak of, questions and answers by their own addresses.
    let (error, other) = match packet.payload {
        Payload::Icmp(kind) => (matches!(kind, 3 | 4 | 11 | 12), matches!(kind, 0 | 8)),
        Payload::IcmpV6(kind) => (kind < 128, (128..133).contains(&kind)),
        Payload::Ports { .. } | Payload::Other(_) => (false, true),
    };
    let state = match packet.connection.state {
        ConnectionState::New => false,
        ConnectionState::Established => {
            let opened = View::opened(packet, link, if packet.connection.own { User::Root } else { User::Other });
            other && answers_can_come_from(packet.source) && pass(rules, &opened).is_some_and(|rule| rule.keep_state)
        }
        ConnectionState::Related => error && concerns_a_state(rules, packet, link),
    };
    state || pass(rules, &View::received(packet, link, Some(receiver(packet)))).is_some()
}

/// The packet model says whose flow an error is about, not which: any own flow from the address that the error is for, or
/// one inside the tunnel.
fn concerns_a_state(rules: &[PfRule], packet: &Packet, link: &Interface) -> bool {
    let at = name(link);
    let own = rules.iter().filter(|rule| packet.connection.own && rule.socket == Some(Socket::Root) && rule.keep_state);
    let has_own = own.filter_map(|rule| View::own_flow(rule, packet.destination, link)).any(|flow| pass(rules, &flow).is_some());
    has_own || rules.iter().any(|rule| rule.keep_state && rule.interface.as_ref().is_some_and(|(name, on)| *on && *name == at))
}

struct View {
    inward: bool,
    link: String,
    payload: Payload,
    source: IpAddr,
    destination: IpAddr,
    socket: Option<User>,
}

impl View {
    fn sent(packet: &Packet, link: &Interface, socket: Option<User>) -> Self {
        let Packet { source, destination, payload, .. } = *packet;
        Self { inward: false, link: name(link), payload, source, destination, socket }
    }

    fn received(packet: &Packet, link: &Interface, socket: Option<User>) -> Self {
        Self { inward: true, ..Self::sent(packet, link, socket) }
    }

    /// The first packet of the flow that this one answers.
    fn opened(packet: &Packet, link: &Interface, user: User) -> Self {
        let payload = match packet.payload {
            Payload::Ports { transport, source, destination } => {
                Payload::Ports { transport, source: destination, destination: source }
            }
            other @ (Payload::Icmp(_) | Payload::IcmpV6(_) | Payload::Other(_)) => other,
        };
        Self { source: packet.destination, destination: packet.source, payload, ..Self::sent(packet, link, Some(user)) }
    }

    /// The first packet of the flow that a rule for our own sockets lets out.
    fn own_flow(rule: &PfRule, source: IpAddr, link: &Interface) -> Option<Self> {
        let destination = rule.to?.addr();
        let (Some(Protocol::Transport(transport)), Some(port)) = (rule.protocol, rule.to_port) else { return None };
        let payload = Payload::Ports { transport, source: 40_000, destination: port };
        let flow = Self { inward: false, link: name(link), payload, source, destination, socket: Some(User::Root) };
        (source.is_ipv4() == destination.is_ipv4()).then_some(flow)
    }

    const fn ports(&self) -> Option<(u16, u16)> {
        match self.payload {
            Payload::Ports { source, destination, .. } => Some((source, destination)),
            Payload::Icmp(_) | Payload::IcmpV6(_) | Payload::Other(_) => None,
        }
    }
}

/// The rule that lets the packet pass. Without any match the main ruleset would go on, and pass it.
fn pass<'r>(rules: &'r [PfRule], view: &View) -> Option<&'r PfRule> {
    let mut decided = None;
    for rule in rules.iter().filter(|rule| matches(rule, view)) {
        decided = Some(rule);
        if rule.quick {
            break;
        }
    }
    debug_assert!(decided.is_some(), "an anchor that does not decide");
    decided.filter(|rule| rule.action == PfAction::Pass)
}

fn matches(rule: &PfRule, view: &View) -> bool {
    let PfRule { inward, interface, family, protocol, from, from_port, to, to_port, socket, .. } = rule;
    let carries = match (protocol, view.payload) {
        (None, _) => true,
        (Some(Protocol::Transport(wanted)), Payload::Ports { transport, .. }) => *wanted == transport,
        (Some(Protocol::Icmp(wanted)), Payload::Icmp(kind)) | (Some(Protocol::IcmpV6(wanted)), Payload::IcmpV6(kind)) => {
            *wanted == kind
        }
        (Some(_), _) => false,
    };
    *inward == view.inward
        && interface.as_ref().is_none_or(|(name, on)| (*name == view.link) == *on)
        && family.is_none_or(|v4| v4 == view.source.is_ipv4())
        && carries
        && from.is_none_or(|net| net.contains(&view.source))
        && to.is_none_or(|net| net.contains(&view.destination))
        && from_port.is_none_or(|port| view.ports().is_some_and(|(source, _)| source == port))
        && to_port.is_none_or(|port| view.ports().is_some_and(|(_, destination)| destination == port))
        && socket.is_none_or(|wanted| match wanted {
            Socket::Root => view.socket == Some(User::Root),
            Socket::Local => view.socket.is_some(),
        })
}

fn name(link: &Interface) -> String {
    match link {
        Interface::Loopback => "lo0".to_owned(),
        Interface::Named(name) => name.to_string(),
    }
}
