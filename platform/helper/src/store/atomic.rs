//! Files that are either the old or the new content, never something between: temp + fsync + rename + directory fsync.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How the name of a file that is being written begins; one that a crash left behind is removed at the next start.
const TEMPORARY: &str = ".new-";
/// How many unreadable files of one name are kept.
const MAX_ASIDE: usize = 5;

/// Replaces `path` by `content`, mode 0600. On any error the old file is untouched.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("a path without a directory"))?;
    let mut temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// Reads a regular file of at most `limit` bytes that `trust` accepts, without following a symbolic link and without
/// waiting for anybody. `None` when there is no such file.
pub fn read(path: &Path, limit: u64, trust: fn(&Metadata) -> bool) -> io::Result<Option<Vec<u8>>> {
    let invalid = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // What is judged is what was opened.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return invalid("not a regular file");
    }
    if !trust(&metadata) {
        return invalid("it belongs to another user, or others can write to it");
    }
    if metadata.len() > limit {
        return invalid("larger than it may be");
    }
    // With room for all of it the buffer never moves: no copy of a secret is left behind.
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1));
    file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(content.len()).map_or(true, |length| length > limit) {
        return invalid("larger than it may be");
    }
    Ok(Some(content))
}

/// Moves a file that cannot be read out of the way, so that it can be looked at and is never read again: the newest is
/// `NAME.unreadable`. Earlier ones are kept under a number up to a bound, the first ones for good.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = |suffix: String| {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(suffix);
        path.with_file_name(name)
    };
    let exists = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok();
    // Nothing there means nothing to make room for.
    std::fs::symlink_metadata(path)?;
    let aside = name(".unreadable".to_owned());
    if exists(&aside) {
        let numbered = |number: usize| name(format!(".unreadable-{number}"));
        let free = (1..MAX_ASIDE).map(numbered).find(|path| !exists(path));
        std::fs::rename(&aside, free.unwrap_or_else(|| numbered(MAX_ASIDE - 1)))?;
    }
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Removes what a crash in the middle of `write` left in a directory of ours: it may hold a secret.
pub fn remove_temporaries(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if is_temporary(&entry.file_name()) && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// True for the name of a file that `write` had not finished.
#[must_use]
pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(TEMPORARY))
}

/// Removes a file; a missing one is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::is_own;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_with_mode_0600_and_no_temporary_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path, 10, is_own).unwrap().unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_fifos_directories_foreign_and_long_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        write(&target, b"0123456789").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(read(&link, 100, is_own).is_err());
        assert!(read(&target, 9, is_own).is_err());
        assert!(read(&target, 10, is_own).unwrap().is_some());
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o620)).unwrap();
        assert!(read(&target, 10, is_own).is_err());
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o600)).unwrap();
        if nix::unistd::geteuid().is_root() {
            nix::unistd::chown(&target, Some(65534.into()), None).unwrap();
            assert!(read(&target, 10, is_own).is_err());
        }
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read(&fifo, 100, is_own).is_err());
        assert!(read(directory.path(), 100, is_own).is_err());
        assert!(read(&directory.path().join("none"), 1, is_own).unwrap().is_none());
    }

    // FS-01: nothing that could not be read is lost at once, and a machine that breaks its files for ever fills no disk.
    #[test]
    fn unreadable_files_are_kept_up_to_a_bound_and_the_first_for_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("settings.json");
        for number in 0..20 {
            std::fs::write(&path, number.to_string()).unwrap();
            set_aside(&path).unwrap();
            assert!(!path.exists());
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), MAX_ASIDE);
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("settings.json.unreadable"), "19");
        assert_eq!(["1", "2", "3", "4"].map(|number| read(&format!("settings.json.unreadable-{number}"))), ["0", "1", "2", "18"]);
        assert!(set_aside(&path).is_err(), "nothing to move");
        // A link is moved itself, not what it points to.
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        let aside = set_aside(&path).unwrap();
        assert!(std::fs::symlink_metadata(aside).unwrap().is_symlink());
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(".new-abc"), b"a key").unwrap();
        std::fs::write(directory.path().join("kept"), b"").unwrap();
        remove_temporaries(directory.path()).unwrap();
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
    }
}
