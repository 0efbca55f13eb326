//! From links, addresses and routes to `HostFacts`, the outer path, and routes that mean harm. Pure.

use hamn_core::event::HostFacts;
use hamn_core::net::private_ranges;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Set up and with a carrier.
    pub up: bool,
    /// The loopback interface.
    pub loopback: bool,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// Index of its interface.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// The prefix that it makes directly reachable.
    pub attached: IpNet,
    /// It may be used: duplicate address detection has passed.
    pub usable: bool,
}

/// One next hop of a route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// Destination prefix.
    pub destination: IpNet,
    /// Index of the interface.
    pub interface: u32,
    /// The router, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Lower wins.
    pub metric: u32,
    /// Made by the kernel for an address.
    pub from_address: bool,
}

/// Everything that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HostView {
    /// All links.
    pub links: Vec<LinkView>,
    /// All addresses.
    pub addresses: Vec<AddressView>,
    /// Unicast routes of the main table.
    pub routes: Vec<RouteView>,
}

/// What the outer path depends on; two that differ mean that packets may leave another way.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OuterPath {
    defaults: BTreeSet<(u32, bool, Option<IpAddr>, u32)>,
    addresses: BTreeSet<(u32, IpAddr)>,
}

/// Not the Internet: loopback, shared address space (RFC 6598), multicast and up. With `private_ranges`.
const NOT_PUBLIC: [IpNet; 4] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];

impl HostView {
    /// The facts that decisions depend on. Physical is every link but loopback and the tunnel.
    #[must_use]
    pub fn facts(&self, tunnel: &str) -> HostFacts {
        let physical = self.physical(tunnel);
        let mut attached: Vec<IpNet> = self
            .addresses
            .iter()
            .filter(|address| physical.contains(&address.interface))
            .filter(|address| address.attached.prefix_len() < address.attached.max_prefix_len() || !is_own(address))
            .map(|address| address.attached.trunc())
            .collect();
        attached.sort();
        attached.dedup();
        let defaults: Vec<&RouteView> = self.defaults(&physical).collect();
        HostFacts {
            online: self
                .addresses
                .iter()
                .any(|address| physical.contains(&address.interface) && address.usable && !is_link_local(address.address)),
            attached,
            ipv4: defaults.iter().any(|route| route.destination.addr().is_ipv4()),
            ipv6: defaults.iter().any(|route| route.destination.addr().is_ipv6()),
        }
    }

    /// The outer path. Addresses count where a default route is: a container that starts changes no path.
    #[must_use]
    pub fn outer_path(&self, tunnel: &str) -> OuterPath {
        let physical = self.physical(tunnel);
        let defaults: BTreeSet<_> = self
            .defaults(&physical)
            .map(|route| (route.interface, route.destination.addr().is_ipv4(), route.gateway, route.metric))
            .collect();
        let leads_out = |interface: u32| {
            if defaults.is_empty() { physical.contains(&interface) } else { defaults.iter().any(|route| route.0 == interface) }
        };
        let addresses = self
            .addresses
            .iter()
            .filter(|address| leads_out(address.interface) && address.usable && !is_link_local(address.address))
            .map(|address| (address.interface, address.address))
            .collect();
        OuterPath { defaults, addresses }
    }

    /// Routes that would take public addresses out of a tunnel that is one default route among others: DHCP option 121,
    /// route information of a router advertisement, `0.0.0.0/1`. Prefixes that an address brings are not among them.
    #[must_use]
    pub fn interfering(&self, tunnel: &str) -> BTreeSet<String> {
        let physical = self.physical(tunnel);
        let gateways: BTreeSet<IpAddr> = self.routes.iter().filter_map(|route| route.gateway).collect();
        let harmful = self.routes.iter().filter(|route| {
            let net = route.destination;
            // The way to a router outside the attached prefixes, as some hosting networks have it.
            let to_router = net.prefix_len() == net.max_prefix_len() && gateways.contains(&net.addr());
            physical.contains(&route.interface) && net.prefix_len() > 0 && !route.from_address && !to_router && is_public(&net)
        });
        harmful.take(64).map(|route| self.describe(route)).collect()
    }

    /// The default route that a packet of this family takes outside the tunnel.
    #[must_use]
    pub fn outer_route(&self, tunnel: &str, ipv4: bool) -> Option<&RouteView> {
        let physical = self.physical(tunnel);
        let defaults = self.routes.iter().filter(|route| route.destination.prefix_len() == 0);
        let usable = defaults.filter(|route| physical.contains(&route.interface) && route.destination.addr().is_ipv4() == ipv4);
        usable.min_by_key(|route| (route.metric, route.interface))
    }

