//! The rules of about 25 named policies, as nft statements with their reasons: reviewed text, one rule a line.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod firewall_policies;

use firewall_policies::{enforced, policy};
use hamn_network::firewall::Ruleset;
use hamn_network::firewall::compile::nftables;

#[test]
fn every_named_policy_as_nft_statements() {
    for (name, enforced) in enforced() {
        insta::assert_snapshot!(name, nftables::to_text(&Ruleset::enforce(&enforced)));
    }
}

#[test]
fn rules_in_words() {
    for name in ["lockdown", "connected_dual_lan"] {
        let rules = Ruleset::lower(&policy(name)).unwrap();
        insta::assert_snapshot!(format!("{name}_in_words"), rules.describe());
    }
}

#[test]
fn script_for_early_boot() {
    insta::assert_snapshot!(nftables::lockdown_text());
}

#[test]
fn an_open_policy_has_no_rules() {
    assert_eq!(Ruleset::lower(&policy("open")), None);
}

/// One policy in the JSON that nft is fed, one command a line.
#[test]
fn batch_of_lockdown() {
    let batch = nftables::batch(&Ruleset::lockdown());
    let commands = batch["nftables"].as_array().unwrap().iter().map(ToString::to_string);
    insta::assert_snapshot!(commands.collect::<Vec<_>>().join("\n"));
}

/// Chains that filter never depend on their policy (§2.1 of the measured facts: the policy comes late in a commit).
#[test]
fn every_filtering_chain_ends_with_an_explicit_drop_and_no_output_rule_trusts_a_connection_state() {
    use hamn_network::firewall::ruleset::{Action, Match};
    for (name, enforced) in enforced() {
        let rules = Ruleset::enforce(&enforced);
        for chain in [&rules.output, &rules.input, &rules.forward] {
            let last = chain.last().unwrap();
            assert!(last.matches.is_empty() && last.action == Action::Drop, "{name}");
        }
        let trusts = |condition: &Match| matches!(condition, Match::Established | Match::EstablishedOrRelated | Match::Related);
        assert!(!rules.output.iter().any(|rule| rule.matches.iter().any(trusts)), "{name}: G5");
    }
}

/// A transaction keeps the base chains: nothing is deleted on the way from one policy to another (G4).
#[test]
fn a_batch_deletes_nothing() {
    for (name, enforced) in enforced() {
        let batch = nftables::batch(&Ruleset::enforce(&enforced));
        for command in batch["nftables"].as_array().unwrap() {
            let verb = command.as_object().unwrap().keys().next().unwrap();
            assert!(["add", "flush"].contains(&verb.as_str()), "{name}: {command}");
        }
    }
}
