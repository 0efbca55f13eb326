//! Keeps macOS's packet filter as it was applied.
//!
//! The kernel tells nobody of changes in it, so what is in force is read four times a second: a dozen calls that cost
//! microseconds. Another program's change is undone within that time and reported (TAMPER-01).

use crate::firewall::Ruleset;
use crate::firewall::apply::macos::{Pf, PfError};
use crate::firewall::compile::pf::{self, PfRule};
use crate::keeper::{Outbox, microseconds};
use hamn_core::event::HostEvent;
use hamn_core::policy::NetworkPolicy;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long a change by another program can stay.
const COMPARE_EVERY: Duration = Duration::from_millis(250);
/// After a failure to compare or restore.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Somebody who changes the rules all the time is answered each time, and reported this often.
const REPORT_EVERY: Duration = Duration::from_secs(1);

type InForce = Option<Arc<Vec<PfRule>>>;

/// Applies the firewall and guards it.
pub struct FirewallKeeper {
    state_dir: PathBuf,
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
    /// Nothing is changed before the first policy. The note of the filter's token is kept in `state_dir`.
    #[must_use]
    pub fn start(state_dir: &Path, events: mpsc::Sender<HostEvent>) -> Self {
        let (in_force, rules) = watch::channel(None);
        let turn = Arc::new(Mutex::new(()));
        let guard = Guard {
            state_dir: state_dir.to_owned(),
            rules,
            turn: Arc::clone(&turn),
            outbox: Outbox::new(events),
            wait: COMPARE_EVERY,
            reported: None,
        };
        Self { state_dir: state_dir.to_owned(), in_force, turn, task: tokio::spawn(guard.run()) }
    }

    /// Makes the policy true and guards it from then on. After an error what was guarded before still is.
    ///
    /// # Errors
    /// See [`PfError`].
    pub async fn enforce(&self, policy: &NetworkPolicy) -> Result<(), PfError> {
        let _turn = self.turn.lock().await;
        let Some(rules) = compiled(policy) else {
            // Not guarded while it is removed, or the guard would bring it back.
            self.in_force.send_replace(None);
            let pf = Pf::open(&self.state_dir)?;
            return if pf.is_present()? { pf.remove() } else { Ok(()) };
        };
        Pf::open(&self.state_dir)?.enforce(&rules)?;
        self.in_force.send_replace(Some(Arc::new(rules)));
        Ok(())
    }

    /// Reads the kernel and compares: in what it differs from the policy, in words.
    ///
    /// # Errors
    /// See [`PfError`].
    pub async fn difference(&self, policy: &NetworkPolicy) -> Result<Option<String>, PfError> {
        let _turn = self.turn.lock().await;
        let pf = Pf::open(&self.state_dir)?;
        match compiled(policy) {
            Some(rules) => pf.difference(&rules),
            None => Ok(pf.is_present()?.then(|| "rules of ours are still there".to_owned())),
        }
    }
}

fn compiled(policy: &NetworkPolicy) -> Option<Vec<PfRule>> {
    Ruleset::lower(policy).map(|rules| pf::compile(&rules))
}

struct Guard {
    state_dir: PathBuf,
    rules: watch::Receiver<InForce>,
    turn: Arc<Mutex<()>>,
    outbox: Outbox,
    wait: Duration,
    reported: Option<Instant>,
}

enum Woken {
    /// The rules to guard are others, or nobody is left to tell.
    Rules(bool),
    Compare,
    Flushed,
}

impl Guard {
    async fn run(mut self) {
        let mut compare_at = Instant::now() + self.wait;
        loop {
            let guarding = self.rules.borrow_and_update().is_some();
            let woken = tokio::select! {
                changed = self.rules.changed() => Woken::Rules(changed.is_ok()),
                () = tokio::time::sleep_until(compare_at), if guarding => Woken::Compare,
                () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Flushed,
            };
            match woken {
                Woken::Flushed => {}
                Woken::Rules(false) => return,
                Woken::Rules(true) => {
                    self.wait = COMPARE_EVERY;
                    compare_at = Instant::now() + self.wait;
                }
                Woken::Compare => {
                    self.compare().await;
                    compare_at = Instant::now() + self.wait;
                }
            }
        }
    }

    /// Compares, restores what differs and says so. Under the lock, so never against a policy that is being replaced.
    async fn compare(&mut self) {
        let turn = Arc::clone(&self.turn);
        let _turn = turn.lock().await;
        let Some(rules) = self.rules.borrow().clone() else { return };
        let noticed = Instant::now();
        let event = match restore(&self.state_dir, &rules) {
            Ok(None) => {
                self.wait = COMPARE_EVERY;
                return;
            }
            Ok(Some(what)) => {
                self.wait = COMPARE_EVERY;
                let restored_after_us = microseconds(noticed);
                tracing::warn!(what, restored_after_us, "the firewall was changed and is restored");
                HostEvent::Tampered { what: format!("firewall changed: {what}"), restored_after_us }
            }
            Err(error) => {
                self.wait = (self.wait * 2).min(RETRY_MAX);
                tracing::error!(%error, "the firewall was changed and cannot be restored");
                HostEvent::RestoreFailed { reason: format!("firewall: {error}") }
            }
        };
        if self.reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
            self.reported = Some(Instant::now());
            self.outbox.push(event);
        }
    }
}

/// Loads the rules if the kernel holds others and reads them back. Says what differed.
fn restore(state_dir: &Path, rules: &[PfRule]) -> Result<Option<String>, PfError> {
    let pf = Pf::open(state_dir)?;
    // A flag that keeps the filter from being asked shows in no rule, and taking it away again costs as little as asking.
    pf.skip_nothing()?;
    match pf.difference(rules)? {
        None => Ok(None),
        Some(what) => pf.enforce(rules).map(|()| Some(what)),
    }
}
