//! Each transition of the machine as a small story: what happens, what is asked for, where it ends.

use hamn_core::effect::Effect;
use hamn_core::event::{Command, Event, HostFacts, TunnelEvent};
use hamn_core::location::{Destination, Target};
use hamn_core::machine::{ATTEMPT_TIMEOUT_MS, Machine};
use hamn_core::net::{Endpoint, TUNNEL_INTERFACE};
use hamn_core::policy::NetworkPolicy;
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::{AfterDisconnect, Attempt, BlockReason, Generation, Phase, State, Timer};
use hamn_core::status::StateKind;
use hamn_core::time::Now;
use hamn_model_tests::fixtures;

const NOW: Now = Now { monotonic_ms: 5000, unix_s: 1_700_000_000 };

struct Story {
    machine: Machine,
    effects: Vec<Effect>,
}

impl Story {
    fn new(settings: Settings) -> Self {
        Self {
            machine: Machine::new(settings, fixtures::api(&mut hamn_model_tests::random::Random::new(2)), 7),
            effects: Vec::new(),
        }
    }

    fn at_rest(kill_switch: KillSwitch) -> Self {
        Self::new(mode(kill_switch)).then(Event::Started { target: Some(Target::Disconnected) }).applied()
    }

    /// Connecting, the blocking policy in force, a server asked for.
    fn preparing(kill_switch: KillSwitch) -> Self {
        Self::at_rest(kill_switch).then(connect(Destination::Best)).applied()
    }

    fn verifying(kill_switch: KillSwitch) -> Self {
        Self::preparing(kill_switch).planned().applied()
    }

    fn connected(kill_switch: KillSwitch) -> Self {
        Self::verifying(kill_switch).says(TunnelEvent::Verified).applied()
    }

    fn blocked(reason: BlockReason) -> Self {
        let story = Self::preparing(KillSwitch::WhileConnected);
        let attempt = story.attempt();
        story.then(Event::Prepared { attempt, result: Err(reason) })
    }

    fn then(mut self, event: Event) -> Self {
        self.effects = self.machine.handle(event, NOW);
        self
    }

    fn applied(self) -> Self {
        let generation = self.machine.generation();
        self.then(Event::PolicyApplied { generation, result: Ok(()) })
    }

    fn refused(self) -> Self {
        let generation = self.machine.generation();
        self.then(Event::PolicyApplied { generation, result: Err("nft refused".to_owned()) })
    }

    fn planned(self) -> Self {
        let attempt = self.attempt();
        self.then(Event::Prepared { attempt, result: Ok(fixtures::plan(0)) })
    }

    fn says(self, event: TunnelEvent) -> Self {
        let attempt = self.attempt();
        self.then(Event::Tunnel { attempt, event })
    }

    fn stopped(self) -> Self {
        let attempt = self.attempt();
        self.then(Event::TunnelStopped { attempt })
    }

    fn attempt(&self) -> Attempt {
        match self.machine.state() {
            State::Connecting { attempt, .. } | State::Connected { attempt, .. } | State::Disconnecting { attempt, .. } => {
                *attempt
            }
            state @ (State::Disconnected | State::Stopping { .. } | State::Blocked { .. }) => panic!("no attempt in {state:?}"),
        }
    }

    fn phase(&self) -> Option<Phase> {
        if let State::Connecting { phase, .. } = self.machine.state() { Some(*phase) } else { None }
    }

    fn reason(&self) -> Option<(BlockReason, Option<Attempt>)> {
        if let State::Blocked { reason, retry } = self.machine.state() { Some((*reason, *retry)) } else { None }
    }

    fn leaving(&self) -> Option<(bool, AfterDisconnect)> {
        if let State::Disconnecting { verified, then, .. } = self.machine.state() {
            Some((*verified, then.clone()))
        } else {
            None
        }
    }

    fn is_open(&self) -> bool {
        self.machine.policy().is_some_and(NetworkPolicy::is_open)
    }

    fn applies(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Apply { .. })).count()
    }

    fn asks(&self, wanted: &Effect) -> bool {
        self.effects.contains(wanted)
    }

    fn wait_of(&self, wanted: Timer) -> Option<u64> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::SetTimer { timer, after_ms } if *timer == wanted => Some(*after_ms),
            Effect::SetTimer { .. }
            | Effect::PersistTarget(_)
            | Effect::Apply { .. }
            | Effect::Prepare { .. }
            | Effect::StartTunnel { .. }
            | Effect::StopTunnel { .. }
            | Effect::Rebind { .. }
            | Effect::Publish
            | Effect::Exit => None,
        })
    }
}

fn mode(kill_switch: KillSwitch) -> Settings {
    Settings { kill_switch, ..Settings::default() }
}

const fn connect(destination: Destination) -> Event {
    Event::Command(Command::Connect(destination))
}

fn host(online: bool, path_changed: bool) -> Event {
    Event::Host { facts: HostFacts { online, ipv4: online, ..HostFacts::default() }, path_changed }
}

fn wanted(destination: Destination) -> Target {
    Target::Connected { destination }
}

const DISCONNECT: Event = Event::Command(Command::Disconnect);
const RECONNECT: Event = Event::Command(Command::Reconnect);
const STOP: Event = Event::Shutdown { keep_blocking: false };
const RESTART: Event = Event::Shutdown { keep_blocking: true };

// ---- start -------------------------------------------------------------------------------------------------------

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

// ---- the way up --------------------------------------------------------------------------------------------------

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

// ---- commands ----------------------------------------------------------------------------------------------------

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

// ---- settings ----------------------------------------------------------------------------------------------------

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

// ---- failures ----------------------------------------------------------------------------------------------------

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

// ---- the firewall fails ------------------------------------------------------------------------------------------

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

// ---- the host ----------------------------------------------------------------------------------------------------

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

// ---- the account -------------------------------------------------------------------------------------------------

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

// ---- the end -----------------------------------------------------------------------------------------------------

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

// ---- what readers see --------------------------------------------------------------------------------------------

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
