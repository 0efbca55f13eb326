//! The simulated shell: hands events to the machine, executes its effects in order, and checks the properties after each event.

use std::collections::VecDeque;
use std::fmt::Debug;

use hamn_core::effect::Effect;
use hamn_core::event::{Command, Event};
use hamn_core::location::Target;
use hamn_core::machine::Machine;
use hamn_core::policy::{Facts, NetworkPolicy, TunnelTraffic, policy_for};
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::{Attempt, BlockReason, Generation, Phase, State, Timer};
use hamn_core::time::Now;

use crate::host::{Disk, Intent, Kernel, LiveTunnel, Stamp, Task, Weather, Work};
use crate::random::Random;

/// A broken property, in words.
pub type Violation = String;

/// Ok, or a broken property.
pub type Checked = Result<(), Violation>;

/// Says what is broken unless `condition` holds.
///
/// # Errors
/// The condition does not hold.
pub fn ensure(condition: bool, broken: &str, detail: &dyn Debug) -> Checked {
    if condition { Ok(()) } else { Err(format!("{broken}: {detail:?}")) }
}

/// What happened, for the reader of a green run: a model that never opens or connects proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Events handed to a machine.
    pub events: u64,
    /// Helper processes that ended by a crash.
    pub crashes: u64,
    /// Helper processes that were started.
    pub starts: u64,
    /// Tunnels started.
    pub tunnels: u64,
    /// Times the state became Connected.
    pub connected: u64,
    /// Policies applied with success.
    pub applies: u64,
    /// Applies that failed.
    pub failed_applies: u64,
    /// Applies that opened the network.
    pub opened: u64,
    /// Stale events, all inert.
    pub stale: u64,
    /// Times that everything was made friendly and every goal was reached.
    pub settled: u64,
}

/// The helper process and its host.
#[derive(Clone, Debug)]
pub struct World {
    /// The machine under test.
    pub machine: Machine,
    /// The helper runs.
    pub alive: bool,
    /// `Event::Started` was delivered.
    pub started: bool,
    /// A shutdown (not a restart) was delivered to this process.
    pub stopping: bool,
    /// Model time.
    pub now: Now,
    /// What survives a crash.
    pub disk: Disk,
    /// What outlives the helper.
    pub kernel: Kernel,
    /// What goes well.
    pub weather: Weather,
    /// Work in hand.
    pub works: Vec<Work>,
    /// Timers, at most one of a kind.
    pub timers: Vec<(Timer, u64)>,
    /// Tunnels that run.
    pub tunnels: Vec<LiveTunnel>,
    /// The tunnel that the machine was not yet told the end of.
    pub unreported: Option<Attempt>,
    /// The model's own notion of intent.
    pub intent: Intent,
    /// Facts that the machine was told.
    pub facts: Facts,
    /// Online as the machine was told.
    pub online: bool,
    /// Policies at or after this stamp belong to a closed network.
    pub sealed: Option<Stamp>,
    /// Number of the helper process.
    pub process: u64,
    /// Answers that were delivered lately, for duplicates.
    pub history: VecDeque<Event>,
    /// Counts.
    pub counts: Counts,
    /// Tell every event on standard error (`HAMN_MODEL_TRACE`).
    pub trace: bool,
    last_attempt: Attempt,
    last_stopped: Option<Attempt>,
    connecting: Option<(Attempt, u64)>,
}

