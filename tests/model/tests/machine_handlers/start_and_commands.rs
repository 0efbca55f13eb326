//! The start, the way up, and what people ask for.

use crate::story::*;
use hamn_core::effect::Effect;
use hamn_core::event::{Event, HostFacts, TunnelEvent};
use hamn_core::location::{Destination, Target};
use hamn_core::machine::ATTEMPT_TIMEOUT_MS;
use hamn_core::net::Endpoint;
use hamn_core::policy::NetworkPolicy;
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::{AfterDisconnect, Attempt, BlockReason, Generation, Phase, State, Timer};
use hamn_model_tests::fixtures;

// ---- start -----------------------------------------------------------------------------------------------------------

#[test]
fn nothing_is_asked_for_before_the_start() {
    let events = [
        connect(Destination::Best),
        DISCONNECT,
        Event::PolicyApplied { generation: Generation(0), result: Ok(()) },
        Event::Prepared { attempt: Attempt(0), result: Ok(fixtures::plan(0)) },
        Event::TunnelStopped { attempt: Attempt(0) },
        Event::PolicyLost("gone".to_owned()),
        Event::CredentialsChanged,
        Event::Timer(Timer::Reapply(Generation(0))),
        host(true, true),
        Event::ApiAddresses(Vec::new()),
        Event::SettingsChanged(mode(KillSwitch::Always)),
    ];
    let mut story = Story::new(Settings::default());
    for event in events {
        story = story.then(event);
        assert!(story.effects.is_empty() && story.machine.policy().is_none() && !story.machine.in_force());
    }
}

#[test]
fn facts_from_before_the_start_count() {
    let attached = vec![fixtures::net("192.168.1.0/24")];
    let api = vec![Endpoint::tcp(fixtures::socket("198.51.100.9:443"))];
    let facts = HostFacts { online: true, attached: attached.clone(), ..HostFacts::default() };
    let settings = Settings { allow_lan: true, ..mode(KillSwitch::Always) };
    let story = Story::new(Settings::default())
        .then(Event::Host { facts, path_changed: false })
        .then(Event::ApiAddresses(api.clone()))
        .then(Event::SettingsChanged(settings.clone()))
        .then(Event::Started { target: Some(Target::Disconnected) });
    assert_eq!(*story.machine.settings(), settings);
    let Some(NetworkPolicy::Enforce(policy)) = story.machine.policy() else { panic!("open") };
    assert_eq!((&policy.lan, &policy.api), (&attached, &api));
}

#[test]
fn offline_from_before_the_start_counts() {
    let story =
        Story::new(Settings::default()).then(host(false, false)).then(Event::Started { target: Some(wanted(Destination::Best)) });
    assert_eq!(story.reason(), Some((BlockReason::Offline, None)));
}

#[test]
fn a_helper_that_ends_before_its_start_changes_nothing() {
    for event in [STOP, RESTART] {
        assert_eq!(Story::new(Settings::default()).then(event).effects, [Effect::Exit]);
    }
}

/// G16.
#[test]
fn an_unreadable_intent_is_closed_in_every_mode_until_a_command() {
    for kill_switch in [KillSwitch::Off, KillSwitch::WhileConnected, KillSwitch::Always] {
        let start = || Story::new(mode(kill_switch)).then(Event::Started { target: None }).applied();
        for event in [Event::CredentialsChanged, host(true, true), RECONNECT, Event::SettingsChanged(mode(kill_switch))] {
            let story = start().then(event);
            assert_eq!(story.reason(), Some((BlockReason::IntentUnreadable, None)));
            assert!(!story.is_open() && story.machine.is_closed());
        }
        let story = start().then(STOP);
        assert_eq!(*story.machine.state(), State::Stopping { closed: true });
        assert!(story.machine.is_closed());
        let story = start().then(DISCONNECT);
        assert_eq!(*story.machine.state(), State::Disconnected);
        assert_eq!(story.is_open(), kill_switch != KillSwitch::Always);
        // The same rules are in force already.
        assert_eq!(start().then(connect(Destination::Best)).phase(), Some(Phase::Preparing));
    }
}

