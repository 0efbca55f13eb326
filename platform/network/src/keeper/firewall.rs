//! Keeps the firewall as it was applied: another program's change is undone within 100 ms and reported (TAMPER-01).

use super::{Outbox, microseconds};
use crate::firewall::Ruleset;
use crate::firewall::apply::linux::{Nft, NftError};
use crate::firewall::apply::watch::{Change, Watch};
use hamn_core::event::HostEvent;
use hamn_core::policy::NetworkPolicy;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// After a failure to compare or restore.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

type InForce = Option<Arc<Ruleset>>;

/// Applies the firewall and guards it.
pub struct FirewallKeeper {
    in_force: watch::Sender<InForce>,
    /// Held while rules are changed, by whichever side.
    turn: Arc<Mutex<()>>,
    task: JoinHandle<()>,
}

impl Drop for FirewallKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FirewallKeeper {
    /// Begins to listen. Nothing is changed before the first policy.
    #[must_use]
    pub fn start(events: mpsc::Sender<HostEvent>) -> Self {
        let (in_force, rules) = watch::channel(None);
        let turn = Arc::new(Mutex::new(()));
        let guard = Guard { rules, turn: Arc::clone(&turn), outbox: Outbox::new(events), retry: RETRY_MIN };
        Self { in_force, turn, task: tokio::spawn(guard.run()) }
    }

    /// Makes the policy true and guards it from then on. After an error what was guarded before still is.
    ///
    /// # Errors
    /// See [`NftError`].
    pub async fn enforce(&self, policy: &NetworkPolicy) -> Result<(), NftError> {
        let _turn = self.turn.lock().await;
        let rules = Ruleset::lower(policy);
        if rules.is_none() {
            // Not guarded while it is removed, or the guard would bring it back.
            self.in_force.send_replace(None);
        }
        Nft::find()?.enforce(policy).await?;
        self.in_force.send_replace(rules.map(Arc::new));
        Ok(())
    }

    /// Reads the kernel and compares with what was applied last.
    ///
    /// # Errors
    /// See [`NftError`].
    pub async fn holds(&self, policy: &NetworkPolicy) -> Result<bool, NftError> {
        let _turn = self.turn.lock().await;
        let nft = Nft::find()?;
        match Ruleset::lower(policy) {
            Some(rules) => nft.matches(&rules).await,
            None => Ok(!nft.is_present().await?),
        }
    }
}

struct Guard {
    rules: watch::Receiver<InForce>,
    turn: Arc<Mutex<()>>,
    outbox: Outbox,
    retry: Duration,
}

enum Woken {
    Rules(bool),
    Different(Result<Change, NftError>, Instant),
}

impl Guard {
    async fn run(mut self) {
        let mut listener: Option<(Watch, Nft)> = None;
        loop {
            let current = self.rules.borrow_and_update().clone();
            if current.is_some() && listener.is_none() {
                listener = self.listen().await;
            }
            let woken = {
                let different = until_different(listener.as_mut(), current.as_deref());
                tokio::select! {
                    changed = self.rules.changed() => Woken::Rules(changed.is_ok()),
                    (result, since) = different => Woken::Different(result, since),
                    () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Rules(true),
                }
            };
            match woken {
                Woken::Rules(true) => {}
                Woken::Rules(false) => return,
                Woken::Different(Ok(change), since) => self.restore(&change, since).await,
                Woken::Different(Err(error), since) => {
                    tracing::warn!(%error, "the firewall cannot be compared");
                    // The listener may be broken, and what happened meanwhile is unknown.
                    listener = None;
                    self.restore(&Change::default(), since).await;
                    tokio::time::sleep(self.retry).await;
                }
            }
        }
    }

    async fn listen(&mut self) -> Option<(Watch, Nft)> {
        match (Watch::open(), Nft::find()) {
            (Ok(watch), Ok(nft)) => {
                self.retry = RETRY_MIN;
                Some((watch, nft))
            }
            (watch, nft) => {
                let (watch, nft) = (watch.err().map(|e| e.to_string()), nft.err().map(|e| e.to_string()));
                tracing::error!(?watch, ?nft, "changes of the firewall cannot be noticed");
                tokio::time::sleep(self.retry).await;
                self.retry = (self.retry * 2).min(RETRY_MAX);
                None
            }
        }
    }

    async fn restore(&mut self, change: &Change, since: Instant) {
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().await;
        // Perhaps a new policy was applied while the old one was compared.
        let Some(rules) = self.rules.borrow().clone() else { return };
        let result = match Nft::find() {
            Ok(nft) => match nft.matches(&rules).await {
                Ok(true) => return,
                Ok(false) | Err(_) => nft.apply(&rules).await,
            },
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                self.retry = RETRY_MIN;
                let restored_after_us = microseconds(since);
                let by = if change.program.is_empty() { String::new() } else { format!(" by {}", change.program) };
                tracing::warn!(program = change.program, restored_after_us, "firewall rules were changed and are restored");
                self.outbox.push(HostEvent::Tampered { what: format!("firewall rules changed{by}"), restored_after_us });
            }
            Err(error) => {
                tracing::error!(%error, "firewall rules were changed and cannot be restored");
                self.outbox.push(HostEvent::RestoreFailed { reason: format!("firewall: {error}") });
                self.retry = (self.retry * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Never ends while there is nothing to guard.
async fn until_different(listener: Option<&mut (Watch, Nft)>, rules: Option<&Ruleset>) -> (Result<Change, NftError>, Instant) {
    let (Some((watch, nft)), Some(rules)) = (listener, rules) else { return std::future::pending().await };
    let change = watch.until_different(nft, rules).await;
    (change, Instant::now())
}
