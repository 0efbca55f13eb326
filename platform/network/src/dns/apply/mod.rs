//! Setting, guarding and restoring DNS. Which backend is asked is decided anew at every `set`.

mod bus;
mod journal;
mod network_manager;
mod resolvconf;
mod resolved;
mod static_file;
mod watch;

use super::plan::{Backend, DnsPlan, Evidence, choose};
use bus::{Bus, BusError};
use journal::{Journal, Undo};
use std::io;
use std::path::{Path, PathBuf};

pub use journal::Link;
pub use watch::ResolvConfWatch;

/// Why DNS is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// resolved or NetworkManager.
    #[error(transparent)]
    Bus(#[from] bus::BusError),
    /// A file.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The resolvconf program.
    #[error("{0}")]
    Program(String),
    /// The tunnel interface does not exist.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// Everything was accepted but reads back otherwise.
    #[error("DNS settings of {0} read back differently")]
    ReadsBackDifferently(String),
    /// The links of the host cannot be read.
    #[error("{0}")]
    Links(String),
    /// All calls together took too long.
    #[error("the DNS services of this host are too slow")]
    TooSlow,
    /// The note of what to restore cannot be understood; it was kept under this name.
    #[error("the note of the original DNS settings cannot be read; it was kept as {}", .0.display())]
    NoteUnreadable(PathBuf),
}

impl DnsError {
    fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { action, path: path.to_owned(), source }
    }
}

/// The links of the host: settings are made by link where the host does so.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// The tunnel interface, when it exists.
    pub tunnel: Option<Link>,
    /// All others but loopback.
    pub others: Vec<Link>,
}

/// The host's DNS.
pub struct Dns {
    resolv_conf: PathBuf,
    journal: Journal,
    bus: Bus,
    applied: Option<(Backend, DnsPlan)>,
}

impl Dns {
    /// For the host whose `resolv.conf` is at this path; notes go into `state_dir`, which exists. Nothing is changed.
    #[must_use]
    pub fn new(resolv_conf: &Path, state_dir: &Path, bus_address: Option<String>) -> Self {
        let journal = Journal::new(state_dir);
        Self { resolv_conf: resolv_conf.to_owned(), journal, bus: Bus::new(bus_address), applied: None }
    }

    /// The backend that holds our settings in this moment.
    #[must_use]
    pub fn backend(&self) -> Option<Backend> {
        self.applied.as_ref().map(|(backend, _)| *backend)
    }

    /// Who answers for the file in this moment.
    pub async fn detect(&mut self) -> Backend {
        // Made absolute and normal as far as it exists: "../run/x" and "/run/x" are the same place.
        let link_target = std::fs::read_link(&self.resolv_conf).ok().map(|target| {
            let directory = self.resolv_conf.parent().unwrap_or(Path::new("/"));
            let target = directory.join(target);
            std::fs::canonicalize(&target).unwrap_or(target)
        });
        let content = crate::files::read_bounded(&self.resolv_conf, static_file::LIMIT).unwrap_or_default();
        let evidence = Evidence {
            resolved_on_bus: self.bus.has(resolved::SERVICE).await,
            network_manager_on_bus: self.bus.has(network_manager::SERVICE).await,
            resolvconf_program: resolvconf::program().is_some(),
            link_target,
            content,
        };
        choose(&evidence)
    }

    /// Makes the plan true and reads it back. True when anything had to be changed.
    ///
    /// # Errors
    /// See [`DnsError`]. What is noted stays noted.
    pub async fn set(&mut self, plan: &DnsPlan, links: &Links) -> Result<bool, DnsError> {
        let backend = self.settle_backend(links).await?;
        let changed = match backend {
            Backend::Resolved => {
                let ours = links.tunnel.as_ref().ok_or_else(|| DnsError::NoInterface(plan.interface.to_string()))?;
                resolved::set(&mut self.bus, &self.journal, plan, ours, &links.others).await?
            }
            Backend::NetworkManager => network_manager::set(&mut self.bus, &self.journal, plan).await?,
            Backend::Resolvconf => resolvconf::set(&self.resolv_conf, &self.journal, plan).await?,
            Backend::StaticFile => static_file::set(&self.resolv_conf, &self.journal, plan)?,
        };
        self.applied = Some((backend, plan.clone()));
        Ok(changed)
    }

