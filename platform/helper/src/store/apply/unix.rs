//! Files and directories under Linux and macOS: owners, modes, links, and renames that last.

use crate::store::atomic::Trust;
use crate::store::directory::Privacy;
use anyhow::{Context, bail};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use tempfile::TempPath;

/// A new file of ours, mode 0600.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Puts a finished file in the place of `path`; when this returns the new name is on the disk.
pub(super) fn replace(temporary: TempPath, path: &Path) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("a path without a directory"))?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// Opens a file for reading: no symbolic link is followed, and no pipe is waited for.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path)
}

/// True when only its owner can write to it, and the owner is one whom this trust names.
pub(super) fn is_trusted(file: &File, trust: Trust) -> io::Result<bool> {
    Ok(has_trusted_owner(&file.metadata()?, trust))
}

fn has_trusted_owner(metadata: &Metadata, trust: Trust) -> bool {
    let (owner, own) = (metadata.uid(), nix::unistd::geteuid().as_raw());
    let known = owner == own || (trust == Trust::Administrator && owner == 0);
    known && metadata.mode() & 0o022 == 0
}

/// Makes a directory and those above it.
pub(super) fn create_directory(path: &Path, privacy: Privacy) -> io::Result<()> {
    let mode = match privacy {
        Privacy::Closed => 0o700,
        Privacy::Readable => 0o755,
    };
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// A real directory of ours, as closed as it must be.
pub(super) fn check_directory(path: &Path, privacy: Privacy) -> anyhow::Result<()> {
    let metadata = real_directory(path)?;
    let mode = metadata.mode() & 0o7777;
    match privacy {
        Privacy::Closed if mode & 0o077 != 0 => {
            bail!("{0} is open to other users (mode {mode:o}); run: chmod 0700 {0}", path.display())
        }
        Privacy::Readable if mode & 0o022 != 0 => {
            bail!("{0} can be written by other users (mode {mode:o}); run: chmod 0755 {0}", path.display())
        }
        Privacy::Closed | Privacy::Readable => Ok(()),
    }
}

/// A real directory that belongs to root or us, and nobody else writes to it.
pub(super) fn check_administrators_directory(path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    if !metadata.is_dir() || !has_trusted_owner(metadata, Trust::Administrator) {
        bail!("{} must be a directory of root that only root can write", path.display());
    }
    Ok(())
}

fn real_directory(path: &Path) -> anyhow::Result<Metadata> {
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
