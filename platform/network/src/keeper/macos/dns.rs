//! Keeps macOS's DNS settings as they were applied.

use crate::dns::apply::{BACKEND, Dns, DnsError, StoreWatch};
use crate::dns::plan::DnsWish;
use crate::keeper::{Ended, Outbox, microseconds};
use hamn_core::event::HostEvent;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The store announces its changes, so this is for a watch that missed one.
const COMPARE_EVERY: Duration = Duration::from_secs(10);
/// Without a watch.
const COMPARE_UNWATCHED: Duration = Duration::from_secs(1);
/// A program that rewrites the settings all the time is answered this often, and reported at most once a second.
const REWRITE_EVERY: Duration = Duration::from_millis(50);
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// All calls of one change together.
const WAIT: Duration = Duration::from_secs(10);

enum Command {
    Apply(DnsWish, oneshot::Sender<Result<Option<String>, DnsError>>),
    Check(oneshot::Sender<Result<String, String>>),
}

/// Applies DNS and guards it.
pub struct DnsKeeper {
    commands: mpsc::Sender<Command>,
    holds: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Drop for DnsKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl DnsKeeper {
    /// Nothing is changed before the first wish.
    #[must_use]
    pub fn start(dns: Dns, events: mpsc::Sender<HostEvent>) -> Self {
        let (commands, receiver) = mpsc::channel(4);
        let (holds_sender, holds) = watch::channel(false);
        let task = Task {
            commands: receiver,
            dns,
            holds: holds_sender,
            outbox: Outbox::new(events),
            wish: DnsWish::Unchanged,
            watch: None,
            compare_at: None,
            reported: None,
        };
        Self { commands, holds, task: tokio::spawn(task.run()) }
    }

    /// The backend that holds our settings in this moment.
    #[must_use]
    pub fn backend(&self) -> Option<&'static str> {
        self.holds.borrow().then_some(BACKEND)
    }

    /// Grants the wish; says what was restored, if anything was.
    ///
    /// # Errors
    /// See [`DnsError`]; or the task has ended.
    pub async fn apply(&self, wish: DnsWish) -> Result<Result<Option<String>, DnsError>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Apply(wish, reply)).await.map_err(|_| Ended("DNS"))?;
        answer.await.map_err(|_| Ended("DNS"))
    }

    /// Reads back: what is in force, or in what it differs.
    ///
    /// # Errors
    /// The task has ended.
    pub async fn check(&self) -> Result<Result<String, String>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Check(reply)).await.map_err(|_| Ended("DNS"))?;
        answer.await.map_err(|_| Ended("DNS"))
    }
}

struct Task {
    commands: mpsc::Receiver<Command>,
    dns: Dns,
    holds: watch::Sender<bool>,
    outbox: Outbox,
    wish: DnsWish,
    watch: Option<StoreWatch>,
    compare_at: Option<Instant>,
    reported: Option<Instant>,
}

enum Woken {
    Command(Option<Command>),
    Changed,
    Compare,
    Flushed,
}

impl Task {
    async fn run(mut self) {
        loop {
            let woken = tokio::select! {
                command = self.commands.recv() => Woken::Command(command),
                () = changed(self.watch.as_ref()) => Woken::Changed,
                () = until(self.compare_at) => Woken::Compare,
                () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Flushed,
            };
            match woken {
                Woken::Command(None) => return,
                Woken::Command(Some(command)) => self.obey(command).await,
                Woken::Changed => {
                    self.guard().await;
                    // The next change is remembered meanwhile.
                    tokio::time::sleep(REWRITE_EVERY).await;
                }
                Woken::Compare => self.guard().await,
                Woken::Flushed => {}
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // A caller that went away wants no answer.
        match command {
            Command::Apply(wish, reply) => {
                let result = self.grant(wish).await;
                drop(reply.send(result));
            }
            Command::Check(reply) => {
                let found = self.check().await;
                drop(reply.send(found));
            }
        }
    }

    async fn grant(&mut self, wish: DnsWish) -> Result<Option<String>, DnsError> {
        match &wish {
            DnsWish::Unchanged => Ok(None),
            DnsWish::Original => {
                (self.watch, self.compare_at, self.wish) = (None, None, DnsWish::Original);
                let restored = self.call(|dns| dns.restore()).await;
                self.holds.send_replace(restored.is_err() && *self.holds.borrow());
                restored
            }
            DnsWish::Set(plan) => {
                let plan = plan.clone();
                self.wish = wish;
                // Watched before it is written, so that no change in between goes unnoticed.
                if self.watch.is_none() {
                    self.watch = open_watch().await;
                }
                self.compare_at = Some(self.next_comparison());
                let set = self.call(move |dns| dns.set(&plan)).await;
                self.holds.send_replace(set.is_ok());
                set.map(|_| None)
            }
        }
    }

    fn next_comparison(&self) -> Instant {
        Instant::now() + if self.watch.is_some() { COMPARE_EVERY } else { COMPARE_UNWATCHED }
    }

    async fn guard(&mut self) {
        let DnsWish::Set(plan) = &self.wish else {
            self.compare_at = None;
            return;
        };
        let plan = plan.clone();
        self.compare_at = Some(self.next_comparison());
        let since = Instant::now();
        let event = match self.call(move |dns| dns.set(&plan)).await {
            Ok(None) => return,
            Ok(Some(what)) => HostEvent::Tampered { what, restored_after_us: microseconds(since) },
            Err(error) => {
                tracing::warn!(%error, "DNS settings were changed and cannot be restored");
                HostEvent::RestoreFailed { reason: format!("DNS: {error}") }
            }
        };
        if self.reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
            self.reported = Some(Instant::now());
            self.outbox.push(event);
        }
    }

    async fn check(&self) -> Result<String, String> {
        let plan = match &self.wish {
            DnsWish::Set(plan) => plan.clone(),
            DnsWish::Original => return Ok("the host's own settings".to_owned()),
            DnsWish::Unchanged => return Ok("not changed by this policy".to_owned()),
        };
        match self.call(move |dns| dns.is_set(&plan)).await {
            Ok(true) => Ok(format!("{BACKEND} uses the tunnel's resolvers")),
            Ok(false) => Err(format!("{BACKEND} does not use the tunnel's resolvers")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// On a thread of its own, because the calls wait for `configd`.
    async fn call<T, F>(&self, call: F) -> Result<T, DnsError>
    where
        T: Send + 'static,
        F: FnOnce(&Dns) -> Result<T, DnsError> + Send + 'static,
    {
        let dns = self.dns.clone();
        match tokio::time::timeout(WAIT, tokio::task::spawn_blocking(move || call(&dns))).await {
            Ok(Ok(result)) => result,
            // A call that panicked has changed nothing that the note does not tell of.
            Ok(Err(_)) | Err(_) => Err(DnsError::TooSlow),
        }
    }
}

async fn open_watch() -> Option<StoreWatch> {
    match tokio::task::spawn_blocking(StoreWatch::new).await {
        Ok(Ok(watch)) => Some(watch),
        Ok(Err(error)) => {
            tracing::warn!(%error, "DNS settings are compared every second: they cannot be watched");
            None
        }
        Err(_) => None,
    }
}

async fn changed(watch: Option<&StoreWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
