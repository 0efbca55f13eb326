//! What the Windows filters do to one packet: the platform's arbitration, and connections that carry their answers.

use super::{Connection, ConnectionState, Packet, Path, Payload, answers_can_come_from};
use crate::firewall::compile::wfp::{Condition, Filter, Layer, Lifetime, Sublayer, Verdict};
use crate::firewall::ruleset::Interface;
use hamn_core::net::Transport;
use std::net::IpAddr;

/// True when the packet passes the filters of this lifetime.
#[must_use]
pub fn passes(filters: &[Filter], lifetime: Lifetime, packet: &Packet) -> bool {
    let asks = |layer: [Layer; 2], facts: &Facts<'_>| classify(filters, lifetime, layer, facts);
    let error = is_icmp_error(packet);
    match &packet.path {
        Path::Output { link } => asks([Layer::ConnectV4, Layer::ConnectV6], &Facts::sent(packet, link)),
        Path::Input { link } => {
            let arrived = Facts::received(packet, link);
            if !asks([Layer::ArriveV4, Layer::ArriveV6], &arrived) {
                return false;
            }
            match packet.connection.state {
                ConnectionState::Related if error => asks([Layer::ErrorV4, Layer::ErrorV6], &arrived),
                // Part of a connection that was authorised when it was opened, from here or from there.
                ConnectionState::Established if has_connections(packet.payload) => {
                    asks([Layer::AcceptV4, Layer::AcceptV6], &arrived)
                        || (answers_can_come_from(packet.source)
                            && asks([Layer::ConnectV4, Layer::ConnectV6], &Facts::opened(packet, link)))
                }
                ConnectionState::New | ConnectionState::Established | ConnectionState::Related => {
                    asks([Layer::AcceptV4, Layer::AcceptV6], &arrived)
                }
            }
        }
        Path::Forward { .. } => asks([Layer::ForwardV4, Layer::ForwardV6], &Facts::received(packet, &Interface::Loopback)),
    }
}

/// What a layer is shown.
struct Facts<'a> {
    link: &'a Interface,
    local: IpAddr,
    remote: IpAddr,
    payload: Payload,
    local_port: Option<u16>,
    remote_port: Option<u16>,
    own_process: bool,
    error_about_own: bool,
}

impl<'a> Facts<'a> {
    fn sent(packet: &Packet, link: &'a Interface) -> Self {
        let (source, destination) = ports(packet.payload);
        Self {
            link,
            local: packet.source,
            remote: packet.destination,
            payload: packet.payload,
            local_port: source,
            remote_port: destination,
            own_process: packet.own_mark,
            error_about_own: false,
        }
    }

    fn received(packet: &Packet, link: &'a Interface) -> Self {
        let (source, destination) = ports(packet.payload);
        let Connection { state, own } = packet.connection;
        Self {
            link,
            local: packet.destination,
            remote: packet.source,
            payload: packet.payload,
            local_port: destination,
            remote_port: source,
            own_process: false,
            error_about_own: own && state == ConnectionState::Related,
        }
    }

    /// The moment when this computer opened the connection that the packet answers.
    fn opened(packet: &Packet, link: &'a Interface) -> Self {
        Self { own_process: packet.connection.own, ..Self::received(packet, link) }
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::LocalInterface(name, equal) => (matches!(self.link, Interface::Named(link) if link == name)) == *equal,
            Condition::Loopback(set) => (*self.link == Interface::Loopback) == *set,
            Condition::LocalAddress(net) => net.contains(&self.local),
            Condition::RemoteAddress(net) => net.contains(&self.remote),
            Condition::Protocol(number) => protocol(self.payload) == *number,
            Condition::LocalPort(port) => self.local_port == Some(*port),
            Condition::RemotePort(port) => self.remote_port == Some(*port),
            Condition::IcmpType(kind) => matches!(self.payload, Payload::Icmp(k) | Payload::IcmpV6(k) if k == *kind),
            Condition::OwnProcess => self.own_process,
            // The packet model says whose flow an error is about, not which; every own flow has its filter.
            Condition::ErrorAbout(..) => self.error_about_own,
        }
    }
}

fn classify(filters: &[Filter], lifetime: Lifetime, layers: [Layer; 2], facts: &Facts<'_>) -> bool {
    let layer = if facts.local.is_ipv4() { layers[0] } else { layers[1] };
    let here = filters.iter().filter(|filter| filter.layer == layer && filter.lifetime == lifetime);
    let decided = Sublayer::ALL.map(|sublayer| {
        let matching = here.clone().filter(|filter| filter.sublayer == sublayer && matches(filter, facts));
        matching.max_by_key(|filter| filter.weight).map(|filter| filter.verdict)
    });
    !decided.contains(&Some(Verdict::Block))
}

/// Conditions on one field are alternatives; all fields must hold.
fn matches(filter: &Filter, facts: &Facts<'_>) -> bool {
    filter.conditions.iter().all(|condition| {
        let same_field = filter.conditions.iter().filter(|other| field(other) == field(condition));
        same_field.into_iter().any(|alternative| facts.holds(alternative))
    })
}

const fn field(condition: &Condition) -> u8 {
    match condition {
        Condition::LocalInterface(..) => 0,
        Condition::Loopback(_) => 1,
        Condition::LocalAddress(_) => 2,
        Condition::RemoteAddress(_) => 3,
        Condition::Protocol(_) => 4,
        Condition::LocalPort(_) | Condition::IcmpType(_) => 5,
        Condition::RemotePort(_) => 6,
        Condition::OwnProcess => 7,
        Condition::ErrorAbout(..) => 8,
    }
}

/// Of ICMP, only a question and its answer make a connection.
const fn has_connections(payload: Payload) -> bool {
    match payload {
        Payload::Icmp(kind) => matches!(kind, 0 | 8),
        Payload::IcmpV6(kind) => matches!(kind, 128 | 129),
        Payload::Ports { .. } | Payload::Other(_) => true,
    }
}

const fn is_icmp_error(packet: &Packet) -> bool {
    match packet.payload {
        Payload::Icmp(kind) => matches!(kind, 3 | 4 | 11 | 12),
        Payload::IcmpV6(kind) => kind < 128,
        Payload::Ports { .. } | Payload::Other(_) => false,
    }
}

const fn protocol(payload: Payload) -> u8 {
    match payload {
        Payload::Ports { transport: Transport::Tcp, .. } => 6,
        Payload::Ports { transport: Transport::Udp, .. } => 17,
        Payload::Icmp(_) => 1,
        Payload::IcmpV6(_) => 58,
        Payload::Other(number) => number,
    }
}

const fn ports(payload: Payload) -> (Option<u16>, Option<u16>) {
    match payload {
        Payload::Ports { source, destination, .. } => (Some(source), Some(destination)),
        Payload::Icmp(_) | Payload::IcmpV6(_) | Payload::Other(_) => (None, None),
    }
}
