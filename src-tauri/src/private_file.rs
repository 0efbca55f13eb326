//! Files that only this user may read: made anew, never through a link that somebody left in the way.

#[cfg(unix)]
#[path = "private_file/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "private_file/windows.rs"]
mod system;

use std::io::{self, Write};
use std::path::Path;

/// Makes `path` with `content`, readable by this user only.
///
/// # Errors
/// `AlreadyExists` when anything has that name (a link too); what the operating system says. Nothing is left behind then.
pub fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = system::open_new(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Makes `directory` and those above it, for this user only; what is there already stays as it is.
///
/// # Errors
/// What the operating system says.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    system::make_directory(directory)
}

/// Puts `content` in the place of `path`: readers see the old content or the new one, a power cut too.
///
/// # Errors
/// What the operating system says; the old content stays then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file needs a directory"))?;
    make_directory(directory)?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    create(&temporary, content)?;
    if let Err(error) = std::fs::rename(&temporary, path) {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    system::keep_name(path)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_new_file_is_private_and_follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link, target) = (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
        create(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(create(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        symlink(&target, &link).unwrap();
        assert_eq!(create(&link, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(!target.exists());
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn replacing_leaves_one_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/window.json");
        replace(&path, b"one").unwrap();
        // What a crash in the middle left.
        fs::write(path.with_extension(format!("{}.new", std::process::id())), b"half").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
