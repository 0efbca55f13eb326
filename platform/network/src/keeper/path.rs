//! Keeps routing rules and routes as they were applied, and follows links, addresses, routes and sleep.

use super::{Ended, Outbox, microseconds, until};
use crate::monitor::HostView;
use crate::monitor::facts::OuterPath;
use crate::monitor::linux::{Notices, read};
use crate::monitor::sleep::SleepWatch;
use crate::routes::RoutePlan;
use crate::routes::apply::linux::{RouteError, Routing};
use hamn_core::event::{HostEvent, HostFacts};
use hamn_core::net::{InterfaceName, TUNNEL_INTERFACE};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Several messages belong to one change; rules must be restored within 100 ms, facts be out within 50 ms.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// After the kernel refused.
const RETRY: Duration = Duration::from_secs(1);
/// Known hostile routes that are remembered, so that each is reported once.
const REPORTED_LIMIT: usize = 256;

enum Command {
    Apply(RoutePlan, oneshot::Sender<Result<(), RouteError>>),
    Difference(oneshot::Sender<Result<String, RouteError>>),
}

/// Applies rules and routes, guards them, and reports on the host.
pub struct PathKeeper {
    commands: mpsc::Sender<Command>,
    facts: watch::Receiver<HostFacts>,
    task: JoinHandle<()>,
}

impl Drop for PathKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PathKeeper {
    /// Begins to follow the host; the first facts are known on return and sent as an event. Nothing is changed.
    ///
    /// # Errors
    /// No netlink socket, or it cannot be read.
    pub async fn start(proc_sys: PathBuf, events: mpsc::Sender<HostEvent>) -> Result<Self, RouteError> {
        let routing = Routing::open(&proc_sys)?;
        let notices = Notices::open().map_err(RouteError::Socket)?;
        let sleep = SleepWatch::new().map_err(RouteError::Socket)?;
        let view = read(&routing).await?;
        let (facts_sender, facts) = watch::channel(view.facts(TUNNEL_INTERFACE));
        let (commands, receiver) = mpsc::channel(4);
        let mut outbox = Outbox::new(events);
        outbox.push(HostEvent::Facts { facts: facts.borrow().clone(), path_changed: false });
        let task = Task {
            commands: receiver,
            routing,
            notices,
            sleep,
            path: view.outer_path(TUNNEL_INTERFACE),
            facts: facts_sender,
            outbox,
            plan: None,
            tunnel_index: None,
            inside: BTreeSet::new(),
            reported: BTreeSet::new(),
            noticed: None,
            look_at: None,
        };
        Ok(Self { commands, facts, task: tokio::spawn(task.run()) })
    }

    /// The facts in this moment.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.facts.borrow().clone()
    }

    /// Makes the plan true and guards it from then on, also after an error; an empty plan removes all and guards nothing.
    ///
    /// # Errors
    /// See [`RouteError`]. `Err(Err(_))`: the task has ended.
    pub async fn apply(&self, plan: RoutePlan) -> Result<Result<(), RouteError>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Apply(plan, reply)).await.map_err(|_| Ended("routes"))?;
        answer.await.map_err(|_| Ended("routes"))
    }

    /// How the kernel differs from the plan applied last, in words; empty when it does not.
    ///
    /// # Errors
    /// The kernel cannot be read, or the task has ended.
    pub async fn difference(&self) -> Result<Result<String, RouteError>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Difference(reply)).await.map_err(|_| Ended("routes"))?;
        answer.await.map_err(|_| Ended("routes"))
    }
}

struct Task {
    commands: mpsc::Receiver<Command>,
    routing: Routing,
    notices: Notices,
    sleep: SleepWatch,
    facts: watch::Sender<HostFacts>,
    path: OuterPath,
    outbox: Outbox,
    /// What was applied last; `None` and an empty plan are not guarded.
    plan: Option<RoutePlan>,
    /// Index of the plan's tunnel interface while it is up.
    tunnel_index: Option<u32>,
    /// Addresses of that interface when it was looked at last.
    inside: BTreeSet<IpAddr>,
    reported: BTreeSet<String>,
    /// When the first change was heard of that was not looked at yet.
    noticed: Option<Instant>,
    look_at: Option<Instant>,
}

enum Woken {
    Command(Option<Command>),
    Notice(io::Result<()>),
    Look,
    Resumed(io::Result<Duration>),
    Flushed,
}

