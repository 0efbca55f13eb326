//! From one look at the host after another to the events that they mean. Pure.

use super::facts::{HostView, OuterPath};
use hamn_core::event::{HostEvent, HostFacts};
use hamn_core::net::{InterfaceName, TUNNEL_INTERFACE};
use hamn_core::policy::{NetworkPolicy, TunnelTraffic};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Known hostile routes that are remembered, so that each is reported once.
const REPORTED_LIMIT: usize = 256;

/// The tunnel as the policy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelUse {
    /// Its interface.
    pub interface: InterfaceName,
    /// All traffic is meant to use it.
    pub required: bool,
}

impl TunnelUse {
    /// The tunnel of a policy, if it has one.
    #[must_use]
    pub fn of(policy: &NetworkPolicy) -> Option<Self> {
        let NetworkPolicy::Enforce(enforced) = policy else { return None };
        let tunnel = enforced.tunnel.as_ref()?;
        let required = matches!(tunnel.traffic, TunnelTraffic::Everything { .. });
        Some(Self { interface: tunnel.interface.clone(), required })
    }
}

/// Remembers what was seen last.
#[derive(Debug)]
pub struct HostReporter {
    tunnel: Option<TunnelUse>,
    /// Index of its interface while it is up.
    index: Option<u32>,
    /// Addresses of that interface.
    inside: BTreeSet<IpAddr>,
    facts: HostFacts,
    path: OuterPath,
    reported: BTreeSet<String>,
}

impl HostReporter {
    /// Begins with this look; the second value is the first event.
    #[must_use]
    pub fn new(view: &HostView) -> (Self, HostEvent) {
        let facts = view.facts(TUNNEL_INTERFACE);
        let event = HostEvent::Facts { facts: facts.clone(), path_changed: false };
        let path = view.outer_path(TUNNEL_INTERFACE);
        let (inside, reported) = (BTreeSet::new(), BTreeSet::new());
        (Self { tunnel: None, index: None, inside, facts, path, reported }, event)
    }

    /// The policy changed. What its tunnel looks like is learned from `view`, so that its absence so far is no loss.
    pub fn use_tunnel(&mut self, tunnel: Option<TunnelUse>, view: &HostView) {
        self.tunnel = tunnel;
        (self.index, self.inside) = self.tunnel_in(view);
    }

    /// The facts in this moment.
    #[must_use]
    pub const fn facts(&self) -> &HostFacts {
        &self.facts
    }

    /// What is new.
    pub fn look(&mut self, view: &HostView) -> Vec<HostEvent> {
        let mut events = Vec::new();
        self.look_at_tunnel(view, &mut events);
        let name = self.tunnel.as_ref().map_or(TUNNEL_INTERFACE, |tunnel| tunnel.interface.as_str());
        let (facts, path) = (view.facts(name), view.outer_path(name));
        let path_changed = facts.online && path != self.path;
        let harmful = if self.tunnel.is_some() { view.interfering(name) } else { BTreeSet::new() };
        self.path = path;
        if path_changed || self.facts != facts {
            self.facts = facts.clone();
            events.push(HostEvent::Facts { facts, path_changed });
        }
        let new = harmful.difference(&self.reported).map(|what| HostEvent::NetworkInterferes { what: what.clone() });
        events.extend(new);
        self.reported = harmful.into_iter().take(REPORTED_LIMIT).collect();
        events
    }

    /// The interface went away, is another one, is down, or lost an address: nothing can be sent into the tunnel any more.
    /// Told only while all traffic uses it: before that the tunnel itself notices.
    fn look_at_tunnel(&mut self, view: &HostView, events: &mut Vec<HostEvent>) {
        let (index, inside) = self.tunnel_in(view);
        let required = self.tunnel.as_ref().is_some_and(|tunnel| tunnel.required);
        let lost = self.index.is_some() && (index != self.index || !self.inside.is_subset(&inside));
        if required && lost {
            events.push(HostEvent::TunnelInterfaceLost);
        }
        (self.index, self.inside) = (index, inside);
    }

