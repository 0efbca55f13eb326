//! Policies on Linux: the files of the administrator's directory.

use std::path::Path;

/// Name and content of each policy.
pub(super) fn documents(policy_dir: &Path) -> anyhow::Result<Vec<(String, Option<Vec<u8>>)>> {
    super::policy_files(policy_dir)
}

/// Policy files are read when the helper starts; who changes them restarts it (`systemctl restart hamn-helper`), which keeps
/// the rules in place.
pub struct Changes {}

impl Changes {
    /// Nothing is watched.
    ///
    /// # Errors
    /// None.
    pub fn watch() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for ever.
    pub async fn next(&mut self) {
        std::future::pending().await
    }
}