impl Task {
    async fn run(mut self) {
        loop {
            let woken = tokio::select! {
                command = self.commands.recv() => Woken::Command(command),
                notice = self.notices.changed(), if self.noticed.is_none() => Woken::Notice(notice),
                () = until(self.look_at) => Woken::Look,
                slept = self.sleep.resumed() => Woken::Resumed(slept),
                () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Flushed,
            };
            match woken {
                Woken::Command(None) => return,
                Woken::Command(Some(command)) => self.obey(command).await,
                Woken::Notice(Ok(())) => {
                    let now = Instant::now();
                    self.noticed = Some(now);
                    self.look_at = Some(now + DEBOUNCE);
                }
                Woken::Look => self.look().await,
                Woken::Resumed(Ok(slept)) => {
                    let asleep_ms = u64::try_from(slept.as_millis()).unwrap_or(u64::MAX);
                    self.outbox.push(HostEvent::Resumed { asleep_ms });
                    self.look().await;
                }
                Woken::Flushed => {}
                Woken::Notice(Err(error)) | Woken::Resumed(Err(error)) => {
                    // Without ears the protection stays, but nothing would be restored: the helper must know.
                    tracing::error!(%error, "host changes cannot be followed");
                    self.outbox.push(HostEvent::RestoreFailed { reason: format!("host changes cannot be followed: {error}") });
                    self.outbox.flush().await;
                    return;
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // A caller that went away wants no answer.
        match command {
            Command::Apply(plan, reply) => {
                let result = self.apply(plan).await;
                drop(reply.send(result));
            }
            Command::Difference(reply) => {
                let result = match &self.plan {
                    Some(plan) => self.routing.difference(plan).await.map(|difference| difference.describe()),
                    None => Ok(String::new()),
                };
                drop(reply.send(result));
            }
        }
    }

    async fn apply(&mut self, plan: RoutePlan) -> Result<(), RouteError> {
        let result = self.routing.apply(&plan).await;
        self.tunnel_index = self.find_tunnel(&plan).await.unwrap_or(self.tunnel_index);
        self.plan = Some(plan);
        // Mostly our own changes. The look that follows finds what else happened, and hostile routes from before.
        self.notices.drain();
        self.noticed = None;
        self.look_at = Some(Instant::now() + if result.is_ok() { Duration::ZERO } else { RETRY });
        result
    }

    async fn find_tunnel(&self, plan: &RoutePlan) -> Option<Option<u32>> {
        match &plan.tunnel {
            Some(name) => self.routing.interface_up(name.as_str()).await.ok(),
            None => Some(None),
        }
    }

    /// Restores what differs, then looks at the host.
    async fn look(&mut self) {
        self.notices.drain();
        let since = self.noticed.take().unwrap_or_else(Instant::now);
        self.look_at = None;
        if let Some(plan) = self.plan.take().filter(|plan| *plan != RoutePlan::default()) {
            self.look_for_tunnel(&plan).await;
            if let Err(error) = self.guard(&plan, since).await {
                tracing::error!(%error, "rules or routes were changed and cannot be restored");
                self.outbox.push(HostEvent::RestoreFailed { reason: error.to_string() });
                self.look_at = Some(Instant::now() + RETRY);
            }
            self.plan = Some(plan);
        }
        match read(&self.routing).await {
            Ok(view) => self.compare(&view),
            Err(error) => {
                tracing::warn!(%error, "the host cannot be read");
                self.look_at = Some(Instant::now() + RETRY);
            }
        }
    }

    async fn guard(&mut self, plan: &RoutePlan, since: Instant) -> Result<(), RouteError> {
        let difference = self.routing.difference(plan).await?;
        if difference.is_empty() {
            return Ok(());
        }
        let what = difference.describe();
        // The interface may be gone: that is told by an event of its own.
        let without_tunnel = RoutePlan { tunnel_required: false, ..plan.clone() };
        self.routing.apply(&without_tunnel).await?;
        if difference.only_tunnel_routes_missing() {
            tracing::info!(what, "routes into the tunnel are there again");
            return Ok(());
        }
        let restored_after_us = microseconds(since);
        tracing::warn!(what, restored_after_us, "rules or routes were changed and are restored");
        self.outbox.push(HostEvent::Tampered { what, restored_after_us });
        Ok(())
    }

    /// The interface is there, but one of its addresses was taken away: nothing can be sent into the tunnel any more.
    fn look_at_tunnel_addresses(&mut self, view: &HostView, name: &str) {
        let link = view.links.iter().find(|link| link.name == name);
        let inside: BTreeSet<IpAddr> = match link {
            Some(link) => view.addresses.iter().filter(|held| held.interface == link.index).map(|held| held.address).collect(),
            None => BTreeSet::new(),
        };
        let required = self.plan.as_ref().is_some_and(|plan| plan.tunnel_required);
        let same_link = link.map(|link| link.index) == self.tunnel_index;
        if required && link.is_some() && same_link && !self.inside.is_subset(&inside) {
            self.outbox.push(HostEvent::TunnelInterfaceLost);
        }
        self.inside = inside;
    }

    fn compare(&mut self, view: &HostView) {
        let tunnel = self.plan.as_ref().and_then(|plan| plan.tunnel.as_ref());
        let name = tunnel.map_or(TUNNEL_INTERFACE, InterfaceName::as_str).to_owned();
        self.look_at_tunnel_addresses(view, &name);
        let (facts, path) = (view.facts(&name), view.outer_path(&name));
        let path_changed = facts.online && path != self.path;
        self.path = path;
        if path_changed || *self.facts.borrow() != facts {
            self.facts.send_replace(facts.clone());
            self.outbox.push(HostEvent::Facts { facts, path_changed });
        }
        let tunnelled = self.plan.as_ref().is_some_and(|plan| plan.tunnel.is_some());
        let harmful = if tunnelled { view.interfering(&name) } else { BTreeSet::new() };
        for what in harmful.difference(&self.reported) {
            self.outbox.push(HostEvent::NetworkInterferes { what: what.clone() });
        }
        self.reported = harmful.into_iter().take(REPORTED_LIMIT).collect();
    }

    /// Told only while all traffic uses it: before that the tunnel itself notices, and in between it is made anew by us.
    async fn look_for_tunnel(&mut self, plan: &RoutePlan) {
        let Some(index) = self.find_tunnel(plan).await else { return };
        if plan.tunnel_required && self.tunnel_index.is_some() && index != self.tunnel_index {
            self.outbox.push(HostEvent::TunnelInterfaceLost);
        }
        self.tunnel_index = index;
    }
}
