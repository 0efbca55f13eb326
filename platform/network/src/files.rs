//! Writing a file so that a crash leaves the old one or the new one (temporary file, fsync, rename, fsync of the directory),
//! bounded reading, and descriptors that tokio can wait for.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Replaces `path` (a symbolic link itself, not its target).
///
/// # Errors
/// Any step refused; then `path` is as before and no temporary file is left.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::Builder::new().prefix(".hamn-").tempfile_in(directory)?;
    temporary.write_all(content)?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_directory(directory)
}

/// Makes renames and removals in this directory last.
///
/// # Errors
/// The directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// At most `limit` bytes of a file.
///
/// # Errors
/// It cannot be read or is larger.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut content = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length <= limit) {
        Ok(content)
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")))
    }
}

/// A descriptor of nix as tokio wants it: one that the value owns and keeps until it is dropped.
#[derive(Debug)]
pub struct Pollable<T: OwnsDescriptor>(pub T);

/// Values that own one descriptor for as long as they live.
pub trait OwnsDescriptor: AsFd {}
impl OwnsDescriptor for nix::sys::inotify::Inotify {}
impl OwnsDescriptor for nix::sys::timerfd::TimerFd {}

impl<T: OwnsDescriptor> AsRawFd for Pollable<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Registers the descriptor with the runtime.
///
/// # Errors
/// The runtime refuses.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
pub fn pollable<T: OwnsDescriptor>(value: T) -> io::Result<AsyncFd<Pollable<T>>> {
    // SAFETY: the value owns its descriptor, hands out the same one at every call and closes it when it is dropped,
    // which `AsyncFd` does after deregistering.
    unsafe { AsyncFd::register(Pollable(value)) }.map_err(io::Error::from)
}