    /// The link that a packet of this family leaves by outside the tunnel: the tunnel's own sockets are bound to it where the
    /// system has no marks.
    #[must_use]
    pub fn outer_interface(&self, tunnel: &str, ipv4: bool) -> Option<&LinkView> {
        let index = self.outer_route(tunnel, ipv4)?.interface;
        self.links.iter().find(|link| link.index == index)
    }

    /// Index of the link that a packet to this address leaves by outside the tunnel: the longest prefix, then the lowest metric.
    #[must_use]
    pub fn outer_interface_to(&self, tunnel: &str, to: IpAddr) -> Option<u32> {
        let physical = self.physical(tunnel);
        let leads = |route: &&RouteView| physical.contains(&route.interface) && route.destination.contains(&to);
        let best = |route: &&RouteView| (std::cmp::Reverse(route.destination.prefix_len()), route.metric, route.interface);
        self.routes.iter().filter(leads).min_by_key(best).map(|route| route.interface)
    }

    /// The address is one of a network that a link which is up is attached to.
    #[must_use]
    pub fn is_attached(&self, address: IpAddr) -> bool {
        let up = |index: u32| self.links.iter().any(|link| link.index == index && link.up);
        let mut networks = self.addresses.iter().filter(|held| held.attached.prefix_len() < held.attached.max_prefix_len());
        networks.any(|held| held.attached.contains(&address) && up(held.interface))
    }

    fn physical(&self, tunnel: &str) -> BTreeSet<u32> {
        self.links.iter().filter(|link| link.up && !link.loopback && link.name != tunnel).map(|link| link.index).collect()
    }

    fn defaults<'a>(&'a self, physical: &'a BTreeSet<u32>) -> impl Iterator<Item = &'a RouteView> {
        self.routes.iter().filter(|route| route.destination.prefix_len() == 0 && physical.contains(&route.interface))
    }

    fn describe(&self, route: &RouteView) -> String {
        let name = self.links.iter().find(|link| link.index == route.interface).map_or("?", |link| link.name.as_str());
        match route.gateway {
            Some(gateway) => format!("{} via {gateway} on {name}", route.destination),
            None => format!("{} on {name}", route.destination),
        }
    }
}

