//! Files that are either the old or the new content, never something between: temp + fsync + rename + directory fsync.

use super::apply;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// How the name of a file that is being written begins; one that a crash left behind is removed at the next start.
const TEMPORARY: &str = ".new-";
/// How many unreadable files of one name are kept.
const MAX_ASIDE: usize = 5;

/// Who may have written a file that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The helper itself.
    Own,
    /// The computer's administrator, or the helper.
    Administrator,
}

/// Replaces `path` by `content`, for us alone (mode 0600; on Windows the directory's protected list). On any error the old
/// file is untouched.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("a path without a directory"))?;
    let made = tempfile::Builder::new().prefix(TEMPORARY).make_in(directory, apply::create_file)?;
    let (mut file, temporary) = made.into_parts();
    file.write_all(content)?;
    file.sync_all()?;
    // Windows does not rename a file that is open.
    drop(file);
    apply::replace(temporary, path)
}

/// Reads a regular file of at most `limit` bytes that `trust` accepts, without following a symbolic link and without
/// waiting for anybody. `None` when there is no such file.
pub fn read(path: &Path, limit: u64, trust: Trust) -> io::Result<Option<Vec<u8>>> {
    let invalid = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let file = match apply::open_file(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // What is judged is what was opened.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return invalid("not a regular file");
    }
    if !apply::is_trusted(&file, trust)? {
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
#[cfg(unix)]
mod tests;
#[cfg(test)]
#[cfg(windows)]
#[path = "atomic/tests_windows.rs"]
mod tests;
