//! Files that a crash leaves old or new, never half; bounded reading; and on Linux descriptors that tokio can wait for.

#[cfg(unix)]
#[path = "files/unix.rs"]
mod os;
#[cfg(windows)]
#[path = "files/windows.rs"]
mod os;
#[cfg(target_os = "linux")]
pub mod poll;

use std::fs::File;
use std::io;
use std::path::Path;

pub use os::*;

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
