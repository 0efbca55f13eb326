//! Private files on Windows: the directory has an access list of its own, and what is made in it inherits that.
#![expect(unsafe_code, reason = "access lists and moves that write through have no safe interface")]

use std::fs::{File, create_dir_all};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1};
use windows_sys::Win32::Security::{PSECURITY_DESCRIPTOR, SECURITY_ATTRIBUTES};
use windows_sys::Win32::Storage::FileSystem::{CreateDirectoryW, MOVEFILE_REPLACE_EXISTING, MOVEFILE_WRITE_THROUGH, MoveFileExW};

/// Nothing is inherited from above; full access for the owner, LocalSystem and Administrators, handed down to what is made inside.
/// <https://learn.microsoft.com/windows/win32/secauthz/security-descriptor-string-format>
const OWNER_ONLY: &str = "D:P(A;OICI;FA;;;OW)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";

fn wide(text: impl AsRef<std::ffi::OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

fn checked(good: windows_sys::core::BOOL) -> io::Result<()> {
    if good == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `_mode` is what the directory's access list says instead.
pub(super) fn create(path: &Path, _mode: u32) -> io::Result<File> {
    File::create(path)
}

/// <https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-movefileexw>
pub(super) fn replace(from: &Path, to: &Path, _dir: &Path) -> io::Result<()> {
    let (from, to) = (wide(from), wide(to));
    // SAFETY: both are texts that end with zero and live until the call returns.
    checked(unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) })
}

/// A descriptor that Windows allocated.
struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    fn parse(text: &str) -> io::Result<Self> {
        let text = wide(text);
        let mut made: PSECURITY_DESCRIPTOR = ptr::null_mut();
        let made_at = &raw mut made;
        // SAFETY: the text ends with zero, and what the call writes to lives until it returns.
        checked(unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(text.as_ptr(), SDDL_REVISION_1, made_at, ptr::null_mut())
        })?;
        Ok(Self(made))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the call that made it says that LocalFree ends it, and nothing uses it afterwards.
        let _ = unsafe { LocalFree(self.0) };
    }
}

/// <https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createdirectoryw>
pub(super) fn private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), create_dir_all)?;
    let descriptor = Descriptor::parse(OWNER_ONLY)?;
    let length = u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).map_err(io::Error::other)?;
    let attributes = SECURITY_ATTRIBUTES { nLength: length, lpSecurityDescriptor: descriptor.0, bInheritHandle: 0 };
    let path = wide(path);
    // SAFETY: the path ends with zero; attributes and descriptor live until the call returns.
    checked(unsafe { CreateDirectoryW(path.as_ptr(), &raw const attributes) })
}