#[test]
fn a_stored_wish_resumes_and_auto_connect_is_a_wish() {
    let story =
        Story::new(Settings::default()).then(Event::Started { target: Some(wanted(fixtures::destinations()[1].clone())) });
    assert_eq!(story.phase(), Some(Phase::Securing));
    assert!(!story.effects.iter().any(|effect| matches!(effect, Effect::PersistTarget(_))));
    let settings = Settings { auto_connect: true, destination: fixtures::destinations()[2].clone(), ..Settings::default() };
    let story = Story::new(settings).then(Event::Started { target: Some(Target::Disconnected) });
    assert!(story.asks(&Effect::PersistTarget(wanted(fixtures::destinations()[2].clone()))));
    assert_eq!(story.phase(), Some(Phase::Securing));
    let story = Story::at_rest(KillSwitch::WhileConnected);
    assert_eq!(*story.machine.state(), State::Disconnected);
    assert!(story.is_open() && story.machine.in_force());
}

#[test]
fn it_starts_once() {
    let story = Story::connected(KillSwitch::WhileConnected).then(Event::Started { target: Some(Target::Disconnected) });
    assert_eq!(story.effects, [Effect::Publish]);
    assert!(matches!(story.machine.state(), State::Connected { .. }));
}

// ---- the way up ------------------------------------------------------------------------------------------------------

#[test]
fn each_step_up_waits_for_its_policy() {
    let story = Story::at_rest(KillSwitch::WhileConnected).then(connect(Destination::Best));
    assert_eq!(story.phase(), Some(Phase::Securing));
    assert_eq!(story.effects[0], Effect::PersistTarget(wanted(Destination::Best)));
    assert_eq!(story.wait_of(Timer::AttemptTimeout(Attempt(1))), Some(ATTEMPT_TIMEOUT_MS));
    assert!(!story.is_open() && !story.machine.in_force() && story.applies() == 1);

    let story = story.applied();
    assert_eq!(story.phase(), Some(Phase::Preparing));
    assert!(story.asks(&Effect::Prepare { attempt: Attempt(1), destination: Destination::Best, failures: 0 }));

    let story = story.planned();
    assert_eq!(story.phase(), Some(Phase::Admitting));
    assert!(!story.asks(&Effect::StartTunnel { attempt: Attempt(1), plan: fixtures::plan(0) }));

    let story = story.applied();
    assert_eq!(story.phase(), Some(Phase::Verifying));
    assert!(story.asks(&Effect::StartTunnel { attempt: Attempt(1), plan: fixtures::plan(0) }));

    let story = story.says(TunnelEvent::Verified);
    assert_eq!(story.phase(), Some(Phase::Routing));
    assert_eq!(story.applies(), 1);

    let story = story.applied();
    let expected = State::Connected { attempt: Attempt(1), plan: fixtures::plan(0), since: NOW, stalled: false };
    assert_eq!(*story.machine.state(), expected);
    assert_eq!((story.machine.failures(), story.machine.acknowledged()), (0, Some(story.machine.generation())));
}

#[test]
fn an_older_answer_does_not_count_as_the_newer_ones() {
    let story = Story::preparing(KillSwitch::WhileConnected);
    let old = story.machine.generation();
    let story = story.planned().then(Event::PolicyApplied { generation: old, result: Ok(()) });
    assert_eq!(story.phase(), Some(Phase::Admitting));
    assert_eq!(story.effects, [Effect::Publish]);
    let story = story.then(Event::PolicyApplied { generation: old, result: Err("late".to_owned()) });
    assert_eq!((story.effects.len(), story.machine.apply_error()), (1, None));
    let story = story.then(Event::Prepared { attempt: Attempt(9), result: Err(BlockReason::LoggedOut) });
    assert_eq!(story.phase(), Some(Phase::Admitting));
    let story = Story::preparing(KillSwitch::WhileConnected)
        .then(Event::Prepared { attempt: Attempt(9), result: Err(BlockReason::LoggedOut) });
    assert_eq!(story.phase(), Some(Phase::Preparing));
}

