//! Where secrets rest. One trait: on Linux 0600 files of root, on Windows and macOS files that are sealed with a key of the
//! system's credential store.

#[cfg(any(target_os = "macos", windows))]
mod keyring;
#[cfg(target_os = "linux")]
#[path = "secrets/linux.rs"]
mod place;
#[cfg(target_os = "macos")]
#[path = "secrets/macos.rs"]
mod place;
#[cfg(windows)]
#[path = "secrets/windows.rs"]
mod place;
pub mod sealed;

pub use place::open;

use super::atomic::{self, Trust};
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

/// Largest secret: a profile, with what sealing adds to it.
const LIMIT_BYTES: u64 = 64 * 1024 + 64;

impl SecretName {
    /// The file of this secret, below the directory of secrets.
    #[must_use]
    pub fn file_name(&self) -> String {
        match self {
            Self::Session => "session.json".to_owned(),
            Self::Device => "device.json".to_owned(),
            Self::NewDevice => "device-new.json".to_owned(),
            Self::Profile(profile) => format!("profiles/{profile}.conf"),
        }
    }
}

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
        self.directory.join(name.file_name())
    }
}

impl SecretStore for SecretFiles {
    fn read(&self, name: &SecretName) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        Ok(atomic::read(&self.path(name), LIMIT_BYTES, Trust::Own)?.map(Zeroizing::new))
    }
    fn write(&self, name: &SecretName, secret: &[u8]) -> io::Result<()> {
        atomic::write(&self.path(name), secret)
    }
    fn remove(&self, name: &SecretName) -> io::Result<()> {
        atomic::remove(&self.path(name))
    }
}
