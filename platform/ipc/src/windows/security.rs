//! Named pipes and who owns them, by the calls of Windows.
#![expect(unsafe_code, reason = "the Windows API")]

use crate::caller::{GroupId, Sid};
use crate::pipe::{self, Instance};
use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, INVALID_HANDLE_VALUE, LocalFree};
use windows_sys::Win32::Security::Authorization::{ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1};
use windows_sys::Win32::Security::{
    GetKernelObjectSecurity, LookupAccountNameW, OWNER_SECURITY_INFORMATION, SECURITY_ATTRIBUTES, SidTypeAlias,
};
use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX};
use windows_sys::Win32::System::Pipes::{CreateNamedPipeW, PIPE_REJECT_REMOTE_CLIENTS};
use windows_sys::Win32::System::WindowsProgramming::GetComputerNameW;

// The plan says the same numbers as the headers.
const _: () = assert!(
    pipe::DUPLEX == PIPE_ACCESS_DUPLEX
        && pipe::OVERLAPPED == FILE_FLAG_OVERLAPPED
        && pipe::FIRST_INSTANCE == FILE_FLAG_FIRST_PIPE_INSTANCE
        && pipe::REJECT_REMOTE == PIPE_REJECT_REMOTE_CLIENTS
);

/// Largest descriptor or account name that is looked at, in bytes.
const LARGEST: usize = 64 * 1024;

/// Text as Windows takes it, with its end.
pub(crate) fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// A security descriptor of Windows's own memory.
struct Descriptor(*mut c_void);

impl Descriptor {
    /// `ConvertStringSecurityDescriptorToSecurityDescriptorW` (learn.microsoft.com, sddl.h).
    fn new(text: &str) -> io::Result<Self> {
        let text = wide(text);
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: `text` ends with 0, `descriptor` takes one pointer, and the size is not asked for.
        let done = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                std::ptr::null_mut(),
            )
        };
        if done == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(descriptor)) }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the memory is that of the conversion, which says that it is freed in this way; nobody else has it.
        let _ = unsafe { LocalFree(self.0) };
    }
}

/// Makes an instance of a pipe (`CreateNamedPipeW`, learn.microsoft.com, namedpipeapi.h).
///
/// # Errors
/// The name is taken or not ours to take, or there are as many instances as there may be.
pub(crate) fn create_pipe(name: &str, descriptor: &str, instance: Instance) -> io::Result<OwnedHandle> {
    let (name, descriptor) = (wide(name), Descriptor::new(descriptor)?);
    let size = u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).map_err(io::Error::other)?;
    let attributes = SECURITY_ATTRIBUTES { nLength: size, lpSecurityDescriptor: descriptor.0, bInheritHandle: 0 };
    let Instance { open_mode, pipe_mode, most, buffer } = instance;
    // SAFETY: `name` ends with 0; `attributes` and the descriptor in it live through the call.
    let handle = unsafe { CreateNamedPipeW(name.as_ptr(), open_mode, pipe_mode, most, buffer, buffer, 0, &raw const attributes) };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was made for us just now, and nobody else knows it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Who owns the object behind a handle that may read its descriptor (`GetKernelObjectSecurity`, learn.microsoft.com,
/// securitybaseapi.h). The form of the answer: MS-DTYP 2.4.6, a self-relative descriptor.
///
/// # Errors
/// The system does not tell, or the object has no owner.
pub(crate) fn owner(object: BorrowedHandle<'_>) -> io::Result<Sid> {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut needed = 0;
        // SAFETY: `bytes` has room for `size` bytes and `needed` takes one number.
        let done = unsafe {
            GetKernelObjectSecurity(
                object.as_raw_handle(),
                OWNER_SECURITY_INFORMATION,
                bytes.as_mut_ptr().cast(),
                size,
                &raw mut needed,
            )
        };
        if done != 0 {
            break;
        }
        grow(&mut bytes, needed)?;
    }
    // The owner's place stands in bytes 4 to 7.
    let place = bytes.get(4..8).and_then(|place| place.first_chunk::<4>()).map(|place| u32::from_le_bytes(*place));
    let place = place.filter(|place| *place != 0).and_then(|place| usize::try_from(place).ok());
    place
        .and_then(|place| Sid::from_bytes(bytes.get(place..)?))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the object has no owner"))
}

/// Makes room when the last call says that there was too little.
pub(crate) fn grow<T: Clone + Default>(buffer: &mut Vec<T>, needed: u32) -> io::Result<()> {
    let error = io::Error::last_os_error();
    let too_small = error.raw_os_error().and_then(|code| u32::try_from(code).ok()) == Some(ERROR_INSUFFICIENT_BUFFER);
    let needed = usize::try_from(needed).map_err(io::Error::other)?.div_ceil(size_of::<T>());
    if !too_small || needed <= buffer.len() || needed > LARGEST {
        return Err(error);
    }
    buffer.resize(needed, T::default());
    Ok(())
}

/// The local group of this name (`LookupAccountNameW`, learn.microsoft.com, winbase.h): a group of this computer only, which no
/// domain controller has to be asked about.
pub(crate) fn local_group(name: &str) -> Option<GroupId> {
    let mut computer = [0_u16; 256];
    let mut length = 256;
    // SAFETY: `computer` has room for `length` characters.
    let done = unsafe { GetComputerNameW(computer.as_mut_ptr(), &raw mut length) };
    let computer = String::from_utf16(computer.get(..usize::try_from(length).ok()?)?).ok()?;
    if done == 0 {
        return None;
    }
    let account = wide(&format!(r"{computer}\{name}"));
    let (mut sid, mut sid_size) = ([0_u8; 68], 68);
    let (mut domain, mut domain_length) = ([0_u16; 256], 256);
    let mut kind = 0;
    // SAFETY: `account` ends with 0; the buffers have room for as much as is said, and the numbers are ours.
    let done = unsafe {
        LookupAccountNameW(
            std::ptr::null(),
            account.as_ptr(),
            sid.as_mut_ptr().cast(),
            &raw mut sid_size,
            domain.as_mut_ptr(),
            &raw mut domain_length,
            &raw mut kind,
        )
    };
    (done != 0 && kind == SidTypeAlias).then(|| Sid::from_bytes(&sid).map(GroupId::Windows)).flatten()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};

    /// Wine says so itself, by a function that Windows lacks.
    pub(crate) fn is_wine() -> bool {
        let name = wide("ntdll.dll");
        // SAFETY: `name` ends with 0; the module is loaded in every process and stays.
        let ntdll = unsafe { GetModuleHandleW(name.as_ptr()) };
        // SAFETY: the module is loaded and the name ends with 0.
        unsafe { GetProcAddress(ntdll, c"wine_get_version".as_ptr().cast()) }.is_some()
    }

    #[test]
    fn every_text_of_the_plan_is_understood_and_nonsense_is_not() {
        let user = Sid::parse("S-1-5-21-1-2-3-1000").unwrap();
        let system = Sid::parse(Sid::LOCAL_SYSTEM).unwrap();
        for text in [pipe::descriptor(&user, None), pipe::descriptor(&system, Some(&user))] {
            Descriptor::new(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        assert!(Descriptor::new("D:P(A;;GA;;;IU").is_err());
    }

    #[test]
    fn a_group_that_does_not_exist_has_no_identifier() {
        assert_eq!(local_group("hamn-no-such-group"), None);
    }
}
