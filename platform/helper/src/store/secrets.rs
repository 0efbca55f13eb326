//! Where secrets rest. One trait, so that other systems use their own stores; on Linux 0600 files of root.

use super::{atomic, directory};
use std::io;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The secrets that the helper keeps. A closed list: no caller names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretName {
    /// Session tokens of the provider.
    Session,
    /// The device: its WireGuard key, id and addresses.
    Device,
    /// The key of a device that is being registered: after a crash the same key is offered again (KEY-03).
    NewDevice,
    /// An imported profile, whole.
    Profile(hamn_core::profile::ProfileName),
}

/// A place for secrets.
pub trait SecretStore: Send + Sync {
    /// The secret, or `None` when there is none.
    fn read(&self, name: &SecretName) -> io::Result<Option<Zeroizing<Vec<u8>>>>;
    /// Stores or replaces a secret, durably.
    fn write(&self, name: &SecretName, secret: &[u8]) -> io::Result<()>;
    /// Forgets a secret; a missing one is fine.
    fn remove(&self, name: &SecretName) -> io::Result<()>;
}

/// Largest secret: a profile.
const LIMIT_BYTES: u64 = 64 * 1024;

/// Secrets as 0600 files below a 0700 directory.
pub struct SecretFiles {
    directory: PathBuf,
}

impl SecretFiles {
    /// Uses `directory`, which the caller has checked (`directory::private`).
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, name: &SecretName) -> PathBuf {
        match name {
            SecretName::Session => self.directory.join("session.json"),
            SecretName::Device => self.directory.join("device.json"),
            SecretName::NewDevice => self.directory.join("device-new.json"),
            SecretName::Profile(profile) => self.directory.join("profiles").join(format!("{profile}.conf")),
        }
    }
}

impl SecretStore for SecretFiles {
    fn read(&self, name: &SecretName) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(atomic::read(&self.path(name), LIMIT_BYTES, directory::is_own)?.map(Zeroizing::new))
    }
    fn write(&self, name: &SecretName, secret: &[u8]) -> io::Result<()> {
        atomic::write(&self.path(name), secret)
    }
    fn remove(&self, name: &SecretName) -> io::Result<()> {
        atomic::remove(&self.path(name))
    }
}
