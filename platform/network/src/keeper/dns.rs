//! Keeps DNS as it was applied.

use super::{Ended, Outbox, microseconds, until};
use crate::dns::apply::{Dns, DnsError, Link, Links, ResolvConfWatch};
use crate::dns::plan::{Backend, DnsWish};
use crate::monitor::linux::read;
use crate::routes::apply::linux::Routing;
use hamn_core::event::HostEvent;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often settings behind D-Bus are compared while they are ours: NetworkManager announces nothing when it resets them.
/// A reset flag does not leak meanwhile: "~." routes all names to our link, and the firewall refuses port 53 elsewhere.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// The file announces its changes, so this is for a watch that missed one.
const COMPARE_FILE_EVERY: Duration = Duration::from_secs(10);
/// A program that rewrites the file all the time is answered this often, and reported at most once a second.
const REWRITE_EVERY: Duration = Duration::from_millis(50);
const SETTLE: Duration = Duration::from_millis(200);
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// All calls of one change together.
const APPLY_WAIT: Duration = Duration::from_secs(20);
/// All calls of one comparison together: a change must not wait for a service that hangs.
const GUARD_WAIT: Duration = Duration::from_secs(4);

enum Command {
    Apply(DnsWish, oneshot::Sender<Result<Option<String>, DnsError>>),
    Check(oneshot::Sender<Result<String, String>>),
}

/// Applies DNS and guards it.
pub struct DnsKeeper {
    commands: mpsc::Sender<Command>,
    backend: watch::Receiver<Option<Backend>>,
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
    pub fn start(dns: Dns, routing: Routing, resolv_conf: PathBuf, events: mpsc::Sender<HostEvent>) -> Self {
        let (commands, receiver) = mpsc::channel(4);
        let (backend_sender, backend) = watch::channel(None);
        let task = Task {
            commands: receiver,
            dns,
            routing,
            resolv_conf,
            backend: backend_sender,
            outbox: Outbox::new(events),
            wish: DnsWish::Unchanged,
            file: None,
            compare_at: None,
            reported: None,
        };
        Self { commands, backend, task: tokio::spawn(task.run()) }
    }

    /// The backend that holds our settings in this moment.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        *self.backend.borrow()
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
    routing: Routing,
    resolv_conf: PathBuf,
    backend: watch::Sender<Option<Backend>>,
    outbox: Outbox,
    wish: DnsWish,
    file: Option<ResolvConfWatch>,
    compare_at: Option<Instant>,
    reported: Option<Instant>,
}

enum Woken {
    Command(Option<Command>),
    File(io::Result<()>),
    Compare,
    Flushed,
}

