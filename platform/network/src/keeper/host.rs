//! Follows links, addresses, routes and sleep on Windows and tells the helper what is new.

use super::{Ended, Outbox};
use crate::monitor::HostView;
use crate::monitor::asleep::Asleep;
use crate::monitor::bell::{Bell, Listener};
use crate::monitor::reporter::{HostReporter, TunnelUse};
use crate::monitor::windows::{Notices, asleep_since_boot, read};
use hamn_core::event::{HostEvent, HostFacts};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Several notices belong to one change; facts must be out within 50 ms.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// When nothing rings: for a notice that was missed.
const EVERY: Duration = Duration::from_secs(30);
/// The same where waking up does not ring.
const EVERY_WITHOUT_POWER: Duration = Duration::from_secs(5);
/// After the system refused to be read.
const RETRY: Duration = Duration::from_secs(1);

type Command = (Option<TunnelUse>, oneshot::Sender<()>);

/// Reports on the host.
pub struct HostKeeper {
    commands: mpsc::Sender<Command>,
    facts: watch::Receiver<HostFacts>,
    task: JoinHandle<()>,
    _notices: Arc<Notices>,
}

impl Drop for HostKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HostKeeper {
    /// Begins to follow the host; the first facts are known on return and sent as an event. The bell rings at every change.
    ///
    /// # Errors
    /// The system cannot be read, or refuses to tell of changes.
    pub async fn start(bell: &Arc<Bell>, events: mpsc::Sender<HostEvent>) -> io::Result<Self> {
        let listener = bell.listen();
        let notices = Arc::new(Notices::open(Arc::clone(bell))?);
        let asleep = Asleep::new(asleep_since_boot()?);
        let view = look().await?;
        let (reporter, first) = HostReporter::new(&view);
        let (facts_sender, facts) = watch::channel(reporter.facts().clone());
        let (commands, receiver) = mpsc::channel(4);
        let mut outbox = Outbox::new(events);
        outbox.push(first);
        let every = if notices.hears_of_sleep() { EVERY } else { EVERY_WITHOUT_POWER };
        let task = Task { commands: receiver, listener, reporter, asleep, outbox, facts: facts_sender, every };
        Ok(Self { commands, facts, task: tokio::spawn(task.run()), _notices: notices })
    }

    /// The facts in this moment.
    #[must_use]
    pub fn facts(&self) -> HostFacts {
        self.facts.borrow().clone()
    }

    /// From now on this is the tunnel whose loss matters.
    ///
    /// # Errors
    /// The task has ended.
    pub async fn use_tunnel(&self, tunnel: Option<TunnelUse>) -> Result<(), Ended> {
        let (reply, answer) = oneshot::channel();
        self.commands.send((tunnel, reply)).await.map_err(|_| Ended("the monitor"))?;
        answer.await.map_err(|_| Ended("the monitor"))
    }
}

async fn look() -> io::Result<HostView> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

struct Task {
    commands: mpsc::Receiver<Command>,
    listener: Listener,
    reporter: HostReporter,
    asleep: Asleep,
    outbox: Outbox,
    facts: watch::Sender<HostFacts>,
    every: Duration,
}

enum Woken {
    Command(Option<Command>),
    Notice,
    Look,
    Flushed,
}

impl Task {
    async fn run(mut self) {
        let mut look_at = Instant::now() + self.every;
        let mut noticed = false;
        loop {
            let woken = tokio::select! {
                command = self.commands.recv() => Woken::Command(command),
                () = self.listener.heard(), if !noticed => Woken::Notice,
                () = tokio::time::sleep_until(look_at) => Woken::Look,
                () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Flushed,
            };
            match woken {
                Woken::Command(None) => return,
                Woken::Command(Some((tunnel, reply))) => {
                    if let Ok(view) = look().await {
                        self.reporter.use_tunnel(tunnel, &view);
                    } else {
                        self.reporter.use_tunnel(tunnel, &HostView::default());
                    }
                    // A caller that went away wants no answer.
                    let _ = reply.send(());
                }
                Woken::Notice => (noticed, look_at) = (true, Instant::now() + DEBOUNCE),
                Woken::Look => {
                    self.listener.forget();
                    noticed = false;
                    look_at = Instant::now() + if self.look().await { self.every } else { RETRY };
                }
                Woken::Flushed => {}
            }
        }
    }

    /// False when the system could not be read.
    async fn look(&mut self) -> bool {
        match asleep_since_boot() {
            Ok(total) => {
                if let Some(slept) = self.asleep.observe(total) {
                    let asleep_ms = u64::try_from(slept.as_millis()).unwrap_or(u64::MAX);
                    self.outbox.push(HostEvent::Resumed { asleep_ms });
                }
            }
            Err(error) => tracing::warn!(%error, "the clocks cannot be read"),
        }
        match look().await {
            Ok(view) => {
                for event in self.reporter.look(&view) {
                    self.outbox.push(event);
                }
                self.facts.send_if_modified(|facts| {
                    let changed = facts != self.reporter.facts();
                    facts.clone_from(self.reporter.facts());
                    changed
                });
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the host cannot be read");
                false
            }
        }
    }
}