impl World {
    /// A computer at rest with this disk, nothing of ours in the kernel, and a helper that was just executed.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let disk = Disk { target: Some(Target::Disconnected), settings, api: Vec::new() };
        let intent = disk.intent();
        let sealed = intent.closed().then_some(Stamp { process: 1, generation: Generation(0) });
        Self {
            machine: Machine::new(disk.settings.clone(), Vec::new(), seed),
            alive: true,
            started: false,
            stopping: false,
            now: Now { monotonic_ms: 1000, unix_s: 1_700_000_000 },
            disk,
            kernel: Kernel {
                policy: NetworkPolicy::Open,
                stamp: Stamp { process: 0, generation: Generation(0) },
                damaged: false,
            },
            weather: Weather::FRIENDLY,
            works: Vec::new(),
            timers: Vec::new(),
            tunnels: Vec::new(),
            unreported: None,
            intent,
            facts: Facts::default(),
            online: true,
            sealed,
            process: 1,
            history: VecDeque::new(),
            counts: Counts { starts: 1, ..Counts::default() },
            trace: false,
            last_attempt: Attempt(0),
            last_stopped: None,
            connecting: None,
        }
    }

    // ---- the life of the process ---------------------------------------------------------------------------------

    /// The process is gone: its tunnels, timers and work with it. Kernel and disk stay.
    pub fn die(&mut self) {
        self.alive = false;
        self.works.clear();
        self.timers.clear();
        self.tunnels.clear();
        self.unreported = None;
        self.connecting = None;
    }

    /// A new process from what is on disk.
    ///
    /// # Errors
    /// The new process would promise less than the old one did.
    pub fn start(&mut self, seed: u64) -> Checked {
        self.process += 1;
        self.counts.starts += 1;
        self.machine = Machine::new(self.disk.settings.clone(), self.disk.api.clone(), seed);
        self.alive = true;
        self.started = false;
        self.stopping = false;
        self.last_attempt = Attempt(0);
        self.last_stopped = None;
        self.facts = Facts { api: self.disk.api.clone(), attached: Vec::new() };
        self.online = true;
        self.history.clear();
        self.intent = self.disk.intent();
        self.seal(Stamp { process: self.process, generation: Generation(0) });
        self.check_kernel()
    }

    /// The computer restarts: the kernel starts empty, and the early-boot unit closes it when the stored intent is closed (G7).
    ///
    /// # Errors
    /// See `start`.
    pub fn reboot(&mut self, seed: u64) -> Checked {
        self.die();
        let closed = self.disk.intent().closed();
        self.kernel.policy =
            if closed { NetworkPolicy::Enforce(hamn_core::policy::Enforced::default()) } else { NetworkPolicy::Open };
        self.kernel.damaged = false;
        self.kernel.stamp = Stamp { process: self.process + 1, generation: Generation(0) };
        self.start(seed)
    }

    fn seal(&mut self, stamp: Stamp) {
        if !self.intent.closed() {
            self.sealed = None;
        } else if self.sealed.is_none() {
            self.sealed = Some(stamp);
        }
    }

    // ---- events and effects --------------------------------------------------------------------------------------

    /// Hands one event to the machine, checks everything, executes the effects; with `crash_after`, only that many of them.
    ///
    /// # Errors
    /// A broken property.
    pub fn deliver(&mut self, event: Event, crash_after: Option<usize>, random: &mut Random) -> Checked {
        self.counts.events += 1;
        let before = self.intent.clone();
        let old_generation = self.machine.generation();
        let was_connected = matches!(self.machine.state(), State::Connected { .. });
        let stale = self.is_stale(&event);
        let image = stale.then(|| format!("{:?}", self.machine));
        self.note(&event);
        let effects = self.machine.handle(event.clone(), self.now);
        if self.trace {
            eprintln!(
                "{} ms, process {}: {event:?} => {:?} {effects:?}\n",
                self.now.monotonic_ms,
                self.process,
                self.machine.state()
            );
        }
        if let Some(image) = image {
            self.counts.stale += 1;
            let same = image == format!("{:?}", self.machine);
            ensure(same && effects == [Effect::Publish], "a stale event is not inert", &(&event, &effects))?;
        }
        // Before the start the kernel holds what others left there; the first apply of this process is number 1.
        let generation = self.machine.generation().max(Generation(1));
        self.seal(Stamp { process: self.process, generation });
        if self.started {
            self.check_effects(&event, &before, &effects, old_generation)?;
            self.check_machine()?;
        }
        if !was_connected && matches!(self.machine.state(), State::Connected { .. }) {
            self.counts.connected += 1;
            ensure(self.machine.in_force(), "Connected without the routing policy in force", self.machine.state())?;
        }
        let total = effects.len();
        for effect in effects.into_iter().take(crash_after.unwrap_or(total)) {
            self.execute(effect, random)?;
            if !self.alive {
                break;
            }
        }
        if crash_after.is_some() {
            self.counts.crashes += 1;
            self.die();
            self.start(random.next())?;
        }
        self.check_kernel()
    }

    /// The model's own reading of an event.
    fn note(&mut self, event: &Event) {
        // An invented answer must not be remembered: it could come true later.
        let real = !self.is_stale(event);
        if real
            && matches!(
                event,
                Event::PolicyApplied { .. } | Event::Prepared { .. } | Event::Tunnel { .. } | Event::TunnelStopped { .. }
            )
        {
            self.history.push_front(event.clone());
            self.history.truncate(12);
        }
        let ending = matches!(self.machine.state(), State::Stopping { .. });
        match event {
            Event::Started { target } if !self.started => {
                self.started = true;
                self.intent.target.clone_from(target);
                if *target == Some(Target::Disconnected) && self.intent.settings.auto_connect {
                    let destination = self.intent.settings.destination.clone();
                    self.intent.target = Some(Target::Connected { destination });
                }
            }
            Event::Command(Command::Connect(destination)) if self.started && !ending => {
                self.intent.target = Some(Target::Connected { destination: destination.clone() });
            }
            Event::Command(Command::Disconnect) if self.started && !ending => self.intent.target = Some(Target::Disconnected),
            Event::SettingsChanged(settings) if !ending => self.intent.settings = settings.clone(),
            Event::Host { facts, .. } if !ending => {
                self.facts.attached.clone_from(&facts.attached);
                self.online = facts.online;
            }
            Event::ApiAddresses(api) if !ending => self.facts.api.clone_from(api),
            Event::Shutdown { keep_blocking: false } if self.started => self.stopping = true,
            Event::TunnelStopped { attempt } if self.unreported == Some(*attempt) => self.unreported = None,
            Event::Started { .. }
            | Event::Command(_)
            | Event::SettingsChanged(_)
            | Event::PolicyApplied { .. }
            | Event::Prepared { .. }
            | Event::Tunnel { .. }
            | Event::TunnelStopped { .. }
            | Event::Host { .. }
            | Event::PolicyLost(_)
            | Event::ApiAddresses(_)
            | Event::CredentialsChanged
            | Event::Timer(_)
            | Event::Shutdown { .. } => {}
        }
    }

    /// The event belongs to an attempt, policy or timer that is over.
    #[must_use]
    pub fn is_stale(&self, event: &Event) -> bool {
        if !self.started || matches!(self.machine.state(), State::Stopping { .. }) {
            return false;
        }
        let state = self.machine.state();
        match event {
            Event::Started { .. } => true,
            Event::PolicyApplied { generation, .. } => *generation != self.machine.generation(),
            Event::Prepared { attempt, .. } => {
                !matches!(state, State::Connecting { attempt: current, phase: Phase::Preparing, .. } if current == attempt)
            }
            Event::Tunnel { attempt, .. } | Event::TunnelStopped { attempt } => self.unreported != Some(*attempt),
            Event::Timer(Timer::Retry(number)) => {
                !matches!(state, State::Blocked { retry: Some(expected), .. } if expected == number)
            }
            Event::Timer(Timer::AttemptTimeout(number)) => {
                !matches!(state, State::Connecting { attempt, .. } if attempt == number)
            }
            Event::Timer(Timer::Reapply(generation)) => *generation != self.machine.generation() || self.machine.in_force(),
            Event::Command(_)
            | Event::SettingsChanged(_)
            | Event::Host { .. }
            | Event::PolicyLost(_)
            | Event::ApiAddresses(_)
            | Event::CredentialsChanged
            | Event::Shutdown { .. } => false,
        }
    }

    fn execute(&mut self, effect: Effect, random: &mut Random) -> Checked {
        match effect {
            Effect::PersistTarget(target) => self.disk.target = Some(target),
            Effect::Apply { generation, policy } => {
                let after =
                    self.works.iter().filter(|work| matches!(work.task, Task::Apply { .. })).map(|work| work.due_ms).max();
                let due_ms = (self.now.monotonic_ms + self.delay(random, 200)).max(after.unwrap_or(0));
                self.works.push(Work { due_ms, task: Task::Apply { generation, policy } });
            }
            Effect::Prepare { attempt, destination, .. } => {
                let limit = if random.one_in(10) { 90_000 } else { 3000 };
                self.later(limit, Task::Prepare { attempt, destination }, random);
            }
            Effect::StartTunnel { attempt, plan } => {
                self.check_start(attempt, &plan)?;
                self.counts.tunnels += 1;
                self.unreported = Some(attempt);
                self.tunnels.push(LiveTunnel { attempt, plan });
                self.later(1500, Task::Handshake { attempt }, random);
            }
            Effect::StopTunnel { attempt } => {
                ensure(self.last_stopped < Some(attempt), "a tunnel is stopped twice", &attempt)?;
                self.last_stopped = Some(attempt);
                self.later(5000, Task::Stop { attempt }, random);
            }
            Effect::Rebind { attempt } => ensure(self.unreported == Some(attempt), "a rebind of no tunnel", &attempt)?,
            Effect::SetTimer { timer, after_ms } => {
                self.timers.retain(|(other, _)| std::mem::discriminant(other) != std::mem::discriminant(&timer));
                self.timers.push((timer, self.now.monotonic_ms + after_ms));
            }
            Effect::Publish => self.check_status()?,
            Effect::Exit => self.exit()?,
        }
        Ok(())
    }

    fn exit(&mut self) -> Checked {
        if let State::Stopping { closed } = self.machine.state() {
            ensure(*closed == self.intent.closed(), "the helper ends with rules of the other kind", &self.intent)?;
            let done = self.machine.in_force() || self.machine.apply_error().is_some();
            ensure(done, "the helper ends before its last policy was tried", &self.machine)?;
        }
        self.check_kernel()?;
        self.die();
        Ok(())
    }

    fn delay(&self, random: &mut Random, limit_ms: u64) -> u64 {
        if self.weather.calm { random.below(limit_ms.min(200)) } else { random.below(limit_ms) }
    }

    /// Puts work in hand, done after at most `limit_ms`.
    pub fn later(&mut self, limit_ms: u64, task: Task, random: &mut Random) {
        let due_ms = self.now.monotonic_ms + self.delay(random, limit_ms);
        self.works.push(Work { due_ms, task });
    }

    // ---- properties ----------------------------------------------------------------------------------------------

    /// A closed network never becomes open again before somebody opens it: whatever was applied, by whichever process (G4, G6).
    ///
    /// # Errors
    /// It did.
    pub fn check_kernel(&self) -> Checked {
        let sealed = self.sealed.is_some_and(|since| self.kernel.stamp >= since);
        ensure(
            !(sealed && self.kernel.policy.is_open()),
            "closed, and the kernel's policy is open",
            &(&self.intent, &self.kernel),
        )?;
        ensure(self.tunnels.len() <= 1, "more than one tunnel", &self.tunnels)
    }

    fn check_start(&self, attempt: Attempt, plan: &hamn_core::plan::TunnelPlan) -> Checked {
        ensure(self.machine.in_force(), "a tunnel starts before its policy is in force", &attempt)?;
        ensure(self.machine.policy() == Some(&self.kernel.policy), "a tunnel starts under another policy", &self.kernel)?;
        let NetworkPolicy::Enforce(enforced) = &self.kernel.policy else {
            return Err("a tunnel starts on an open network".to_owned());
        };
        let admitted = plan.endpoints.iter().all(|endpoint| enforced.endpoints.contains(endpoint));
        ensure(admitted, "a tunnel starts that may not reach its gateway", enforced)?;
        let verify_only =
            enforced.tunnel.as_ref().is_some_and(|tunnel| matches!(tunnel.traffic, TunnelTraffic::VerifyOnly { .. }));
        ensure(verify_only, "an unverified tunnel carries more than probes", enforced)?;
        ensure(self.tunnels.is_empty() && self.unreported.is_none(), "a second tunnel starts", &self.tunnels)
    }

    fn check_effects(&mut self, event: &Event, before: &Intent, effects: &[Effect], old: Generation) -> Checked {
        ensure(effects.last() == Some(&Effect::Publish), "effects do not end with Publish", &effects)?;
        let from_disk = matches!(event, Event::Started { .. }) && self.intent.target == self.disk.target;
        if before.target != self.intent.target && !from_disk {
            let persisted = effects.iter().find(|effect| {
                matches!(
                    effect,
                    Effect::PersistTarget(_) | Effect::Apply { .. } | Effect::StopTunnel { .. } | Effect::Prepare { .. }
                )
            });
            let first = matches!(persisted, Some(Effect::PersistTarget(target)) if Some(target) == self.intent.target.as_ref());
            ensure(first, "a new target is not persisted first", &effects)?;
        }
        for effect in effects {
            match effect {
                Effect::PersistTarget(target) => {
                    ensure(Some(target) == self.intent.target.as_ref(), "a wrong target is persisted", target)?
                }
                Effect::Apply { generation, policy } => {
                    let next = generation.0 == old.0 + 1 && *generation == self.machine.generation();
                    ensure(next && Some(policy) == self.machine.policy(), "an apply is not the next one", &effects)?;
                }
                Effect::Prepare { attempt, destination, failures } => {
                    ensure(*attempt > self.last_attempt, "attempts do not grow", &effects)?;
                    self.last_attempt = *attempt;
                    let wanted = self.intent.target == Some(Target::Connected { destination: destination.clone() });
                    ensure(wanted && *failures == self.machine.failures(), "another destination is prepared", effect)?;
                    ensure(self.machine.in_force(), "a server is asked for before the block is in force", effect)?;
                }
                Effect::SetTimer { timer, after_ms } => {
                    let limit = if matches!(timer, Timer::Reapply(_)) { 8000 } else { 300_000 };
                    ensure((500..=limit).contains(after_ms), "a wait out of bounds", effect)?;
                }
                Effect::StartTunnel { .. }
                | Effect::StopTunnel { .. }
                | Effect::Rebind { .. }
                | Effect::Publish
                | Effect::Exit => {}
            }
        }
        let applies = effects.iter().filter(|effect| matches!(effect, Effect::Apply { .. })).count();
        let grown = self.machine.generation().0 - old.0;
        ensure(applies as u64 == grown && applies <= 1, "generation and applies differ", &effects)?;
        let exits = effects.iter().filter(|effect| matches!(effect, Effect::Exit)).count();
        ensure(exits <= 1, "ends twice", &effects)
    }

    fn check_machine(&mut self) -> Checked {
        let machine = &self.machine;
        let state = machine.state();
        ensure(*machine.settings() == self.intent.settings, "settings differ", &self.intent)?;
        let target = self.intent.target.clone().unwrap_or_default();
        ensure(*machine.target() == target, "targets differ", &(machine.target(), &target))?;
        ensure(machine.is_closed() == self.intent.closed(), "is_closed differs", &(state, &self.intent))?;
        let Some(policy) = machine.policy() else { return Err("no policy is wanted".to_owned()) };
        ensure(*policy == policy_for(state, machine.settings(), &self.facts), "the policy is not reconciled", policy)?;
        if policy.is_open() {
            ensure(!self.intent.closed(), "closed, and an open policy is wanted", state)?;
            let allowed = match state {
                State::Disconnected | State::Stopping { closed: false } => true,
                State::Blocked { reason, .. } => {
                    machine.settings().kill_switch == KillSwitch::Off && *reason != BlockReason::IntentUnreadable
                }
                State::Connecting { .. } | State::Connected { .. } | State::Disconnecting { .. } | State::Stopping { .. } => {
                    false
                }
            };
            ensure(allowed, "open in a state that never is", state)?;
        }
        self.check_progress()
    }

    /// G22: an attempt gives way within 60 s, and whoever waits has something to wait for.
    fn check_progress(&mut self) -> Checked {
        let state = self.machine.state();
        if let State::Connecting { attempt, .. } = state {
            let since = match self.connecting {
                Some((known, since)) if known == *attempt => since,
                Some(_) | None => self.now.monotonic_ms,
            };
            self.connecting = Some((*attempt, since));
            ensure(self.now.monotonic_ms - since <= 60_000, "stuck in Connecting", state)?;
        } else {
            self.connecting = None;
        }
        if let State::Blocked { reason, retry } = state {
            let waits = if *reason == BlockReason::Offline { self.online } else { reason.retries() };
            // A retry that was set while online fires harmlessly after the link has gone again.
            let left_over = *reason == BlockReason::Offline && !self.online;
            ensure(retry.is_some() == waits || left_over, "blocked with the wrong retry", state)?;
        }
        Ok(())
    }

    fn check_status(&self) -> Checked {
        let status = self.machine.status();
        let machine = &self.machine;
        let enforcing = machine.policy().is_some_and(|policy| !policy.is_open());
        ensure(status.protected == (enforcing && machine.in_force()), "protected is claimed wrongly", &status)?;
        if status.protected && !self.kernel.damaged {
            ensure(machine.policy() == Some(&self.kernel.policy), "protected by another policy", &self.kernel)?;
        }
        let blocked = matches!(machine.state(), State::Blocked { .. });
        ensure(status.blocked.is_some() == blocked, "a blocked state without its reason", &status)
    }
}
