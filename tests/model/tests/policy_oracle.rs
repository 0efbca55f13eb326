//! `eval(lower(policy_for(…)))` equals a second reading of `SECURITY.md`: over the whole bounded packet domain for each row, and at random.

use hamn_core::policy::{Facts, policy_for};
use hamn_core::settings::{Dns, KillSwitch, Settings};
use hamn_core::state::{AfterDisconnect, Attempt, BlockReason, Phase, State};
use hamn_core::time::Now;
use hamn_model_tests::fixtures;
use hamn_model_tests::oracle::Row;
use hamn_model_tests::packets;
use hamn_model_tests::random::Random;
use hamn_network::firewall::eval::{Packet, Verdict, evaluate};
use hamn_network::firewall::ruleset::Ruleset;

/// Random packets of the default run; `HAMN_MODEL_PACKETS` asks for more.
const PACKETS: u64 = 400_000;

fn states(shape: u64) -> Vec<State> {
    let plan = fixtures::plan(shape);
    let attempt = Attempt(1);
    let connecting = |phase, planned: bool| State::Connecting { attempt, phase, plan: planned.then(|| plan.clone()) };
    let leaving = |verified| State::Disconnecting { attempt, plan: plan.clone(), verified, then: AfterDisconnect::Rest };
    vec![
        State::Disconnected,
        connecting(Phase::Securing, false),
        connecting(Phase::Preparing, false),
        connecting(Phase::Admitting, true),
        connecting(Phase::Verifying, true),
        connecting(Phase::Routing, true),
        State::Connected { attempt, plan: plan.clone(), since: Now::default(), stalled: false },
        State::Connected { attempt, plan: plan.clone(), since: Now::default(), stalled: true },
        leaving(false),
        leaving(true),
        State::Stopping { closed: true },
        State::Stopping { closed: false },
        State::Blocked { reason: BlockReason::GatewaySilent, retry: Some(Attempt(2)) },
        State::Blocked { reason: BlockReason::IntentUnreadable, retry: None },
    ]
}

fn check(row: &Row<'_>, rules: &Ruleset, packet: &Packet, state: &State, settings: &Settings) {
    let decision = evaluate(rules, packet);
    assert!(
        (decision.verdict == Verdict::Accept) == row.passes(packet),
        "the rules say {decision:?}, the page says otherwise:\n{packet:?}\n{state:?}\n{settings:?}\n{}",
        rules.describe()
    );
}

#[test]
fn rules_agree_with_the_page_for_every_packet_of_the_domain() {
    let home = vec![fixtures::net("192.168.1.0/24"), fixtures::net("fe80::/64"), fixtures::net("fd12:3456::/64")];
    let hostile =
        vec![fixtures::net("0.0.0.0/1"), fixtures::net("10.0.0.0/8"), fixtures::net("203.0.113.0/24"), fixtures::net("fd00::/8")];
    // A lease that covers the inner addresses of the tunnel.
    let covering = vec![fixtures::net("10.128.0.0/16"), fixtures::net("fd00:128::/64")];
    let custom = Dns::Custom { addresses: vec![fixtures::ip("192.168.1.1"), fixtures::ip("9.9.9.9")] };
    let api = fixtures::api(&mut Random::new(2));
    assert!(!api.is_empty());
    let (mut rows, mut count) = (0, 0);
    for (shape, allow_lan, dns, attached) in [
        (0, false, Dns::Provider, &home),
        (0, true, custom.clone(), &home),
        (0, true, Dns::Provider, &hostile),
        (0, true, Dns::Provider, &covering),
        (1, true, Dns::Provider, &home),
        (2, false, custom, &home),
        (3, true, Dns::Provider, &home),
    ] {
        let settings = Settings { kill_switch: KillSwitch::Always, allow_lan, dns, ..Settings::default() };
        let facts = Facts { api: api.clone(), attached: attached.clone() };
        // States that give the same policy under the same settings are the same row.
        let mut policies = Vec::new();
        for state in states(shape) {
            let policy = policy_for(&state, &settings, &facts);
            let row = Row::of(&state, &settings, &facts);
            assert_eq!(policy.is_open(), row.is_open(), "{state:?}");
            let Some(rules) = Ruleset::lower(&policy) else { continue };
            if policies.contains(&policy) {
                continue;
            }
            policies.push(policy);
            rows += 1;
            count += packets::for_each(|packet| check(&row, &rules, packet, &state, &settings));
        }
    }
    println!("{rows} rows, {count} packets");
    assert!(rows == 28 && count >= 10_000_000, "{rows} rows, {count} packets");
}

#[test]
fn rules_agree_with_the_page_for_random_policies_and_packets() {
    let wanted = std::env::var("HAMN_MODEL_PACKETS").ok().and_then(|text| text.parse().ok()).unwrap_or(PACKETS);
    let mut random = Random::new(1);
    let (mut count, mut passed) = (0_u64, 0_u64);
    while count < wanted {
        let settings = fixtures::settings(&mut random);
        let facts = Facts { api: fixtures::api(&mut random), attached: fixtures::facts(&mut random).attached };
        let state = random.pick(&states(random.clone().next())).clone();
        let policy = policy_for(&state, &settings, &facts);
        let row = Row::of(&state, &settings, &facts);
        assert_eq!(policy.is_open(), row.is_open(), "{state:?} {settings:?}");
        assert_eq!(Ruleset::lower(&policy).is_none(), row.is_open());
        let Some(rules) = Ruleset::lower(&policy) else { continue };
        for _ in 0..200 {
            let packet = packets::random(&mut random);
            check(&row, &rules, &packet, &state, &settings);
            passed += u64::from(row.passes(&packet));
            count += 1;
        }
    }
    println!("{count} packets, {passed} pass");
    assert!(passed > count / 50 && passed < count / 2, "{passed} of {count}");
}
