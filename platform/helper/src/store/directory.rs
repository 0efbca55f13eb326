//! Directories that the helper trusts: its own, owned by it, closed to others, and not reached through a link.

use super::apply;
use anyhow::Context;
use std::path::Path;

/// How closed a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// Nobody else looks in or writes.
    Closed,
    /// Everybody may look, nobody else writes.
    Readable,
}

/// Makes sure that `path` is a real directory of ours with no access for others, creating it (0700, on Windows a protected
/// list for SYSTEM and Administrators) when it is missing.
///
/// Errors name the path, what is wrong and the command that puts it right (FS-03).
pub fn private(path: &Path) -> anyhow::Result<()> {
    make(path, Privacy::Closed)?;
    is_private(path)
}

/// As `private`, but creates nothing.
pub fn is_private(path: &Path) -> anyhow::Result<()> {
    apply::check_directory(path, Privacy::Closed)
}

/// Makes sure that `path` is a real directory of ours that nobody else can write to, creating it (0755) when missing.
pub fn readable(path: &Path) -> anyhow::Result<()> {
    make(path, Privacy::Readable)?;
    apply::check_directory(path, Privacy::Readable)
}

/// As `readable`, but creates nothing: for the directory of the program itself.
pub fn is_readable(path: &Path) -> anyhow::Result<()> {
    apply::check_directory(path, Privacy::Readable)
}

fn make(path: &Path, privacy: Privacy) -> anyhow::Result<()> {
    if !path.exists() && std::fs::symlink_metadata(path).is_err() {
        apply::create_directory(path, privacy).with_context(|| format!("create {}", path.display()))?;
    }
    Ok(())
}

/// True for a directory that only an administrator can write, false for a missing one.
///
/// # Errors
/// It is there and somebody else could write to it.
pub fn of_administrator(path: &Path) -> anyhow::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("look at {}", path.display())),
        Ok(metadata) => apply::check_administrators_directory(path, &metadata).map(|()| true),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
#[cfg(test)]
#[cfg(windows)]
#[path = "directory/tests_windows.rs"]
mod tests;
