//! Private files by access lists of their own: the directory of downloads may lie where everybody reads. An access list that is
//! protected (`P`) takes nothing from above, and names the system, the administrators and this user.
#![expect(unsafe_code, reason = "the Windows API")]

use hamn_ipc::caller::Sid;
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::ptr::null_mut;
use windows_sys::Win32::Foundation::{ERROR_ALREADY_EXISTS, ERROR_FILE_EXISTS, GENERIC_WRITE, INVALID_HANDLE_VALUE, LocalFree};
use windows_sys::Win32::Security::Authorization::{ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1};
use windows_sys::Win32::Security::{GetTokenInformation, SECURITY_ATTRIBUTES, TOKEN_QUERY, TokenUser};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_ATTRIBUTE_NORMAL, FILE_FLAG_OPEN_REPARSE_POINT,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// Makes a file (`CreateFileW`, learn.microsoft.com, fileapi.h). A link in the way is not followed but in the way.
pub(super) fn open_new(path: &Path) -> io::Result<File> {
    let (name, descriptor) = (wide(path), Descriptor::of_user("")?);
    let attributes = descriptor.attributes()?;
    // SAFETY: `name` ends with 0; `attributes` and the descriptor in it live through the call.
    let handle = unsafe {
        CreateFileW(
            name.as_ptr(),
            GENERIC_WRITE,
            0,
            &raw const attributes,
            CREATE_NEW,
            FILE_ATTRIBUTE_NORMAL | FILE_FLAG_OPEN_REPARSE_POINT,
            null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        let error = io::Error::last_os_error();
        let exists = [ERROR_FILE_EXISTS, ERROR_ALREADY_EXISTS].map(u32::cast_signed).contains(&error.raw_os_error().unwrap_or(0));
        return Err(if exists { io::ErrorKind::AlreadyExists.into() } else { error });
    }
    // SAFETY: the handle was made for us just now, and nobody else knows it.
    Ok(File::from(unsafe { OwnedHandle::from_raw_handle(handle) }))
}

/// Makes a directory and those above it (`CreateDirectoryW`, learn.microsoft.com, fileapi.h); what is there already stays as it is.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_directory(above)?;
    }
    // Files in it inherit the list (`OICI`).
    let (name, descriptor) = (wide(directory), Descriptor::of_user("OICI")?);
    let attributes = descriptor.attributes()?;
    // SAFETY: `name` ends with 0; `attributes` and the descriptor in it live through the call.
    if unsafe { CreateDirectoryW(name.as_ptr(), &raw const attributes) } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if directory.is_dir() { Ok(()) } else { Err(error) }
}

/// After this a power cut does not bring back the old name of `path`: NTFS writes its log up to the file's last change, which the
/// new name is (learn.microsoft.com: FlushFileBuffers).
pub(super) fn keep_name(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.sync_all()
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// Memory of Windows's own, given back in its way.
struct Local(*mut c_void);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: the memory is that of a conversion, which says that it is freed in this way; nobody else has it.
        let _ = unsafe { LocalFree(self.0) };
    }
}

/// A security descriptor.
struct Descriptor(Local);

impl Descriptor {
    /// That of what belongs to this user; `inherited` says what things inside get
    /// (`ConvertStringSecurityDescriptorToSecurityDescriptorW`, learn.microsoft.com, sddl.h).
    fn of_user(inherited: &str) -> io::Result<Self> {
        let text: Vec<u16> = access_list(inherited, &user()?).encode_utf16().chain([0]).collect();
        let mut descriptor = null_mut();
        // SAFETY: `text` ends with 0, `descriptor` takes one pointer, and the size is not asked for.
        let done = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(text.as_ptr(), SDDL_REVISION_1, &raw mut descriptor, null_mut())
        };
        if done == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(Local(descriptor))) }
    }

    fn attributes(&self) -> io::Result<SECURITY_ATTRIBUTES> {
        let size = u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).map_err(io::Error::other)?;
        Ok(SECURITY_ATTRIBUTES { nLength: size, lpSecurityDescriptor: self.0.0, bInheritHandle: 0 })
    }
}