    /// The backend to use. When the host changed hands, what another one holds is undone first.
    async fn settle_backend(&mut self, links: &Links) -> Result<Backend, DnsError> {
        let detected = self.detect().await;
        match self.journal.load()? {
            Some(undo) if undo.backend() != detected => {
                self.undo(undo, links).await?;
                Ok(self.detect().await)
            }
            Some(_) | None => Ok(detected),
        }
    }

    /// Sets again what another program changed. `None` when nothing was changed.
    ///
    /// # Errors
    /// See [`DnsError`].
    pub async fn guard(&mut self, links: &Links) -> Result<Option<String>, DnsError> {
        let Some((backend, plan)) = self.applied.clone() else { return Ok(None) };
        let changed = self.set(&plan, links).await?;
        Ok(changed.then(|| format!("DNS settings changed ({})", backend.name())))
    }

    /// As `guard`, for the file alone: cheap enough for every change of it. What may be half written, or a link that others
    /// own, is left to `guard`.
    ///
    /// # Errors
    /// See [`DnsError`].
    pub fn guard_file(&self) -> Result<Option<String>, DnsError> {
        let Some((Backend::StaticFile, plan)) = &self.applied else { return Ok(None) };
        let changed = static_file::set_when_settled(&self.resolv_conf, &self.journal, plan)?;
        Ok(changed.then(|| format!("{} rewritten", self.resolv_conf.display())))
    }

    /// True when the file is a file and ours.
    #[must_use]
    pub fn file_is_ours(&self) -> bool {
        let Some((_, plan)) = &self.applied else { return false };
        static_file::is_set(&self.resolv_conf, plan).unwrap_or(false)
    }

    /// True when the settings are ours and in force.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn is_set(&mut self, plan: &DnsPlan, links: &Links) -> Result<bool, DnsError> {
        let Some(backend) = self.backend() else { return Ok(false) };
        match backend {
            Backend::Resolved => match &links.tunnel {
                Some(ours) => resolved::is_set(&mut self.bus, plan, ours).await,
                None => Ok(false),
            },
            Backend::NetworkManager => network_manager::is_set(&mut self.bus, plan).await,
            Backend::Resolvconf => resolvconf::is_set(&self.resolv_conf, plan),
            Backend::StaticFile => static_file::is_set(&self.resolv_conf, plan),
        }
    }

    /// Puts back what was there before us, also what a crashed process of ours left. `None` when there was nothing.
    ///
    /// # Errors
    /// See [`DnsError`]. The note stays, so that the next try restores.
    pub async fn restore(&mut self, links: &Links) -> Result<Option<String>, DnsError> {
        let said = match self.journal.load()? {
            Some(undo) => Some(self.undo(undo, links).await?),
            None => None,
        };
        self.applied = None;
        Ok(said)
    }

    async fn undo(&mut self, undo: Undo, links: &Links) -> Result<String, DnsError> {
        let said = match undo {
            Undo::Resolved { interface, others } => {
                let ours = links.tunnel.iter().chain(&links.others).find(|link| link.name == interface);
                resolved::restore(&mut self.bus, ours, &others, &links.others).await?
            }
            Undo::NetworkManager { previous } => network_manager::restore(&mut self.bus, &previous).await?,
            Undo::Resolvconf { record } => resolvconf::restore(&record).await?,
            Undo::StaticFile { before } => static_file::restore(&self.resolv_conf, &before)?,
        };
        self.journal.clear()?;
        Ok(said)
    }

    /// Tells NetworkManager, where it runs, to leave the tunnel interface alone. True when it had to be told.
    ///
    /// # Errors
    /// It refuses or is silent.
    pub async fn keep_network_manager_off(&mut self, interface: &str) -> Result<bool, DnsError> {
        if !self.bus.has(network_manager::SERVICE).await {
            return Ok(false);
        }
        match network_manager::leave_alone(&mut self.bus, interface).await {
            // It has not seen the device yet, or nobody would manage it.
            Err(DnsError::Bus(BusError::Refused { source, .. })) => {
                tracing::debug!(%source, "NetworkManager does not know the tunnel interface");
                Ok(false)
            }
            other => other,
        }
    }
}
