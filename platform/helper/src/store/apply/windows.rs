//! Files and directories under Windows: owners and access lists, reparse points, and renames that last.
#![expect(unsafe_code, reason = "creating directories with an access list and renaming through to the disk have no safe wrapper")]

use crate::host::Wide;
use crate::host::security::{access, descriptor, own_sid};
use crate::store::access::{CLOSED_SDDL, READABLE_SDDL, judge, way_out};
use crate::store::atomic::Trust;
use crate::store::directory::Privacy;
use anyhow::{Context, bail};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::os::windows::io::AsHandle;
use std::path::Path;
use std::time::Duration;
use tempfile::TempPath;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_SHARING_VIOLATION};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    CreateDirectoryW, FILE_ATTRIBUTE_REPARSE_POINT, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_READ_ATTRIBUTES, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, MOVEFILE_REPLACE_EXISTING,
    MOVEFILE_WRITE_THROUGH, MoveFileExW, READ_CONTROL,
};

/// How often and how far apart a rename is tried: a virus scanner that looks at the old file keeps it open for a moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(15);

/// A new file of ours. Who may read it the directory says, which is protected.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).share_mode(0).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(path)
}

/// Puts a finished file in the place of `path`; when this returns the new name is on the disk (`MoveFileExW`: with
/// `MOVEFILE_WRITE_THROUGH` it "does not return until the file is actually moved on the disk").
pub(super) fn replace(temporary: TempPath, path: &Path) -> io::Result<()> {
    let (from, to) = (Wide::new(&*temporary), Wide::new(path));
    for attempt in 1..=TRIES {
        // SAFETY: both names end with a zero and live through the call.
        let moved = unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) };
        if moved != 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if attempt == TRIES || !is_in_use(&error) {
            // Dropping the name removes the unfinished file.
            return Err(error);
        }
        std::thread::sleep(PAUSE);
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

fn is_in_use(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(i32::cast_unsigned);
    code == Some(ERROR_SHARING_VIOLATION) || code == Some(ERROR_ACCESS_DENIED)
}

/// Opens a file for reading, a reparse point (link, mount point, placeholder) itself and not what it stands for; one is
/// refused then.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let file = OpenOptions::new().read(true).share_mode(share).custom_flags(FILE_FLAG_OPEN_REPARSE_POINT).open(path)?;
    if file.metadata()?.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a link or another reparse point"));
    }
    Ok(file)
}

/// True when SYSTEM, administrators and the account that we run as alone can change it. Both kinds of trust are one here:
/// whoever installs a service is an administrator.
pub(super) fn is_trusted(file: &File, trust: Trust) -> io::Result<bool> {
    match trust {
        Trust::Own | Trust::Administrator => Ok(judge(&access(file.as_handle())?, Privacy::Readable, &own_sid()?).is_ok()),
    }
}

/// Makes a directory and those above it, each with a protected access list of its own (`CreateDirectoryW`).
pub(super) fn create_directory(path: &Path, privacy: Privacy) -> io::Result<()> {
    if let Some(above) = path.parent()
        && !above.as_os_str().is_empty()
        && !above.exists()
    {
        create_directory(above, privacy)?;
    }
    create_with(
        path,
        match privacy {
            Privacy::Closed => CLOSED_SDDL,
            Privacy::Readable => READABLE_SDDL,
        },
    )
}

/// Makes one directory with this access list.
pub(super) fn create_with(path: &Path, sddl: &str) -> io::Result<()> {
    let made = descriptor(sddl)?;
    let attributes = SECURITY_ATTRIBUTES {
        nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).map_err(io::Error::other)?,
        lpSecurityDescriptor: made.as_ptr(),
        bInheritHandle: 0,
    };
    let name = Wide::new(path);
    // SAFETY: the name ends with a zero, and the attributes point to a descriptor that lives through the call.
    if unsafe { CreateDirectoryW(name.as_ptr(), &raw const attributes) } != 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // Whoever made it meanwhile is judged with it.
        error if error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_ALREADY_EXISTS) => Ok(()),
        error => Err(error),
    }
}

/// A real directory that only SYSTEM and administrators can change, and with [`Privacy::Closed`] look into.
pub(super) fn check_directory(path: &Path, privacy: Privacy) -> anyhow::Result<()> {
    let shown = path.display().to_string();
    let directory = OpenOptions::new()
        .access_mode(READ_CONTROL | FILE_READ_ATTRIBUTES)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
        .with_context(|| format!("look at {shown}"))?;
    let metadata = directory.metadata().with_context(|| format!("look at {shown}"))?;
    if metadata.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
        bail!("{shown} is a link; remove it and let the helper make a directory");
    }
    if !metadata.is_dir() {
        bail!("{shown} is not a directory; remove it and let the helper make one");
    }
    let found = access(directory.as_handle()).with_context(|| format!("read who may use {shown}"))?;
    let own = own_sid().context("read which account this is")?;
    match judge(&found, privacy, &own) {
        Ok(()) => Ok(()),
        Err(why) => bail!("{shown} {why}; {}", way_out(&why, &shown, privacy)),
    }
}

/// A directory in which only administrators write.
pub(super) fn check_administrators_directory(path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    if metadata.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
        bail!("{} is a link; make it a directory that only administrators can write", path.display());
    }
    check_directory(path, Privacy::Readable)
}
