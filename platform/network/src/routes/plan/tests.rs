//! What the route plan is for named policies.

use super::*;

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn tunnel(traffic: TunnelTraffic, lan_resolvers: &[&str]) -> TunnelAccess {
    TunnelAccess {
        interface: "hamn0".to_owned().try_into().unwrap(),
        addresses: nets(&["10.64.0.2/32", "fd00:64::2/128"]),
        traffic,
        resolvers: vec!["10.64.0.1".parse().unwrap()],
        lan_resolvers: lan_resolvers.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

fn plan(tunnel: Option<TunnelAccess>, lan: &[&str]) -> RoutePlan {
    RoutePlan::for_policy(&NetworkPolicy::Enforce(Enforced { tunnel, lan: nets(lan), ..Enforced::default() }))
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
    let peers = vec!["10.64.0.1".parse().unwrap(), "fd00:64::1".parse().unwrap()];
    let plan = plan(Some(tunnel(TunnelTraffic::VerifyOnly { peers }, &[])), &[]);
    assert!(!plan.tunnel_required);
    insta::assert_snapshot!(plan.describe());
}

#[test]
fn connected_with_both_families() {
    let carries = nets(&["0.0.0.0/0", "::/0"]);
    let plan = plan(Some(tunnel(TunnelTraffic::Everything { carries }, &[])), &[]);
    assert!(plan.tunnel_required);
    insta::assert_snapshot!(plan.describe());
}

#[test]
fn connected_ipv4_only_with_lan_resolver() {
    let mut access = tunnel(TunnelTraffic::Everything { carries: nets(&["0.0.0.0/0"]) }, &["192.168.1.53"]);
    access.addresses.truncate(1);
    insta::assert_snapshot!(plan(Some(access), &["192.168.1.0/24"]).describe());
}

#[test]
fn every_enforcing_plan_ends_in_unreachable_and_catches_everything_before_main() {
    let carries = nets(&["0.0.0.0/0", "::/0"]);
    for plan in [plan(None, &[]), plan(Some(tunnel(TunnelTraffic::Everything { carries }, &[])), &["10.1.0.0/16"])] {
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
    let mut access = tunnel(TunnelTraffic::Everything { carries: nets(&["0.0.0.0/0", "::/0"]) }, &[]);
    access.addresses.truncate(1);
    let plan = plan(Some(access), &[]);
    assert!(!plan.routes.contains(&into_tunnel(Family::V6.everything())));
    assert!(plan.routes.contains(&unreachable(Family::V6)));
}
