//! The fake helper's surroundings on Linux.

use hamn_ipc::server::System;
use std::path::{Path, PathBuf};

/// A name for the socket. Other users must be able to reach it, as in /run/hamn.
pub fn socket(directory: &Path) -> PathBuf {
    std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    directory.join("helper.sock")
}

/// Nobody sits at this computer, and nobody's polkit is asked.
pub fn system(directory: &Path) -> System {
    System::new(directory.join("nobody"), None)
}
