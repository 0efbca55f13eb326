//! The facade on Windows: firewall, routes and DNS as one.

use crate::dns::apply::Dns;
use crate::finding::Finding;
use crate::firewall::Ruleset;
use crate::firewall::apply::windows::Firewall;
use crate::firewall::compile::wfp::{self, Filter};
use crate::keeper::whole::{Listeners, Parts, System, Whole, remove};
use crate::monitor::bell::Bell;
use crate::monitor::windows::WindowsHost;
use crate::routes::RoutePlan;
use crate::routes::apply::windows::Routes;
use crate::routes::plan_windows::WindowsRoutes;
use hamn_core::event::{HostEvent, HostFacts};
use hamn_core::policy::NetworkPolicy;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

pub use crate::keeper::whole::{ApplyError, NetworkError};
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
        std::fs::create_dir_all(&self.state_dir).map_err(NetworkError::directory(&self.state_dir))
    }

    fn parts(&self, bell: &Arc<Bell>) -> Parts<Windows> {
        Parts {
            firewall: Firewall::new(&self.program, Arc::clone(bell)),
            routes: Routes::default(),
            dns: Dns::new(&self.state_dir),
        }
    }
}

/// This system.
struct Windows;

impl System for Windows {
    type Firewall = Firewall;
    type Routes = Routes;
    type Dns = Dns;
    type Host = WindowsHost;
    const DNS_BACKEND: &'static str = Dns::BACKEND;
    // What has no route takes the system's own.
    const ROUTES_ARE_A_FENCE: bool = false;

    fn rules(policy: &NetworkPolicy) -> Option<Arc<Vec<Filter>>> {
        Ruleset::lower(policy).map(|rules| Arc::new(wfp::compile(&rules)))
    }

    fn routes(policy: &NetworkPolicy) -> WindowsRoutes {
        WindowsRoutes::of(&RoutePlan::for_policy(policy))
    }
}

/// Enforces one policy at a time on this computer.
///
/// Dropping it leaves everything in place, as a crash does (G6): only `apply(&NetworkPolicy::Open)` or [`restore`] opens.
pub struct Network(Whole<Windows>);

impl Network {
    /// Begins to follow the host and sends its facts. Nothing is changed: filters, routes and DNS settings that an earlier
    /// process left stay until the first policy replaces them, and its DNS note stays until they are restored.
    ///
    /// # Errors
    /// The state directory cannot be used, or the host cannot be followed.
    pub async fn open(config: Config, events: mpsc::Sender<HostEvent>) -> Result<Self, NetworkError> {
        config.prepare()?;
        let bell = Arc::new(Bell::default());
        let listeners = Listeners { firewall: bell.listen(), routes: bell.listen(), dns: bell.listen() };
        Ok(Self(Whole::start(config.parts(&bell), listeners, WindowsHost, &bell, events).await?))
    }

    /// Makes the policy true, reads everything back, and guards it until the next call. See [`Whole::apply`] for the order.
    ///
    /// # Errors
    /// See [`ApplyError`]. Nothing is more open than before, unless the policy is open.
    pub async fn apply(&mut self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        self.0.apply(policy).await
    }

    /// Reads firewall, routes and DNS back and compares them with the policy applied last.
    pub async fn verify(&self) -> Vec<Finding> {
        self.0.verify().await
    }

    /// What holds our DNS settings in this moment, for people and JSON.
    #[must_use]
    pub fn dns_backend(&self) -> Option<&'static str> {
        self.0.dns_backend()
    }

    /// The host in this moment.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.0.facts()
    }
}

/// Removes everything of ours with no helper running: DNS settings, routes, filters with sublayers and provider. Says what it
/// did; a second call does nothing. It opens the network, so only an administrator's explicit wish leads here.
///
/// # Errors
/// [`NetworkError::Incomplete`] names what is left; everything else was still done.
pub async fn restore(config: &Config) -> Result<Vec<String>, NetworkError> {
    config.prepare()?;
    remove(config.parts(&Arc::default())).await
}
