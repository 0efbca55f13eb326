//! The named policies as the text of a pf anchor, as routes of macOS, and as the bytes that the kernel is given.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod firewall_policies;

use firewall_policies::{enforced, policy};
use hamn_core::policy::NetworkPolicy;
use hamn_network::firewall::Ruleset;
use hamn_network::firewall::compile::pf::{self, PfAction};
use hamn_network::firewall::compile::pf_wire::Request;
use hamn_network::routes::plan_macos::MacRoutePlan;

#[test]
fn every_named_policy_as_an_anchor() {
    for (name, enforced) in enforced() {
        insta::assert_snapshot!(name, pf::text(&pf::compile(&Ruleset::enforce(&enforced))));
    }
}

#[test]
fn every_named_policy_as_routes() {
    for (name, enforced) in enforced() {
        let plan = MacRoutePlan::for_policy(&NetworkPolicy::Enforce(enforced));
        insta::assert_snapshot!(format!("{name}_routes"), plan.describe());
    }
    assert_eq!(MacRoutePlan::for_policy(&policy("open")), MacRoutePlan::default());
}

/// Without a last word the main ruleset would go on, and pass what is left.
#[test]
fn every_anchor_decides_about_every_packet_at_once() {
    for (name, enforced) in enforced() {
        let rules = pf::compile(&Ruleset::enforce(&enforced));
        assert!(rules.iter().all(|rule| rule.quick), "{name}");
        for inward in [true, false] {
            let last = rules.iter().rfind(|rule| rule.inward == inward).map(ToString::to_string);
            let expected = if inward { "block drop in quick from any to any" } else { "block return out quick from any to any" };
            assert_eq!(last.as_deref(), Some(expected), "{name}");
        }
    }
}

/// Reading back compares bytes: two rules of one anchor that mean different things must not have the same.
#[test]
fn different_rules_have_different_bytes() {
    for (name, enforced) in enforced() {
        let rules = pf::compile(&Ruleset::enforce(&enforced));
        for (number, rule) in rules.iter().enumerate() {
            let request = Request::rule(rule);
            assert!(!request.is_reference() && request.leads_nowhere(), "{name}: {rule}");
            for other in rules.iter().skip(number + 1) {
                let same_text = rule.to_string() == other.to_string();
                assert_eq!(request.same_rule(&Request::rule(other)), same_text, "{name}: {rule} / {other}");
            }
        }
        assert!(rules.iter().any(|rule| rule.action == PfAction::Return), "{name}");
    }
}
