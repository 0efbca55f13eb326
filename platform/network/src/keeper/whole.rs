//! A whole policy on systems whose calls block: in which order firewall, routes and DNS change, and what a failure of one
//! means for the others. The calls are those of a [`System`].

use super::Ended;
use super::guard::Keeper;
use super::guarded::{Guarded, KeepError, Kept};
use super::host::{Host, HostKeeper};
use crate::dns::plan::DnsWish;
use crate::finding::Finding;
use crate::monitor::bell::{Bell, Listener};
use crate::monitor::reporter::TunnelUse;
use hamn_core::event::{HostEvent, HostFacts};
use hamn_core::policy::NetworkPolicy;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// One operating system.
pub trait System: Send + Sync + 'static {
    /// Its packet filter.
    type Firewall: Guarded;
    /// Its routing table.
    type Routes: Guarded;
    /// Its resolvers.
    type Dns: Guarded<Wish = DnsWish>;
    /// What tells of the host.
    type Host: Host;
    /// What holds DNS settings, for people and JSON.
    const DNS_BACKEND: &'static str;
    /// True where routes alone keep traffic in: they are closed even when the firewall cannot be.
    const ROUTES_ARE_A_FENCE: bool;

    /// The rules of a policy.
    fn rules(policy: &NetworkPolicy) -> <Self::Firewall as Guarded>::Wish;

    /// The routes of a policy.
    fn routes(policy: &NetworkPolicy) -> <Self::Routes as Guarded>::Wish;
}

/// What makes a policy true on one system.
pub struct Parts<S: System> {
    /// The packet filter.
    pub firewall: S::Firewall,
    /// The routing table.
    pub routes: S::Routes,
    /// The resolvers.
    pub dns: S::Dns,
}