/// An address without a network of its own and without a peer.
fn is_own(address: &AddressView) -> bool {
    address.attached.addr() == address.address
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// True unless all of it lies inside ranges that are not the Internet.
fn is_public(net: &IpNet) -> bool {
    !private_ranges().iter().chain(&NOT_PUBLIC).any(|range| range.contains(net))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> HostView {
        let link = |index, name: &str, up, loopback| LinkView { index, name: name.to_owned(), up, loopback };
        let address = |interface, net: &str| {
            let attached: IpNet = net.parse().unwrap();
            AddressView { interface, address: attached.addr(), attached, usable: true }
        };
        HostView {
            links: vec![
                link(1, "lo", true, true),
                link(2, "eth0", true, false),
                link(3, "wlan0", false, false),
                link(9, "hamn0", true, false),
            ],
            addresses: vec![
                address(1, "127.0.0.1/8"),
                address(2, "192.168.1.5/24"),
                address(2, "fe80::5/64"),
                address(3, "10.9.0.5/16"),
                address(9, "10.64.0.2/32"),
            ],
            routes: vec![route("0.0.0.0/0", 2, Some("192.168.1.1")), route("0.0.0.0/0", 9, None)],
        }
    }

    fn route(net: &str, interface: u32, gateway: Option<&str>) -> RouteView {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        RouteView { destination: net.parse().unwrap(), interface, gateway, metric: 100, from_address: false }
    }

    #[test]
    fn facts_are_those_of_physical_links_that_are_up() {
        let facts = view().facts("hamn0");
        let attached: Vec<IpNet> = vec!["192.168.1.0/24".parse().unwrap(), "fe80::/64".parse().unwrap()];
        assert_eq!(facts, HostFacts { online: true, attached, ipv4: true, ipv6: false });
        let mut down = view();
        down.links[1].up = false;
        assert_eq!(down.facts("hamn0"), HostFacts::default());
        let mut only_link_local = view();
        only_link_local.addresses.remove(1);
        assert!(!only_link_local.facts("hamn0").online);
    }

    #[test]
    fn the_path_changes_with_routes_and_addresses_but_not_with_the_tunnel_or_a_container() {
        let before = view().outer_path("hamn0");
        let differs = |change: &dyn Fn(&mut HostView)| {
            let mut changed = view();
            change(&mut changed);
            changed.outer_path("hamn0") != before
        };
        assert!(differs(&|view| view.routes[0].metric = 50));
        assert!(differs(&|view| view.routes[0].gateway = Some("192.168.1.2".parse().unwrap())));
        assert!(differs(&|view| view.addresses[1].address = "192.168.1.6".parse().unwrap()));
        assert!(differs(&|view| view.links[1].up = false));
        assert!(!differs(&|view| view.routes.truncate(1)));
        assert!(!differs(&|view| {
            view.links.push(LinkView { index: 20, name: "docker0".to_owned(), up: true, loopback: false });
            let attached: IpNet = "172.17.0.1/16".parse().unwrap();
            view.addresses.push(AddressView { interface: 20, address: attached.addr(), attached, usable: true });
        }));
    }

    #[test]
    fn the_outer_link_is_that_of_the_best_default_route_outside_the_tunnel() {
        let mut view = view();
        let name = |view: &HostView, ipv4| view.outer_interface("hamn0", ipv4).map(|link| link.name.clone());
        assert_eq!(name(&view, true).as_deref(), Some("eth0"));
        assert_eq!(name(&view, false), None);
        view.links[2].up = true;
        view.routes.push(RouteView { metric: 50, ..route("0.0.0.0/0", 3, None) });
        assert_eq!(name(&view, true).as_deref(), Some("wlan0"));
        assert!(view.is_attached("192.168.1.77".parse().unwrap()));
        assert!(!view.is_attached("192.168.2.77".parse().unwrap()) && !view.is_attached("10.64.0.2".parse().unwrap()));
    }

    #[test]
    fn the_way_to_a_gateway_leads_by_the_longest_prefix_outside_the_tunnel() {
        let mut host = view();
        host.links.push(LinkView { index: 3, name: "wlan0".to_owned(), up: true, loopback: false });
        host.routes = vec![route("0.0.0.0/0", 9, None), route("0.0.0.0/1", 9, None), route("0.0.0.0/0", 3, Some("10.0.0.1"))];
        let to = |host: &HostView, text: &str| host.outer_interface_to("hamn0", text.parse().unwrap());
        assert_eq!(to(&host, "192.0.2.1"), Some(3));
        host.routes.push(RouteView { metric: 50, ..route("0.0.0.0/0", 2, Some("192.168.1.1")) });
        assert_eq!(to(&host, "192.0.2.1"), Some(2), "the lower metric");
        host.routes.push(route("192.0.2.0/24", 3, None));
        assert_eq!(to(&host, "192.0.2.1"), Some(3), "the longer prefix");
        assert_eq!(to(&host, "2001:db8::1"), None);
        host.links.iter_mut().for_each(|link| link.up = false);
        assert_eq!(to(&host, "192.0.2.1"), None);
    }

    #[test]
    fn hostile_routes_are_named_and_ordinary_ones_are_not() {
        let interferes = |added: RouteView| {
            let mut view = view();
            view.routes.push(added);
            view.interfering("hamn0").into_iter().next()
        };
        assert_eq!(
            interferes(route("0.0.0.0/1", 2, Some("192.168.1.66"))).as_deref(),
            Some("0.0.0.0/1 via 192.168.1.66 on eth0")
        );
        for hostile in ["128.0.0.0/1", "203.0.113.7/32", "10.0.0.0/7", "2000::/3"] {
            assert!(interferes(route(hostile, 2, None)).is_some(), "{hostile}");
        }
        for ordinary in ["10.1.0.0/16", "192.168.0.0/16", "100.64.0.0/10", "224.0.0.0/4", "fd00::/8", "192.168.1.1/32"] {
            assert_eq!(interferes(route(ordinary, 2, None)), None, "{ordinary}");
        }
        assert_eq!(interferes(route("203.0.113.0/24", 9, None)), None, "into the tunnel");
        assert_eq!(interferes(RouteView { from_address: true, ..route("203.0.113.0/24", 2, None) }), None, "attached");
        let mut hosting = view();
        hosting.routes = vec![route("0.0.0.0/0", 2, Some("203.0.113.1")), route("203.0.113.1/32", 2, None)];
        assert!(hosting.interfering("hamn0").is_empty(), "the way to the router itself");
    }
}
