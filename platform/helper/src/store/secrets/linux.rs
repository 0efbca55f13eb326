//! Secrets on Linux: 0600 files of root.

use super::{SecretFiles, SecretStore};
use std::path::Path;
use std::sync::Arc;

/// The secrets below `state_dir`.
#[must_use]
pub fn open(state_dir: &Path) -> Arc<dyn SecretStore> {
    Arc::new(SecretFiles::new(state_dir.to_owned()))
}
