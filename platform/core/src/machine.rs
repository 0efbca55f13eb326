//! The state machine: one event in, effects out. It never mentions the firewall in a handler; `reconcile_policy`
//! compares what `policy_for` wants with what was asked for last, and a tunnel starts only once that is in force.

use crate::backoff;
use crate::effect::Effect;
use crate::event::{Command, Event, HostFacts, TunnelEvent};
use crate::location::{Destination, Target};
use crate::plan::TunnelPlan;
use crate::policy::{Facts, NetworkPolicy, policy_for};
use crate::settings::{KillSwitch, Settings};
use crate::state::{AfterDisconnect, Attempt, BlockReason, Generation, Phase, State, Timer};
use crate::time::Now;

mod snapshot;

/// After this long an attempt gives way to the next one (G22), in milliseconds.
pub const ATTEMPT_TIMEOUT_MS: u64 = 45_000;

/// A failed apply is tried again after at most 2^(this - 1) seconds: it is a local call, and until it succeeds protection is not certain.
const REAPPLY_STEPS: u32 = 4;

/// Decides. Holds no handle to anything.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    target: Target,
    settings: Settings,
    facts: Facts,
    host: Option<HostFacts>,
    attempts: u64,
    failures: u32,
    /// The attempt whose tunnel was started and not yet reported as stopped.
    tunnel: Option<Attempt>,
    wanted: Option<NetworkPolicy>,
    generation: Generation,
    acknowledged: Option<Generation>,
    apply_failures: u32,
    apply_error: Option<String>,
    random: u64,
    /// `Event::Started` was seen. Before it nothing is known of the intent, so nothing is asked for.
    started: bool,
}

impl Machine {
    /// A machine that has not been started: it asks for nothing until `Event::Started`.
    ///
    /// `seed` feeds the jitter of retries; `api` are the pinned API addresses known from disk.
    #[must_use]
    pub const fn new(settings: Settings, api: Vec<crate::net::Endpoint>, seed: u64) -> Self {
        Self {
            state: State::Disconnected,
            target: Target::Disconnected,
            settings,
            facts: Facts { api, attached: Vec::new() },
            host: None,
            attempts: 0,
            failures: 0,
            tunnel: None,
            wanted: None,
            generation: Generation(0),
            acknowledged: None,
            apply_failures: 0,
            apply_error: None,
            random: seed,
            started: false,
        }
    }

