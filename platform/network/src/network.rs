//! The facade: one policy in, firewall, routes and DNS true together, guarded until the next one.

use crate::dns::apply::{Dns, DnsError};
use crate::dns::plan::{Backend, DnsWish};
use crate::finding::Finding;
use crate::firewall::apply::linux::{Nft, NftError};
use crate::keeper::Ended;
use crate::keeper::dns::{DnsKeeper, links};
use crate::keeper::firewall::FirewallKeeper;
use crate::keeper::path::PathKeeper;
use crate::routes::RoutePlan;
use crate::routes::apply::linux::{RouteError, Routing};
use crate::routes::apply::reverse_path;
use hamn_core::event::{HostEvent, HostFacts};
use hamn_core::policy::NetworkPolicy;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Where things are. The defaults are those of a normal host; tests give others.
#[derive(Clone, Debug)]
pub struct Config {
    /// Notes of what to restore are kept here. Made with mode 0700 if missing.
    pub state_dir: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/proc/sys`.
    pub proc_sys: PathBuf,
    /// The D-Bus address of resolved and NetworkManager; `None` for the system bus.
    pub bus_address: Option<String>,
}

impl Config {
    /// A normal host, with notes in this directory.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            proc_sys: PathBuf::from("/proc/sys"),
            bus_address: None,
        }
    }

    fn prepare(&self) -> Result<(), NetworkError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.state_dir)
            .map_err(|source| NetworkError::StateDirectory { path: self.state_dir.clone(), source })
    }

    fn dns(&self) -> Dns {
        Dns::new(&self.resolv_conf, &self.state_dir, self.bus_address.clone())
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
    Firewall(#[from] NftError),
    /// Rules or routes.
    #[error("routes: {0}")]
    Routes(#[from] RouteError),
    /// DNS.
    #[error("DNS: {0}")]
    Dns(#[from] DnsError),
    /// A switch of the kernel.
    #[error("kernel settings: {0}")]
    Kernel(#[source] io::Error),
    /// A task of ours has ended: start anew.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// Enforces one policy at a time on this host, in the network namespace of the thread that opened it.
///
/// Dropping it leaves everything in place, as a crash does (G6): only `apply(&NetworkPolicy::Open)` or [`restore`] opens.
pub struct Network {
    config: Config,
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
    pub async fn open(config: Config, events: mpsc::Sender<HostEvent>) -> Result<Self, NetworkError> {
        config.prepare()?;
        let path = PathKeeper::start(config.proc_sys.clone(), events.clone()).await?;
        let routing = Routing::open(&config.proc_sys)?;
        let dns = DnsKeeper::start(config.dns(), routing, config.resolv_conf.clone(), events.clone());
        let firewall = FirewallKeeper::start(events);
        Ok(Self { config, firewall, path, dns, policy: None })
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
        if let Err(problem) = reverse_path::accept_marked_replies(&self.config.proc_sys, &self.config.state_dir) {
            tracing::warn!(problem, "the tunnel may not work");
        }
        let routes = self.path.apply(RoutePlan::for_policy(policy)).await?;
        firewall?;
        routes?;
        if let Some(said) = self.dns.apply(DnsWish::for_policy(policy)).await?? {
            tracing::info!(said, "DNS");
        }
        Ok(())
    }

    async fn open_up(&self) -> Result<(), ApplyError> {
        let dns = self.dns.apply(DnsWish::Original).await;
        let routes = self.path.apply(RoutePlan::default()).await;
        let kernel = reverse_path::restore(&self.config.proc_sys, &self.config.state_dir);
        let firewall = self.firewall.enforce(&NetworkPolicy::Open).await;
        if let Some(said) = dns?? {
            tracing::info!(said, "DNS");
        }
        routes??;
        kernel.map_err(ApplyError::Kernel)?;
        firewall?;
        Ok(())
    }

    /// Reads firewall, rules, routes and DNS back and compares them with the policy applied last.
    pub async fn verify(&self) -> Vec<Finding> {
        let Some(policy) = &self.policy else {
            return vec![Finding::no_policy()];
        };
        let open = policy.is_open();
        let firewall = match self.firewall.holds(policy).await {
            Ok(true) => Ok(if open { "no rule of ours" } else { "the rules are those of the policy" }.to_owned()),
            Ok(false) => Err("the rules are not those of the policy".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let routes = match self.path.difference().await {
            Ok(Ok(difference)) if difference.is_empty() => {
                Ok(if open { "no rule or route of ours" } else { "rules and routes are those of the policy" }.to_owned())
            }
            Ok(Ok(difference)) => Err(difference),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let dns = self.dns.check().await.unwrap_or_else(|error| Err(error.to_string()));
        let mut findings = vec![Finding::new("firewall", firewall), Finding::new("routes", routes), Finding::new("DNS", dns)];
        if !open {
            let kernel = reverse_path::accept_marked_replies(&self.config.proc_sys, &self.config.state_dir);
            let kernel = kernel.map(|()| "replies to the tunnel's socket pass".to_owned());
            findings.push(Finding::new("reverse path filter", kernel));
        }
        findings
    }

    /// The DNS backend that holds our settings in this moment, for people and JSON.
    #[must_use]
    pub fn dns_backend(&self) -> Option<&'static str> {
        self.dns.backend().map(Backend::name)
    }

    /// The host in this moment.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.path.facts()
    }
}

/// Removes everything of ours with no helper running: DNS settings, routes, rules, the kernel switch, firewall tables. Says
/// what it did; a second call does nothing. It opens the network, so only an administrator's explicit wish leads here.
///
/// # Errors
/// [`NetworkError::Incomplete`] names what is left; everything else was still done.
pub async fn restore(config: &Config) -> Result<Vec<String>, NetworkError> {
    config.prepare()?;
    let routing = Routing::open(&config.proc_sys)?;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let mut note = |what: &str, result: Result<Option<String>, String>| match result {
        Ok(said) => done.extend(said),
        Err(error) => failed.push(format!("{what}: {error}")),
    };
    note("DNS", restore_dns(config, &routing).await.map_err(|error| error.to_string()));
    note("routes", remove_routes(&routing).await.map_err(|error| error.to_string()));
    let switch = reverse_path::restore(&config.proc_sys, &config.state_dir);
    note("kernel settings", switch.map_err(|error| error.to_string()));
    note("firewall", remove_firewall().await.map_err(|error| error.to_string()));
    if failed.is_empty() { Ok(done) } else { Err(NetworkError::Incomplete { done, failed }) }
}

async fn restore_dns(config: &Config, routing: &Routing) -> Result<Option<String>, DnsError> {
    config.dns().restore(&links(routing, "").await?).await
}

async fn remove_routes(routing: &Routing) -> Result<Option<String>, RouteError> {
    let none = RoutePlan::default();
    if routing.difference(&none).await?.is_empty() {
        return Ok(None);
    }
    routing.apply(&none).await?;
    Ok(Some("routing rules and routes removed".to_owned()))
}

async fn remove_firewall() -> Result<Option<String>, NftError> {
    let nft = Nft::find()?;
    if !nft.is_present().await? {
        return Ok(None);
    }
    nft.remove().await?;
    Ok(Some("firewall tables removed".to_owned()))
}
