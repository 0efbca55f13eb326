//! What fails, and what the host and the account do meanwhile.

use crate::story::*;
use hamn_core::effect::Effect;
use hamn_core::event::{Event, HostFacts, TunnelEvent};
use hamn_core::location::{Destination, Target};
use hamn_core::policy::NetworkPolicy;
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::{AfterDisconnect, Attempt, BlockReason, Generation, Phase, State, Timer};
use hamn_model_tests::fixtures;

// ---- failures --------------------------------------------------------------------------------------------------------

#[test]
fn a_reason_that_can_pass_is_tried_again_and_the_others_wait() {
    for reason in BlockReason::ALL {
        let story = Story::blocked(reason);
        // The host says that it is online, so offline is a passing reason here.
        let retries = reason.retries() || reason == BlockReason::Offline;
        assert_eq!(story.reason(), Some((reason, retries.then_some(Attempt(2)))));
        assert_eq!(story.machine.failures(), 1);
        assert_eq!(story.wait_of(Timer::Retry(Attempt(2))).is_some(), retries);
        let story = story.then(Event::Timer(Timer::Retry(Attempt(2))));
        assert_eq!(story.phase().is_some(), retries);
    }
}

#[test]
fn only_the_expected_retry_counts() {
    let story = Story::blocked(BlockReason::GatewaySilent).then(Event::Timer(Timer::Retry(Attempt(1))));
    assert_eq!((story.reason(), story.effects.len()), (Some((BlockReason::GatewaySilent, Some(Attempt(2)))), 1));
}

#[test]
fn failures_add_up_until_it_works() {
    let mut story = Story::blocked(BlockReason::GatewaySilent);
    for number in 2..6 {
        story = story.then(Event::Timer(Timer::Retry(Attempt(number))));
        let prepare =
            Effect::Prepare { attempt: Attempt(number), destination: Destination::Best, failures: story.machine.failures() };
        assert!(story.asks(&prepare));
        story = story.then(Event::Prepared { attempt: Attempt(number), result: Err(BlockReason::GatewaySilent) });
        assert_eq!(u64::from(story.machine.failures()), number);
    }
    let story = story.then(RECONNECT).planned().applied().says(TunnelEvent::Verified).applied();
    assert_eq!(story.machine.failures(), 0);
}

/// G22.
#[test]
fn an_attempt_that_takes_too_long_says_where_it_hung() {
    let timeout = |story: Story| {
        let attempt = story.attempt();
        story.then(Event::Timer(Timer::AttemptTimeout(attempt)))
    };
    let kill_switch = KillSwitch::WhileConnected;
    let securing = timeout(Story::at_rest(kill_switch).then(connect(Destination::Best)));
    assert_eq!(securing.reason(), Some((BlockReason::CannotProtect, Some(Attempt(2)))));
    let preparing = timeout(Story::preparing(kill_switch));
    assert_eq!(preparing.reason(), Some((BlockReason::ApiUnreachable, Some(Attempt(2)))));
    let admitting = timeout(Story::preparing(kill_switch).planned());
    assert_eq!(admitting.reason(), Some((BlockReason::CannotProtect, Some(Attempt(2)))));
    let verifying = timeout(Story::verifying(kill_switch));
    assert_eq!(verifying.leaving(), Some((false, AfterDisconnect::Block(BlockReason::GatewaySilent))));
    assert!(verifying.asks(&Effect::StopTunnel { attempt: Attempt(1) }));
    assert_eq!(verifying.stopped().reason(), Some((BlockReason::GatewaySilent, Some(Attempt(2)))));
    let routing = timeout(Story::verifying(kill_switch).says(TunnelEvent::Verified));
    assert_eq!(routing.leaving(), Some((true, AfterDisconnect::Block(BlockReason::CannotProtect))));
    assert!(matches!(timeout(Story::connected(kill_switch)).machine.state(), State::Connected { .. }));
    let other = Story::preparing(kill_switch).then(Event::Timer(Timer::AttemptTimeout(Attempt(9))));
    assert_eq!(other.phase(), Some(Phase::Preparing));
}

