//! Carries policies out, one after the other, outside the event loop: an `nft` or a D-Bus service that hangs delays the
//! answer, and never commands, status or the watchdog.

use crate::outer;
use crate::service::Report;
use hamn_core::policy::NetworkPolicy;
use hamn_core::state::Generation;
use hamn_network::Finding;
use hamn_network::Network;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{error, info};

/// How long the question for the interface outside waits.
const OUTER_WAIT: Duration = Duration::from_secs(1);

/// A policy and the number under which it is answered.
type Wanted = Option<(Generation, NetworkPolicy)>;

/// Applies the newest policy that it was given and reports each one that it tried.
pub(crate) struct Enforcer {
    network: Arc<Mutex<Network>>,
    wanted: watch::Sender<Wanted>,
    /// The newest policy that was not answered yet.
    outstanding: Option<Generation>,
    dns_backend: Option<&'static str>,
    task: JoinHandle<()>,
}

impl Enforcer {
    pub(crate) fn start(network: Network, reports: mpsc::Sender<Report>) -> Self {
        let network = Arc::new(Mutex::new(network));
        let (wanted, receiver) = watch::channel(None);
        let task = tokio::spawn(apply_all(Arc::clone(&network), receiver, reports));
        Self { network, wanted, outstanding: None, dns_backend: None, task }
    }

    /// Asks for a policy; `Report::Applied` is the answer. One that was not begun when a newer one came is passed over:
    /// nobody waits for its answer any more.
    pub(crate) fn enforce(&mut self, generation: Generation, policy: NetworkPolicy) {
        self.outstanding = Some(generation);
        self.wanted.send_replace(Some((generation, policy)));
    }

    /// Notes an answer.
    pub(crate) fn answered(&mut self, generation: Generation) {
        self.outstanding.take_if(|newest| *newest == generation);
    }

    /// True when every policy that was asked for is answered.
    pub(crate) const fn is_idle(&self) -> bool {
        self.outstanding.is_none()
    }

    /// The DNS backend that holds our settings; while a policy is being applied, the one before.
    pub(crate) fn dns_backend(&mut self) -> Option<&'static str> {
        if let Ok(network) = self.network.try_lock() {
            self.dns_backend = network.dns_backend();
        }
        self.dns_backend
    }

    /// The interface to which a socket to this gateway must be tied, on systems where it must. A policy that is being applied
    /// is waited for, but not long: without the answer the socket follows the routes.
    pub(crate) async fn outer_interface(&self, gateway: IpAddr) -> Option<u32> {
        if !outer::IS_NEEDED {
            return None;
        }
        let network = tokio::time::timeout(OUTER_WAIT, self.network.lock()).await.ok()?;
        outer::interface_to(&network, gateway)
    }

    /// Reads everything back, when the policy that is being applied is done.
    pub(crate) fn read_back(&self) -> impl Future<Output = Vec<Finding>> + Send + 'static {
        let network = Arc::clone(&self.network);
        async move { network.lock().await.verify().await }
    }

    /// Waits until nothing is being applied, but no longer than this. Everything stays as it is in the kernel.
    pub(crate) async fn finish(self, limit: Duration) {
        drop(self.wanted);
        if tokio::time::timeout(limit, self.task).await.is_err() {
            error!("the last policy is still being applied at the end");
        }
    }
}

async fn apply_all(network: Arc<Mutex<Network>>, mut wanted: watch::Receiver<Wanted>, reports: mpsc::Sender<Report>) {
    while wanted.changed().await.is_ok() {
        let Some((generation, policy)) = wanted.borrow_and_update().clone() else { continue };
        let started = Instant::now();
        let result = network.lock().await.apply(&policy).await;
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        match &result {
            Ok(()) => info!(took_us, open = policy.is_open(), "policy applied"),
            Err(error) => error!(%error, took_us, "the policy could not be applied"),
        }
        let report = Report::Applied {
            generation,
            inside: reaches_api_inside(&policy),
            result: result.map_err(|error| error.to_string()),
        };
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

/// While connected the API is reached through the tunnel; in every other state by marked sockets.
fn reaches_api_inside(policy: &NetworkPolicy) -> bool {
    matches!(policy, NetworkPolicy::Enforce(enforced) if enforced.api.is_empty() && enforced.tunnel.is_some())
}
