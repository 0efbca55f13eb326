//! Owners, access lists and tokens of Windows as text: what `store::access` judges.
#![expect(unsafe_code, reason = "security descriptors and tokens have no safe wrapper in the crates we use")]

use crate::host::Wide;
use crate::store::access::{Access, Entry};
use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use windows_sys::Win32::Foundation::{ERROR_SUCCESS, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1,
    SE_FILE_OBJECT,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce, GetTokenInformation, INHERIT_ONLY_ACE,
    OWNER_SECURITY_INFORMATION, PSID, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::System::SystemServices::{
    ACCESS_ALLOWED_ACE_TYPE, ACCESS_ALLOWED_CALLBACK_ACE_TYPE, ACCESS_DENIED_ACE_TYPE, ACCESS_DENIED_CALLBACK_ACE_TYPE,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

/// More entries than an access list of 64 KiB can hold.
const MOST_ENTRIES: u32 = 8_192;

/// Memory that the system allocated for us with `LocalAlloc`.
pub(crate) struct Local(*mut c_void);

impl Local {
    /// The memory, for a call that reads it.
    pub(crate) const fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a call that says to free it with LocalFree, and it is freed once.
        unsafe { LocalFree(self.0) };
    }
}

/// A security descriptor from its text (SDDL; `ConvertStringSecurityDescriptorToSecurityDescriptorW`).
pub(crate) fn descriptor(sddl: &str) -> io::Result<Local> {
    let (text, mut made) = (Wide::new(sddl), null_mut());
    // SAFETY: the text ends with a zero, `made` takes the pointer, and no size is asked for.
    let done = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(text.as_ptr(), SDDL_REVISION_1, &raw mut made, null_mut())
    };
    if done == 0 { Err(io::Error::last_os_error()) } else { Ok(Local(made)) }
}

/// Owner and access list of an open file or directory (`GetSecurityInfo`).
pub(crate) fn access(handle: BorrowedHandle<'_>) -> io::Result<Access> {
    let (mut owner, mut list, mut descriptor): (PSID, *mut ACL, *mut c_void) = (null_mut(), null_mut(), null_mut());
    // SAFETY: the handle is open, and the three pointers take what the call returns.
    let result = unsafe {
        GetSecurityInfo(
            handle.as_raw_handle(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            &raw mut list,
            null_mut(),
            &raw mut descriptor,
        )
    };
    if result != ERROR_SUCCESS {
        return Err(of_code(result));
    }
    // Owner and list point into it.
    let _descriptor = Local(descriptor);
    Ok(Access { owner: sid_text(owner)?, entries: if list.is_null() { None } else { Some(entries(list)?) } })
}

/// An error from a code that a call returned.
pub(crate) fn of_code(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code.cast_signed())
}

fn entries(list: *const ACL) -> io::Result<Vec<Entry>> {
    // SAFETY: the list is one that the system has just returned.
    let count = u32::from(unsafe { (*list).AceCount });
    (0..count.min(MOST_ENTRIES)).map(|index| entry(list, index)).collect()
}

/// One entry (`GetAce`).
fn entry(list: *const ACL, index: u32) -> io::Result<Entry> {
    let mut found = null_mut();
    // SAFETY: the list is valid, and the index is below its count.
    if unsafe { GetAce(list, index, &raw mut found) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every entry begins with this header.
    let header = unsafe { found.cast::<ACE_HEADER>().read_unaligned() };
    Ok(match u32::from(header.AceType) {
        ACCESS_DENIED_ACE_TYPE | ACCESS_DENIED_CALLBACK_ACE_TYPE => Entry::Deny,
        ACCESS_ALLOWED_ACE_TYPE | ACCESS_ALLOWED_CALLBACK_ACE_TYPE => {
            let allow = found.cast::<ACCESS_ALLOWED_ACE>();
            // SAFETY: entries of these kinds have this form.
            let mask = unsafe { allow.read_unaligned() }.Mask;
            // SAFETY: the SID stands where the form says, inside the entry.
            let sid = unsafe { &raw mut (*allow).SidStart };
            Entry::Allow { sid: sid_text(sid.cast())?, mask, inherit_only: u32::from(header.AceFlags) & INHERIT_ONLY_ACE != 0 }
        }
        _ => Entry::Unknown(header.AceType),
    })
}

/// A SID as text (`ConvertSidToStringSidW`).
pub(crate) fn sid_text(sid: PSID) -> io::Result<String> {
    if sid.is_null() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a security descriptor without an owner"));
    }
    let mut text = null_mut();
    // SAFETY: the SID is valid as long as what holds it, and `text` takes the new string.
    if unsafe { ConvertSidToStringSidW(sid, &raw mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    let text = Local(text.cast());
    // SAFETY: the string ends with a zero.
    Ok(unsafe { crate::host::text_at(text.as_ptr().cast()) })
}

/// The token of this process.
pub(crate) fn own_token(access: u32) -> io::Result<OwnedHandle> {
    let mut token = null_mut();
    // SAFETY: the pseudo handle of this process needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: `token` takes the handle.
    if unsafe { OpenProcessToken(process, access, &raw mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is ours alone and open.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// The account that this process runs as (`GetTokenInformation`, `TokenUser`).
pub(crate) fn own_sid() -> io::Result<String> {
    let token = own_token(TOKEN_QUERY)?;
    let mut needed = 0;
    // SAFETY: without a buffer the call says how large it must be.
    unsafe { GetTokenInformation(token.as_raw_handle(), TokenUser, null::<c_void>().cast_mut(), 0, &raw mut needed) };
    // Words of eight bytes, so that the structure in it is aligned.
    let mut buffer = vec![0_u64; usize::try_from(needed).map_err(io::Error::other)?.div_ceil(8).max(8)];
    let room = u32::try_from(buffer.len().saturating_mul(8)).map_err(io::Error::other)?;
    // SAFETY: the buffer has `room` bytes.
    let done =
        unsafe { GetTokenInformation(token.as_raw_handle(), TokenUser, buffer.as_mut_ptr().cast(), room, &raw mut needed) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has put this structure at the beginning of the aligned buffer.
    let user = unsafe { buffer.as_ptr().cast::<TOKEN_USER>().read() };
    sid_text(user.User.Sid)
}
