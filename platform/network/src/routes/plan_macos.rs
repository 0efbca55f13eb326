//! Which routes make a policy true on macOS, and which changes of the table lead there. Pure.
//!
//! macOS has one table and no rules that choose among tables. So a fence of two halves refuses everything that has no
//! route of its own, the tunnel's routes are quarters and smaller, and only the way to the gateway and the API leads
//! around. The system's own default routes and those of attached networks stay as they are. A more specific route that
//! somebody else adds wins over ours: then the firewall drops what follows it (G10).

use super::route_message::{KernelRoute, TableRoute, Via};
use crate::monitor::facts::HostView;
use hamn_core::net::InterfaceName;
use hamn_core::policy::{Enforced, NetworkPolicy, TunnelAccess, TunnelTraffic};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The fence: all addresses in halves, so that it wins over every default route and loses against the tunnel's quarters.
const FENCE: [IpNet; 4] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 1)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(128, 0, 0, 0), 1)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 1)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0), 1)),
];
/// Prefixes into the tunnel are at least this long.
const QUARTER: u8 = 2;

/// What the table has to hold. The default is that of an open policy: nothing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MacRoutePlan {
    /// Everything without a route of its own is refused.
    pub fence: bool,
    /// Addresses outside the tunnel that have no other way: the gateway's and the API's.
    pub outside: BTreeSet<IpAddr>,
    /// The interface of the routes into the tunnel.
    pub tunnel: Option<InterfaceName>,
    /// What leads into it.
    pub inside: BTreeSet<IpNet>,
    /// True when applying fails if that interface is not there or not up.
    pub tunnel_required: bool,
}

impl MacRoutePlan {
    /// The plan for a policy.
    #[must_use]
    pub fn for_policy(policy: &NetworkPolicy) -> Self {
        match policy {
            NetworkPolicy::Open => Self::default(),
            NetworkPolicy::Enforce(enforced) => Self::enforce(enforced),
        }
    }

    fn enforce(policy: &Enforced) -> Self {
        let tunnel = policy.tunnel.as_ref();
        Self {
            fence: true,
            outside: policy.endpoints.iter().chain(&policy.api).map(|endpoint| endpoint.address.ip()).collect(),
            tunnel: tunnel.map(|tunnel| tunnel.interface.clone()),
            inside: tunnel.map(inside).unwrap_or_default(),
            tunnel_required: tunnel.is_some_and(|tunnel| matches!(tunnel.traffic, TunnelTraffic::Everything { .. })),
        }
    }

    /// The routes for the host as it is. While the tunnel interface is not up its routes are left out; an address that is
    /// attached, or for which the host has no router, needs none.
    #[must_use]
    pub fn routes(&self, view: &HostView, tunnel: &str) -> BTreeSet<KernelRoute> {
        let mut routes = BTreeSet::new();
        if self.fence {
            routes.extend(FENCE.map(|destination| KernelRoute { destination, via: Via::Reject }));
        }
        let index = self.tunnel_index(view);
        routes.extend(index.iter().flat_map(|index| {
            self.inside.iter().map(|destination| KernelRoute { destination: *destination, via: Via::Link(*index) })
        }));
        for address in self.outside.iter().filter(|address| !view.is_attached(**address)) {
            let default = view.outer_route(tunnel, address.is_ipv4());
            let link = default.and_then(|route| u16::try_from(route.interface).ok());
            if let (Some(default), Some(link)) = (default, link) {
                let via = default.gateway.map_or(Via::Link(link), |router| Via::Router(router, link));
                routes.insert(KernelRoute { destination: IpNet::from(*address), via });
            }
        }
        routes
    }

    /// The index of the tunnel interface while it is up.
    #[must_use]
    pub fn tunnel_index(&self, view: &HostView) -> Option<u16> {
        let name = self.tunnel.as_ref()?;
        let link = view.links.iter().find(|link| link.name == name.as_str() && link.up)?;
        u16::try_from(link.index).ok()
    }

    /// One line for each part, for people and snapshots.
    #[must_use]
    pub fn describe(&self) -> String {
        let tunnel = self.tunnel.as_ref().map_or("tunnel", InterfaceName::as_str);
        let fence = FENCE.iter().filter(|_| self.fence).map(|net| format!("route {net} reject\n"));
        let inside = self.inside.iter().map(|net| format!("route {net} dev {tunnel}\n"));
        let outside = self.outside.iter().map(|address| format!("route {} via the default router\n", IpNet::from(*address)));
        fence.chain(inside).chain(outside).collect()
    }
}