/// The list as text (learn.microsoft.com: "Security Descriptor String Format").
fn access_list(inherited: &str, user: &Sid) -> String {
    let entries = ["SY", "BA", user.as_str()].map(|who| format!("(A;{inherited};FA;;;{who})"));
    format!("D:P{}", entries.concat())
}

/// Words of a `TOKEN_USER` and of the identifier behind it, which has 68 bytes at most (`SECURITY_MAX_SID_SIZE`).
const ANSWER: usize = 24;

/// This user (`GetTokenInformation`, learn.microsoft.com, securitybaseapi.h).
fn user() -> io::Result<Sid> {
    // SAFETY: the call takes nothing; its answer is a number that needs no closing.
    let process = unsafe { GetCurrentProcess() };
    let mut token = null_mut();
    // SAFETY: `token` takes one handle.
    if unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was made for us just now, and nobody else knows it.
    let token = unsafe { OwnedHandle::from_raw_handle(token) };
    let mut answer = [0_usize; ANSWER];
    let (size, mut needed) = (u32::try_from(size_of_val(&answer)).map_err(io::Error::other)?, 0);
    let place = answer.as_mut_ptr();
    // SAFETY: `answer` has room for `size` bytes, and `needed` takes one number.
    if unsafe { GetTokenInformation(token.as_raw_handle(), TokenUser, place.cast(), size, &raw mut needed) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // The first word says where in the answer the identifier stands.
    let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let identifier = answer.first().and_then(|at| bytes.get(at.checked_sub(place.addr())?..)).and_then(Sid::from_bytes);
    identifier.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "Windows does not say who this is"))
}

#[cfg(test)]
mod tests {
    use super::super::{create, replace};
    use super::*;
    use std::fs;
    use windows_sys::Win32::Security::Authorization::{
        ConvertSecurityDescriptorToStringSecurityDescriptorW, GetNamedSecurityInfoW, SE_FILE_OBJECT,
    };
    use windows_sys::Win32::Security::DACL_SECURITY_INFORMATION;

    /// The access list as text.
    fn rights(path: &Path) -> String {
        let (name, mut descriptor) = (wide(path), null_mut());
        // SAFETY: `name` ends with 0, `descriptor` takes one pointer, and nothing else is asked for.
        let code = unsafe {
            GetNamedSecurityInfoW(
                name.as_ptr(),
                SE_FILE_OBJECT,
                DACL_SECURITY_INFORMATION,
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
                &raw mut descriptor,
            )
        };
        assert_eq!(code, 0);
        let descriptor = Local(descriptor);
        let (mut text, mut length) = (null_mut(), 0);
        // SAFETY: the descriptor is whole; `text` takes one pointer and `length` one number.
        let done = unsafe {
            ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor.0,
                SDDL_REVISION_1,
                DACL_SECURITY_INFORMATION,
                &raw mut text,
                &raw mut length,
            )
        };
        assert_ne!(done, 0);
        let text = Local(text.cast());
        // SAFETY: the conversion says how long its text is.
        let letters = unsafe { std::slice::from_raw_parts(text.0.cast::<u16>(), usize::try_from(length).unwrap()) };
        String::from_utf16(letters).unwrap().trim_end_matches('\0').to_owned()
    }

    #[test]
    fn a_new_file_is_this_users_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        create(&path, b"one").unwrap();
        assert_eq!(create(&path, b"two").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        let rights = rights(&path);
        assert!(!rights.contains(";;;WD)") && !rights.contains(";;;BU)") && !rights.contains(";;;AU)"), "{rights}");
    }

    #[test]
    fn replacing_leaves_one_file_in_a_directory_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(r"deep\er\window.json");
        replace(&path, b"one").unwrap();
        // What a crash in the middle left.
        fs::write(path.with_extension(format!("{}.new", std::process::id())), b"half").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn the_access_list_names_three_and_nobody_else() {
        let user = user().unwrap();
        assert!(user.as_str().starts_with("S-1-5-"), "{}", user.as_str());
        for inherited in ["", "OICI"] {
            Descriptor::of_user(inherited).unwrap();
            let text = access_list(inherited, &user);
            assert_eq!(text.matches("(A;").count(), 3);
            assert!(text.starts_with("D:P(A;") && text.ends_with(&format!(";FA;;;{})", user.as_str())), "{text}");
        }
    }
}
