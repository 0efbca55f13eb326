//! What the route plan is for named policies.

use super::*;
use crate::fixtures::{all, everything, verify_only};

fn tunnel(traffic: TunnelTraffic, lan_resolvers: &[&str]) -> TunnelAccess {
    let tunnel = crate::fixtures::tunnel(&["10.64.0.2/32", "fd00:64::2/128"], traffic);
    // Snapshots name the interface, on whichever system they are compared.
    let interface = "hamn0".to_owned().try_into().unwrap();
    TunnelAccess { interface, resolvers: all(&["10.64.0.1"]), lan_resolvers: all(lan_resolvers), ..tunnel }
}

fn plan(tunnel: Option<TunnelAccess>, lan: &[&str]) -> RoutePlan {
    RoutePlan::for_policy(&NetworkPolicy::Enforce(Enforced { tunnel, lan: all(lan), ..Enforced::default() }))
}

#[test]
fn an_open_policy_has_no_rule_and_no_route() {
    assert_eq!(RoutePlan::for_policy(&NetworkPolicy::Open), RoutePlan::default());
}

#[test]
fn blocked() {
    insta::assert_snapshot!(plan(None, &[]).describe());
}

#[test]
fn blocked_with_lan() {
    insta::assert_snapshot!(plan(None, &["192.168.1.0/24", "fe80::/64", "0.0.0.0/1", "203.0.113.0/24"]).describe());
}

#[test]
fn verifying() {
    let plan = plan(Some(tunnel(verify_only(&["10.64.0.1", "fd00:64::1"]), &[])), &[]);
    assert!(!plan.tunnel_required);
    insta::assert_snapshot!(plan.describe());
}

#[test]
fn connected_with_both_families() {
    let plan = plan(Some(tunnel(everything(&["0.0.0.0/0", "::/0"]), &[])), &[]);
    assert!(plan.tunnel_required);
    insta::assert_snapshot!(plan.describe());
}

#[test]
fn connected_ipv4_only_with_lan_resolver() {
    let mut access = tunnel(everything(&["0.0.0.0/0"]), &["192.168.1.53"]);
    access.addresses.truncate(1);
    insta::assert_snapshot!(plan(Some(access), &["192.168.1.0/24"]).describe());
}

#[test]
fn every_enforcing_plan_ends_in_unreachable_and_catches_everything_before_main() {
    let connected = tunnel(everything(&["0.0.0.0/0", "::/0"]), &[]);
    for plan in [plan(None, &[]), plan(Some(connected), &["10.1.0.0/16"])] {
        for family in Family::BOTH {
            let last = plan.rules.iter().rfind(|rule| rule.family == family).unwrap();
            assert_eq!(*last, RuleSpec::plain(family, EVERYTHING, Table::Hamn));
            assert!(plan.routes.contains(&unreachable(family)));
        }
        assert!(plan.rules.iter().all(|rule| PRIORITIES.contains(&rule.priority)));
        let position = |priority| plan.rules.iter().position(|rule| rule.priority == priority);
        assert!(position(DNS) < position(LAN).or(Some(usize::MAX)), "DNS is looked up before the LAN");
    }
}

#[test]
fn routes_of_a_family_without_tunnel_address_are_left_out() {
    let mut access = tunnel(everything(&["0.0.0.0/0", "::/0"]), &[]);
    access.addresses.truncate(1);
    let plan = plan(Some(access), &[]);
    assert!(!plan.routes.contains(&into_tunnel(Family::V6.everything())));
    assert!(plan.routes.contains(&unreachable(Family::V6)));
}
