//! The event loop: facts come in, the machine decides, effects are carried out in order. Nothing here decides, and nothing
//! here waits for long: policies, tunnels that end, provider and self-test go on beside it and report.

#[cfg(windows)]
pub mod install;
pub mod plan;
#[cfg(windows)]
pub mod windows;

use crate::announce::Announcer;
use crate::calls::Waiting;
use crate::device::Rotation;
use crate::enforcer::Enforcer;
use crate::exits::Exits;
use crate::log_ring::LogRing;
use crate::logging::Quiet;
use crate::provider::Provider;
use crate::store::Store;
use crate::timers::Timers;
use crate::{clock, notify, prepare};
use hamn_core::effect::Effect;
use hamn_core::event::{Command, Event, HostEvent, HostFacts, TunnelEvent};
use hamn_core::location::{Destination, Target};
use hamn_core::machine::Machine;
use hamn_core::managed::Managed;
use hamn_core::net::Endpoint;
use hamn_core::plan::{KeySource, TunnelPlan};
use hamn_core::policy::NetworkPolicy;
use hamn_core::settings::Settings;
use hamn_core::state::{Attempt, BlockReason, Generation, State};
use hamn_ipc::Call;
use hamn_network::Network;
use hamn_tunnel::{Tunnel, TunnelError};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

/// How long a tunnel may take to start, or to stop before it is given up.
const START_TIMEOUT: Duration = Duration::from_secs(5);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a running tunnel may take to do as it is told.
const OBEY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last policy and the end of the tunnel may take. The service manager kills after 10 s.
const END_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a policy that is being applied may hold up the very end.
const LAST_APPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often counters are published while a tunnel exists.
const COUNTER_INTERVAL: Duration = Duration::from_secs(2);
/// How often it is looked whether list, loads or key are due.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How often one kind of interference is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Events of one tunnel that wait.
const TUNNEL_QUEUE: usize = 16;
/// Calls of one kind of caller that are answered in the background at the same time.
const BACKGROUND_CALLS: usize = 16;

/// What background work reports to the loop.
#[expect(clippy::large_enum_variant, reason = "few are alive at a time; a box would only add an allocation")]
pub enum Report {
    /// Goes to the machine.
    Event(Event),
    /// A policy was carried out, or could not be.
    Applied {
        /// Which.
        generation: Generation,
        /// With it the provider is reached through the tunnel.
        inside: bool,
        /// `Err` holds the reason for people.
        result: Result<(), String>,
    },
    /// A tunnel of this attempt spoke.
    Tunnel(Attempt, TunnelEvent),
    /// The key of the device was replaced at the provider: the tunnel takes the new one.
    KeyRotated(hamn_core::key::SecretKey),
    /// The device is another one, or was removed: a tunnel of the old one is over.
    DeviceChanged,
    /// The provider sees this attempt's tunnel come out at this address.
    ExitSeen(Attempt, IpAddr),
    /// The administrator's policy is another one, with what to tell about it.
    PolicyChanged(Box<Managed>, Vec<String>),
}

/// The running tunnel.
pub(crate) struct Running {
    pub(crate) attempt: Attempt,
    pub(crate) tunnel: Box<dyn Tunnel>,
    pub(crate) uses_device_key: bool,
}

/// The helper.
pub struct Service {
    pub(crate) machine: Machine,
    pub(crate) store: Store,
    pub(crate) enforcer: Enforcer,
    pub(crate) provider: Option<Arc<Provider>>,
    pub(crate) managed: Managed,
    /// What the user set; the machine has it merged with the administrator's policy.
    pub(crate) user_settings: Settings,
    pub(crate) running: Option<Running>,
    pub(crate) announcer: Announcer,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) tampered: u64,
    /// Calls that are answered when what they asked for is done.
    pub(crate) waiting: Waiting,
    /// Places for calls in the background: root's, and all others'.
    pub(crate) background: [Arc<Semaphore>; 2],
    /// One self-test at a time.
    pub(crate) self_test: Arc<Semaphore>,
    /// The newest lines of the log.
    pub(crate) log: LogRing,
    /// What the provider sees of the tunnel of this attempt.
    pub(crate) exits: Option<Exits>,
    facts: HostFacts,
    /// API sockets carry the mark: true except while the connected policy is in force.
    mark_api: Arc<AtomicBool>,
    timers: Timers,
    /// The tunnel of this attempt is being stopped.
    stopping: Option<Attempt>,
    preparing: Option<tokio::task::AbortHandle>,
    quiet: Quiet,
    ending: bool,
    end_by: Option<Instant>,
}

