//! The fake helper's surroundings on Windows.

use hamn_ipc::server::System;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A name for the pipe that no other test has.
pub fn socket(_directory: &Path) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!(r"\\.\pipe\hamn-test-{}-{number}", std::process::id()))
}

/// This computer's sessions.
pub fn system(_directory: &Path) -> System {
    System::default()
}
