//! Notices at once when `resolv.conf` is written, replaced or removed.

use crate::files::poll::{Pollable, pollable};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;

/// Watches the directory (replaced, removed, written) and the file itself: a bind mount is seen only there.
pub struct ResolvConfWatch {
    inotify: AsyncFd<Pollable<Inotify>>,
    path: PathBuf,
    name: OsString,
}

impl ResolvConfWatch {
    /// Begins to watch.
    ///
    /// # Errors
    /// No inotify instance left, or no such directory.
    pub fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        inotify.add_watch(directory, events)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let watch = Self { inotify: pollable(inotify)?, path: path.to_owned(), name };
        watch.follow();
        Ok(watch)
    }

    /// Watches the file that is there in this moment. Repeated adding of the same file is one watch.
    fn follow(&self) {
        let events = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DONT_FOLLOW;
        if let Err(error) = self.inotify.get_ref().0.add_watch(&self.path, events) {
            tracing::debug!(%error, "resolv.conf itself is not watched");
        }
    }

    /// Waits until something happened to the file. May be dropped at any time.
    ///
    /// # Errors
    /// The watch broke.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.get_inner().0.read_events() {
                Ok(events) => {
                    // An event without a name is about the file itself; an overflow has none either.
                    let ours = events.iter().any(|event| event.name.as_ref().is_none_or(|name| *name == self.name));
                    drop(ready);
                    if ours {
                        self.follow();
                        return Ok(());
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
