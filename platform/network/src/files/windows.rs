//! Replacing a file on Windows: temporary file, flush, `MoveFileExW` with replacement.

use std::io::{self, Write};
use std::path::Path;

/// Replaces `path`. Who may read it is decided by the directory, which the helper's installer gave a protected list of
/// rights; Windows has no permission bits, so `_mode` says nothing here.
///
/// # Errors
/// Any step refused; then `path` is as before and no temporary file is left.
pub fn write_atomically(path: &Path, content: &[u8], _mode: u32) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::Builder::new().prefix(".hamn-").tempfile_in(directory)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map(drop).map_err(|error| error.error)
}