#[test]
fn a_tunnel_that_is_not_ours_says_nothing() {
    for event in [TunnelEvent::Verified, TunnelEvent::Failed(BlockReason::GatewaySilent)] {
        let story = Story::verifying(KillSwitch::WhileConnected).then(Event::Tunnel { attempt: Attempt(9), event });
        assert_eq!(story.phase(), Some(Phase::Verifying));
    }
    let story = Story::connected(KillSwitch::WhileConnected).then(Event::TunnelStopped { attempt: Attempt(9) });
    assert!(matches!(story.machine.state(), State::Connected { .. }));
}

#[test]
fn verified_twice_is_verified_once() {
    let story = Story::connected(KillSwitch::WhileConnected).says(TunnelEvent::Verified);
    assert_eq!(story.effects, [Effect::Publish]);
}

#[test]
fn the_api_may_change_while_a_server_is_asked_for() {
    let story = Story::preparing(KillSwitch::WhileConnected).then(Event::ApiAddresses(Vec::new()));
    assert_eq!((story.applies(), story.phase()), (1, Some(Phase::Preparing)));
    let story = Story::connected(KillSwitch::WhileConnected).then(Event::ApiAddresses(Vec::new()));
    assert_eq!(story.effects, [Effect::Publish]);
}

// ---- commands --------------------------------------------------------------------------------------------------------

#[test]
fn connect_again_to_the_same_place_is_no_news() {
    for story in [Story::connected(KillSwitch::WhileConnected), Story::verifying(KillSwitch::WhileConnected)] {
        assert_eq!(story.then(connect(Destination::Best)).effects, [Effect::Publish]);
    }
}

#[test]
fn connect_to_the_same_place_ends_a_block() {
    let story = Story::blocked(BlockReason::NoServer).then(connect(Destination::Best));
    assert_eq!((story.phase(), story.machine.failures()), (Some(Phase::Preparing), 0));
}

#[test]
fn connect_elsewhere_leaves_first() {
    let there = fixtures::destinations()[1].clone();
    let story = Story::connected(KillSwitch::WhileConnected).then(connect(there.clone()));
    assert_eq!(
        story.effects,
        [Effect::PersistTarget(wanted(there.clone())), Effect::StopTunnel { attempt: Attempt(1) }, Effect::Publish]
    );
    assert_eq!(story.leaving(), Some((true, AfterDisconnect::Connect)));
    let story = story.stopped();
    assert_eq!((story.phase(), story.attempt(), story.applies()), (Some(Phase::Securing), Attempt(2), 1));
    let story = story.applied();
    assert!(story.asks(&Effect::Prepare { attempt: Attempt(2), destination: there, failures: 0 }));
}

#[test]
fn disconnect_opens_only_after_the_tunnel_is_gone() {
    let story = Story::connected(KillSwitch::WhileConnected).then(DISCONNECT);
    assert_eq!(story.leaving(), Some((true, AfterDisconnect::Rest)));
    assert_eq!(story.applies(), 0);
    assert_eq!(story.effects[0], Effect::PersistTarget(Target::Disconnected));
    let story = story.stopped();
    assert_eq!(*story.machine.state(), State::Disconnected);
    assert!(story.is_open() && story.applies() == 1);
    let story = Story::connected(KillSwitch::Always).then(DISCONNECT).stopped();
    assert!(!story.is_open() && story.machine.is_closed());
}