/// What `Service::new` is made of.
pub struct Parts {
    /// The machine, not started.
    pub machine: Machine,
    /// Files.
    pub store: Store,
    /// The network side.
    pub network: Network,
    /// The provider, when one is configured.
    pub provider: Option<Arc<Provider>>,
    /// The administrator's policy.
    pub managed: Managed,
    /// What the user set.
    pub user_settings: Settings,
    /// Status and events.
    pub announcer: Announcer,
    /// Sender side of `Inputs::reports`.
    pub reports: mpsc::Sender<Report>,
    /// Shared with the API client's sockets.
    pub mark_api: Arc<AtomicBool>,
    /// What the log's layer fills.
    pub log: LogRing,
}

/// What the loop listens to.
pub struct Inputs {
    /// Local API calls.
    pub calls: mpsc::Receiver<Call>,
    /// Background work.
    pub reports: mpsc::Receiver<Report>,
    /// The network side.
    pub host: mpsc::Receiver<HostEvent>,
}

impl Service {
    /// Composes the helper. Needs a runtime.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { machine, store, network, provider, managed, user_settings, announcer, reports, mark_api, log } = parts;
        let facts = network.facts();
        Self {
            machine,
            store,
            enforcer: Enforcer::start(network, reports.clone()),
            provider,
            managed,
            user_settings,
            running: None,
            announcer,
            reports,
            tampered: 0,
            waiting: Waiting::default(),
            background: [Arc::new(Semaphore::new(BACKGROUND_CALLS)), Arc::new(Semaphore::new(BACKGROUND_CALLS))],
            self_test: Arc::new(Semaphore::new(1)),
            log,
            exits: None,
            facts,
            mark_api,
            timers: Timers::default(),
            stopping: None,
            preparing: None,
            quiet: Quiet::new(TELL_EVERY),
            ending: false,
            end_by: None,
        }
    }

    /// Runs until a signal ends it.
    ///
    /// # Errors
    /// When the signals cannot be listened to, or when the policy to leave behind could not be put in force.
    pub async fn run(mut self, target: Option<Target>, mut inputs: Inputs) -> anyhow::Result<()> {
        let mut signals = crate::signals::Signals::new()?;
        let facts = self.facts.clone();
        self.dispatch(Event::Host { facts, path_changed: false }).await;
        self.dispatch(Event::Started { target }).await;
        let mut counters = tokio::time::interval(COUNTER_INTERVAL);
        counters.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
        let mut watchdog = tokio::time::interval(notify::watchdog_interval());
        let mut ready = false;
        let changed = self.provider.as_ref().map(|provider| provider.changed()).unwrap_or_default();
        while !self.ending {
            // Each gets its turn: a flood of one kind keeps neither the watchdog nor a signal waiting.
            tokio::select! {
                signal = signals.next() => self.end(signal).await,
                Some(event) = inputs.host.recv() => self.host_event(event).await,
                Some(report) = inputs.reports.recv() => self.report(report).await,
                timer = self.timers.next() => self.dispatch(Event::Timer(timer)).await,
                Some(call) = inputs.calls.recv() => self.answer(call).await,
                () = changed.notified() => self.publish(),
                () = self.waiting.overdue() => self.answer_waiting(),
                () = until(self.end_by) => self.give_up_the_end(),
                _ = counters.tick(), if self.running.is_some() => self.publish(),
                _ = upkeep.tick() => self.upkeep(),
                _ = watchdog.tick() => notify::alive(),
            }
            if self.is_settled() {
                self.answer_waiting();
                if !std::mem::replace(&mut ready, true) {
                    notify::ready();
                }
            }
        }
        self.finish().await
    }

    async fn end(&mut self, signal: crate::signals::End) {
        info!(?signal, "asked to end");
        self.end_by.get_or_insert(Instant::now() + END_TIMEOUT);
        self.dispatch(Event::Shutdown { keep_blocking: signal.keeps_blocking() }).await;
    }

    fn give_up_the_end(&mut self) {
        error!("the end takes too long; the rules stay as they are");
        self.ending = true;
    }

    async fn finish(mut self) -> anyhow::Result<()> {
        notify::stopping();
        self.answer_waiting();
        self.announcer.end();
        if let Some(preparing) = &self.preparing {
            preparing.abort();
        }
        self.enforcer.finish(LAST_APPLY_TIMEOUT).await;
        if let Some(running) = self.running.take() {
            let _ = timeout(STOP_TIMEOUT, running.tunnel.stop()).await;
        }
        if matches!(self.machine.state(), State::Stopping { .. } | State::Disconnecting { .. }) && !self.machine.in_force() {
            let why = self.machine.apply_error().unwrap_or("it took too long");
            anyhow::bail!("the rules to leave behind are not in force ({why}); the earlier ones stay");
        }
        Ok(())
    }

    /// Feeds one event and everything that follows from it at once.
    pub(crate) async fn dispatch(&mut self, event: Event) {
        let mut queue = VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            debug!(event = event_name(&event), "event");
            for effect in self.machine.handle(event, clock::now()) {
                self.perform(effect, &mut queue).await;
            }
        }
    }

    /// Nothing that was asked of the system is still under way.
    fn is_settled(&self) -> bool {
        self.enforcer.is_idle() && self.stopping.is_none()
    }

    async fn perform(&mut self, effect: Effect, queue: &mut VecDeque<Event>) {
        match effect {
            Effect::PersistTarget(target) => self.persist(&target),
            Effect::Apply { generation, policy } => self.enforcer.enforce(generation, policy),
            Effect::Prepare { attempt, destination, failures } => self.prepare(attempt, destination, failures),
            Effect::StartTunnel { attempt, plan } => {
                if let Err(reason) = self.start_tunnel(attempt, &plan).await {
                    queue.push_back(Event::Tunnel { attempt, event: TunnelEvent::Failed(reason) });
                }
            }
            Effect::StopTunnel { attempt } => {
                if !self.stop_tunnel(attempt) {
                    queue.push_back(Event::TunnelStopped { attempt });
                }
            }
            Effect::Rebind { attempt } => self.rebind(attempt).await,
            Effect::SetTimer { timer, after_ms } => self.timers.set(timer, after_ms),
            Effect::Publish => self.publish(),
            Effect::Exit => self.ending = true,
        }
    }

    /// The intent first: that it is lost would be worse than settings that are. It is on the disk before anything follows.
    fn persist(&mut self, target: &Target) {
        let saved = self.store.save_target(target).and_then(|()| self.store.save_missing_settings(&self.user_settings));
        match saved {
            Ok(()) => self.announcer.clear_warning("not_saved"),
            Err(error) => {
                error!("{error:#}");
                let message = format!(
                    "Your choice could not be saved ({error:#}). It holds until the computer restarts; make room on the disk."
                );
                self.announcer.warn("not_saved", message);
            }
        }
    }

    fn prepare(&mut self, attempt: Attempt, destination: Destination, failures: u32) {
        // The answer of an older attempt changes nothing any more.
        if let Some(older) = self.preparing.take() {
            older.abort();
        }
        // A profile that was in use before the administrator forbade it.
        let refused = matches!(destination, Destination::Profile { .. }) && !self.effective().profiles_allowed;
        let request = prepare::Request { destination, settings: self.machine.settings().clone(), seed: rand::random(), failures };
        let (store, provider, reports) = (self.store.clone(), self.provider.clone(), self.reports.clone());
        let task = tokio::spawn(async move {
            let result = if refused { Err(BlockReason::NoProfile) } else { prepare::plan(&store, provider, request).await };
            let _ = reports.send(Report::Event(Event::Prepared { attempt, result })).await;
        });
        self.preparing = Some(task.abort_handle());
    }

    async fn start_tunnel(&mut self, attempt: Attempt, plan: &TunnelPlan) -> Result<(), BlockReason> {
        let failures = self.machine.failures();
        let secrets = prepare::secrets(&self.store, plan, failures).map_err(|reason| self.reason_without_device(plan, reason))?;
        let (sender, mut events) = mpsc::channel(TUNNEL_QUEUE);
        let first = usize::try_from(failures).unwrap_or(0);
        let gateway =
            plan.endpoints.get(first.checked_rem(plan.endpoints.len()).unwrap_or(0)).map(|endpoint| endpoint.address.ip());
        let outer_interface = match gateway {
            Some(gateway) => self.enforcer.outer_interface(gateway).await,
            None => None,
        };
        let options = hamn_tunnel::Options {
            interface: hamn_core::net::InterfaceName::tunnel(),
            fwmark: Some(hamn_core::net::FWMARK),
            // IPv4 first; after a failure the other address of the gateway.
            endpoint_index: first,
            outer_interface,
            limits: hamn_tunnel::Limits::default(),
        };
        let started = timeout(START_TIMEOUT, hamn_tunnel::start(plan, secrets, options, sender)).await;
        let tunnel = match started {
            Ok(Ok(tunnel)) => tunnel,
            Ok(Err(error)) => {
                error!(%error, "the tunnel could not be started");
                return Err(BlockReason::TunnelDevice);
            }
            Err(_) => {
                error!("the tunnel did not start in time");
                return Err(BlockReason::TunnelDevice);
            }
        };
        let reports = self.reports.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if reports.send(Report::Tunnel(attempt, event)).await.is_err() {
                    break;
                }
            }
        });
        let uses_device_key = plan.key == KeySource::Device;
        self.running = Some(Running { attempt, tunnel, uses_device_key });
        Ok(())
    }

    /// Gives the tunnel a new socket, on the interface that leads out by now.
    async fn rebind(&self, attempt: Attempt) {
        let Some(running) = self.running.as_ref().filter(|running| running.attempt == attempt) else { return };
        let gateway = running.tunnel.stats().endpoint.address.ip();
        running.tunnel.set_outer_interface(self.enforcer.outer_interface(gateway).await);
        if let Err(error) = obeyed(running.tunnel.rebind()).await {
            warn!(%error, "rebinding the tunnel's socket failed");
        }
    }

    /// Stops the tunnel beside the loop; false when there is none.
    fn stop_tunnel(&mut self, attempt: Attempt) -> bool {
        let Some(running) = self.running.take_if(|running| running.attempt == attempt) else { return false };
        self.exits = None;
        self.stopping = Some(attempt);
        let reports = self.reports.clone();
        tokio::spawn(async move {
            if timeout(STOP_TIMEOUT, running.tunnel.stop()).await.is_err() {
                warn!("the tunnel did not stop in time and was dropped");
            }
            let _ = reports.send(Report::Event(Event::TunnelStopped { attempt })).await;
        });
        true
    }

    async fn host_event(&mut self, event: HostEvent) {
        match event {
            HostEvent::Facts { facts, path_changed } => self.facts_changed(facts, path_changed).await,
            HostEvent::Tampered { what, restored_after_us } => {
                self.tampered = self.tampered.saturating_add(1);
                let message = format!(
                    "Another program changed the protection ({what}). It was restored after {} ms.",
                    restored_after_us.div_ceil(1000)
                );
                self.tell_of_interference("tampered", message);
            }
            HostEvent::RestoreFailed { reason } => self.dispatch(Event::PolicyLost(reason)).await,
            HostEvent::NetworkInterferes { what } => {
                let message = format!("This network tries to route traffic past the tunnel ({what}). It has no effect.");
                self.tell_of_interference("network_interferes", message);
            }
            HostEvent::Resumed { asleep_ms } => {
                info!(asleep_ms, "resumed from sleep");
                let facts = self.facts.clone();
                self.facts_changed(facts, true).await;
            }
            HostEvent::TunnelInterfaceLost => {
                if let Some(running) = &self.running {
                    let event = TunnelEvent::Failed(BlockReason::TunnelDevice);
                    let attempt = running.attempt;
                    self.dispatch(Event::Tunnel { attempt, event }).await;
                }
            }
        }
    }

    /// A network or program that interferes all the time fills neither the log nor the readers' queues.
    fn tell_of_interference(&mut self, code: &'static str, message: String) {
        if let Some(held_back) = self.quiet.may_tell(code, std::time::Instant::now()) {
            warn!(held_back, "{message}");
            self.announcer.warn(code, message);
            self.publish();
        }
    }

    async fn facts_changed(&mut self, facts: HostFacts, path_changed: bool) {
        let back_online = facts.online && !self.facts.online;
        self.facts = facts.clone();
        if (path_changed || back_online)
            && let Some(provider) = &self.provider
        {
            provider.network_changed();
        }
        self.dispatch(Event::Host { facts, path_changed }).await;
        if back_online {
            self.upkeep();
        }
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Event(event) => {
                if let Event::TunnelStopped { attempt } = &event {
                    self.stopping.take_if(|stopping| stopping == attempt);
                }
                self.dispatch(event).await;
            }
            Report::Applied { generation, inside, result } => {
                self.enforcer.answered(generation);
                if result.is_ok() {
                    self.mark_api.store(!inside, Ordering::Release);
                }
                let was_connected = self.is_connected();
                self.dispatch(Event::PolicyApplied { generation, result }).await;
                if !was_connected && self.is_connected() {
                    self.upkeep();
                    self.look_at_exit();
                }
            }
            Report::ExitSeen(attempt, address) => self.exit_seen(attempt, address),
            Report::PolicyChanged(managed, notes) => self.policy_changed(*managed, notes).await,
            Report::Tunnel(attempt, event) => {
                info!(attempt = attempt.0, ?event, "tunnel");
                let server = self.server_being_tried(attempt);
                self.dispatch(Event::Tunnel { attempt, event: event.clone() }).await;
                // Past quality of servers is remembered for the next choice.
                if let (Some(provider), Some(server)) = (&self.provider, server) {
                    let round_trip_ms = self.running.as_ref().and_then(|running| running.tunnel.stats().round_trip_ms);
                    provider.learn(&server, &event, round_trip_ms);
                }
            }
            Report::KeyRotated(key) => {
                if let Some(running) = self.running.as_ref().filter(|running| running.uses_device_key)
                    && let Err(error) = obeyed(running.tunnel.set_private_key(key)).await
                {
                    warn!(%error, "the tunnel did not take the new key; reconnecting");
                    self.dispatch(Event::Command(Command::Reconnect)).await;
                }
            }
            Report::DeviceChanged => {
                let event = if self.plan_uses_device() { Event::Command(Command::Reconnect) } else { Event::CredentialsChanged };
                self.dispatch(event).await;
            }
        }
    }

    /// What is known of the network outside.
    pub(crate) const fn facts(&self) -> &HostFacts {
        &self.facts
    }

    fn is_connected(&self) -> bool {
        matches!(self.machine.state(), State::Connected { .. })
    }

    /// The attempt or tunnel at hand was planned with the device's key, whether or not the tunnel runs yet.
    fn plan_uses_device(&self) -> bool {
        let (State::Connecting { plan: Some(plan), .. } | State::Connected { plan, .. }) = self.machine.state() else {
            return false;
        };
        plan.key == KeySource::Device
    }

    /// A device that was removed between planning and starting is why its key is missing.
    fn reason_without_device(&self, plan: &TunnelPlan, reason: BlockReason) -> BlockReason {
        let revoked =
            plan.key == KeySource::Device && self.provider.as_ref().is_some_and(|provider| provider.device_is_revoked());
        if revoked { BlockReason::DeviceRevoked } else { reason }
    }

    fn server_being_tried(&self, attempt: Attempt) -> Option<String> {
        let State::Connecting { attempt: current, plan: Some(plan), .. } = self.machine.state() else { return None };
        (*current == attempt).then(|| plan.place.server.clone())
    }

    /// Refreshes list and loads, and changes the device's key, where that is due. Without a network nobody is asked.
    fn upkeep(&self) {
        let Some(provider) = self.provider.clone().filter(|_| self.facts.online && self.end_by.is_none()) else { return };
        let connected = self.is_connected() && self.running.as_ref().is_some_and(|running| running.uses_device_key);
        let refresh = provider.refresh_is_due();
        if !refresh && !connected {
            return;
        }
        let (reports, rotation_days) = (self.reports.clone(), self.machine.settings().key_rotation_days);
        let known = self.machine_api_endpoints();
        tokio::spawn(async move {
            if refresh {
                provider.refresh(clock::now().unix_s).await;
                let endpoints = provider.endpoints();
                if endpoints != known {
                    let _ = reports.send(Report::Event(Event::ApiAddresses(endpoints))).await;
                }
            }
            if connected {
                let _ = match provider.rotate_key_if_due(clock::now().unix_s, Rotation::AfterDays(rotation_days)).await {
                    Ok(Some(key)) => reports.send(Report::KeyRotated(key)).await,
                    Err(error) if crate::provider::says_no_such_device(&error) => reports.send(Report::DeviceChanged).await,
                    Ok(None) | Err(_) => Ok(()),
                };
            }
        });
    }

    fn machine_api_endpoints(&self) -> Vec<Endpoint> {
        match self.machine.policy() {
            Some(NetworkPolicy::Enforce(enforced)) => enforced.api.clone(),
            Some(NetworkPolicy::Open) | None => Vec::new(),
        }
    }
}

/// What a tunnel says to a command; one that says nothing is dead.
async fn obeyed(command: hamn_tunnel::Pending<'_, Result<(), TunnelError>>) -> Result<(), TunnelError> {
    timeout(OBEY_TIMEOUT, command).await.unwrap_or(Err(TunnelError::Ended))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

const fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Started { .. } => "started",
        Event::Command(_) => "command",
        Event::SettingsChanged(_) => "settings_changed",
        Event::PolicyApplied { .. } => "policy_applied",
        Event::Prepared { .. } => "prepared",
        Event::Tunnel { .. } => "tunnel",
        Event::TunnelStopped { .. } => "tunnel_stopped",
        Event::Host { .. } => "host",
        Event::PolicyLost(_) => "policy_lost",
        Event::ApiAddresses(_) => "api_addresses",
        Event::CredentialsChanged => "credentials_changed",
        Event::Timer(_) => "timer",
        Event::Shutdown { .. } => "shutdown",
    }
}
