//! A machine that is told events one by one, with the shortest words for what happens and what is seen.

use hamn_core::effect::Effect;
use hamn_core::event::{Command, Event, HostFacts, TunnelEvent};
use hamn_core::location::{Destination, Target};
use hamn_core::machine::Machine;
use hamn_core::policy::NetworkPolicy;
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::{AfterDisconnect, Attempt, BlockReason, Phase, State, Timer};
use hamn_core::time::Now;
use hamn_model_tests::fixtures;

pub const NOW: Now = Now { monotonic_ms: 5000, unix_s: 1_700_000_000 };

pub struct Story {
    pub machine: Machine,
    pub effects: Vec<Effect>,
}

impl Story {
    pub fn new(settings: Settings) -> Self {
        Self {
            machine: Machine::new(settings, fixtures::api(&mut hamn_model_tests::random::Random::new(2)), 7),
            effects: Vec::new(),
        }
    }

    pub fn at_rest(kill_switch: KillSwitch) -> Self {
        Self::new(mode(kill_switch)).then(Event::Started { target: Some(Target::Disconnected) }).applied()
    }

    /// Connecting, the blocking policy in force, a server asked for.
    pub fn preparing(kill_switch: KillSwitch) -> Self {
        Self::at_rest(kill_switch).then(connect(Destination::Best)).applied()
    }

    pub fn verifying(kill_switch: KillSwitch) -> Self {
        Self::preparing(kill_switch).planned().applied()
    }

    pub fn connected(kill_switch: KillSwitch) -> Self {
        Self::verifying(kill_switch).says(TunnelEvent::Verified).applied()
    }

    pub fn blocked(reason: BlockReason) -> Self {
        let story = Self::preparing(KillSwitch::WhileConnected);
        let attempt = story.attempt();
        story.then(Event::Prepared { attempt, result: Err(reason) })
    }

    pub fn then(mut self, event: Event) -> Self {
        self.effects = self.machine.handle(event, NOW);
        self
    }

    pub fn applied(self) -> Self {
        let generation = self.machine.generation();
        self.then(Event::PolicyApplied { generation, result: Ok(()) })
    }

    pub fn refused(self) -> Self {
        let generation = self.machine.generation();
        self.then(Event::PolicyApplied { generation, result: Err("nft refused".to_owned()) })
    }

    pub fn planned(self) -> Self {
        let attempt = self.attempt();
        self.then(Event::Prepared { attempt, result: Ok(fixtures::plan(0)) })
    }

    pub fn says(self, event: TunnelEvent) -> Self {
        let attempt = self.attempt();
        self.then(Event::Tunnel { attempt, event })
    }

    pub fn stopped(self) -> Self {
        let attempt = self.attempt();
        self.then(Event::TunnelStopped { attempt })
    }

    pub fn attempt(&self) -> Attempt {
        match self.machine.state() {
            State::Connecting { attempt, .. } | State::Connected { attempt, .. } | State::Disconnecting { attempt, .. } => {
                *attempt
            }
            state @ (State::Disconnected | State::Stopping { .. } | State::Blocked { .. }) => panic!("no attempt in {state:?}"),
        }
    }

    pub fn phase(&self) -> Option<Phase> {
        if let State::Connecting { phase, .. } = self.machine.state() { Some(*phase) } else { None }
    }

    pub fn reason(&self) -> Option<(BlockReason, Option<Attempt>)> {
        if let State::Blocked { reason, retry } = self.machine.state() { Some((*reason, *retry)) } else { None }
    }

    pub fn leaving(&self) -> Option<(bool, AfterDisconnect)> {
        if let State::Disconnecting { verified, then, .. } = self.machine.state() {
            Some((*verified, then.clone()))
        } else {
            None
        }
    }

    pub fn is_open(&self) -> bool {
        self.machine.policy().is_some_and(NetworkPolicy::is_open)
    }

    pub fn applies(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Apply { .. })).count()
    }

    pub fn asks(&self, wanted: &Effect) -> bool {
        self.effects.contains(wanted)
    }

    pub fn wait_of(&self, wanted: Timer) -> Option<u64> {
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

pub fn mode(kill_switch: KillSwitch) -> Settings {
    Settings { kill_switch, ..Settings::default() }
}

pub const fn connect(destination: Destination) -> Event {
    Event::Command(Command::Connect(destination))
}

pub fn host(online: bool, path_changed: bool) -> Event {
    Event::Host { facts: HostFacts { online, ipv4: online, ..HostFacts::default() }, path_changed }
}

pub fn wanted(destination: Destination) -> Target {
    Target::Connected { destination }
}

pub const DISCONNECT: Event = Event::Command(Command::Disconnect);
pub const RECONNECT: Event = Event::Command(Command::Reconnect);
pub const STOP: Event = Event::Shutdown { keep_blocking: false };
pub const RESTART: Event = Event::Shutdown { keep_blocking: true };
