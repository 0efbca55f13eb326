//! Between our rules and routes and the kernel's netlink messages.
#![expect(clippy::wildcard_enum_match_arm, reason = "the kernel's attributes are an open set; what is not named is not ours")]

use crate::routes::plan::{Family, PRIORITIES, PROTOCOL, Protocol, RouteKind, RouteSpec, RuleSpec, TABLE, Table};
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::IpProtocol;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange};
use std::net::IpAddr;

/// IANA's number of ICMPv6; the packet crate has no name for it.
const ICMPV6: i32 = 58;
/// The kernel's "do not suppress" in every dumped rule (`FRA_SUPPRESS_PREFIXLEN`, -1).
const NO_SUPPRESSION: u32 = u32::MAX;

pub fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

pub fn family(family: AddressFamily) -> Option<Family> {
    if family == AddressFamily::Inet {
        Some(Family::V4)
    } else if family == AddressFamily::Inet6 {
        Some(Family::V6)
    } else {
        None
    }
}

/// The message that adds or deletes this rule.
pub fn rule_message(rule: &RuleSpec) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(rule.family);
    message.header.action = RuleAction::ToTable;
    let table = match rule.table {
        Table::Main => u32::from(RouteHeader::RT_TABLE_MAIN),
        Table::Hamn => TABLE,
    };
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Table(table));
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    if let Some(mark) = rule.mark {
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.push(RuleAttribute::FwMask(u32::MAX));
    }
    if let Some(net) = rule.destination {
        message.header.dst_len = net.prefix_len();
        attributes.push(RuleAttribute::Destination(net.addr()));
    }
    if let Some(protocol) = rule.protocol {
        attributes.push(RuleAttribute::IpProtocol(match protocol {
            Protocol::Udp => IpProtocol::Udp,
            Protocol::Tcp => IpProtocol::Tcp,
            Protocol::Icmpv6 => IpProtocol::Other(ICMPV6),
        }));
    }
    if let Some(port) = rule.source_port {
        attributes.push(RuleAttribute::SourcePortRange(RulePortRange { start: port, end: port }));
    }
    if let Some(port) = rule.destination_port {
        attributes.push(RuleAttribute::DestinationPortRange(RulePortRange { start: port, end: port }));
    }
    message
}

/// True when the rule carries our protocol number and stands in our range.
pub fn is_our_rule(message: &RuleMessage) -> bool {
    let protocol = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
    message.attributes.contains(&protocol)
        && message.attributes.iter().any(|attribute| matches!(attribute, RuleAttribute::Priority(p) if PRIORITIES.contains(p)))
}

/// What a dumped rule of ours says; `None` when it says something that no plan of ours does.
pub fn parse_rule(message: &RuleMessage) -> Option<RuleSpec> {
    let header = &message.header;
    if header.action != RuleAction::ToTable || header.src_len != 0 || header.tos != 0 {
        return None;
    }
    if header.flags.contains(RuleFlags::Invert) {
        return None;
    }
    let mut rule = RuleSpec {
        family: family(header.family)?,
        priority: 0,
        mark: None,
        destination: None,
        protocol: None,
        source_port: None,
        destination_port: None,
        table: table(u32::from(header.table)).unwrap_or(Table::Main),
    };
    for attribute in &message.attributes {
        read_rule_attribute(&mut rule, header.dst_len, attribute)?;
    }
    Some(rule)
}

fn read_rule_attribute(rule: &mut RuleSpec, prefix_len: u8, attribute: &RuleAttribute) -> Option<()> {
    match attribute {
        RuleAttribute::Priority(priority) => rule.priority = *priority,
        RuleAttribute::Table(number) => rule.table = table(*number)?,
        RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
        RuleAttribute::FwMask(u32::MAX) | RuleAttribute::SuppressPrefixLen(NO_SUPPRESSION) => {}
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)) => {}
        RuleAttribute::Destination(address) => rule.destination = Some(IpNet::new(*address, prefix_len).ok()?),
        RuleAttribute::IpProtocol(IpProtocol::Udp) => rule.protocol = Some(Protocol::Udp),
        RuleAttribute::IpProtocol(IpProtocol::Tcp) => rule.protocol = Some(Protocol::Tcp),
        RuleAttribute::IpProtocol(IpProtocol::Other(ICMPV6)) => rule.protocol = Some(Protocol::Icmpv6),
        RuleAttribute::SourcePortRange(range) if range.start == range.end => rule.source_port = Some(range.start),
        RuleAttribute::DestinationPortRange(range) if range.start == range.end => rule.destination_port = Some(range.start),
        // Anything that narrows, widens or redirects the rule makes it another one.
        RuleAttribute::Source(_)
        | RuleAttribute::Iifname(_)
        | RuleAttribute::Oifname(_)
        | RuleAttribute::Goto(_)
        | RuleAttribute::FwMask(_)
        | RuleAttribute::SuppressPrefixLen(_)
        | RuleAttribute::SuppressIfGroup(_)
        | RuleAttribute::Protocol(_)
        | RuleAttribute::IpProtocol(_)
        | RuleAttribute::SourcePortRange(_)
        | RuleAttribute::DestinationPortRange(_)
        | RuleAttribute::Realm(_)
        | RuleAttribute::TunId(_)
        | RuleAttribute::L3MDev(_)
        | RuleAttribute::UidRange(_) => return None,
        // What newer kernels add (such as a zero DSCP or flow label) is not set by us.
        _ => {}
    }
    Some(())
}

