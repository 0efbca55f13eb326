//! Loads `wintun.dll` once it is known to be the right file, and finds its functions (`wintun.h`; learn.microsoft.com:
//! WinVerifyTrust, LoadLibraryExW, GetProcAddress).
#![expect(unsafe_code, reason = "checking a signature, loading a library and finding functions in it are foreign calls")]

use super::pin::{self, LibraryError};
use std::ffi::{CStr, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use windows_sys::Win32::Foundation::{FreeLibrary, HANDLE, HMODULE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::NetworkManagement::Ndis::NET_LUID_LH;
use windows_sys::Win32::Security::WinTrust::{
    WINTRUST_ACTION_GENERIC_VERIFY_V2, WINTRUST_DATA, WINTRUST_DATA_0, WINTRUST_FILE_INFO, WTD_CACHE_ONLY_URL_RETRIEVAL,
    WTD_CHOICE_FILE, WTD_DISABLE_MD2_MD4, WTD_REVOKE_NONE, WTD_STATEACTION_CLOSE, WTD_STATEACTION_VERIFY, WTD_UI_NONE,
    WinVerifyTrust,
};
use windows_sys::Win32::Storage::FileSystem::FILE_SHARE_READ;
use windows_sys::Win32::System::LibraryLoader::{GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW};
use windows_sys::core::{BOOL, GUID, PCWSTR};

/// The functions of `wintun.h` that are used. The library is never unloaded, so they are good for the life of the process.
pub(super) struct Library {
    /// `WINTUN_CREATE_ADAPTER_FUNC`: name, kind and GUID; null and the last error if it fails.
    pub(super) create_adapter: unsafe extern "system" fn(PCWSTR, PCWSTR, *const GUID) -> *mut c_void,
    /// `WINTUN_CLOSE_ADAPTER_FUNC`: removes the adapter that was created.
    pub(super) close_adapter: unsafe extern "system" fn(*mut c_void),
    /// `WINTUN_GET_ADAPTER_LUID_FUNC`
    pub(super) adapter_luid: unsafe extern "system" fn(*mut c_void, *mut NET_LUID_LH),
    /// `WINTUN_START_SESSION_FUNC`: adapter and ring capacity; null and the last error if it fails.
    pub(super) start_session: unsafe extern "system" fn(*mut c_void, u32) -> *mut c_void,
    /// `WINTUN_END_SESSION_FUNC`
    pub(super) end_session: unsafe extern "system" fn(*mut c_void),
    /// `WINTUN_GET_READ_WAIT_EVENT_FUNC`
    pub(super) read_wait_event: unsafe extern "system" fn(*mut c_void) -> HANDLE,
    /// `WINTUN_RECEIVE_PACKET_FUNC`
    pub(super) receive_packet: unsafe extern "system" fn(*mut c_void, *mut u32) -> *mut u8,
    /// `WINTUN_RELEASE_RECEIVE_PACKET_FUNC`
    pub(super) release_receive_packet: unsafe extern "system" fn(*mut c_void, *const u8),
    /// `WINTUN_ALLOCATE_SEND_PACKET_FUNC`
    pub(super) allocate_send_packet: unsafe extern "system" fn(*mut c_void, u32) -> *mut u8,
    /// `WINTUN_SEND_PACKET_FUNC`
    pub(super) send_packet: unsafe extern "system" fn(*mut c_void, *const u8),
    /// `WINTUN_GET_RUNNING_DRIVER_VERSION_FUNC`
    pub(super) driver_version: unsafe extern "system" fn() -> u32,
}

impl Library {
    /// The library beside the running executable, checked and loaded when it is asked for the first time.
    pub(super) fn installed() -> Result<&'static Self, LibraryError> {
        static LOADED: OnceLock<Library> = OnceLock::new();
        if let Some(library) = LOADED.get() {
            return Ok(library);
        }
        let executable = std::env::current_exe().map_err(|error| LibraryError::Place(error.to_string()))?;
        let library = load(&pin::beside(&executable)?)?;
        Ok(LOADED.get_or_init(|| library))
    }
}

/// Checks content and signature of this file, then loads it. From the check to the load, the file is open so that nobody
/// can write to it, rename it or delete it; afterwards the mapping does the same.
fn load(path: &Path) -> Result<Library, LibraryError> {
    let processor = std::env::consts::ARCH;
    let expected = pin::digest_for(processor).ok_or(LibraryError::Processor(processor))?;
    let file = OpenOptions::new().read(true).share_mode(FILE_SHARE_READ).open(path);
    let file = file.map_err(|source| LibraryError::Missing { path: path.to_owned(), source })?;
    pin::check(&file, path, expected)?;
    let wide = wide(path);
    verify_signature(&file, path, &wide)?;
    let module = Module::load(path, &wide)?;
    drop(file);
    module.functions(path)
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// Authenticode, without a dialogue and without the network: revocation lists come only from the cache, because while this
/// runs the firewall lets nothing out.
fn verify_signature(file: &File, path: &Path, wide: &[u16]) -> Result<(), LibraryError> {
    let size = |size: usize| u32::try_from(size).unwrap_or_default();
    let mut subject = WINTRUST_FILE_INFO {
        cbStruct: size(size_of::<WINTRUST_FILE_INFO>()),
        pcwszFilePath: wide.as_ptr(),
        hFile: file.as_raw_handle(),
        pgKnownSubject: ptr::null_mut(),
    };
    let mut request = WINTRUST_DATA {
        cbStruct: size(size_of::<WINTRUST_DATA>()),
        dwUIChoice: WTD_UI_NONE,
        fdwRevocationChecks: WTD_REVOKE_NONE,
        dwUnionChoice: WTD_CHOICE_FILE,
        Anonymous: WINTRUST_DATA_0 { pFile: &raw mut subject },
        dwStateAction: WTD_STATEACTION_VERIFY,
        dwProvFlags: WTD_CACHE_ONLY_URL_RETRIEVAL | WTD_DISABLE_MD2_MD4,
        ..WINTRUST_DATA::default()
    };
    let mut action = WINTRUST_ACTION_GENERIC_VERIFY_V2;
    // SAFETY: both structures and what they point to are initialised and live through the call.
    let verdict = unsafe { WinVerifyTrust(INVALID_HANDLE_VALUE, &raw mut action, (&raw mut request).cast()) };
    request.dwStateAction = WTD_STATEACTION_CLOSE;
    // SAFETY: as above; this frees what the first call has kept.
    unsafe { WinVerifyTrust(INVALID_HANDLE_VALUE, &raw mut action, (&raw mut request).cast()) };
    if verdict == 0 { Ok(()) } else { Err(LibraryError::Signature { path: path.to_owned(), code: verdict.cast_unsigned() }) }
}

/// A loaded library, unloaded on drop unless its functions were taken.
struct Module(HMODULE);

impl Module {
    /// By its full path; what it needs itself comes from the system's directory only.
    fn load(path: &Path, wide: &[u16]) -> Result<Self, LibraryError> {
        // SAFETY: `wide` ends with zero and lives through the call.
        let module = unsafe { LoadLibraryExW(wide.as_ptr(), ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32) };
        if module.is_null() {
            return Err(LibraryError::Load { path: path.to_owned(), source: io::Error::last_os_error() });
        }
        Ok(Self(module))
    }

    fn functions(self, path: &Path) -> Result<Library, LibraryError> {
        // SAFETY (each): the type is the one that wintun.h declares for the function of this name.
        let library = Library {
            // SAFETY: WINTUN_CREATE_ADAPTER_FUNC of wintun.h.
            create_adapter: unsafe { self.function(c"WintunCreateAdapter", "WintunCreateAdapter", path) }?,
            // SAFETY: WINTUN_CLOSE_ADAPTER_FUNC of wintun.h.
            close_adapter: unsafe { self.function(c"WintunCloseAdapter", "WintunCloseAdapter", path) }?,
            // SAFETY: WINTUN_GET_ADAPTER_LUID_FUNC of wintun.h.
            adapter_luid: unsafe { self.function(c"WintunGetAdapterLUID", "WintunGetAdapterLUID", path) }?,
            // SAFETY: WINTUN_START_SESSION_FUNC of wintun.h.
            start_session: unsafe { self.function(c"WintunStartSession", "WintunStartSession", path) }?,
            // SAFETY: WINTUN_END_SESSION_FUNC of wintun.h.
            end_session: unsafe { self.function(c"WintunEndSession", "WintunEndSession", path) }?,
            // SAFETY: WINTUN_GET_READ_WAIT_EVENT_FUNC of wintun.h.
            read_wait_event: unsafe { self.function(c"WintunGetReadWaitEvent", "WintunGetReadWaitEvent", path) }?,
            // SAFETY: WINTUN_RECEIVE_PACKET_FUNC of wintun.h.
            receive_packet: unsafe { self.function(c"WintunReceivePacket", "WintunReceivePacket", path) }?,
            // SAFETY: WINTUN_RELEASE_RECEIVE_PACKET_FUNC of wintun.h.
            release_receive_packet: unsafe { self.function(c"WintunReleaseReceivePacket", "WintunReleaseReceivePacket", path) }?,
            // SAFETY: WINTUN_ALLOCATE_SEND_PACKET_FUNC of wintun.h.
            allocate_send_packet: unsafe { self.function(c"WintunAllocateSendPacket", "WintunAllocateSendPacket", path) }?,
            // SAFETY: WINTUN_SEND_PACKET_FUNC of wintun.h.
            send_packet: unsafe { self.function(c"WintunSendPacket", "WintunSendPacket", path) }?,
            // SAFETY: WINTUN_GET_RUNNING_DRIVER_VERSION_FUNC of wintun.h.
            driver_version: unsafe { self.function(c"WintunGetRunningDriverVersion", "WintunGetRunningDriverVersion", path) }?,
        };
        // The functions are used for the life of the process.
        std::mem::forget(self);
        Ok(library)
    }

    /// Finds a function.
    ///
    /// # Safety
    /// `F` is the type of a pointer to the function of this name.
    unsafe fn function<F: Copy>(&self, symbol: &CStr, function: &'static str, path: &Path) -> Result<F, LibraryError> {
        const { assert!(size_of::<F>() == size_of::<usize>(), "a pointer to a function") };
        // SAFETY: the library is loaded and the name ends with zero.
        let found = unsafe { GetProcAddress(self.0, symbol.as_ptr().cast()) };
        let found = found.ok_or_else(|| LibraryError::Function { path: path.to_owned(), function })?;
        // SAFETY: a pointer to a function of the type that the caller vouches for; the sizes were compared.
        Ok(unsafe { std::mem::transmute_copy(&found) })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the library was loaded by `load`, and nothing of it is in use.
        let _: BOOL = unsafe { FreeLibrary(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(pin::FILE);
        let error = load(&path).err().unwrap();
        assert!(matches!(&error, LibraryError::Missing { source, .. } if source.kind() == io::ErrorKind::NotFound), "{error}");
        assert!(error.to_string().contains("wintun.dll is missing: install the program again"), "{error}");
    }

    #[test]
    fn a_tampered_library_is_refused_before_it_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(pin::FILE);
        // A library of the system, which would load.
        let system = std::env::var_os("SystemRoot").unwrap();
        std::fs::copy(Path::new(&system).join("System32").join("kernel32.dll"), &path).unwrap();
        let error = load(&path).err().unwrap();
        assert!(matches!(error, LibraryError::Changed { .. }), "{error}");
        assert!(error.to_string().contains("is not the wintun.dll that belongs to this program"), "{error}");
    }

    #[test]
    fn an_unsigned_file_fails_the_signature() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(pin::FILE);
        std::fs::write(&path, "no program").unwrap();
        let error = verify_signature(&File::open(&path).unwrap(), &path, &wide(&path)).err().unwrap();
        assert!(matches!(error, LibraryError::Signature { code, .. } if code != 0), "{error}");
    }

    /// Where Wine is, the signature may be refused: it does not know every algorithm.
    #[test]
    #[ignore = "HAMN_WINTUN names the published library"]
    fn the_published_library_has_the_pinned_content() {
        let path = std::env::var_os("HAMN_WINTUN").unwrap();
        match load(Path::new(&path)) {
            Ok(_) | Err(LibraryError::Signature { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_ring_is_one_that_the_driver_takes() {
        let bytes = super::super::adapter::RING_BYTES;
        assert!((wintun::MIN_RING_CAPACITY..=wintun::MAX_RING_CAPACITY).contains(&bytes) && bytes.is_power_of_two());
    }
}
