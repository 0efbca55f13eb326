//! The task that keeps one thing true: it waits, compares, restores and tells. Calls run on threads for blocking work.

use super::guarded::{Guarded, KeepError, Kept};
use super::pace::Pace;
use super::{Ended, Outbox, microseconds, until};
use crate::monitor::bell::Listener;
use hamn_core::event::HostEvent;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Another program that undoes ours all the time is answered each time, but reported at most this often.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What the task has to know of a change.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    every: Option<Duration>,
    holds: bool,
}

/// What is kept, and the number of the change that was carried out last.
struct Numbered<G: Guarded> {
    kept: Kept<G>,
    change: u64,
}

/// Who waits longest is next, so of two changes the later one is in force.
type Shared<G> = Arc<Mutex<Numbered<G>>>;

/// Applies and guards.
pub struct Keeper<G: Guarded> {
    shared: Shared<G>,
    /// The number of the newest change that was asked for.
    asked: AtomicU64,
    standing: watch::Sender<Standing>,
    task: JoinHandle<()>,
}

impl<G: Guarded> Drop for Keeper<G> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Works alone with what is kept, on a thread of its own. Work that takes too long goes on: nothing else is done before it
/// ends.
async fn alone<G: Guarded, T: Send + 'static>(
    shared: &Shared<G>,
    work: impl FnOnce(&mut Numbered<G>) -> T + Send + 'static,
) -> Result<T, KeepError> {
    let shared = Arc::clone(shared);
    let turn = async {
        let mut numbered = shared.lock_owned().await;
        tokio::task::spawn_blocking(move || work(&mut numbered)).await
    };
    match tokio::time::timeout(G::WAIT, turn).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(Ended(G::NAME).into()),
        Err(_) => Err(KeepError::TooSlow),
    }
}

impl<G: Guarded> Keeper<G> {
    /// Begins to listen. Nothing is changed before the first wish.
    #[must_use]
    pub fn start(system: G, listener: Listener, events: mpsc::Sender<HostEvent>) -> Self {
        let shared = Arc::new(Mutex::new(Numbered { kept: Kept::new(system), change: 0 }));
        let (standing, changed) = watch::channel(Standing::default());
        let guard = Guard { shared: Arc::clone(&shared), outbox: Outbox::new(events), reported: None };
        Self { shared, asked: AtomicU64::new(0), standing, task: tokio::spawn(guard.run(listener, changed)) }
    }

    /// Makes the wish true and guards it from then on. A caller that goes away does not stop what has begun.
    ///
    /// # Errors
    /// See [`Kept::apply`]; or the calls were cut off or take too long.
    pub async fn apply(&self, wish: G::Wish) -> Result<Option<String>, KeepError> {
        let change = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let standing = self.standing.clone();
        let work = move |numbered: &mut Numbered<G>| {
            numbered.change = change;
            let applied = numbered.kept.apply(wish);
            standing.send_replace(Standing { every: numbered.kept.every(), holds: numbered.kept.holds() });
            applied
        };
        alone(&self.shared, work).await?
    }

    /// Reads back: what is in force, or in what it differs.
    ///
    /// # Errors
    /// The difference, in words.
    pub async fn check(&self) -> Result<String, String> {
        let asked = self.asked.load(Ordering::Relaxed);
        let work = move |numbered: &mut Numbered<G>| {
            if numbered.change < asked {
                return Err("the newest change was not carried out".to_owned());
            }
            numbered.kept.check()
        };
        alone(&self.shared, work).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// True when the newest wish is one of ours and was made true.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.standing.borrow().holds
    }
}

struct Guard<G: Guarded> {
    shared: Shared<G>,
    outbox: Outbox,
    reported: Option<Instant>,
}

enum Woken {
    Applied(bool),
    Notice,
    Look,
    Flushed,
}

impl<G: Guarded> Guard<G> {
    async fn run(mut self, mut listener: Listener, mut changed: watch::Receiver<Standing>) {
        let mut pace = Pace::new(Instant::now());
        loop {
            let woken = tokio::select! {
                changed = changed.changed() => Woken::Applied(changed.is_ok()),
                () = listener.heard(), if pace.listens() => Woken::Notice,
                () = until(pace.look_at()) => Woken::Look,
                () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Flushed,
            };
            match woken {
                Woken::Applied(false) => return,
                Woken::Applied(true) => pace.applied(changed.borrow_and_update().every, Instant::now()),
                Woken::Notice => pace.heard(Instant::now()),
                Woken::Look => {
                    listener.forget();
                    let since = pace.begin(Instant::now());
                    let every = changed.borrow().every;
                    let (every, well) = self.look(since, every).await;
                    pace.looked(every, well, Instant::now());
                }
                Woken::Flushed => {}
            }
        }
    }

    /// How soon to compare again, and false when something is not as it should be.
    async fn look(&mut self, since: Instant, every: Option<Duration>) -> (Option<Duration>, bool) {
        let work = |numbered: &mut Numbered<G>| (numbered.kept.guard(), numbered.kept.every());
        let (found, every) = match alone(&self.shared, work).await {
            Ok((found, every)) => (found, every),
            Err(error) => (Err(error), every),
        };
        let event = match found {
            Ok(None) => return (every, true),
            Ok(Some(what)) => HostEvent::Tampered { what, restored_after_us: microseconds(since) },
            Err(error) => HostEvent::RestoreFailed { reason: format!("{}: {error}", G::NAME) },
        };
        let restored = matches!(event, HostEvent::Tampered { .. });
        self.tell(event);
        (every, restored)
    }

