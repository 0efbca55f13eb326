//! The event loop: facts come in, the machine decides, effects are carried out in order. Nothing here decides.

use crate::announce::Announcer;
use crate::provider::Provider;
use crate::store::Store;
use crate::timers::Timers;
use crate::{clock, notify, prepare};
use hamn_core::effect::Effect;
use hamn_core::event::{Event, HostEvent, HostFacts};
use hamn_core::location::Target;
use hamn_core::machine::Machine;
use hamn_core::managed::Managed;
use hamn_core::policy::NetworkPolicy;
use hamn_core::settings::Settings;
use hamn_core::state::{Attempt, State};
use hamn_ipc::Call;
use hamn_network::Network;
use hamn_tunnel::Tunnel;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

/// How long a tunnel may take to stop before it is given up.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// How often counters are published while a tunnel exists.
const COUNTER_INTERVAL: Duration = Duration::from_secs(2);
/// How often the provider's list and loads are refreshed, at most.
const REFRESH_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// What background work reports to the loop.
pub enum Report {
    /// Goes to the machine.
    Event(Event),
    /// A tunnel of this attempt spoke.
    Tunnel(Attempt, hamn_core::event::TunnelEvent),
    /// The key of the device was replaced at the provider: the tunnel takes the new one.
    KeyRotated(hamn_core::key::SecretKey),
    /// Something for the user.
    Note(&'static str, String),
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
    pub(crate) network: Network,
    pub(crate) provider: Option<Arc<Provider>>,
    pub(crate) managed: Managed,
    /// What the user set; the machine has it merged with the administrator's policy.
    pub(crate) user_settings: Settings,
    pub(crate) running: Option<Running>,
    pub(crate) announcer: Announcer,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) tampered: u64,
    /// API sockets carry the mark: true except while the connected policy is in force.
    pub(crate) mark_api: Arc<AtomicBool>,
    timers: Timers,
    ending: bool,
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
    /// Composes the helper.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { machine, store, network, provider, managed, user_settings, announcer, reports, mark_api } = parts;
        Self {
            machine,
            store,
            network,
            provider,
            managed,
            user_settings,
            running: None,
            announcer,
            reports,
            tampered: 0,
            mark_api,
            timers: Timers::default(),
            ending: false,
        }
    }

    /// Runs until a signal ends it.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub async fn run(mut self, target: Option<Target>, mut inputs: Inputs) -> anyhow::Result<()> {
        let mut signals = crate::signals::Signals::new()?;
        let facts = self.network.facts();
        self.dispatch(Event::Host { facts, path_changed: false }).await;
        self.dispatch(Event::Started { target }).await;
        notify::ready();
        let mut counters = tokio::time::interval(COUNTER_INTERVAL);
        counters.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refresh = tokio::time::interval(REFRESH_INTERVAL);
        let mut watchdog = tokio::time::interval(notify::watchdog_interval());
        while !self.ending {
            tokio::select! {
                biased;
                signal = signals.next() => {
                    info!(?signal, "asked to end");
                    self.dispatch(Event::Shutdown { keep_blocking: signal.keeps_blocking() }).await;
                }
                Some(event) = inputs.host.recv() => self.host_event(event).await,
                Some(report) = inputs.reports.recv() => self.report(report).await,
                timer = self.timers.next() => self.dispatch(Event::Timer(timer)).await,
                Some(call) = inputs.calls.recv() => self.answer(call).await,
                _ = counters.tick(), if self.running.is_some() => self.publish(),
                _ = refresh.tick(), if self.provider.is_some() => self.refresh_provider(),
                _ = watchdog.tick() => notify::alive(),
            }
        }
        notify::stopping();
        self.announcer.end();
        if let Some(running) = self.running.take() {
            let _ = tokio::time::timeout(STOP_TIMEOUT, running.tunnel.stop()).await;
        }
        Ok(())
    }

    /// Feeds one event and everything that follows from it.
    pub(crate) async fn dispatch(&mut self, event: Event) {
        let mut queue = VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            debug!(event = event_name(&event), "event");
            for effect in self.machine.handle(event, clock::now()) {
                self.perform(effect, &mut queue).await;
            }
        }
    }

    async fn perform(&mut self, effect: Effect, queue: &mut VecDeque<Event>) {
        match effect {
            Effect::PersistTarget(target) => self.persist(&target),
            Effect::Apply { generation, policy } => {
                let result = self.apply(&policy).await;
                queue.push_back(Event::PolicyApplied { generation, result });
            }
            Effect::Prepare { attempt, destination, failures: _ } => self.prepare(attempt, destination),
            Effect::StartTunnel { attempt, plan } => {
                if let Err(reason) = self.start_tunnel(attempt, &plan).await {
                    queue.push_back(Event::Tunnel { attempt, event: hamn_core::event::TunnelEvent::Failed(reason) });
                }
            }
            Effect::StopTunnel { attempt } => {
                self.stop_tunnel(attempt).await;
                queue.push_back(Event::TunnelStopped { attempt });
            }
            Effect::Rebind { attempt } => {
                if let Some(running) = self.running.as_ref().filter(|running| running.attempt == attempt)
                    && let Err(error) = running.tunnel.rebind().await
                {
                    warn!(%error, "rebinding the tunnel's socket failed");
                }
            }
            Effect::SetTimer { timer, after_ms } => self.timers.set(timer, after_ms),
            Effect::Publish => self.publish(),
            Effect::Exit => self.ending = true,
        }
    }

    fn persist(&mut self, target: &Target) {
        // A lost settings file counts as closed at the next start, so the user's decision writes both.
        let saved = self.store.save_settings(&self.user_settings).and_then(|()| self.store.save_target(target));
        match saved {
            Ok(()) => self.announcer.clear_warning("not_saved"),
            Err(error) => {
                error!("{error:#}");
                let message = format!("Your choice could not be saved ({error:#}). It holds until the helper ends; make room on the disk.");
                self.announcer.warn("not_saved", message);
            }
        }
    }

    async fn apply(&mut self, policy: &NetworkPolicy) -> Result<(), String> {
        let started = std::time::Instant::now();
        let result = self.network.apply(policy).await;
        // While connected the API is reached through the tunnel; in every other state by marked sockets.
        let inside = matches!(policy, NetworkPolicy::Enforce(enforced) if enforced.api.is_empty() && enforced.tunnel.is_some());
        self.mark_api.store(!inside, Ordering::Release);
        match result {
            Ok(()) => {
                info!(took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX), open = policy.is_open(), "policy applied");
                Ok(())
            }
            Err(error) => {
                error!(%error, "the policy could not be applied");
                Err(error.to_string())
            }
        }
    }

    fn prepare(&mut self, attempt: Attempt, destination: hamn_core::location::Destination) {
        let request = prepare::Request {
            destination,
            settings: self.machine.settings().clone(),
            seed: rand::random(),
            now_unix_s: clock::now().unix_s,
        };
        let (store, provider, reports) = (self.store.clone(), self.provider.clone(), self.reports.clone());
        tokio::spawn(async move {
            let result = prepare::plan(&store, provider.as_deref(), request).await;
            let _ = reports.send(Report::Event(Event::Prepared { attempt, result })).await;
        });
    }

    async fn start_tunnel(&mut self, attempt: Attempt, plan: &hamn_core::plan::TunnelPlan) -> Result<(), hamn_core::state::BlockReason> {
        let secrets = prepare::secrets(&self.store, plan)?;
        let (sender, mut events) = mpsc::channel(16);
        let options = hamn_tunnel::Options {
            interface: hamn_core::net::InterfaceName::tunnel(),
            fwmark: Some(hamn_core::net::FWMARK),
            // IPv4 first; after a failure the other address of the gateway.
            endpoint_index: usize::try_from(self.machine.failures()).unwrap_or(0),
            limits: hamn_tunnel::Limits::default(),
        };
        let tunnel = hamn_tunnel::start(plan, secrets, options, sender).await.map_err(|error| {
            error!(%error, "the tunnel could not be started");
            hamn_core::state::BlockReason::TunnelDevice
        })?;
        let reports = self.reports.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if reports.send(Report::Tunnel(attempt, event)).await.is_err() {
                    break;
                }
            }
        });
        let uses_device_key = plan.key == hamn_core::plan::KeySource::Device;
        self.running = Some(Running { attempt, tunnel, uses_device_key });
        Ok(())
    }

    async fn stop_tunnel(&mut self, attempt: Attempt) {
        if let Some(running) = self.running.take_if(|running| running.attempt == attempt)
            && tokio::time::timeout(STOP_TIMEOUT, running.tunnel.stop()).await.is_err()
        {
            warn!("the tunnel did not stop in time and was dropped");
        }
    }

    async fn host_event(&mut self, event: HostEvent) {
        match event {
            HostEvent::Facts { facts, path_changed } => self.facts_changed(facts, path_changed).await,
            HostEvent::Tampered { what, restored_after_us } => {
                self.tampered = self.tampered.saturating_add(1);
                warn!(what, restored_after_us, "another program changed the protection; it is restored");
                self.announcer.warn("tampered", format!("Another program changed the protection ({what}). It was restored after {} ms.", restored_after_us.div_ceil(1000)));
                self.publish();
            }
            HostEvent::RestoreFailed { reason } => self.dispatch(Event::PolicyLost(reason)).await,
            HostEvent::NetworkInterferes { what } => {
                warn!(what, "the network hands out routes that would bypass a tunnel");
                self.announcer.warn("network_interferes", format!("This network tries to route traffic past the tunnel ({what}). It has no effect."));
                self.publish();
            }
            HostEvent::Resumed { asleep_ms } => {
                info!(asleep_ms, "resumed from sleep");
                let facts = self.network.facts();
                self.facts_changed(facts, true).await;
            }
            HostEvent::TunnelInterfaceLost => {
                if let Some(running) = &self.running {
                    let event = hamn_core::event::TunnelEvent::Failed(hamn_core::state::BlockReason::TunnelDevice);
                    let attempt = running.attempt;
                    self.dispatch(Event::Tunnel { attempt, event }).await;
                }
            }
        }
    }

    async fn facts_changed(&mut self, facts: HostFacts, path_changed: bool) {
        if path_changed && let Some(provider) = &self.provider {
            provider.network_changed();
        }
        self.dispatch(Event::Host { facts, path_changed }).await;
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Event(event) => self.dispatch(event).await,
            Report::Tunnel(attempt, event) => {
                info!(attempt = attempt.0, ?event, "tunnel");
                self.learn(attempt, &event);
                self.dispatch(Event::Tunnel { attempt, event }).await;
                if matches!(self.machine.state(), State::Connected { .. }) {
                    self.refresh_provider();
                }
            }
            Report::KeyRotated(key) => {
                if let Some(running) = self.running.as_ref().filter(|running| running.uses_device_key)
                    && let Err(error) = running.tunnel.set_private_key(key).await
                {
                    warn!(%error, "the tunnel did not take the new key; reconnecting");
                    self.dispatch(Event::Command(hamn_core::event::Command::Reconnect)).await;
                }
            }
            Report::Note(code, message) => {
                self.announcer.warn(code, message);
                self.publish();
            }
        }
    }

    /// Past quality of servers: remembered for the next choice.
    fn learn(&self, attempt: Attempt, event: &hamn_core::event::TunnelEvent) {
        let (Some(provider), State::Connecting { attempt: current, plan: Some(plan), .. }) = (&self.provider, self.machine.state()) else { return };
        if *current == attempt {
            provider.learn(&plan.place.server, event);
        }
    }

    fn refresh_provider(&self) {
        let Some(provider) = self.provider.clone() else { return };
        let (reports, rotation_days) = (self.reports.clone(), self.machine.settings().key_rotation_days);
        let connected = matches!(self.machine.state(), State::Connected { .. });
        let mut known = self.machine_api_endpoints();
        tokio::spawn(async move {
            provider.refresh(clock::now().unix_s).await;
            let endpoints = provider.endpoints();
            if endpoints != known {
                known = endpoints;
                let _ = reports.send(Report::Event(Event::ApiAddresses(known))).await;
            }
            if connected && let Some(key) = provider.rotate_key_if_due(clock::now().unix_s, rotation_days).await {
                let _ = reports.send(Report::KeyRotated(key)).await;
            }
        });
    }

    fn machine_api_endpoints(&self) -> Vec<hamn_core::net::Endpoint> {
        match self.machine.policy() {
            Some(NetworkPolicy::Enforce(enforced)) => enforced.api.clone(),
            Some(NetworkPolicy::Open) | None => Vec::new(),
        }
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