#[test]
fn disconnect_ends_an_attempt_at_each_phase() {
    let preparing = Story::preparing(KillSwitch::WhileConnected).then(DISCONNECT);
    let admitting = Story::preparing(KillSwitch::WhileConnected).planned().then(DISCONNECT);
    let blocked = Story::blocked(BlockReason::NoServer).then(DISCONNECT);
    for story in [preparing, admitting, blocked] {
        assert_eq!((story.machine.state(), story.is_open()), (&State::Disconnected, true));
    }
    let verifying = Story::verifying(KillSwitch::WhileConnected).then(DISCONNECT);
    assert_eq!(verifying.leaving(), Some((false, AfterDisconnect::Rest)));
    let routing = Story::verifying(KillSwitch::WhileConnected).says(TunnelEvent::Verified).then(DISCONNECT);
    assert_eq!(routing.leaving(), Some((true, AfterDisconnect::Rest)));
}

#[test]
fn the_last_wish_counts_while_leaving() {
    let story = Story::connected(KillSwitch::WhileConnected).then(DISCONNECT).then(connect(Destination::Best));
    assert_eq!(story.leaving(), Some((true, AfterDisconnect::Connect)));
    assert!(!story.effects.iter().any(|effect| matches!(effect, Effect::StopTunnel { .. })));
    let story = story.then(DISCONNECT);
    assert_eq!(story.leaving(), Some((true, AfterDisconnect::Rest)));
}

#[test]
fn reconnect_needs_a_wish() {
    let story = Story::at_rest(KillSwitch::WhileConnected).then(RECONNECT);
    assert_eq!(story.effects, [Effect::Publish]);
    let story = Story::connected(KillSwitch::WhileConnected).then(RECONNECT);
    assert_eq!(story.leaving(), Some((true, AfterDisconnect::Connect)));
    let story = Story::blocked(BlockReason::GatewaySilent).then(RECONNECT);
    assert_eq!((story.phase(), story.machine.failures()), (Some(Phase::Preparing), 0));
}

// ---- settings --------------------------------------------------------------------------------------------------------

#[test]
fn settings_that_change_the_plan_make_a_new_tunnel() {
    let base = mode(KillSwitch::WhileConnected);
    let changes = [
        (Settings { ipv6: false, ..base.clone() }, true),
        (Settings { mtu: Some(1300), ..base.clone() }, true),
        (Settings { allow_lan: true, ..base.clone() }, false),
        (Settings { kill_switch: KillSwitch::Always, ..base.clone() }, false),
        (base, false),
    ];
    for (settings, leaves) in changes {
        let story = Story::connected(KillSwitch::WhileConnected).then(Event::SettingsChanged(settings.clone()));
        assert_eq!(story.leaving(), leaves.then_some((true, AfterDisconnect::Connect)), "{settings:?}");
        let story = Story::preparing(KillSwitch::WhileConnected).then(Event::SettingsChanged(settings.clone()));
        assert_eq!(story.attempt(), Attempt(if leaves { 2 } else { 1 }), "{settings:?}");
        let story = Story::at_rest(KillSwitch::WhileConnected).then(Event::SettingsChanged(settings));
        assert_eq!(*story.machine.state(), State::Disconnected);
    }
}

#[test]
fn the_kill_switch_acts_at_once() {
    let always = || Event::SettingsChanged(mode(KillSwitch::Always));
    let off = || Event::SettingsChanged(mode(KillSwitch::Off));
    let story = Story::at_rest(KillSwitch::WhileConnected).then(always());
    assert!(!story.is_open() && story.machine.is_closed());
    let story = Story::blocked(BlockReason::GatewaySilent).then(off());
    assert!(story.is_open() && !story.machine.is_closed());
    let story = Story::connected(KillSwitch::WhileConnected);
    assert!(story.machine.is_closed());
    let story = story.then(off());
    assert!(!story.is_open() && !story.machine.is_closed());
    assert!(!Story::at_rest(KillSwitch::WhileConnected).machine.is_closed());
}