    fn tunnel_in(&self, view: &HostView) -> (Option<u32>, BTreeSet<IpAddr>) {
        let name = self.tunnel.as_ref().map(|tunnel| tunnel.interface.as_str());
        let Some(link) = view.links.iter().find(|link| link.up && Some(link.name.as_str()) == name) else {
            return (None, BTreeSet::new());
        };
        let held = view.addresses.iter().filter(|held| held.interface == link.index);
        (Some(link.index), held.map(|held| held.address).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fixtures::{everything, through, tunnel, verify_only};
    use crate::monitor::facts::{AddressView, LinkView, RouteView};

    /// A computer with a router and the tunnel's interface.
    pub(crate) fn host() -> HostView {
        let link = |index, name: &str| LinkView { index, name: name.to_owned(), up: true, loopback: false };
        let address = |interface, text: &str| {
            let attached: ipnet::IpNet = text.parse().unwrap();
            AddressView { interface, address: attached.addr(), attached, usable: true }
        };
        let default = RouteView {
            destination: "0.0.0.0/0".parse().unwrap(),
            interface: 4,
            gateway: Some("192.168.1.1".parse().unwrap()),
            metric: 25,
            from_address: false,
        };
        HostView {
            links: vec![link(4, "Ethernet"), link(9, TUNNEL_INTERFACE)],
            addresses: vec![address(4, "192.168.1.5/24"), address(9, "10.64.0.2/32")],
            routes: vec![default],
        }
    }

    fn connected(required: bool) -> (HostReporter, HostView) {
        let view = host();
        let (mut reporter, first) = HostReporter::new(&view);
        assert!(matches!(first, HostEvent::Facts { facts, path_changed: false } if facts.online && facts.ipv4));
        reporter.use_tunnel(Some(TunnelUse { interface: InterfaceName::tunnel(), required }), &view);
        assert_eq!(reporter.look(&view), Vec::new());
        (reporter, view)
    }

    #[test]
    fn the_tunnel_in_use_is_that_of_the_policy() {
        let uses = |traffic| TunnelUse::of(&through(tunnel(&["10.64.0.2/32"], traffic)));
        let interface = InterfaceName::tunnel;
        assert_eq!(uses(everything(&["0.0.0.0/0"])), Some(TunnelUse { interface: interface(), required: true }));
        assert_eq!(uses(verify_only(&["10.64.0.1"])), Some(TunnelUse { interface: interface(), required: false }));
        assert_eq!(TunnelUse::of(&NetworkPolicy::Open), None);
    }

    #[test]
    fn a_lost_tunnel_is_told_once_and_only_while_all_traffic_uses_it() {
        type Change = fn(&mut HostView);
        let changes: [Change; 4] = [
            |view| view.links.truncate(1),
            |view| view.links[1].up = false,
            |view| view.addresses.truncate(1),
            |view| {
                view.links[1].index = 11;
                view.addresses[1].interface = 11;
            },
        ];
        for change in changes {
            let (mut reporter, mut view) = connected(true);
            change(&mut view);
            assert_eq!(reporter.look(&view), [HostEvent::TunnelInterfaceLost]);
            assert_eq!(reporter.look(&view), Vec::new());
            let (mut reporter, mut view) = connected(false);
            change(&mut view);
            assert_eq!(reporter.look(&view), Vec::new());
        }
    }

    #[test]
    fn another_router_is_another_path_and_a_hostile_route_is_named_once() {
        let (mut reporter, mut view) = connected(true);
        view.routes[0].gateway = Some("192.168.1.9".parse().unwrap());
        assert!(matches!(reporter.look(&view)[..], [HostEvent::Facts { path_changed: true, .. }]));
        view.routes.push(RouteView { destination: "203.0.113.0/24".parse().unwrap(), ..view.routes[0].clone() });
        assert!(matches!(&reporter.look(&view)[..], [HostEvent::NetworkInterferes { what }] if what.contains("203.0.113.0/24")));
        assert_eq!(reporter.look(&view), Vec::new());
        view.links[0].up = false;
        assert!(matches!(&reporter.look(&view)[..], [HostEvent::Facts { facts, path_changed: false }] if !facts.online));
    }
}
