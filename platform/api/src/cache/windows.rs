//! Files of their owner alone on Windows: what is made here inherits the access list of the helper's state directory, which lets in only
//! LocalSystem and Administrators.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

pub(super) fn create_private_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

pub(super) fn create_private_file(path: &Path) -> io::Result<File> {
    File::create(path)
}

/// Puts the file `from` in the place of `to`; afterwards this holds also after a power cut: NTFS writes its log up to the file's last
/// change, which the new name is. <https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers>
pub(super) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    OpenOptions::new().write(true).open(to)?.sync_all()
}
