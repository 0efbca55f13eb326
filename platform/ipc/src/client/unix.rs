//! Reaches the helper's Unix socket and makes sure of the file and of who listens behind it.

use super::{CONNECT, unreachable_after};
use crate::caller::UserId;
use crate::problem::{Problem, ProblemCode};
use crate::server::peer;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// What a connection speaks through.
pub(super) type Stream = UnixStream;

/// Who may serve: root, and with `own` the user of this process.
pub(super) fn trusted(own: bool) -> io::Result<Vec<UserId>> {
    let root = UserId::Unix(0);
    Ok(if own { vec![root, UserId::Unix(nix::unistd::geteuid().as_raw())] } else { vec![root] })
}

/// Connects to a socket that a trusted user owns and serves.
pub(super) async fn connect(socket: &Path, trusted: &[UserId]) -> Result<Stream, Problem> {
    check_file(socket, trusted)?;
    let shown = socket.display();
    let stream = timeout(CONNECT, UnixStream::connect(socket))
        .await
        .map_err(|_| unreachable_after(CONNECT))?
        .map_err(|error| Problem::with_detail(ProblemCode::HelperUnreachable, format!("{shown}: {}", kind(&error))))?;
    // The process that listens must run as a trusted user.
    match peer::user(&stream).map(UserId::Unix) {
        Ok(user) if trusted.contains(&user) => Ok(stream),
        Ok(user) => Err(Problem::with_detail(ProblemCode::HelperUntrusted, format!("{shown} is served by user {user}"))),
        Err(_) => Err(Problem::with_detail(ProblemCode::HelperUntrusted, format!("nobody knows who serves {shown}"))),
    }
}

/// The file must be a socket (not a symlink to one) that belongs to a trusted user, in a directory where strangers cannot
/// put something in its place.
fn check_file(socket: &Path, trusted: &[UserId]) -> Result<(), Problem> {
    let shown = socket.display();
    let found = fs::symlink_metadata(socket)
        .map_err(|error| Problem::with_detail(ProblemCode::HelperUnreachable, format!("{shown}: {}", kind(&error))))?;
    let untrusted = |why: &str| Err(Problem::with_detail(ProblemCode::HelperUntrusted, format!("{shown} {why}")));
    if found.is_symlink() {
        return untrusted("is a symbolic link");
    }
    if !found.file_type().is_socket() {
        return untrusted("is not a socket");
    }
    if !trusted.contains(&UserId::Unix(found.uid())) {
        return untrusted(&format!("belongs to user {}", found.uid()));
    }
    let directory = socket.parent().map(fs::metadata);
    let writable_by_all = |mode: u32| mode & 0o002 != 0 && mode & 0o1000 == 0;
    match directory {
        Some(Ok(directory)) if writable_by_all(directory.mode()) => untrusted("is in a directory that everybody can change"),
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) | None => untrusted("has no readable directory"),
    }
}

fn kind(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        "there is no such socket".to_owned()
    } else if kind == io::ErrorKind::ConnectionRefused {
        "nobody listens".to_owned()
    } else {
        kind.to_string()
    }
}
