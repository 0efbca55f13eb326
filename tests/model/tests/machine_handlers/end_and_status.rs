//! The end of the helper, and what readers see.

use crate::story::*;
use hamn_core::effect::Effect;
use hamn_core::event::Event;
use hamn_core::location::{Destination, Target};
use hamn_core::machine::Machine;
use hamn_core::net::TUNNEL_INTERFACE;
use hamn_core::settings::KillSwitch;
use hamn_core::state::{AfterDisconnect, BlockReason, Generation, Phase, State};
use hamn_core::status::StateKind;
use hamn_model_tests::fixtures;

// ---- the end ---------------------------------------------------------------------------------------------------------

#[test]
fn a_restart_leaves_everything_as_it_is() {
    let story = Story::connected(KillSwitch::WhileConnected);
    let before = story.machine.state().clone();
    let story = story.then(RESTART);
    assert_eq!((&story.effects[..], story.machine.state()), (&[Effect::Exit, Effect::Publish][..], &before));
}

/// G7.
#[test]
fn a_stop_takes_the_tunnel_down_and_leaves_the_rules_of_the_intent() {
    for (kill_switch, closed) in [(KillSwitch::Off, false), (KillSwitch::WhileConnected, true), (KillSwitch::Always, true)] {
        let story = Story::connected(kill_switch).then(STOP);
        assert_eq!(story.leaving(), Some((true, AfterDisconnect::Stop)));
        let story = story.stopped();
        assert_eq!((story.machine.state(), story.applies()), (&State::Stopping { closed }, 1));
        assert_eq!((story.is_open(), story.asks(&Effect::Exit)), (!closed, false));
        let story = story.applied();
        assert_eq!(story.effects, [Effect::Exit, Effect::Publish]);
    }
}