impl Task {
    async fn run(mut self) {
        loop {
            let woken = tokio::select! {
                command = self.commands.recv() => Woken::Command(command),
                changed = file_changed(self.file.as_mut()) => Woken::File(changed),
                () = until(self.compare_at) => Woken::Compare,
                () = self.outbox.flush(), if !self.outbox.is_empty() => Woken::Flushed,
            };
            match woken {
                Woken::Command(None) => return,
                Woken::Command(Some(command)) => self.obey(command).await,
                Woken::File(Ok(())) => {
                    self.guard_file();
                    // Its next change waits in the kernel meanwhile.
                    tokio::time::sleep(REWRITE_EVERY).await;
                }
                Woken::File(Err(error)) => {
                    tracing::warn!(%error, "resolv.conf is compared every second: it cannot be watched");
                    self.file = None;
                }
                Woken::Compare => {
                    if tokio::time::timeout(GUARD_WAIT, self.guard()).await.is_err() {
                        tracing::warn!("DNS settings could not be compared: the DNS services of this host are too slow");
                    }
                }
                Woken::Flushed => {}
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // A caller that went away wants no answer.
        match command {
            Command::Apply(wish, reply) => {
                let result = match tokio::time::timeout(APPLY_WAIT, self.grant(wish)).await {
                    Ok(result) => result,
                    Err(_) => Err(DnsError::TooSlow),
                };
                self.backend.send_replace(self.dns.backend());
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
                (self.file, self.compare_at, self.wish) = (None, None, DnsWish::Original);
                let links = self.links("").await?;
                self.dns.restore(&links).await
            }
            DnsWish::Set(plan) => {
                let plan = plan.clone();
                self.wish = wish;
                let links = self.links(plan.interface.as_str()).await?;
                if let Err(error) = self.dns.keep_network_manager_off(plan.interface.as_str()).await {
                    tracing::warn!(%error, "NetworkManager may manage the tunnel interface");
                }
                // Watched before it is written, so that no change in between goes unnoticed.
                self.watch_file();
                self.compare_at = Some(Instant::now() + COMPARE_EVERY);
                self.dns.set(&plan, &links).await.map(|_| None)
            }
        }
    }

    fn watch_file(&mut self) {
        if self.file.is_none() {
            self.file = match ResolvConfWatch::new(&self.resolv_conf) {
                Ok(watch) => Some(watch),
                Err(error) => {
                    tracing::warn!(%error, "resolv.conf is compared every second: it cannot be watched");
                    None
                }
            };
        }
    }

    fn guard_file(&mut self) {
        let since = Instant::now();
        let result = self.dns.guard_file();
        if matches!(result, Ok(None)) && !self.dns.file_is_ours() {
            // Half written, or a link: perhaps the host changed hands.
            self.compare_at = Some(Instant::now() + SETTLE);
        }
        self.report(result, since);
    }

    async fn guard(&mut self) {
        let DnsWish::Set(plan) = &self.wish else {
            self.compare_at = None;
            return;
        };
        let interface = plan.interface.clone();
        let by_file = self.dns.backend() == Some(Backend::StaticFile) && self.file.is_some();
        self.compare_at = Some(Instant::now() + if by_file { COMPARE_FILE_EVERY } else { COMPARE_EVERY });
        let since = Instant::now();
        let result = match self.links(interface.as_str()).await {
            // Without its interface there is nothing to set; the monitor tells of it.
            Ok(Links { tunnel: None, .. }) => return,
            Ok(links) => self.dns.guard(&links).await,
            Err(error) => Err(error),
        };
        self.report(result, since);
        if let Err(error) = self.dns.keep_network_manager_off(interface.as_str()).await {
            tracing::debug!(%error, "NetworkManager may manage the tunnel interface");
        }
        self.backend.send_if_modified(|backend| std::mem::replace(backend, self.dns.backend()) != self.dns.backend());
    }

    fn report(&mut self, result: Result<Option<String>, DnsError>, since: Instant) {
        let event = match result {
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

    async fn check(&mut self) -> Result<String, String> {
        let plan = match &self.wish {
            DnsWish::Set(plan) => plan.clone(),
            DnsWish::Original => return Ok("the host's own settings".to_owned()),
            DnsWish::Unchanged => return Ok("not changed by this policy".to_owned()),
        };
        let links = self.links(plan.interface.as_str()).await.map_err(|error| error.to_string())?;
        let name = self.dns.backend().map_or("no backend", Backend::name);
        match self.dns.is_set(&plan, &links).await {
            Ok(true) => Ok(format!("{name} uses the tunnel's resolvers")),
            Ok(false) => Err(format!("{name} does not use the tunnel's resolvers")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn links(&self, tunnel: &str) -> Result<Links, DnsError> {
        links(&self.routing, tunnel).await
    }
}

/// The links of the host; without a tunnel name all of them are others.
///
/// # Errors
/// The kernel cannot be read.
pub async fn links(routing: &Routing, tunnel: &str) -> Result<Links, DnsError> {
    let view = read(routing).await.map_err(|error| DnsError::Links(error.to_string()))?;
    let mut links = Links::default();
    for link in view.links.into_iter().filter(|link| !link.loopback) {
        let found = Link { index: link.index, name: link.name };
        if found.name == tunnel {
            links.tunnel = Some(found);
        } else {
            links.others.push(found);
        }
    }
    Ok(links)
}

async fn file_changed(file: Option<&mut ResolvConfWatch>) -> io::Result<()> {
    match file {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