    /// Takes one event and says what to do, in order.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.started {
            self.transition(event, now, &mut effects);
        } else {
            self.before_start(event, now, &mut effects);
            if !self.started {
                return effects;
            }
        }
        self.reconcile_policy(&mut effects);
        self.advance_when_secured(now, &mut effects);
        effects.push(Effect::Publish);
        effects
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The intent.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The settings in use.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The policy that was asked for last.
    #[must_use]
    pub const fn policy(&self) -> Option<&NetworkPolicy> {
        self.wanted.as_ref()
    }

    /// Number of the policy that was asked for last.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Number of the newest policy that is known to be in force.
    #[must_use]
    pub const fn acknowledged(&self) -> Option<Generation> {
        self.acknowledged
    }

    /// Why the wanted policy is not in force, after a failure.
    #[must_use]
    pub fn apply_error(&self) -> Option<&str> {
        self.apply_error.as_deref()
    }

    /// Attempts in a row that failed.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// True when the wanted policy is in force.
    #[must_use]
    pub fn in_force(&self) -> bool {
        self.wanted.is_some() && self.acknowledged == Some(self.generation)
    }

    /// True when intent or lockdown forbid an open network. The rules stay through the end of the helper.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let unreadable =
            matches!(self.state, State::Blocked { reason: BlockReason::IntentUnreadable, .. } | State::Stopping { closed: true });
        let wanted = matches!(self.target, Target::Connected { .. }) && self.settings.kill_switch != KillSwitch::Off;
        unreadable || wanted || self.settings.kill_switch == KillSwitch::Always
    }

    // ---- state changes -------------------------------------------------------------------------------------------

    fn transition(&mut self, event: Event, now: Now, effects: &mut Vec<Effect>) {
        if matches!(self.state, State::Stopping { .. }) && !matches!(event, Event::PolicyApplied { .. }) {
            return;
        }
        match event {
            // It starts once.
            Event::Started { .. } => {}
            Event::Command(Command::Connect(destination)) => self.connect(destination, now, effects),
            Event::Command(Command::Disconnect) => self.disconnect(effects),
            Event::Command(Command::Reconnect) => self.reconnect(now, effects),
            Event::SettingsChanged(settings) => self.settings_changed(settings, now, effects),
            Event::PolicyApplied { generation, result } => self.policy_applied(generation, result, now, effects),
            Event::Prepared { attempt, result } => self.prepared(attempt, result, now, effects),
            Event::Tunnel { attempt, event } => self.tunnel_event(attempt, &event, now, effects),
            Event::TunnelStopped { attempt } => self.tunnel_stopped(attempt, now, effects),
            Event::Host { facts, path_changed } => self.host_changed(facts, path_changed, now, effects),
            Event::PolicyLost(reason) => self.policy_lost(reason),
            Event::ApiAddresses(api) => self.facts.api = api,
            Event::CredentialsChanged => self.credentials_changed(now, effects),
            Event::Timer(timer) => self.timer(timer, now, effects),
            Event::Shutdown { keep_blocking } => self.shutdown(keep_blocking, effects),
        }
    }

    /// Before the start only facts are taken in: the state is not known yet, and a policy made from a guess could open.
    fn before_start(&mut self, event: Event, now: Now, effects: &mut Vec<Effect>) {
        match event {
            Event::Started { target } => {
                self.started = true;
                self.started(target, now, effects);
            }
            Event::Host { facts, .. } => {
                self.facts.attached.clone_from(&facts.attached);
                self.host = Some(facts);
            }
            Event::ApiAddresses(api) => self.facts.api = api,
            Event::SettingsChanged(settings) => self.settings = settings,
            // The kernel keeps what the last helper, or the boot, left there.
            Event::Shutdown { .. } => effects.push(Effect::Exit),
            Event::Command(_)
            | Event::PolicyApplied { .. }
            | Event::Prepared { .. }
            | Event::Tunnel { .. }
            | Event::TunnelStopped { .. }
            | Event::PolicyLost(_)
            | Event::CredentialsChanged
            | Event::Timer(_) => {}
        }
    }

    fn started(&mut self, target: Option<Target>, now: Now, effects: &mut Vec<Effect>) {
        match target {
            None => self.state = State::Blocked { reason: BlockReason::IntentUnreadable, retry: None },
            Some(Target::Connected { destination }) => {
                self.target = Target::Connected { destination };
                self.begin_attempt(now, effects);
            }
            Some(Target::Disconnected) if self.settings.auto_connect => {
                let destination = self.settings.destination.clone();
                self.connect(destination, now, effects);
            }
            Some(Target::Disconnected) => self.state = State::Disconnected,
        }
    }

    fn connect(&mut self, destination: Destination, now: Now, effects: &mut Vec<Effect>) {
        let target = Target::Connected { destination };
        let same = self.target == target;
        if same && matches!(self.state, State::Connected { .. } | State::Connecting { .. }) {
            return;
        }
        self.target = target;
        effects.push(Effect::PersistTarget(self.target.clone()));
        self.failures = 0;
        self.leave_then(AfterDisconnect::Connect, now, effects);
    }

    fn disconnect(&mut self, effects: &mut Vec<Effect>) {
        self.target = Target::Disconnected;
        effects.push(Effect::PersistTarget(Target::Disconnected));
        self.failures = 0;
        self.leave_then(AfterDisconnect::Rest, Now::default(), effects);
    }

    fn reconnect(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if matches!(self.target, Target::Connected { .. }) {
            self.failures = 0;
            self.leave_then(AfterDisconnect::Connect, now, effects);
        }
    }

    fn settings_changed(&mut self, settings: Settings, now: Now, effects: &mut Vec<Effect>) {
        let replan = settings.ipv6 != self.settings.ipv6 || settings.mtu != self.settings.mtu;
        self.settings = settings;
        if replan && matches!(self.state, State::Connected { .. } | State::Connecting { .. }) {
            self.leave_then(AfterDisconnect::Connect, now, effects);
        }
    }

    fn policy_applied(&mut self, generation: Generation, result: Result<(), String>, now: Now, effects: &mut Vec<Effect>) {
        if generation != self.generation {
            return;
        }
        match result {
            Ok(()) => {
                self.acknowledged = Some(generation);
                self.apply_failures = 0;
                self.apply_error = None;
            }
            Err(reason) => {
                self.apply_failures = self.apply_failures.saturating_add(1);
                self.apply_error = Some(reason);
                if matches!(self.state, State::Stopping { .. }) {
                    // The kernel keeps the earlier, not more open policy.
                    return effects.push(Effect::Exit);
                }
                let after_ms = backoff::delay_ms(self.apply_failures.min(REAPPLY_STEPS), self.next_random());
                effects.push(Effect::SetTimer { timer: Timer::Reapply(generation), after_ms });
                if let State::Connecting { .. } = self.state {
                    self.fail(BlockReason::CannotProtect, now, effects);
                }
            }
        }
    }

    fn policy_lost(&mut self, reason: String) {
        self.apply_error = Some(reason);
        self.acknowledged = None;
        self.wanted = None;
    }

    fn prepared(&mut self, attempt: Attempt, result: Result<TunnelPlan, BlockReason>, now: Now, effects: &mut Vec<Effect>) {
        let State::Connecting { attempt: current, phase: Phase::Preparing, .. } = &self.state else { return };
        if *current != attempt {
            return;
        }
        match result {
            Ok(plan) => self.state = State::Connecting { attempt, phase: Phase::Admitting, plan: Some(plan) },
            Err(reason) => self.fail(reason, now, effects),
        }
    }

    fn tunnel_event(&mut self, from: Attempt, event: &TunnelEvent, now: Now, effects: &mut Vec<Effect>) {
        if self.tunnel != Some(from) {
            return;
        }
        match event {
            TunnelEvent::Verified => {
                if let State::Connecting { attempt, phase: phase @ Phase::Verifying, .. } = &mut self.state
                    && *attempt == from
                {
                    *phase = Phase::Routing;
                }
            }
            TunnelEvent::Stalled | TunnelEvent::Recovered => {
                if let State::Connected { stalled, .. } = &mut self.state {
                    *stalled = *event == TunnelEvent::Stalled;
                }
            }
            TunnelEvent::Failed(reason) => match &self.state {
                State::Connecting { .. } => self.fail(*reason, now, effects),
                // A tunnel that worked is replaced at once; only what follows counts as a failure in a row.
                State::Connected { .. } => {
                    self.failures = 1;
                    self.leave_then(AfterDisconnect::Connect, now, effects);
                }
                State::Disconnected | State::Disconnecting { .. } | State::Stopping { .. } | State::Blocked { .. } => {}
            },
        }
    }

    fn tunnel_stopped(&mut self, from: Attempt, now: Now, effects: &mut Vec<Effect>) {
        if self.tunnel != Some(from) {
            return;
        }
        self.tunnel = None;
        match self.state.clone() {
            State::Disconnecting { then, .. } => self.follow(then, now, effects),
            // Nobody asked for the end: the tunnel is gone all the same.
            State::Connecting { phase: Phase::Verifying | Phase::Routing, .. } => {
                self.fail(BlockReason::TunnelDevice, now, effects)
            }
            State::Connected { .. } => {
                self.failures = 1;
                self.begin_attempt(now, effects);
            }
            State::Connecting { .. } | State::Disconnected | State::Stopping { .. } | State::Blocked { .. } => {}
        }
    }

    fn host_changed(&mut self, facts: HostFacts, path_changed: bool, now: Now, effects: &mut Vec<Effect>) {
        self.facts.attached.clone_from(&facts.attached);
        let online = facts.online;
        self.host = Some(facts);
        match &self.state {
            State::Connecting { .. } if !online => self.fail(BlockReason::Offline, now, effects),
            State::Connected { attempt, .. } if online && path_changed => effects.push(Effect::Rebind { attempt: *attempt }),
            State::Connecting { attempt, phase: Phase::Verifying | Phase::Routing, .. } if path_changed => {
                effects.push(Effect::Rebind { attempt: *attempt });
            }
            State::Blocked { reason, .. }
                if online && (*reason == BlockReason::Offline || (path_changed && reason.retries())) =>
            {
                self.begin_attempt(now, effects);
            }
            State::Disconnected
            | State::Connecting { .. }
            | State::Connected { .. }
            | State::Disconnecting { .. }
            | State::Stopping { .. }
            | State::Blocked { .. } => {}
        }
    }

    fn credentials_changed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        match &mut self.state {
            State::Blocked { reason, .. } if !matches!(reason, BlockReason::Offline | BlockReason::IntentUnreadable) => {
                self.failures = 0;
                self.begin_attempt(now, effects);
            }
            // The answer that is under way was made with the old credentials.
            State::Connecting { phase: Phase::Preparing, .. } => self.begin_attempt(now, effects),
            // The reason to stay blocked is gone before the tunnel is.
            State::Disconnecting { then: then @ AfterDisconnect::Block(_), .. } => *then = AfterDisconnect::Connect,
            State::Disconnected
            | State::Connecting { .. }
            | State::Connected { .. }
            | State::Disconnecting { .. }
            | State::Stopping { .. }
            | State::Blocked { .. } => {}
        }
    }

    fn timer(&mut self, timer: Timer, now: Now, effects: &mut Vec<Effect>) {
        match timer {
            Timer::Retry(number) => {
                if let State::Blocked { retry: Some(expected), .. } = self.state
                    && expected == number
                {
                    self.begin_attempt(now, effects);
                }
            }
            Timer::AttemptTimeout(number) => {
                if let State::Connecting { attempt, phase, .. } = self.state
                    && attempt == number
                {
                    let reason = match phase {
                        Phase::Securing | Phase::Admitting | Phase::Routing => BlockReason::CannotProtect,
                        Phase::Preparing => BlockReason::ApiUnreachable,
                        Phase::Verifying => BlockReason::GatewaySilent,
                    };
                    self.fail(reason, now, effects);
                }
            }
            Timer::Reapply(generation) => {
                if generation == self.generation && self.acknowledged != Some(generation) {
                    self.wanted = None;
                }
            }
        }
    }

    fn shutdown(&mut self, keep_blocking: bool, effects: &mut Vec<Effect>) {
        if keep_blocking {
            effects.push(Effect::Exit);
            return;
        }
        self.leave_then(AfterDisconnect::Stop, Now::default(), effects);
    }

    // ---- shared steps --------------------------------------------------------------------------------------------

    /// Ends the tunnel if there is one, then does `then`; at once if there is none.
    fn leave_then(&mut self, then: AfterDisconnect, now: Now, effects: &mut Vec<Effect>) {
        let Some(attempt) = self.tunnel else { return self.follow(then, now, effects) };
        match self.state.clone() {
            State::Connecting { plan: Some(plan), phase, .. } => {
                effects.push(Effect::StopTunnel { attempt });
                self.state = State::Disconnecting { attempt, plan, verified: phase == Phase::Routing, then };
            }
            State::Connected { plan, .. } => {
                effects.push(Effect::StopTunnel { attempt });
                self.state = State::Disconnecting { attempt, plan, verified: true, then };
            }
            // A helper that was asked to end ends, whatever is asked for meanwhile.
            State::Disconnecting { then: AfterDisconnect::Stop, .. } => {}
            State::Disconnecting { plan, verified, .. } => self.state = State::Disconnecting { attempt, plan, verified, then },
            State::Disconnected | State::Connecting { .. } | State::Stopping { .. } | State::Blocked { .. } => {
                self.follow(then, now, effects)
            }
        }
    }

    fn follow(&mut self, then: AfterDisconnect, now: Now, effects: &mut Vec<Effect>) {
        match then {
            AfterDisconnect::Rest => self.state = State::Disconnected,
            AfterDisconnect::Connect => self.begin_attempt(now, effects),
            AfterDisconnect::Stop => {
                self.state = State::Stopping { closed: self.is_closed() };
                self.apply_again_if_failed();
            }
            AfterDisconnect::Block(reason) => self.block(reason, effects),
        }
    }

    fn offline(&self) -> bool {
        self.host.as_ref().is_some_and(|host| !host.online)
    }

    fn begin_attempt(&mut self, _now: Now, effects: &mut Vec<Effect>) {
        if self.offline() {
            return self.block(BlockReason::Offline, effects);
        }
        self.attempts = self.attempts.saturating_add(1);
        let attempt = Attempt(self.attempts);
        self.state = State::Connecting { attempt, phase: Phase::Securing, plan: None };
        effects.push(Effect::SetTimer { timer: Timer::AttemptTimeout(attempt), after_ms: ATTEMPT_TIMEOUT_MS });
        self.apply_again_if_failed();
    }

    /// Nothing goes on until the policy is in force, so a new attempt or the end does not wait for the timer of a failed apply.
    fn apply_again_if_failed(&mut self) {
        if self.apply_error.is_some() && !self.in_force() {
            self.wanted = None;
        }
    }

    /// The attempt failed: its tunnel goes, the block stays, and a retry follows where that can help.
    fn fail(&mut self, reason: BlockReason, now: Now, effects: &mut Vec<Effect>) {
        self.failures = self.failures.saturating_add(1);
        self.leave_then(AfterDisconnect::Block(reason), now, effects);
    }

    fn block(&mut self, reason: BlockReason, effects: &mut Vec<Effect>) {
        // A link that came back meanwhile, or that only the tunnel finds dead, gives no further event to wait for.
        let retries = reason.retries() || (reason == BlockReason::Offline && !self.offline());
        let retry = retries.then(|| {
            let number = Attempt(self.attempts.saturating_add(1));
            let after_ms = backoff::delay_ms(self.failures, self.next_random());
            effects.push(Effect::SetTimer { timer: Timer::Retry(number), after_ms });
            number
        });
        self.state = State::Blocked { reason, retry };
    }

    // ---- policy --------------------------------------------------------------------------------------------------

    fn reconcile_policy(&mut self, effects: &mut Vec<Effect>) {
        let wanted = policy_for(&self.state, &self.settings, &self.facts);
        if self.wanted.as_ref() == Some(&wanted) {
            if matches!(self.state, State::Stopping { .. }) && self.in_force() {
                effects.push(Effect::Exit);
            }
            return;
        }
        self.generation = Generation(self.generation.0.saturating_add(1));
        self.wanted = Some(wanted.clone());
        effects.push(Effect::Apply { generation: self.generation, policy: wanted });
    }

    /// Goes on only under an acknowledged policy: the shape that makes "firewall before tunnel" true.
    fn advance_when_secured(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.in_force() {
            return;
        }
        let State::Connecting { attempt, phase, plan } = &self.state else { return };
        let (attempt, plan) = (*attempt, plan.clone());
        match (phase, plan) {
            (Phase::Securing, plan) => {
                let Target::Connected { destination } = &self.target else { return };
                effects.push(Effect::Prepare { attempt, destination: destination.clone(), failures: self.failures });
                self.state = State::Connecting { attempt, phase: Phase::Preparing, plan };
            }
            (Phase::Admitting, Some(plan)) if self.tunnel.is_none() => {
                self.tunnel = Some(attempt);
                effects.push(Effect::StartTunnel { attempt, plan: plan.clone() });
                self.state = State::Connecting { attempt, phase: Phase::Verifying, plan: Some(plan) };
            }
            (Phase::Routing, Some(plan)) => {
                self.failures = 0;
                self.state = State::Connected { attempt, plan, since: now, stalled: false };
            }
            (Phase::Preparing | Phase::Admitting | Phase::Verifying | Phase::Routing, _) => {}
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): jitter needs no more.
    const fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
