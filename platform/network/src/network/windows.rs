//! The facade on Windows: one policy in, firewall, routes and DNS true together, guarded until the next one.

use crate::dns::apply::{Dns, DnsError};
use crate::dns::plan::DnsWish;
use crate::finding::Finding;
use crate::firewall::apply::windows::{Firewall, WfpError};
use crate::keeper::Ended;
use crate::keeper::guarded::Keeper;
use crate::keeper::host::HostKeeper;
use crate::monitor::bell::Bell;
use crate::monitor::reporter::TunnelUse;
use crate::routes::RoutePlan;
use crate::routes::apply::windows::{RouteError, Routes};
use hamn_core::event::{HostEvent, HostFacts};
use hamn_core::net::InterfaceName;
use hamn_core::policy::NetworkPolicy;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

pub use crate::monitor::windows::outer_interface;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Notes of what to restore are kept here. Made if missing; who may read it is decided by the directory above.
    pub state_dir: PathBuf,
    /// The program whose sockets may reach the gateway outside the tunnel (G8): the helper's own.
    pub program: PathBuf,
}

impl Config {
    /// A normal host, with notes in this directory, for the running program. Should its path be unknown, no filter can be
    /// made, and applying any policy but the open one fails.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned(), program: std::env::current_exe().unwrap_or_default() }
    }

    fn prepare(&self) -> Result<(), NetworkError> {
        std::fs::create_dir_all(&self.state_dir)
            .map_err(|source| NetworkError::StateDirectory { path: self.state_dir.clone(), source })
    }
}

/// Why the network side cannot start, or cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The directory for notes.
    #[error("cannot make {}: {source}", path.display())]
    StateDirectory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Links, addresses and routes cannot be read or followed.
    #[error("the host cannot be followed: {0}")]
    Monitor(#[from] io::Error),
    /// Some things of ours could not be removed.
    #[error("not all could be restored: {}", failed.join("; "))]
    Incomplete {
        /// What was done.
        done: Vec<String>,
        /// What was not, and why.
        failed: Vec<String>,
    },
}

