//! The facade on macOS: packet filter, routes and DNS as one.

use crate::finding::Finding;
use crate::firewall::Ruleset;
use crate::firewall::compile::pf::{self, PfRule};
use crate::keeper::macos::{DNS_BACKEND, Firewall, MacHost, Resolvers, Routes};
use crate::keeper::whole::{Listeners, Parts, System, Whole, remove};
use crate::monitor::HostView;
use crate::monitor::bell::Bell;
use crate::routes::plan_macos::MacRoutePlan;
use hamn_core::event::{HostEvent, HostFacts};
use hamn_core::net::TUNNEL_INTERFACE;
use hamn_core::policy::NetworkPolicy;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

pub use crate::keeper::whole::{ApplyError, NetworkError};

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
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.state_dir);
        made.map_err(NetworkError::directory(&self.state_dir))
    }

    fn parts(&self, store: &Arc<Bell>) -> Parts<MacOs> {
        Parts {
            firewall: Firewall::new(&self.state_dir),
            routes: Routes,
            dns: Resolvers::new(&self.state_dir, Arc::clone(store)),
        }
    }
}

/// This system.
struct MacOs;

impl System for MacOs {
    type Firewall = Firewall;
    type Routes = Routes;
    type Dns = Resolvers;
    type Host = MacHost;
    const DNS_BACKEND: &'static str = DNS_BACKEND;
    const ROUTES_ARE_A_FENCE: bool = true;

    fn rules(policy: &NetworkPolicy) -> Option<Arc<Vec<PfRule>>> {
        Ruleset::lower(policy).map(|rules| Arc::new(pf::compile(&rules)))
    }

    fn routes(policy: &NetworkPolicy) -> MacRoutePlan {
        MacRoutePlan::for_policy(policy)
    }
}

/// Enforces one policy at a time on this host.
///
/// Dropping it leaves everything in place, as a crash does (G6): only `apply(&NetworkPolicy::Open)` or [`restore`] opens.
pub struct Network {
    whole: Whole<MacOs>,
    view: watch::Receiver<HostView>,
}

impl Network {
    /// Begins to follow the host and sends its facts. Nothing is changed: rules, routes and DNS settings that an earlier
    /// process left stay until the first policy replaces them, and its DNS note stays until they are restored.
    ///
    /// # Errors
    /// The state directory cannot be used, or the host cannot be followed.
    pub async fn open(config: Config, events: mpsc::Sender<HostEvent>) -> Result<Self, NetworkError> {
        config.prepare()?;
        let (host, store) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        // Nothing tells of changes in the packet filter: this bell is never rung.
        let filter = Bell::default().listen();
        let listeners = Listeners { firewall: filter, routes: host.listen(), dns: store.listen() };
        let (sender, view) = watch::channel(HostView::default());
        let whole = Whole::start(config.parts(&store), listeners, MacHost { view: sender }, &host, events).await?;
        Ok(Self { whole, view })
    }

    /// Makes the policy true, reads everything back, and guards it until the next call. See [`Whole::apply`] for the order.
    ///
    /// # Errors
    /// See [`ApplyError`]. Nothing is more open than before, unless the policy is open.
    pub async fn apply(&mut self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        self.whole.apply(policy).await
    }

    /// Reads firewall, routes and DNS back and compares them with the policy applied last.
    pub async fn verify(&self) -> Vec<Finding> {
        self.whole.verify().await
    }

    /// The DNS backend that holds our settings in this moment, for people and JSON.
    #[must_use]
    pub fn dns_backend(&self) -> Option<&'static str> {
        self.whole.dns_backend()
    }

    /// The host in this moment.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.whole.facts()
    }

    /// The index of the link that a packet of this family leaves by outside the tunnel, for `IP_BOUND_IF` and
    /// `IPV6_BOUND_IF` on the tunnel's own sockets.
    #[must_use]
    pub fn outer_interface(&self, ipv4: bool) -> Option<u32> {
        self.view.borrow().outer_interface(TUNNEL_INTERFACE, ipv4).map(|link| link.index)
    }
}

/// Removes everything of ours with no helper running: DNS settings, routes, rules of the packet filter. Says what it did; a
/// second call does nothing. It opens the network, so only an administrator's explicit wish leads here.
///
/// # Errors
/// [`NetworkError::Incomplete`] names what is left; everything else was still done.
pub async fn restore(config: &Config) -> Result<Vec<String>, NetworkError> {
    config.prepare()?;
    remove(config.parts(&Arc::default())).await
}