/// Only of families in which the tunnel has an address: without one nothing can be sent into it.
fn inside(tunnel: &TunnelAccess) -> BTreeSet<IpNet> {
    let destinations: Vec<IpNet> = match &tunnel.traffic {
        TunnelTraffic::VerifyOnly { peers } => peers.iter().copied().map(IpNet::from).collect(),
        TunnelTraffic::Everything { carries } => carries.iter().map(IpNet::trunc).collect(),
    };
    let has = |v4: bool| tunnel.addresses.iter().any(|net| net.addr().is_ipv4() == v4);
    destinations.into_iter().filter(|net| has(net.addr().is_ipv4())).flat_map(quarters).collect()
}

/// All, halves and quarters become quarters.
fn quarters(net: IpNet) -> Vec<IpNet> {
    if net.prefix_len() >= QUARTER {
        return vec![net];
    }
    match net {
        IpNet::V4(v4) => v4.subnets(QUARTER).map(|nets| nets.map(IpNet::V4).collect()),
        IpNet::V6(v6) => v6.subnets(QUARTER).map(|nets| nets.map(IpNet::V6).collect()),
    }
    .unwrap_or_default()
}

/// How a table differs from what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouteDifference {
    /// Ours that are not wanted, or lead elsewhere: removed.
    pub unwanted: Vec<KernelRoute>,
    /// Routes of others in the very place of one of ours: removed too.
    pub in_the_way: Vec<KernelRoute>,
    /// Added.
    pub missing: Vec<KernelRoute>,
}

impl RouteDifference {
    /// Compares. Routes that are bound to an interface, or were made from others, are of no interest.
    #[must_use]
    pub fn between(wanted: &BTreeSet<KernelRoute>, table: &[TableRoute]) -> Self {
        let mut difference = Self::default();
        let mut missing = wanted.clone();
        for held in table.iter().filter(|held| !held.is_derived() && !held.is_scoped()) {
            let in_place = wanted.iter().any(|route| route.destination == held.route.destination);
            match (held.is_ours(), in_place) {
                (true, _) if missing.remove(&held.route) => {}
                (true, _) => difference.unwanted.push(held.route),
                (false, true) => difference.in_the_way.push(held.route),
                (false, false) => {}
            }
        }
        // The fence first: then nothing is open on the way.
        difference.missing = missing.into_iter().collect();
        difference.missing.sort_by_key(|route| route.via != Via::Reject);
        difference
    }

