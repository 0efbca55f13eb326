//! The laboratory's directory on disk: locked while it is in use, so that a killed run's leftovers are known and removed.

use anyhow::{Context, Result};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

const PREFIX: &str = "hamn-lab-";
const UNLOCKED_PREFIX: &str = "hamn-new-";

/// A directory that is removed when dropped, or by the next laboratory if this process is killed.
pub struct LabDirectory {
    path: PathBuf,
    _lock: File,
}

impl LabDirectory {
    /// Removes what killed runs left, then makes a fresh directory under the system's place for temporary files.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent);
        // Under another name until it is locked, so that nobody's sweep takes it for a leftover.
        let made =
            tempfile::Builder::new().prefix(UNLOCKED_PREFIX).tempdir_in(&parent).context("create the laboratory's directory")?;
        let lock = File::create(made.path().join(".lock")).context("create a lock file")?;
        lock.try_lock().context("lock the laboratory's directory")?;
        // Programs without rights use sockets and files inside.
        std::fs::set_permissions(made.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .context("open the directory to all users")?;
        let name =
            made.path().file_name().context("a directory without a name")?.to_string_lossy().replace(UNLOCKED_PREFIX, PREFIX);
        let path = parent.join(name);
        std::fs::rename(made.keep(), &path).context("name the laboratory's directory")?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LabDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes directories whose owner is gone. One without a lock file may be in the making, so it is left alone.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let Ok(lock) = File::open(entry.path().join(".lock")) else { continue };
        match lock.try_lock() {
            Ok(()) => drop(std::fs::remove_dir_all(entry.path())),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}