#[test]
fn a_tunnel_that_worked_is_replaced_at_once() {
    let story = Story::connected(KillSwitch::WhileConnected).says(TunnelEvent::Failed(BlockReason::GatewaySilent));
    assert_eq!((story.leaving(), story.machine.failures()), (Some((true, AfterDisconnect::Connect)), 1));
    let story = Story::connected(KillSwitch::WhileConnected).stopped();
    assert_eq!((story.phase(), story.attempt(), story.machine.failures()), (Some(Phase::Securing), Attempt(2), 1));
    let story = story.applied().planned().applied();
    assert!(story.asks(&Effect::StartTunnel { attempt: Attempt(2), plan: fixtures::plan(0) }));
}

#[test]
fn a_tunnel_that_fails_before_it_worked_is_a_failed_attempt() {
    let story = Story::verifying(KillSwitch::WhileConnected).says(TunnelEvent::Failed(BlockReason::TunnelDevice));
    assert_eq!(
        (story.leaving(), story.machine.failures()),
        (Some((false, AfterDisconnect::Block(BlockReason::TunnelDevice))), 1)
    );
    for story in
        [Story::verifying(KillSwitch::WhileConnected), Story::verifying(KillSwitch::WhileConnected).says(TunnelEvent::Verified)]
    {
        assert_eq!(story.stopped().reason(), Some((BlockReason::TunnelDevice, Some(Attempt(2)))));
    }
}

#[test]
fn a_failure_while_leaving_changes_nothing() {
    let story =
        Story::connected(KillSwitch::WhileConnected).then(DISCONNECT).says(TunnelEvent::Failed(BlockReason::GatewaySilent));
    assert_eq!((story.leaving(), story.effects.len()), (Some((true, AfterDisconnect::Rest)), 1));
}

#[test]
fn a_stall_is_shown_and_passes() {
    let story = Story::connected(KillSwitch::WhileConnected).says(TunnelEvent::Stalled);
    let stalled = |story: &Story| story.machine.status().tunnel.map(|tunnel| tunnel.stalled);
    assert_eq!((stalled(&story), story.applies()), (Some(true), 0));
    assert_eq!(stalled(&story.says(TunnelEvent::Recovered)), Some(false));
    let story = Story::verifying(KillSwitch::WhileConnected).says(TunnelEvent::Stalled);
    assert_eq!((story.phase(), stalled(&story)), (Some(Phase::Verifying), Some(false)));
}

// ---- the firewall fails ----------------------------------------------------------------------------------------------

#[test]
fn a_refused_policy_is_tried_again_and_never_replaced_by_a_weaker_one() {
    let story = Story::at_rest(KillSwitch::WhileConnected).then(connect(Destination::Best));
    let generation = story.machine.generation();
    let story = story.refused();
    assert_eq!(story.reason(), Some((BlockReason::CannotProtect, Some(Attempt(2)))));
    assert_eq!((story.machine.apply_error(), story.is_open(), story.machine.in_force()), (Some("nft refused"), false, false));
    assert!(story.wait_of(Timer::Reapply(generation)).is_some());
    let story = story.then(Event::Timer(Timer::Reapply(Generation(generation.0 + 1))));
    assert_eq!(story.applies(), 0);
    let story = story.then(Event::Timer(Timer::Reapply(generation)));
    assert_eq!((story.applies(), story.machine.generation().0), (1, generation.0 + 1));
    let story = story.applied();
    assert_eq!((story.machine.apply_error(), story.machine.in_force()), (None, true));
    let story = story.then(Event::Timer(Timer::Reapply(Generation(generation.0 + 1))));
    assert_eq!(story.applies(), 0);
}

#[test]
fn a_new_attempt_does_not_wait_for_the_retry_of_a_failed_apply() {
    let story = Story::at_rest(KillSwitch::WhileConnected).then(connect(Destination::Best)).refused();
    let story = story.then(Event::Timer(Timer::Retry(Attempt(2))));
    assert_eq!((story.phase(), story.applies()), (Some(Phase::Securing), 1));
    // Not while the first try is still under way.
    let story = Story::at_rest(KillSwitch::WhileConnected).then(connect(Destination::Best)).then(RECONNECT);
    assert_eq!((story.attempt(), story.applies()), (Attempt(2), 0));
}