    /// True when the table holds what is wanted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.unwanted.is_empty() && self.in_the_way.is_empty() && self.missing.is_empty()
    }

    /// True when no route of the fence and none of another program is concerned: routes follow a link that came or went.
    #[must_use]
    pub fn only_follows_links(&self) -> bool {
        self.in_the_way.is_empty() && self.missing.iter().chain(&self.unwanted).all(|route| route.via != Via::Reject)
    }

    /// Short text for people, at most a few items.
    #[must_use]
    pub fn describe(&self) -> String {
        let say = |what: &'static str, routes: &[KernelRoute]| {
            routes.iter().map(|route| format!("{what} {}", route.destination)).collect::<Vec<_>>()
        };
        let all = [say("missing", &self.missing), say("unwanted", &self.unwanted), say("in the way", &self.in_the_way)].concat();
        let shown = all.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
        if all.len() > 3 { format!("{shown}; {} more", all.len() - 3) } else { shown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{everything, tunnel};
    use crate::monitor::facts::{AddressView, LinkView, RouteView};
    use crate::routes::route_message::{OUR_FLAGS, RTF_GATEWAY, RTF_IFSCOPE, RTF_UP, RTF_WASCLONED};
    use hamn_core::net::Endpoint;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn view() -> HostView {
        let attached = net("192.168.1.5/24");
        HostView {
            links: vec![
                LinkView { index: 4, name: "en0".to_owned(), up: true, loopback: false },
                LinkView { index: 12, name: "utun6861".to_owned(), up: true, loopback: false },
            ],
            addresses: vec![AddressView { interface: 4, address: attached.addr(), attached, usable: true }],
            routes: vec![RouteView {
                destination: net("0.0.0.0/0"),
                interface: 4,
                gateway: Some("192.168.1.1".parse().unwrap()),
                metric: 0,
                from_address: false,
            }],
        }
    }

    fn plan() -> MacRoutePlan {
        let tunnel = TunnelAccess {
            interface: "utun6861".to_owned().try_into().unwrap(),
            ..tunnel(&["10.64.0.2/32"], everything(&["0.0.0.0/0", "::/0", "10.9.0.0/16"]))
        };
        let endpoints = ["192.0.2.1:51820", "192.168.1.77:51820"].map(|text| Endpoint::udp(text.parse().unwrap()));
        MacRoutePlan::enforce(&Enforced { endpoints: endpoints.to_vec(), tunnel: Some(tunnel), ..Enforced::default() })
    }

    fn table(routes: &BTreeSet<KernelRoute>) -> Vec<TableRoute> {
        routes.iter().map(|route| TableRoute { route: *route, flags: RTF_UP | OUR_FLAGS }).collect()
    }

    #[test]
    fn a_tunnel_is_quarters_inside_a_fence_and_its_gateway_leads_around() {
        insta::assert_snapshot!(plan().describe());
        let routes = plan().routes(&view(), "utun6861");
        let via = |destination: &str| routes.iter().find(|route| route.destination == net(destination)).map(|route| route.via);
        assert_eq!(via("64.0.0.0/2"), Some(Via::Link(12)));
        assert_eq!(via("0.0.0.0/1"), Some(Via::Reject));
        assert_eq!(via("192.0.2.1/32"), Some(Via::Router("192.168.1.1".parse().unwrap(), 4)));
        assert_eq!(via("192.168.1.77/32"), None, "attached");
        assert_eq!(via("::/2"), None, "a tunnel without an IPv6 address");
        assert_eq!(routes.len(), 4 + 5 + 1);
    }

    #[test]
    fn without_its_interface_the_fence_stays() {
        let mut gone = view();
        gone.links[1].up = false;
        let routes = plan().routes(&gone, "utun6861");
        assert_eq!(routes.iter().filter(|route| route.via == Via::Reject).count(), 4);
        assert!(!routes.iter().any(|route| matches!(route.via, Via::Link(_))));
    }

    #[test]
    fn another_router_changes_only_the_way_to_the_gateway() {
        let held = table(&plan().routes(&view(), "utun6861"));
        let mut roamed = view();
        roamed.routes[0].gateway = Some("192.168.1.254".parse().unwrap());
        let difference = RouteDifference::between(&plan().routes(&roamed, "utun6861"), &held);
        assert_eq!((difference.missing.len(), difference.unwanted.len()), (1, 1));
        assert!(difference.only_follows_links());
        assert_eq!(difference.missing[0].destination, net("192.0.2.1/32"));
    }

    #[test]
    fn what_is_not_ours_stays_unless_it_is_in_the_way() {
        let wanted = plan().routes(&view(), "utun6861");
        let foreign = |destination: &str, flags: u32| TableRoute {
            route: KernelRoute { destination: net(destination), via: Via::Link(9) },
            flags: RTF_UP | flags,
        };
        let mut held = table(&wanted);
        assert!(RouteDifference::between(&wanted, &held).is_empty());
        held.push(foreign("0.0.0.0/0", RTF_GATEWAY));
        held.push(foreign("203.0.113.0/24", 0));
        held.push(foreign("64.0.0.0/2", RTF_IFSCOPE));
        held.push(foreign("64.0.0.1/32", OUR_FLAGS | RTF_WASCLONED));
        assert!(RouteDifference::between(&wanted, &held).is_empty());
        held.push(foreign("128.0.0.0/1", RTF_GATEWAY));
        let difference = RouteDifference::between(&wanted, &held);
        assert_eq!(difference.in_the_way.len(), 1);
        assert!(!difference.only_follows_links());
        let none = RouteDifference::between(&BTreeSet::new(), &held);
        assert_eq!((none.unwanted.len(), none.missing.len(), none.in_the_way.len()), (wanted.len(), 0, 0), "an open policy");
    }

    #[test]
    fn the_fence_is_added_first() {
        let difference = RouteDifference::between(&plan().routes(&view(), "utun6861"), &[]);
        assert!(difference.missing.iter().take(4).all(|route| route.via == Via::Reject));
        assert!(difference.describe().ends_with("7 more"), "{}", difference.describe());
    }
}