#[test]
fn a_stop_at_rest_with_nothing_to_change_ends_at_once() {
    let story = Story::at_rest(KillSwitch::WhileConnected).then(STOP);
    assert_eq!(story.effects, [Effect::Exit, Effect::Publish]);
    assert_eq!(*story.machine.state(), State::Stopping { closed: false });
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_firewall_that_fails() {
    let story = Story::connected(KillSwitch::WhileConnected).then(STOP).stopped().refused();
    assert_eq!(story.effects, [Effect::Exit, Effect::Publish]);
    assert!(story.machine.is_closed());
    // The policy of the end had been refused already: it is tried once more, then the helper ends.
    let story =
        Story::new(mode(KillSwitch::WhileConnected)).then(Event::Started { target: Some(Target::Disconnected) }).refused();
    let story = story.then(STOP);
    assert_eq!((story.applies(), story.asks(&Effect::Exit)), (1, false));
    assert!(story.refused().asks(&Effect::Exit));
    // The policy of the end is under way: it is waited for, not asked for again.
    let story =
        Story::new(mode(KillSwitch::WhileConnected)).then(Event::Started { target: Some(Target::Disconnected) }).then(STOP);
    assert_eq!((story.applies(), story.asks(&Effect::Exit)), (0, false));
    assert_eq!(story.applied().effects, [Effect::Exit, Effect::Publish]);
}

#[test]
fn nothing_keeps_a_stopping_helper_alive() {
    for event in [connect(Destination::Best), RECONNECT, host(true, true), Event::CredentialsChanged, STOP] {
        let story = Story::connected(KillSwitch::WhileConnected).then(STOP).then(event);
        assert_eq!(story.leaving(), Some((true, AfterDisconnect::Stop)));
        assert!(matches!(story.stopped().machine.state(), State::Stopping { closed: true }));
    }
    let story = Story::connected(KillSwitch::WhileConnected).then(STOP).then(DISCONNECT);
    assert!(story.asks(&Effect::PersistTarget(Target::Disconnected)));
    assert!(matches!(story.stopped().machine.state(), State::Stopping { closed: false }));
    let story = Story::connected(KillSwitch::WhileConnected).then(STOP).stopped();
    let story = story.then(connect(Destination::Best)).then(Event::SettingsChanged(mode(KillSwitch::Off))).then(DISCONNECT);
    assert_eq!((story.machine.state(), story.effects.len()), (&State::Stopping { closed: true }, 1));
}

// ---- what readers see ------------------------------------------------------------------------------------------------

#[test]
fn the_status_says_what_the_state_is() {
    let kill_switch = KillSwitch::WhileConnected;
    let cases = [
        (Story::at_rest(kill_switch), StateKind::Disconnected, false, None, None, false),
        (
            Story::at_rest(kill_switch).then(connect(Destination::Best)),
            StateKind::Connecting,
            false,
            Some(1),
            Some(Phase::Securing),
            false,
        ),
        (Story::preparing(kill_switch), StateKind::Connecting, true, Some(1), Some(Phase::Preparing), false),
        (Story::verifying(kill_switch), StateKind::Connecting, true, Some(1), Some(Phase::Verifying), true),
        (Story::connected(kill_switch), StateKind::Connected, true, Some(1), None, true),
        (Story::connected(kill_switch).then(DISCONNECT), StateKind::Disconnecting, true, None, None, true),
        (Story::connected(kill_switch).then(STOP).stopped(), StateKind::Disconnecting, false, None, None, false),
        (Story::blocked(BlockReason::NoServer), StateKind::Blocked, true, None, None, false),
    ];
    for (story, kind, protected, attempt, phase, tunnel) in cases {
        let status = story.machine.status();
        let seen = status.attempt.as_ref();
        assert_eq!((status.state, status.protected, status.tunnel.is_some()), (kind, protected, tunnel), "{status:?}");
        assert_eq!((seen.map(|a| a.number.0), seen.and_then(|a| a.phase)), (attempt, phase), "{status:?}");
        assert_eq!(status.blocked.is_some(), kind == StateKind::Blocked);
        assert_eq!((&status.target, status.protection.in_force), (story.machine.target(), story.machine.in_force()));
        assert_eq!(status.protection.enforcing, !story.is_open());
    }
}

#[test]
fn the_status_tells_the_tunnel_the_wish_and_the_reason() {
    let status = Story::connected(KillSwitch::WhileConnected).machine.status();
    assert_eq!(status.destination, Some(Destination::Best));
    let tunnel = status.tunnel.expect("a tunnel");
    let plan = fixtures::plan(0);
    assert_eq!(
        (tunnel.interface.as_str(), tunnel.endpoint, tunnel.mtu),
        (TUNNEL_INTERFACE, plan.endpoints.first().copied(), plan.mtu)
    );
    assert_eq!(
        (tunnel.addresses, tunnel.resolvers, tunnel.connected_since_unix_s),
        (plan.addresses, plan.resolvers, Some(NOW.unix_s))
    );
    assert_eq!(Story::verifying(KillSwitch::Off).machine.status().tunnel.map(|tunnel| tunnel.connected_since_unix_s), Some(None));
    assert_eq!(Story::at_rest(KillSwitch::Off).machine.status().destination, None);

    let status = Story::blocked(BlockReason::GatewaySilent).machine.status();
    let blocked = status.blocked.expect("a reason");
    assert_eq!((blocked.code, blocked.retrying), (BlockReason::GatewaySilent, true));
    assert_eq!(
        (blocked.message.as_str(), blocked.action.as_str()),
        (BlockReason::GatewaySilent.message(), BlockReason::GatewaySilent.action())
    );
    assert!(!Story::blocked(BlockReason::NoServer).machine.status().blocked.expect("a reason").retrying);

    let story = Story::at_rest(KillSwitch::Always);
    let protection = story.machine.status().protection;
    assert_eq!((protection.kill_switch, protection.applied_generation), (KillSwitch::Always, Some(story.machine.generation())));
    let story = story.then(Event::PolicyLost("flushed".to_owned()));
    assert_eq!(story.machine.status().protection.error.as_deref(), Some("flushed"));
}

/// Two machines with the same seed wait equally long, others do not: all clients would come back at once.
#[test]
fn waits_are_spread() {
    let waits: std::collections::BTreeSet<_> = (0..50)
        .map(|seed| {
            let mut machine = Machine::new(mode(KillSwitch::Always), Vec::new(), seed);
            machine.handle(Event::Started { target: Some(Target::Disconnected) }, NOW);
            let effects = machine.handle(Event::PolicyApplied { generation: Generation(1), result: Err(String::new()) }, NOW);
            effects.iter().find_map(|effect| if let Effect::SetTimer { after_ms, .. } = effect { Some(*after_ms) } else { None })
        })
        .collect();
    assert!(waits.len() > 30, "{waits:?}");
}