/// What tells the guard of each part to look before its time is up.
pub struct Listeners {
    /// Of the packet filter.
    pub firewall: Listener,
    /// Of the routing table.
    pub routes: Listener,
    /// Of the resolvers.
    pub dns: Listener,
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

impl NetworkError {
    /// For the directory of notes.
    pub fn directory(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::StateDirectory { path, source }
    }
}

/// Why a policy is not in force. What was in force before was not opened by the failure.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The firewall.
    #[error("firewall: {0}")]
    Firewall(#[source] KeepError),
    /// Routes.
    #[error("routes: {0}")]
    Routes(#[source] KeepError),
    /// DNS.
    #[error("DNS: {0}")]
    Dns(#[source] KeepError),
    /// A task of ours has ended: start anew.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// One policy at a time on this computer.
///
/// Dropping it leaves everything in place, as a crash does (G6): only `apply(&NetworkPolicy::Open)` or [`remove`] opens.
pub struct Whole<S: System> {
    firewall: Keeper<S::Firewall>,
    routes: Keeper<S::Routes>,
    dns: Keeper<S::Dns>,
    host: HostKeeper,
    applied: bool,
}

impl<S: System> Whole<S> {
    /// Begins to follow the host and sends its facts. Nothing is changed: rules, routes and DNS settings that an earlier
    /// process left stay until the first policy replaces them, and its DNS note stays until they are restored.
    ///
    /// # Errors
    /// The host cannot be followed.
    pub async fn start(
        parts: Parts<S>,
        listeners: Listeners,
        host: S::Host,
        bell: &Arc<Bell>,
        events: mpsc::Sender<HostEvent>,
    ) -> io::Result<Self> {
        let host = HostKeeper::start(host, bell, events.clone()).await?;
        Ok(Self {
            firewall: Keeper::start(parts.firewall, listeners.firewall, events.clone()),
            routes: Keeper::start(parts.routes, listeners.routes, events.clone()),
            dns: Keeper::start(parts.dns, listeners.dns, events),
            host,
            applied: false,
        })
    }

    /// Makes the policy true, reads everything back, and guards it until the next call.
    ///
    /// Tightening goes firewall, routes, DNS; opening goes DNS, routes, firewall. Where the firewall cannot be closed, routes
    /// still are if they are a fence, and nothing else is changed. While opening, a step that fails does not keep the user's
    /// network from coming back. The first failure is returned; apply again to complete.
    ///
    /// # Errors
    /// See [`ApplyError`]. Nothing is more open than before, unless the policy is open.
    pub async fn apply(&mut self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        self.applied = true;
        match policy {
            NetworkPolicy::Open => self.open_up(policy).await,
            NetworkPolicy::Enforce(_) => self.tighten(policy).await,
        }
    }

    async fn tighten(&self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        let firewall = self.firewall.apply(S::rules(policy)).await.map_err(ApplyError::Firewall);
        // A monitor that ended keeps no fence from being closed.
        let host = self.host.use_tunnel(TunnelUse::of(policy)).await;
        if !S::ROUTES_ARE_A_FENCE && firewall.is_err() {
            return firewall.map(drop);
        }
        let routes = self.routes.apply(S::routes(policy)).await.map_err(ApplyError::Routes);
        let said = [firewall?, routes?, self.dns.apply(DnsWish::for_policy(policy)).await.map_err(ApplyError::Dns)?];
        log(said);
        Ok(host?)
    }

    async fn open_up(&self, policy: &NetworkPolicy) -> Result<(), ApplyError> {
        let host = self.host.use_tunnel(None).await;
        let dns = self.dns.apply(DnsWish::for_policy(policy)).await.map_err(ApplyError::Dns);
        let routes = self.routes.apply(S::routes(policy)).await.map_err(ApplyError::Routes);
        let firewall = self.firewall.apply(S::rules(policy)).await.map_err(ApplyError::Firewall);
        log([dns?, routes?, firewall?]);
        Ok(host?)
    }

    /// Reads firewall, routes and DNS back and compares them with the policy applied last.
    pub async fn verify(&self) -> Vec<Finding> {
        if !self.applied {
            return vec![Finding::no_policy()];
        }
        vec![
            Finding::new(S::Firewall::NAME, self.firewall.check().await),
            Finding::new(S::Routes::NAME, self.routes.check().await),
            Finding::new(S::Dns::NAME, self.dns.check().await),
        ]
    }

    /// What holds our DNS settings in this moment, for people and JSON.
    #[must_use]
    pub fn dns_backend(&self) -> Option<&'static str> {
        self.dns.holds().then_some(S::DNS_BACKEND)
    }

    /// The host in this moment.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.host.facts()
    }
}

fn log(said: [Option<String>; 3]) {
    for said in said.into_iter().flatten() {
        tracing::info!(said, "the network changed");
    }
}

/// Removes everything of ours with no helper running: DNS settings, routes, rules. Says what it did; a second call does
/// nothing. It opens the network, so only an administrator's explicit wish leads here.
///
/// # Errors
/// [`NetworkError::Incomplete`] names what is left; everything else was still done.
pub async fn remove<S: System>(parts: Parts<S>) -> Result<Vec<String>, NetworkError> {
    let work = tokio::task::spawn_blocking(move || remove_all(parts)).await;
    work.unwrap_or_else(|error| Err(NetworkError::Monitor(io::Error::other(error))))
}

fn remove_all<S: System>(parts: Parts<S>) -> Result<Vec<String>, NetworkError> {
    let open = NetworkPolicy::Open;
    let removed = [
        removed(parts.dns, DnsWish::for_policy(&open)),
        removed(parts.routes, S::routes(&open)),
        removed(parts.firewall, S::rules(&open)),
    ];
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for part in removed {
        match part {
            Ok(said) => done.extend(said),
            Err(error) => failed.push(error),
        }
    }
    if failed.is_empty() { Ok(done) } else { Err(NetworkError::Incomplete { done, failed }) }
}

fn removed<G: Guarded>(part: G, nothing: G::Wish) -> Result<Option<String>, String> {
    Kept::new(part).apply(nothing).map_err(|error| format!("{}: {error}", G::NAME))
}

#[cfg(test)]
#[path = "whole_tests.rs"]
mod tests;
