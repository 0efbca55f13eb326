//! Directories that the helper trusts: its own, owned by it, closed to others, and not reached through a link.

use anyhow::{Context, bail};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Makes sure that `path` is a real directory of ours with no access for others, creating it (0700) when it is missing.
///
/// Errors name the path, what is wrong and the command that puts it right (FS-03).
pub fn private(path: &Path) -> anyhow::Result<()> {
    if !path.exists() && std::fs::symlink_metadata(path).is_err() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("create {}", path.display()))?;
    }
    is_private(path)
}

/// As `private`, but creates nothing.
pub fn is_private(path: &Path) -> anyhow::Result<()> {
    let metadata = real_directory(path)?;
    if metadata.mode() & 0o077 != 0 {
        bail!(
            "{} is open to other users (mode {:o}); run: chmod 0700 {}",
            path.display(),
            metadata.mode() & 0o7777,
            path.display()
        );
    }
    Ok(())
}

/// Makes sure that `path` is a real directory of ours that nobody else can write to, creating it (0755) when missing.
pub fn readable(path: &Path) -> anyhow::Result<()> {
    if !path.exists() && std::fs::symlink_metadata(path).is_err() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .with_context(|| format!("create {}", path.display()))?;
    }
    let metadata = real_directory(path)?;
    if metadata.mode() & 0o022 != 0 {
        bail!(
            "{} can be written by other users (mode {:o}); run: chmod 0755 {}",
            path.display(),
            metadata.mode() & 0o7777,
            path.display()
        );
    }
    Ok(())
}

/// True when an existing file or directory belongs to us or root and only its owner can write to it (policy files).
#[must_use]
pub fn is_trusted(metadata: &std::fs::Metadata) -> bool {
    let owner = metadata.uid();
    (owner == 0 || owner == nix::unistd::geteuid().as_raw()) && metadata.mode() & 0o022 == 0
}

/// True when a file of ours belongs to us and only we can write to it.
#[must_use]
pub fn is_own(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

fn real_directory(path: &Path) -> anyhow::Result<std::fs::Metadata> {
    let metadata = std::fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if metadata.is_symlink() {
        bail!("{} is a symbolic link; remove it and let the helper make a directory", path.display());
    }
    if !metadata.is_dir() {
        bail!("{} is not a directory; remove it and let the helper make one", path.display());
    }
    let own = nix::unistd::geteuid().as_raw();
    if metadata.uid() != own {
        bail!("{} belongs to user {}, not to {own}; run: chown {own} {}", path.display(), metadata.uid(), path.display());
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    // FS-03
    #[test]
    fn open_linked_and_foreign_directories_are_refused_with_the_way_out() {
        let base = tempfile::tempdir().unwrap();
        let made = base.path().join("made");
        private(&made).unwrap();
        private(&made).unwrap();
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o777)).unwrap();
        let told = private(&made).unwrap_err().to_string();
        assert!(told.contains("chmod 0700"), "{told}");
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(private(&link).unwrap_err().to_string().contains("symbolic link"));
        let dangling = base.path().join("dangling");
        std::os::unix::fs::symlink(base.path().join("nowhere"), &dangling).unwrap();
        assert!(private(&dangling).is_err());
        if nix::unistd::geteuid().is_root() {
            let foreign = base.path().join("foreign");
            std::fs::create_dir(&foreign).unwrap();
            nix::unistd::chown(&foreign, Some(65534.into()), None).unwrap();
            assert!(private(&foreign).unwrap_err().to_string().contains("chown"));
        }
    }
}