    fn tell(&mut self, event: HostEvent) {
        if self.reported.is_some_and(|last| last.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        if let HostEvent::Tampered { what, restored_after_us } = &event {
            tracing::warn!(what, restored_after_us, "{} changed by another program and restored", G::NAME);
        } else {
            tracing::error!(?event, "{} changed and cannot be restored", G::NAME);
        }
        self.outbox.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::guarded::tests::{Number, Order, World, number};
    use crate::monitor::bell::Bell;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Stand<const WAIT_MS: u64> {
        keeper: Keeper<Number<true, WAIT_MS>>,
        world: World,
        bell: Bell,
        events: mpsc::Receiver<HostEvent>,
    }

    impl<const WAIT_MS: u64> Stand<WAIT_MS> {
        fn new(every: Duration) -> Self {
            let (bell, world) = (Bell::default(), World::default());
            let (sender, events) = mpsc::channel(4);
            let keeper = Keeper::start(Number { every, ..number(&world) }, bell.listen(), sender);
            Self { keeper, world, bell, events }
        }

        async fn event(&mut self) -> HostEvent {
            tokio::time::timeout(MINUTE, self.events.recv()).await.unwrap().unwrap()
        }

        async fn until(&self, is: impl Fn(&World) -> bool) {
            let there = async {
                while !is(&self.world) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(MINUTE, there).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_others_change_is_restored_when_a_bell_rings_and_told() {
        let mut stand = Stand::<60_000>::new(MINUTE * 60);
        assert!(stand.keeper.check().await.is_err());
        stand.keeper.apply(Order::Set(7)).await.unwrap();
        assert!(stand.keeper.holds() && stand.keeper.check().await.is_ok());
        stand.world.lock().value = Some(8);
        stand.bell.ring();
        let event = stand.event().await;
        assert!(matches!(event, HostEvent::Tampered { what, .. } if what == "Some(8) instead of Some(7)"));
        assert_eq!((stand.world.value(), stand.keeper.check().await.is_ok()), (Some(7), true));
    }

    #[tokio::test]
    async fn where_nothing_rings_it_is_compared_again_and_again() {
        let mut stand = Stand::<60_000>::new(Duration::from_millis(5));
        stand.keeper.apply(Order::Set(7)).await.unwrap();
        for value in [8, 9] {
            stand.world.lock().value = Some(value);
            stand.until(|world| world.value() == Some(7)).await;
        }
        assert!(matches!(stand.event().await, HostEvent::Tampered { .. }));
        assert!(stand.events.try_recv().is_err(), "two changes within a second are restored twice and told once");
    }

    #[tokio::test]
    async fn what_cannot_be_restored_is_told_and_tried_until_it_is() {
        let mut stand = Stand::<60_000>::new(MINUTE * 60);
        stand.keeper.apply(Order::Set(7)).await.unwrap();
        stand.world.change(|world| (world.value, world.refuses) = (None, true));
        stand.bell.ring();
        let event = stand.event().await;
        assert!(matches!(event, HostEvent::RestoreFailed { reason } if reason == "the number: refused"));
        stand.world.change(|world| world.refuses = false);
        stand.until(|world| world.value() == Some(7)).await;
    }

    #[tokio::test]
    async fn a_system_that_hangs_is_told_of_and_nothing_is_claimed() {
        let mut stand = Stand::<50>::new(MINUTE * 60);
        while stand.keeper.apply(Order::Set(7)).await.is_err() {}
        stand.world.change(|world| world.hangs = true);
        stand.bell.ring();
        assert!(matches!(stand.event().await, HostEvent::RestoreFailed { reason } if reason.ends_with("takes too long")));
        assert!(matches!(stand.keeper.apply(Order::Set(9)).await, Err(KeepError::TooSlow)));
        assert!(stand.keeper.check().await.is_err());
        stand.world.change(|world| world.hangs = false);
        while stand.keeper.apply(Order::Set(10)).await.is_err() {}
        assert_eq!(stand.world.value(), Some(10));
    }

    #[tokio::test]
    async fn of_two_changes_the_later_one_is_in_force() {
        let stand = Stand::<60_000>::new(MINUTE * 60);
        stand.world.change(|world| world.hangs = true);
        // Polled in this order, so they ask in this order.
        let release = async { stand.world.change(|world| world.hangs = false) };
        let (first, second, ()) =
            tokio::join!(biased; stand.keeper.apply(Order::Set(7)), stand.keeper.apply(Order::Set(9)), release);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!((stand.world.value(), stand.keeper.check().await.is_ok()), (Some(9), true));
    }

    #[tokio::test]
    async fn a_change_that_nobody_waits_for_any_more_is_not_taken_for_done() {
        let stand = Stand::<60_000>::new(MINUTE * 60);
        stand.world.change(|world| world.hangs = true);
        let first = stand.keeper.apply(Order::Set(7));
        tokio::pin!(first);
        let soon = Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, &mut first).await.is_err());
        assert!(tokio::time::timeout(soon, stand.keeper.apply(Order::Set(9))).await.is_err());
        stand.world.change(|world| world.hangs = false);
        first.await.unwrap();
        assert_eq!(stand.world.value(), Some(7));
        assert_eq!(stand.keeper.check().await, Err("the newest change was not carried out".to_owned()));
    }
}
