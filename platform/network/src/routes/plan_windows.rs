//! Windows: which routes and interface settings make a plan true. Pure.
//!
//! Windows has one routing table, no marks and no rules. Everything is sent into the tunnel by a default route on its
//! interface and by the two halves of it, which win over any other default route whatever its metric is. Our own sockets
//! leave that table alone: they are bound to the physical interface by `IP_UNICAST_IF` (`HostView::outer_interface` says
//! which), so the gateway needs no route of its own, and none leads around the tunnel (G8). What the tunnel does not carry
//! has no route that refuses it, as on Linux; the firewall does that (G2). A longer prefix that the network hands out is
//! stronger than ours: its traffic is then refused by the firewall and the route is reported (G10).

use super::plan::{Family, RouteKind, RoutePlan};
use hamn_core::net::InterfaceName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The metric of the tunnel interface: lower than the automatic one of any link.
pub const INTERFACE_METRIC: u32 = 1;
/// Added to that of the interface.
pub const ROUTE_METRIC: u32 = 0;

/// What the table has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct WindowsRoutes {
    /// The interface of all routes.
    pub tunnel: Option<InterfaceName>,
    /// Without that interface applying fails.
    pub required: bool,
    /// Destinations, sent straight into the interface.
    pub destinations: BTreeSet<IpNet>,
}

impl WindowsRoutes {
    /// From the plan of a policy.
    #[must_use]
    pub fn of(plan: &RoutePlan) -> Self {
        let into_tunnel = plan.routes.iter().filter(|route| route.kind == RouteKind::Tunnel);
        let destinations = into_tunnel.flat_map(|route| with_halves(route.destination)).collect();
        Self { tunnel: plan.tunnel.clone(), required: plan.tunnel_required, destinations }
    }

    /// One line for each route, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let interface = self.tunnel.as_ref().map_or("tunnel", InterfaceName::as_str);
        self.destinations.iter().map(|net| format!("route {net} interface {interface} metric {ROUTE_METRIC}\n")).collect()
    }

    /// The families whose settings on the interface are ours: metric, no weak host, no router discovery (G11).
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        self.destinations.iter().map(|net| Family::of(net.addr())).collect()
    }

    /// What to add and what to remove when the interface has these routes of ours.
    #[must_use]
    pub fn difference(&self, found: &BTreeSet<IpNet>) -> RouteDifference {
        RouteDifference {
            missing: self.destinations.difference(found).copied().collect(),
            extra: found.difference(&self.destinations).copied().collect(),
        }
    }
}

fn with_halves(destination: IpNet) -> Vec<IpNet> {
    let half = |v4: Ipv4Addr, v6: Ipv6Addr| match destination {
        IpNet::V4(_) => IpNet::V4(Ipv4Net::new_assert(v4, 1)),
        IpNet::V6(_) => IpNet::V6(Ipv6Net::new_assert(v6, 1)),
    };
    if destination.prefix_len() > 0 {
        return vec![destination];
    }
    let lower = half(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    let upper = half(Ipv4Addr::new(128, 0, 0, 0), Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0));
    vec![destination, lower, upper]
}

/// How the table differs from a plan.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RouteDifference {
    /// To add.
    pub missing: Vec<IpNet>,
    /// To remove.
    pub extra: Vec<IpNet>,
}

impl RouteDifference {
    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty()
    }
}

impl fmt::Display for RouteDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing.iter().map(|net| format!("route {net} removed"));
        let extra = self.extra.iter().map(|net| format!("route {net} added"));
        f.write_str(&missing.chain(extra).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{everything, through, tunnel, verify_only};
    use hamn_core::policy::{Enforced, NetworkPolicy, TunnelTraffic};

    fn routes(addresses: &[&str], traffic: TunnelTraffic) -> WindowsRoutes {
        WindowsRoutes::of(&RoutePlan::for_policy(&through(tunnel(addresses, traffic))))
    }

    fn text(routes: &WindowsRoutes) -> String {
        routes.destinations.iter().map(|net| format!("{net} ")).collect()
    }

    #[test]
    fn everything_is_a_default_route_and_its_halves_in_the_families_of_the_tunnel() {
        let carries = || everything(&["0.0.0.0/0", "::/0"]);
        let v4 = routes(&["10.64.0.2/32"], carries());
        insta::assert_snapshot!(text(&v4), @"0.0.0.0/0 0.0.0.0/1 128.0.0.0/1");
        assert!(v4.required && v4.families() == BTreeSet::from([Family::V4]));
        let both = routes(&["10.64.0.2/32", "fd64::2/128"], carries());
        insta::assert_snapshot!(text(&both), @"0.0.0.0/0 0.0.0.0/1 128.0.0.0/1 ::/0 ::/1 8000::/1");
        let narrow = routes(&["10.8.0.2/24"], everything(&["10.8.0.0/24"]));
        insta::assert_snapshot!(text(&narrow), @"10.8.0.0/24");
        let verifying = routes(&["10.64.0.2/32"], verify_only(&["10.64.0.1"]));
        insta::assert_snapshot!(text(&verifying), @"10.64.0.1/32");
        assert!(!verifying.required);
    }

    #[test]
    fn without_a_tunnel_there_is_no_route_and_what_is_left_of_one_goes() {
        for policy in [NetworkPolicy::Open, NetworkPolicy::Enforce(Enforced::default())] {
            let none = WindowsRoutes::of(&RoutePlan::for_policy(&policy));
            assert_eq!(none, WindowsRoutes::default());
            let left: BTreeSet<IpNet> = BTreeSet::from(["0.0.0.0/1".parse().unwrap()]);
            assert_eq!(none.difference(&left).to_string(), "route 0.0.0.0/1 added");
            assert!(none.difference(&BTreeSet::new()).is_empty());
        }
    }
}