#[test]
fn a_refused_policy_is_tried_again_within_seconds_however_often_it_fails() {
    let mut story = Story::new(mode(KillSwitch::Always)).then(Event::Started { target: Some(Target::Disconnected) });
    for failures in 1..40_u32 {
        let generation = story.machine.generation();
        story = story.refused();
        let wait = story.wait_of(Timer::Reapply(generation)).expect("a retry");
        let limit = 1000_u64 << (failures - 1).min(3);
        assert!((500..=limit).contains(&wait), "{failures} failures: {wait} ms");
        story = story.then(Event::Timer(Timer::Reapply(generation)));
        assert_eq!(story.applies(), 1);
    }
    // Success forgets them.
    let story = story.applied().then(Event::PolicyLost("flushed".to_owned()));
    let generation = story.machine.generation();
    assert!(story.refused().wait_of(Timer::Reapply(generation)).is_some_and(|wait| wait <= 1000));
}

#[test]
fn a_running_tunnel_keeps_its_rules_when_new_ones_are_refused() {
    let settings = Settings { allow_lan: true, ..mode(KillSwitch::WhileConnected) };
    let facts = HostFacts { online: true, attached: vec![fixtures::net("192.168.1.0/24")], ..HostFacts::default() };
    let story = Story::connected(KillSwitch::WhileConnected)
        .then(Event::Host { facts, path_changed: false })
        .then(Event::SettingsChanged(settings))
        .refused();
    assert!(matches!(story.machine.state(), State::Connected { .. }));
    assert!(!story.machine.status().protected);
    let verifying = Story::verifying(KillSwitch::WhileConnected).then(Event::ApiAddresses(Vec::new())).refused();
    assert_eq!(verifying.leaving(), Some((false, AfterDisconnect::Block(BlockReason::CannotProtect))));
}

#[test]
fn a_lost_policy_is_applied_again_and_nothing_starts_meanwhile() {
    let story = Story::preparing(KillSwitch::WhileConnected).planned();
    let old = story.machine.generation();
    let story = story.then(Event::PolicyLost("flushed".to_owned()));
    assert_eq!((story.applies(), story.machine.acknowledged(), story.machine.apply_error()), (1, None, Some("flushed")));
    let story = story.then(Event::PolicyApplied { generation: old, result: Ok(()) });
    assert_eq!(story.phase(), Some(Phase::Admitting));
    assert_eq!(story.applied().phase(), Some(Phase::Verifying));
}

// ---- the host --------------------------------------------------------------------------------------------------------

#[test]
fn an_attempt_ends_when_the_link_goes_and_begins_when_it_comes() {
    let story = Story::preparing(KillSwitch::WhileConnected).then(host(false, true));
    assert_eq!(story.reason(), Some((BlockReason::Offline, None)));
    let story = story.then(host(false, false));
    assert_eq!(story.reason(), Some((BlockReason::Offline, None)));
    let story = story.then(RECONNECT);
    assert_eq!(story.reason(), Some((BlockReason::Offline, None)));
    assert_eq!(story.then(host(true, false)).phase(), Some(Phase::Preparing));
}

#[test]
fn a_link_that_comes_back_while_the_tunnel_goes_is_not_missed() {
    let story = Story::verifying(KillSwitch::WhileConnected).then(host(false, false));
    assert_eq!(story.leaving(), Some((false, AfterDisconnect::Block(BlockReason::Offline))));
    let story = story.then(host(true, true)).stopped();
    assert_eq!(story.reason(), Some((BlockReason::Offline, Some(Attempt(2)))));
    assert_eq!(story.then(Event::Timer(Timer::Retry(Attempt(2)))).phase(), Some(Phase::Securing));
}

