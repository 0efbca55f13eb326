//! Makes the listening socket so that no moment exists in which it is open wider than meant (IPC-02).

use crate::caller::{Caller, Share};
use crate::server::peer;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// Mode of the socket: everybody may connect, each method checks who asks.
pub const SOCKET_MODE: u32 = 0o666;

/// What a connection speaks through.
pub(in crate::server) type Stream = UnixStream;

/// Somebody who has connected and is not yet known.
#[derive(Debug)]
pub(in crate::server) struct Arrival(pub(in crate::server) UnixStream);

impl Arrival {
    /// Who it is, or `None` when `in_time` says that this one comes too often. The cheapest question comes first: a flood must
    /// cost little.
    ///
    /// # Errors
    /// When the kernel does not tell: the connection is then refused.
    pub(in crate::server) fn identify(&mut self, in_time: impl FnOnce(&Share) -> bool) -> io::Result<Option<Caller>> {
        if in_time(&Share::unix(peer::user(&self.0)?)) { peer::identify(&self.0).map(Some) } else { Ok(None) }
    }

    /// Says why and hangs up.
    pub(in crate::server) fn refuse(self, answer: &[u8]) {
        let _ = self.0.try_write(answer);
    }

    pub(in crate::server) fn into_stream(self) -> Stream {
        self.0
    }
}

/// A listening socket that removes its file when dropped.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl BoundSocket {
    /// Binds `path`. The socket is made inside a 0700 directory of our own, gets its mode there and is then renamed into
    /// place: no process-wide umask is touched and nobody can reach it before it is as it must be.
    ///
    /// # Errors
    /// The directory is a symlink, belongs to somebody else or can be written by others; another helper answers at `path`;
    /// the operating system refuses.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let directory = path.parent().ok_or_else(|| refuse("the socket needs a directory"))?;
        check_directory(directory)?;
        check_old_socket(path)?;
        let private = PrivateDirectory::make(directory)?;
        let temporary = private.0.join("s");
        let listener = UnixListener::bind(&temporary)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(SOCKET_MODE))?;
        let inode = fs::symlink_metadata(&temporary)?.ino();
        fs::rename(&temporary, path)?;
        Ok(Self { listener, path: path.to_owned(), inode })
    }

    /// The next caller. Safe to cancel.
    pub(in crate::server) async fn accept(&mut self) -> io::Result<Arrival> {
        self.listener.accept().await.map(|(stream, _)| Arrival(stream))
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // A successor may already have put its own socket there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn make(directory: &Path) -> io::Result<Self> {
        let private = directory.join(format!(".socket-{}", std::process::id()));
        match fs::remove_dir_all(&private) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&private)?;
        Ok(Self(private))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn check_directory(directory: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(directory)?;
    if !found.is_dir() {
        return Err(refuse("the runtime directory is not a directory"));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(refuse("the runtime directory belongs to somebody else"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refuse("others can write into the runtime directory"));
    }
    Ok(())
}

fn check_old_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(refuse("something that is not a socket has the socket's name")),
        Ok(_) if StdUnixStream::connect(path).is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another helper answers at the socket"))
        }
        Ok(_) => Ok(()),
    }
}

fn refuse(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
