//! The facade on macOS: one policy in, packet filter, routes and DNS true together, guarded until the next one.

use crate::dns::apply::{Dns, DnsError};
use crate::dns::plan::DnsWish;
use crate::finding::Finding;
use crate::firewall::apply::macos::{Pf, PfError};
use crate::keeper::Ended;
use crate::keeper::macos::dns::DnsKeeper;
use crate::keeper::macos::firewall::FirewallKeeper;
use crate::keeper::macos::path::PathKeeper;
use crate::routes::apply::macos::{RouteError, Routing, read};
use crate::routes::plan_macos::MacRoutePlan;
use hamn_core::event::{HostEvent, HostFacts};
use hamn_core::policy::NetworkPolicy;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Notes of what to restore are kept here. Made with mode 0700 if missing.
    pub state_dir: PathBuf,
}

impl Config {
    /// A normal host, with notes in this directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    fn prepare(&self) -> Result<(), NetworkError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.state_dir)
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
    /// The kernel's routing cannot be reached.
    #[error(transparent)]
    Routes(#[from] RouteError),
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
    Firewall(#[from] PfError),
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

/// Enforces one policy at a time on this host.
///
/// Dropping it leaves everything in place, as a crash does (G6): only `apply(&NetworkPolicy::Open)` or [`restore`] opens.
pub struct Network {
    firewall: FirewallKeeper,
    path: PathKeeper,
    dns: DnsKeeper,
    policy: Option<NetworkPolicy>,
}

impl Network {
    /// Begins to follow the host and sends its facts. Nothing is changed: rules, routes and DNS settings that an earlier
    /// process left stay until the first policy replaces them, and its DNS note stays until they are restored.
    ///
    /// # Errors
    /// The state directory or the kernel's routing cannot be used.
    #[expect(clippy::unused_async, reason = "the same on every system")]
    pub async fn open(config: Config, events: mpsc::Sender<HostEvent>) -> Result<Self, NetworkError> {
        config.prepare()?;
        let path = PathKeeper::start(events.clone())?;
        let dns = DnsKeeper::start(Dns::new(&config.state_dir), events.clone());
        let firewall = FirewallKeeper::start(&config.state_dir, events);
        Ok(Self { firewall, path, dns, policy: None })
    }

    /// Makes the policy true, reads everything back, and guards it until the next call.
    ///
    /// Tightening goes firewall, routes, DNS; opening goes DNS, routes, firewall. While tightening, a step that fails does
    /// not keep the next fence from being closed, except that DNS is changed only behind both. While opening, a step that
    /// fails does not keep the user's network from coming back. The first failure is returned; apply again to complete.
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

    async fn tighten(&self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        let firewall = self.firewall.enforce(policy).await;
        let routes = self.path.apply(MacRoutePlan::for_policy(policy)).await?;
        firewall?;
        routes?;
        if let Some(said) = self.dns.apply(DnsWish::for_policy(policy)).await?? {
            tracing::info!(said, "DNS");
        }
        Ok(())
    }

    async fn open_up(&self) -> Result<(), ApplyError> {
        let dns = self.dns.apply(DnsWish::Original).await;
        let routes = self.path.apply(MacRoutePlan::default()).await;
        let firewall = self.firewall.enforce(&NetworkPolicy::Open).await;
        if let Some(said) = dns?? {
            tracing::info!(said, "DNS");
        }
        routes??;
        firewall?;
        Ok(())
    }

    /// Reads firewall, routes and DNS back and compares them with the policy applied last.
    pub async fn verify(&self) -> Vec<Finding> {
        let Some(policy) = &self.policy else { return vec![Finding::no_policy()] };
        let open = policy.is_open();
        let firewall = match self.firewall.difference(policy).await {
            Ok(None) => Ok(if open { "no rule of ours" } else { "the rules are those of the policy" }.to_owned()),
            Ok(Some(difference)) => Err(difference),
            Err(error) => Err(error.to_string()),
        };
        let routes = match self.path.difference().await {
            Ok(Ok(difference)) if difference.is_empty() => {
                Ok(if open { "no route of ours" } else { "the routes are those of the policy" }.to_owned())
            }
            Ok(Ok(difference)) => Err(difference),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let dns = self.dns.check().await.unwrap_or_else(|error| Err(error.to_string()));
        vec![Finding::new("firewall", firewall), Finding::new("routes", routes), Finding::new("DNS", dns)]
    }

    /// The DNS backend that holds our settings in this moment, for people and JSON.
    #[must_use]
    pub fn dns_backend(&self) -> Option<&'static str> {
        self.dns.backend()
    }

    /// The host in this moment.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.path.facts()
    }

    /// The index of the link that a packet of this family leaves by outside the tunnel, for `IP_BOUND_IF` and
    /// `IPV6_BOUND_IF` on the tunnel's own sockets.
    #[must_use]
    pub fn outer_interface(&self, ipv4: bool) -> Option<u32> {
        self.path.outer_interface(ipv4)
    }
}

/// Removes everything of ours with no helper running: DNS settings, routes, rules of the packet filter. Says what it did; a
/// second call does nothing. It opens the network, so only an administrator's explicit wish leads here.
///
/// # Errors
/// [`NetworkError::Incomplete`] names what is left; everything else was still done.
pub async fn restore(config: &Config) -> Result<Vec<String>, NetworkError> {
    config.prepare()?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let mut note = |what: &str, result: Result<Option<String>, String>| match result {
        Ok(said) => done.extend(said),
        Err(error) => failed.push(format!("{what}: {error}")),
    };
    let dns = Dns::new(&config.state_dir);
    let restored = tokio::task::spawn_blocking(move || dns.restore()).await;
    let restored = restored.map_err(|error| error.to_string()).and_then(|result| result.map_err(|error| error.to_string()));
    note("DNS", restored);
    note("routes", remove_routes().map_err(|error| error.to_string()));
    note("firewall", remove_firewall(&config.state_dir).map_err(|error| error.to_string()));
    if failed.is_empty() { Ok(done) } else { Err(NetworkError::Incomplete { done, failed }) }
}

fn remove_routes() -> Result<Option<String>, RouteError> {
    let none = MacRoutePlan::default();
    if read()?.difference(&none).is_empty() {
        return Ok(None);
    }
    Routing::open()?.apply(&none)?;
    Ok(Some("routes removed".to_owned()))
}

fn remove_firewall(state_dir: &Path) -> Result<Option<String>, PfError> {
    let pf = Pf::open(state_dir)?;
    if !pf.is_present()? {
        return Ok(None);
    }
    pf.remove()?;
    Ok(Some("rules of the packet filter removed".to_owned()))
}