/// Why a policy is not in force. What was in force before was not opened by the failure.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The firewall.
    #[error("firewall: {0}")]
    Firewall(#[from] WfpError),
    /// Routes.
    #[error("routes: {0}")]
    Routes(#[from] RouteError),
    /// DNS.
    #[error("DNS: {0}")]
    Dns(#[from] DnsError),
    /// A task of ours has ended: start anew.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Enforces one policy at a time on this computer.
///
/// Dropping it leaves everything in place, as a crash does (G6): only `apply(&NetworkPolicy::Open)` or [`restore`] opens.
pub struct Network {
    firewall: Keeper<Firewall>,
    routes: Keeper<Routes>,
    dns: Keeper<Dns>,
    host: HostKeeper,
    policy: Option<NetworkPolicy>,
    holds_dns: bool,
}

impl Network {
    /// Begins to follow the host and sends its facts. Nothing is changed: filters, routes and DNS settings that an earlier
    /// process left stay until the first policy replaces them, and its DNS note stays until they are restored.
    ///
    /// # Errors
    /// The state directory cannot be used, or the host cannot be followed.
    pub async fn open(config: Config, events: mpsc::Sender<HostEvent>) -> Result<Self, NetworkError> {
        config.prepare()?;
        let bell = Arc::new(Bell::default());
        let host = HostKeeper::start(&bell, events.clone()).await?;
        let firewall = Firewall::new(&config.program, Arc::clone(&bell));
        Ok(Self {
            firewall: Keeper::start(firewall, bell.listen(), events.clone()),
            routes: Keeper::start(Routes::default(), bell.listen(), events.clone()),
            dns: Keeper::start(Dns::new(&config.state_dir), bell.listen(), events),
            host,
            policy: None,
            holds_dns: false,
        })
    }

    /// Makes the policy true, reads everything back, and guards it until the next call.
    ///
    /// Tightening goes firewall, routes, DNS; opening goes DNS, routes, firewall. Where the firewall cannot be closed the
    /// rest is left as it is: routes are no fence here. While opening, a step that fails does not keep the user's network
    /// from coming back. The first failure is returned; apply again to complete.
    ///
    /// # Errors
    /// See [`ApplyError`]. Nothing is more open than before, unless the policy is open.
    pub async fn apply(&mut self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        self.policy = Some(policy.clone());
        match policy {
            NetworkPolicy::Open => self.open_up().await,
            NetworkPolicy::Enforce(_) => self.tighten(policy).await,
        }
    }

    async fn tighten(&mut self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        let plan = RoutePlan::for_policy(policy);
        let tunnel = plan.tunnel.clone().map(|interface| TunnelUse { interface, required: plan.tunnel_required });
        self.host.use_tunnel(tunnel).await?;
        self.firewall.apply(policy.clone()).await??;
        self.routes.apply(plan).await??;
        let wish = DnsWish::for_policy(policy);
        let sets = matches!(wish, DnsWish::Set(_));
        let restores = wish == DnsWish::Original;
        if let Some(said) = self.dns.apply(wish).await?? {
            tracing::info!(said, "DNS");
        }
        self.holds_dns = sets || (self.holds_dns && !restores);
        Ok(())
    }

    async fn open_up(&mut self) -> Result<(), ApplyError> {
        let host = self.host.use_tunnel(None).await;
        let dns = self.dns.apply(DnsWish::Original).await;
        let routes = self.routes.apply(RoutePlan::default()).await;
        let firewall = self.firewall.apply(NetworkPolicy::Open).await;
        self.holds_dns = false;
        for said in [dns??, routes??, firewall??].into_iter().flatten() {
            tracing::info!(said, "restored");
        }
        Ok(host?)
    }

    /// Reads firewall, routes and DNS back and compares them with the policy applied last.
    pub async fn verify(&self) -> Vec<Finding> {
        if self.policy.is_none() {
            return vec![Finding::no_policy()];
        }
        vec![
            Finding::new("firewall", self.firewall.check().await),
            Finding::new("routes", self.routes.check().await),
            Finding::new("DNS", self.dns.check().await),
        ]
    }

    /// What holds our DNS settings in this moment, for people and JSON.
    #[must_use]
    pub const fn dns_backend(&self) -> Option<&'static str> {
        if self.holds_dns { Some(Dns::BACKEND) } else { None }
    }

    /// The host in this moment.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.host.facts()
    }
}

/// Removes everything of ours with no helper running: DNS settings, routes, filters with sublayers and provider. Says what it
/// did; a second call does nothing. It opens the network, so only an administrator's explicit wish leads here.
///
/// # Errors
/// [`NetworkError::Incomplete`] names what is left; everything else was still done.
pub async fn restore(config: &Config) -> Result<Vec<String>, NetworkError> {
    config.prepare()?;
    let config = config.clone();
    let work = tokio::task::spawn_blocking(move || remove_all(&config)).await;
    work.unwrap_or_else(|error| Err(NetworkError::Monitor(io::Error::other(error))))
}

fn remove_all(config: &Config) -> Result<Vec<String>, NetworkError> {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let mut note = |what: &str, result: Result<Option<String>, String>| match result {
        Ok(said) => done.extend(said),
        Err(error) => failed.push(format!("{what}: {error}")),
    };
    note("DNS", Dns::new(&config.state_dir).restore().map_err(|error| error.to_string()));
    let routes = Routes::remove(&InterfaceName::tunnel());
    note("routes", routes.map(|any| any.then(|| "routes removed".to_owned())).map_err(|error| error.to_string()));
    let filters = Firewall::new(&config.program, Arc::default()).remove();
    note("firewall", filters.map(|any| any.then(|| "filters removed".to_owned())).map_err(|error| error.to_string()));
    if failed.is_empty() { Ok(done) } else { Err(NetworkError::Incomplete { done, failed }) }
}
