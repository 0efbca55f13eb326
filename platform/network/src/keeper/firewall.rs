//! Keeps the firewall as it was applied: another program's change is undone within 100 ms and reported (TAMPER-01).

use super::Outbox;
use crate::firewall::Ruleset;
use crate::firewall::apply::linux::{Nft, NftError};
use crate::firewall::apply::watch::{Change, Watch};
use crate::firewall::compile::nftables;
use futures_util::FutureExt;
use hamn_core::event::HostEvent;
use hamn_core::policy::NetworkPolicy;
use std::io;
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
    /// The rules to guard are others, or nobody is left to tell.
    Rules(bool),
    /// A transaction of nftables by anyone.
    Transaction(io::Result<Change>),
    /// An event was handed over.
    Flushed,
}

impl Guard {
    async fn run(mut self) {
        let mut listener = None;
        loop {
            let guarding = self.rules.borrow_and_update().is_some();
            if guarding && listener.is_none() {
                listener = self.listen();
                // What happened before it listened is not reported.
                self.check(&Change::default(), Instant::now()).await;
            }
            let woken = tokio::select! {
                changed = self.rules.changed() => Woken::Rules(changed.is_ok()),
                transaction = next_transaction(listener.as_mut()) => Woken::Transaction(transaction),
                () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Flushed,
                () = tokio::time::sleep(self.retry), if guarding && listener.is_none() => Woken::Flushed,
            };
            match woken {
                Woken::Rules(true) | Woken::Flushed => {}
                Woken::Rules(false) => return,
                Woken::Transaction(Ok(change)) => {
                    let noticed = Instant::now();
                    let last = last_queued(listener.as_mut(), change);
                    self.check(&last, noticed).await;
                }
                Woken::Transaction(Err(error)) => {
                    tracing::warn!(%error, "the listener for firewall changes broke");
                    listener = None;
                }
            }
        }
    }

    fn listen(&mut self) -> Option<Watch> {
        match Watch::open() {
            Ok(watch) => {
                self.retry = RETRY_MIN;
                Some(watch)
            }
            Err(error) => {
                tracing::error!(%error, "changes of the firewall cannot be noticed");
                self.retry = (self.retry * 2).min(RETRY_MAX);
                None
            }
        }
    }

    /// Compares, restores what differs and says so. Under the lock, so never against a policy that is being replaced.
    async fn check(&mut self, change: &Change, noticed: Instant) {
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().await;
        let Some(rules) = self.rules.borrow().clone() else { return };
        match restore(&rules).await {
            Ok(None) => {}
            Ok(Some(restored)) => {
                let restored_after_us = u64::try_from((restored - noticed).as_micros()).unwrap_or(u64::MAX);
                let by = if change.program.is_empty() { String::new() } else { format!(" by {}", change.program) };
                tracing::warn!(program = change.program, restored_after_us, "firewall rules were changed and are restored");
                self.outbox.push(HostEvent::Tampered { what: format!("firewall rules changed{by}"), restored_after_us });
            }
            Err(error) => {
                tracing::error!(%error, "firewall rules were changed and cannot be restored");
                self.outbox.push(HostEvent::RestoreFailed { reason: format!("firewall: {error}") });
            }
        }
    }
}

/// Loads the rules if the kernel holds others and reads them back. Says when they were in force again.
async fn restore(rules: &Ruleset) -> Result<Option<Instant>, NftError> {
    let nft = Nft::find()?;
    if nft.matches(rules).await.unwrap_or(false) {
        return Ok(None);
    }
    nft.load(&nftables::batch(rules)).await?;
    let restored = Instant::now();
    if nft.matches(rules).await? {
        Ok(Some(restored))
    } else {
        Err(NftError::ReadBackDiffers { detail: "restored rules were changed again".to_owned() })
    }
}

/// Never ends without a listener.
async fn next_transaction(listener: Option<&mut Watch>) -> io::Result<Change> {
    match listener {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Takes what else is queued, so that a storm of transactions costs one comparison.
fn last_queued(mut listener: Option<&mut Watch>, first: Change) -> Change {
    let mut last = first;
    for _ in 0..1024 {
        match listener.as_mut().and_then(|watch| watch.changed().now_or_never()) {
            Some(Ok(change)) => last = change,
            Some(Err(_)) | None => break,
        }
    }
    last
}
