//! Private files on Linux and macOS.

use std::fs::{DirBuilder, File, OpenOptions, rename};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

pub(super) fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)
}

pub(super) fn replace(from: &Path, to: &Path, dir: &Path) -> io::Result<()> {
    rename(from, to)?;
    File::open(dir)?.sync_all()
}

pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