#[test]
fn a_new_path_is_used_at_once() {
    let rebind = Effect::Rebind { attempt: Attempt(1) };
    let cases = [
        (Story::connected(KillSwitch::WhileConnected), true, true, true),
        (Story::connected(KillSwitch::WhileConnected), true, false, false),
        (Story::connected(KillSwitch::WhileConnected), false, true, false),
        (Story::verifying(KillSwitch::WhileConnected), true, true, true),
        (Story::verifying(KillSwitch::WhileConnected), true, false, false),
        (Story::verifying(KillSwitch::WhileConnected).says(TunnelEvent::Verified), true, true, true),
        (Story::preparing(KillSwitch::WhileConnected), true, true, false),
        (Story::at_rest(KillSwitch::WhileConnected), true, true, false),
    ];
    for (story, online, path_changed, expected) in cases {
        let before = story.machine.state().clone();
        let story = story.then(host(online, path_changed));
        assert_eq!(story.asks(&rebind), expected, "{before:?} {online} {path_changed}");
        assert_eq!(*story.machine.state(), before);
    }
}

#[test]
fn a_new_path_ends_the_wait_only_for_reasons_that_pass() {
    for reason in BlockReason::ALL {
        for (online, path_changed) in [(true, true), (true, false), (false, true)] {
            let story = Story::blocked(reason).then(host(online, path_changed));
            let expected = online && (reason == BlockReason::Offline || (path_changed && reason.retries()));
            assert_eq!(story.phase().is_some(), expected, "{reason:?} {online} {path_changed}");
        }
    }
}

#[test]
fn attached_networks_change_the_rules() {
    let settings = Settings { allow_lan: true, ..mode(KillSwitch::Always) };
    let facts = HostFacts { online: true, attached: vec![fixtures::net("192.168.7.0/24")], ..HostFacts::default() };
    let story = Story::new(settings)
        .then(Event::Started { target: Some(Target::Disconnected) })
        .then(Event::Host { facts: facts.clone(), path_changed: false });
    let Some(NetworkPolicy::Enforce(policy)) = story.machine.policy() else { panic!("open") };
    assert_eq!((&policy.lan, story.applies()), (&facts.attached, 1));
}

// ---- the account -----------------------------------------------------------------------------------------------------

#[test]
fn new_credentials_end_the_wait() {
    for reason in BlockReason::ALL {
        let story = Story::blocked(reason).then(Event::CredentialsChanged);
        let stays = matches!(reason, BlockReason::Offline | BlockReason::IntentUnreadable);
        assert_eq!(story.phase(), (!stays).then_some(Phase::Securing).map(|_| Phase::Preparing), "{reason:?}");
        assert_eq!(story.machine.failures(), u32::from(stays));
    }
}

#[test]
fn an_answer_made_with_old_credentials_does_not_count() {
    let story = Story::preparing(KillSwitch::WhileConnected).then(Event::CredentialsChanged);
    assert!(story.asks(&Effect::Prepare { attempt: Attempt(2), destination: Destination::Best, failures: 0 }));
    let story = story.then(Event::Prepared { attempt: Attempt(1), result: Err(BlockReason::LoggedOut) });
    assert_eq!((story.phase(), story.attempt()), (Some(Phase::Preparing), Attempt(2)));
    let story = Story::verifying(KillSwitch::WhileConnected)
        .says(TunnelEvent::Failed(BlockReason::DeviceRevoked))
        .then(Event::CredentialsChanged);
    assert_eq!(story.leaving(), Some((false, AfterDisconnect::Connect)));
}

#[test]
fn new_credentials_do_not_disturb_what_works_or_rests() {
    let cases = [
        Story::connected(KillSwitch::WhileConnected),
        Story::verifying(KillSwitch::WhileConnected),
        Story::at_rest(KillSwitch::WhileConnected),
        Story::at_rest(KillSwitch::WhileConnected).then(connect(Destination::Best)),
        Story::connected(KillSwitch::WhileConnected).then(DISCONNECT),
    ];
    for story in cases {
        let before = story.machine.state().clone();
        let story = story.then(Event::CredentialsChanged);
        assert_eq!((story.machine.state(), &story.effects[..]), (&before, &[Effect::Publish][..]));
    }
}
