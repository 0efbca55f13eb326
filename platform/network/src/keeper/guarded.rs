//! One keeper for whatever is applied by blocking calls: firewall, routes and DNS on Windows.
//!
//! What is kept sits behind a lock, so that guarding never sees half of a change. Calls run on threads for blocking work.

use super::{Ended, Outbox, microseconds};
use crate::monitor::bell::Listener;
use hamn_core::event::HostEvent;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Several notices belong to one change; rules must be restored within 100 ms.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// Another program that undoes ours all the time is answered each time, but reported at most this often.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// After a failure to restore.
const RETRY: Duration = Duration::from_secs(1);

/// Something that can be applied, compared and restored.
pub trait Guarded: Send + 'static {
    /// What is applied.
    type Wish: Send + 'static;
    /// Why it could not be.
    type Error: std::error::Error + Send + 'static;
    /// For messages.
    const NAME: &'static str;
    /// How often it is compared when nothing rings.
    const EVERY: Duration;

    /// Makes the wish true, reads it back, and guards it from then on. Says what is worth saying.
    ///
    /// # Errors
    /// It is not true; what was guarded before still is.
    fn apply(&mut self, wish: Self::Wish) -> Result<Option<String>, Self::Error>;

    /// Restores what differs from the wish and says what it was. `None`: nothing differed, or only what the system itself
    /// changes.
    ///
    /// # Errors
    /// It differs still.
    fn guard(&mut self) -> Result<Option<String>, Self::Error>;

    /// Reads back: what is in force, or in what it differs.
    ///
    /// # Errors
    /// The difference, in words.
    fn check(&mut self) -> Result<String, String>;
}

/// Applies and guards.
pub struct Keeper<G: Guarded> {
    kept: Arc<Mutex<G>>,
    task: JoinHandle<()>,
}

impl<G: Guarded> Drop for Keeper<G> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<G>(kept: &Mutex<G>) -> MutexGuard<'_, G> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<G: Guarded> Keeper<G> {
    /// Begins to listen. Nothing is changed before the first wish.
    #[must_use]
    pub fn start(kept: G, listener: Listener, events: mpsc::Sender<HostEvent>) -> Self {
        let kept = Arc::new(Mutex::new(kept));
        let guard = Guard { kept: Arc::clone(&kept), outbox: Outbox::new(events), reported: None };
        Self { kept, task: tokio::spawn(guard.run(listener)) }
    }

    /// Makes the wish true and guards it from then on.
    ///
    /// # Errors
    /// See [`Guarded::apply`]; `Err` outside: the work was cut off.
    pub async fn apply(&self, wish: G::Wish) -> Result<Result<Option<String>, G::Error>, Ended> {
        let kept = Arc::clone(&self.kept);
        tokio::task::spawn_blocking(move || lock(&kept).apply(wish)).await.map_err(|_| Ended(G::NAME))
    }

    /// Reads back: what is in force, or in what it differs.
    pub async fn check(&self) -> Result<String, String> {
        let kept = Arc::clone(&self.kept);
        let checked = tokio::task::spawn_blocking(move || lock(&kept).check()).await;
        checked.unwrap_or_else(|_| Err(Ended(G::NAME).to_string()))
    }
}

struct Guard<G: Guarded> {
    kept: Arc<Mutex<G>>,
    outbox: Outbox,
    reported: Option<Instant>,
}

enum Woken {
    Notice,
    Look,
    Flushed,
}

impl<G: Guarded> Guard<G> {
    async fn run(mut self, mut listener: Listener) {
        let mut look_at = Instant::now() + G::EVERY;
        let mut noticed = None;
        loop {
            let woken = tokio::select! {
                () = listener.heard(), if noticed.is_none() => Woken::Notice,
                () = tokio::time::sleep_until(look_at) => Woken::Look,
                () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Flushed,
            };
            match woken {
                Woken::Flushed => {}
                Woken::Notice => {
                    let now = Instant::now();
                    noticed = Some(now);
                    look_at = now + DEBOUNCE;
                }
                Woken::Look => {
                    listener.forget();
                    let restored = self.look(noticed.take().unwrap_or_else(Instant::now)).await;
                    look_at = Instant::now() + if restored { G::EVERY } else { RETRY.min(G::EVERY) };
                }
            }
        }
    }