fn table(number: u32) -> Option<Table> {
    if number == TABLE {
        Some(Table::Hamn)
    } else if number == u32::from(RouteHeader::RT_TABLE_MAIN) {
        Some(Table::Main)
    } else {
        None
    }
}

/// A route of our table with the interface that it uses in this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRoute {
    pub spec: RouteSpec,
    /// Index of the tunnel interface; `None` for unreachable routes, which the kernel puts on loopback for IPv6.
    pub interface: Option<u32>,
}

/// The message that adds or deletes this route.
pub fn route_message(route: &KernelRoute) -> RouteMessage {
    let net = route.spec.destination;
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(net.addr()));
    message.header.destination_prefix_length = net.prefix_len();
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    (message.header.kind, message.header.scope) = match route.spec.kind {
        RouteKind::Tunnel => (RouteType::Unicast, RouteScope::Link),
        RouteKind::Unreachable => (RouteType::Unreachable, RouteScope::Universe),
    };
    if net.addr().is_ipv6() {
        message.header.scope = RouteScope::Universe;
    }
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(TABLE));
    attributes.push(RouteAttribute::Priority(route.spec.metric));
    if net.prefix_len() != 0 {
        attributes.push(RouteAttribute::Destination(net.addr().into()));
    }
    if let Some(index) = route.interface {
        attributes.push(RouteAttribute::Oif(index));
    }
    message
}

/// What a dumped route of our table says; `None` when it says something that no plan of ours does.
pub fn parse_route(message: &RouteMessage) -> Option<KernelRoute> {
    let header = &message.header;
    if header.source_prefix_length != 0 || header.tos != 0 || header.protocol != RouteProtocol::Other(PROTOCOL) {
        return None;
    }
    let kind = if header.kind == RouteType::Unicast {
        RouteKind::Tunnel
    } else if header.kind == RouteType::Unreachable {
        RouteKind::Unreachable
    } else {
        return None;
    };
    let mut interface = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => return None,
            RouteAttribute::PrefSource(_) | RouteAttribute::Source(_) | RouteAttribute::Encap(_) => return None,
            _ => {}
        }
    }
    let spec = RouteSpec { destination: destination(message)?, kind, metric: metric(message) };
    let interface = if kind == RouteKind::Tunnel { Some(interface?) } else { None };
    Some(KernelRoute { spec, interface })
}

/// The destination prefix of any dumped route.
pub fn destination(message: &RouteMessage) -> Option<IpNet> {
    let family = family(message.header.address_family)?;
    let given = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => Some(ip(address)),
        _ => None,
    });
    let address = match given {
        Some(address) => address?,
        None => family.everything().addr(),
    };
    Some(IpNet::new(address, message.header.destination_prefix_length).ok()?.trunc())
}

/// The metric of any dumped route; the kernel leaves out zero.
pub fn metric(message: &RouteMessage) -> u32 {
    let given = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    given.unwrap_or(0)
}

/// The table of any dumped route.
pub fn table_number(message: &RouteMessage) -> u32 {
    let given = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(number) => Some(*number),
        _ => None,
    });
    given.unwrap_or_else(|| u32::from(message.header.table))
}

/// The address of an attribute, when it is one.
pub const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::RoutePlan;
    use hamn_core::policy::{Enforced, NetworkPolicy};

    #[test]
    fn what_is_sent_is_what_is_read() {
        let lan = vec!["192.168.1.0/24".parse().unwrap(), "fe80::/64".parse().unwrap()];
        let plan = RoutePlan::for_policy(&NetworkPolicy::Enforce(Enforced { lan, ..Enforced::default() }));
        assert!(plan.rules.len() > 10);
        for rule in &plan.rules {
            let message = rule_message(rule);
            assert!(is_our_rule(&message));
            assert_eq!(parse_rule(&message), Some(*rule));
        }
        for spec in plan.routes {
            let route = KernelRoute { spec, interface: None };
            assert_eq!(parse_route(&route_message(&route)), Some(route));
        }
    }

    #[test]
    fn a_rule_that_was_narrowed_is_not_taken_for_ours() {
        let plan = RoutePlan::for_policy(&NetworkPolicy::Enforce(Enforced::default()));
        for extra in [RuleAttribute::Iifname("eth0".to_owned()), RuleAttribute::FwMask(1), RuleAttribute::SuppressPrefixLen(0)] {
            let mut message = rule_message(&plan.rules[0]);
            message.attributes.push(extra);
            assert_eq!(parse_rule(&message), None);
        }
        let mut inverted = rule_message(&plan.rules[0]);
        inverted.header.flags = RuleFlags::Invert;
        assert_eq!(parse_rule(&inverted), None);
    }
}
