//! Follows links, addresses, routes and sleep and tells the helper what is new. The calls are those of a [`Host`].

use super::pace::DEBOUNCE;
use super::{Ended, Outbox};
use crate::monitor::HostView;
use crate::monitor::asleep::Asleep;
use crate::monitor::bell::{Bell, Listener};
use crate::monitor::reporter::{HostReporter, TunnelUse};
use hamn_core::event::{HostEvent, HostFacts};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// After the system refused to be read, and while it tells nothing.
const RETRY: Duration = Duration::from_secs(1);

/// How one system is read and followed.
pub trait Host: Send + Sync + 'static {
    /// What rings a bell at each change, until it is dropped.
    type Ears: Ears;

    /// Begins to listen. The host is read after this. Does not block.
    ///
    /// # Errors
    /// The system refuses.
    fn listen(&self, bell: &Arc<Bell>) -> io::Result<Self::Ears>;

    /// Reads everything once. May block.
    ///
    /// # Errors
    /// The system refuses.
    fn look(&self) -> io::Result<HostView>;

    /// The clock that goes on in sleep less the one that stops.
    ///
    /// # Errors
    /// A clock cannot be read.
    fn asleep_since_boot(&self) -> io::Result<Duration>;
}

/// Hears of changes.
pub trait Ears: Send + 'static {
    /// How often the host is looked at when nothing rings: for a notice that was missed, and for sleep that rings nothing.
    fn every(&self) -> Duration;

    /// Why nothing is heard any more. The bell was rung when that began.
    fn deaf(&self) -> Option<String> {
        None
    }
}

type Command = (Option<TunnelUse>, oneshot::Sender<()>);

/// Reports on the host.
pub struct HostKeeper {
    commands: mpsc::Sender<Command>,
    facts: watch::Receiver<HostFacts>,
    task: JoinHandle<()>,
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
    pub async fn start<H: Host>(host: H, bell: &Arc<Bell>, events: mpsc::Sender<HostEvent>) -> io::Result<Self> {
        let listener = bell.listen();
        let host = Arc::new(host);
        let ears = host.listen(bell)?;
        let asleep = Asleep::new(host.asleep_since_boot()?);
        let view = look(&host).await?;
        let (reporter, first) = HostReporter::new(&view);
        let (facts_sender, facts) = watch::channel(reporter.facts().clone());
        let (commands, receiver) = mpsc::channel(4);
        let mut outbox = Outbox::new(events);
        outbox.push(first);
        let bell = Arc::clone(bell);
        let task =
            Task { commands: receiver, host, ears, bell, listener, reporter, asleep, outbox, facts: facts_sender, deaf: false };
        Ok(Self { commands, facts, task: tokio::spawn(task.run()) })
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

async fn look<H: Host>(host: &Arc<H>) -> io::Result<HostView> {
    let host = Arc::clone(host);
    tokio::task::spawn_blocking(move || host.look()).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

struct Task<H: Host> {
    commands: mpsc::Receiver<Command>,
    host: Arc<H>,
    ears: H::Ears,
    bell: Arc<Bell>,
    listener: Listener,
    reporter: HostReporter,
    asleep: Asleep,
    outbox: Outbox,
    facts: watch::Sender<HostFacts>,
    /// Nothing is heard, and the helper was told.
    deaf: bool,
}

enum Woken {
    Command(Option<Command>),
    Notice,
    Look,
    Flushed,
}

impl<H: Host> Task<H> {
    async fn run(mut self) {
        let mut look_at = Instant::now() + self.ears.every();
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
                    // Without a look nothing is known of the tunnel, and its coming is no loss.
                    let view = look(&self.host).await.unwrap_or_default();
                    self.reporter.use_tunnel(tunnel, &view);
                    // Routes that harm this tunnel may have been there before it.
                    (noticed, look_at) = (true, look_at.min(Instant::now() + DEBOUNCE));
                    // A caller that went away wants no answer.
                    let _ = reply.send(());
                }
                Woken::Notice => (noticed, look_at) = (true, look_at.min(Instant::now() + DEBOUNCE)),
                Woken::Look => {
                    self.listener.forget();
                    noticed = false;
                    let hears = self.hears();
                    self.look_at_clocks();
                    let reads = self.look().await;
                    look_at = Instant::now() + if hears && reads { self.ears.every() } else { RETRY };
                }
                Woken::Flushed => {}
            }
        }
    }

    /// Listens anew when nothing is heard any more. Without ears the protection stays, but changes are noticed late: the
    /// helper must know.
    fn hears(&mut self) -> bool {
        let Some(why) = self.ears.deaf() else { return true };
        match self.host.listen(&self.bell) {
            Ok(ears) => (self.ears, self.deaf) = (ears, false),
            Err(error) if !self.deaf => {
                self.deaf = true;
                tracing::error!(why, %error, "host changes cannot be followed");
                self.outbox.push(HostEvent::RestoreFailed { reason: format!("host changes cannot be followed: {why}") });
            }
            Err(_) => {}
        }
        !self.deaf
    }

    fn look_at_clocks(&mut self) {
        match self.host.asleep_since_boot() {
            Ok(total) => {
                if let Some(slept) = self.asleep.observe(total) {
                    let asleep_ms = u64::try_from(slept.as_millis()).unwrap_or(u64::MAX);
                    self.outbox.push(HostEvent::Resumed { asleep_ms });
                }
            }
            Err(error) => tracing::warn!(%error, "the clocks cannot be read"),
        }
    }

    /// False when the system could not be read.
    async fn look(&mut self) -> bool {
        match look(&self.host).await {
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

#[cfg(test)]
#[path = "host_tests.rs"]
pub(crate) mod tests;
