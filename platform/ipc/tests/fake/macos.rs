//! The fake helper's surroundings on macOS.

use hamn_ipc::server::System;
use std::path::{Path, PathBuf};

/// A name for the socket. Other users must be able to reach it, as in /var/run/hamn.
pub fn socket(directory: &Path) -> PathBuf {
    std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    directory.join("helper.sock")
}

/// This computer's window server says who sits at it.
pub fn system(_directory: &Path) -> System {
    System::default()
}