    /// False when something is not as it should be.
    async fn look(&mut self, since: Instant) -> bool {
        let kept = Arc::clone(&self.kept);
        let event = match tokio::task::spawn_blocking(move || lock(&kept).guard()).await {
            Ok(Ok(None)) => return true,
            Ok(Ok(Some(what))) => {
                let restored_after_us = microseconds(since);
                tracing::warn!(what, restored_after_us, "{} changed by another program and restored", G::NAME);
                HostEvent::Tampered { what, restored_after_us }
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "{} changed and cannot be restored", G::NAME);
                HostEvent::RestoreFailed { reason: format!("{}: {error}", G::NAME) }
            }
            Err(_) => HostEvent::RestoreFailed { reason: Ended(G::NAME).to_string() },
        };
        let restored = matches!(event, HostEvent::Tampered { .. });
        if self.reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
            self.reported = Some(Instant::now());
            self.outbox.push(event);
        }
        restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::bell::Bell;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Refused;

    /// A number that others may change.
    struct Number {
        world: Arc<AtomicU32>,
        wanted: Option<u32>,
        refuse: bool,
    }

    impl Guarded for Number {
        type Wish = u32;
        type Error = Refused;
        const NAME: &'static str = "the number";
        const EVERY: Duration = Duration::from_secs(3600);
        fn apply(&mut self, wish: u32) -> Result<Option<String>, Refused> {
            self.wanted = Some(wish);
            self.world.store(wish, Ordering::SeqCst);
            Ok(None)
        }
        fn guard(&mut self) -> Result<Option<String>, Refused> {
            let Some(wanted) = self.wanted else { return Ok(None) };
            let found = self.world.load(Ordering::SeqCst);
            if found == wanted {
                return Ok(None);
            }
            if self.refuse {
                return Err(Refused);
            }
            self.world.store(wanted, Ordering::SeqCst);
            Ok(Some(format!("{found} instead of {wanted}")))
        }
        fn check(&mut self) -> Result<String, String> {
            if self.wanted == Some(self.world.load(Ordering::SeqCst)) { Ok("equal".to_owned()) } else { Err("other".to_owned()) }
        }
    }

    async fn changed(refuse: bool) -> (Option<HostEvent>, u32, Result<String, String>) {
        let (bell, world) = (Bell::default(), Arc::new(AtomicU32::new(0)));
        let (sender, mut events) = mpsc::channel(4);
        let number = Number { world: Arc::clone(&world), wanted: None, refuse };
        let keeper = Keeper::start(number, bell.listen(), sender);
        assert!(keeper.check().await.is_err());
        keeper.apply(7).await.unwrap().unwrap();
        assert_eq!(keeper.check().await.unwrap(), "equal");
        world.store(8, Ordering::SeqCst);
        bell.ring();
        let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap();
        (event, world.load(Ordering::SeqCst), keeper.check().await)
    }

    #[tokio::test]
    async fn what_others_change_is_restored_when_a_bell_rings_and_told() {
        let (event, value, checked) = changed(false).await;
        assert!(matches!(event, Some(HostEvent::Tampered { what, .. }) if what == "8 instead of 7"));
        assert_eq!((value, checked.is_ok()), (7, true));
    }

    #[tokio::test]
    async fn what_cannot_be_restored_is_told() {
        let (event, value, checked) = changed(true).await;
        assert!(matches!(event, Some(HostEvent::RestoreFailed { reason }) if reason == "the number: refused"));
        assert_eq!((value, checked.is_err()), (8, true));
    }
}
