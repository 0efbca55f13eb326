//! What the helper must know of the computer, on Windows.
#![expect(
    unsafe_code,
    reason = "known folders, clocks and the protection of the process have no safe wrapper in the crates we use"
)]

#[path = "windows/security.rs"]
pub(crate) mod security;

use crate::store::directory;
use anyhow::Context;
use hamn_core::time::Now;
use std::ffi::{OsStr, OsString, c_void};
use std::io;
use std::net::IpAddr;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::io::AsRawSocket;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::time::SystemTime;
use windows_registry::LOCAL_MACHINE;
use windows_sys::Win32::Foundation::ERROR_BUFFER_OVERFLOW;
use windows_sys::Win32::NetworkManagement::IpHelper::{FIXED_INFO_W2KSP1, GetNetworkParams};
use windows_sys::Win32::Networking::WinSock::{
    IP_UNICAST_IF, IPPROTO_IP, IPPROTO_IPV6, IPV6_UNICAST_IF, SOCKET_ERROR, WSAGetLastError, setsockopt,
};
use windows_sys::Win32::System::Com::CoTaskMemFree;
use windows_sys::Win32::System::Diagnostics::Debug::{SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX, SetErrorMode};
use windows_sys::Win32::System::LibraryLoader::{LOAD_LIBRARY_SEARCH_SYSTEM32, SetDefaultDllDirectories};
use windows_sys::Win32::System::SystemInformation::{ComputerNamePhysicalDnsHostname, GetComputerNameExW, GetTickCount64};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, PROCESS_MITIGATION_POLICY, ProcessDynamicCodePolicy, ProcessExtensionPointDisablePolicy,
    ProcessImageLoadPolicy, SetProcessMitigationPolicy, TerminateProcess,
};
use windows_sys::Win32::UI::Shell::{FOLDERID_ProgramData, SHGetKnownFolderPath};

/// Text as Windows takes it: UTF-16 with a zero at the end.
pub(crate) struct Wide(Vec<u16>);

impl Wide {
    pub(crate) fn new(text: impl AsRef<OsStr>) -> Self {
        Self(text.as_ref().encode_wide().chain([0]).collect())
    }

    /// Where it stands, as long as this value lives.
    pub(crate) const fn as_ptr(&self) -> *const u16 {
        self.0.as_ptr()
    }
}

/// Longest text that is taken from the system, in characters.
const LONGEST_TEXT: usize = 32_768;

/// A copy of a text of the system's.
///
/// # Safety
/// `start` points to UTF-16 that ends with a zero, or is null.
pub(crate) unsafe fn text_at(start: *const u16) -> String {
    if start.is_null() {
        return String::new();
    }
    let mut characters = Vec::new();
    for index in 0..LONGEST_TEXT {
        // SAFETY: no character before this one was the zero at the end.
        let at = unsafe { start.add(index) };
        // SAFETY: as above, so this is one of the text.
        match unsafe { at.read() } {
            0 => break,
            character => characters.push(character),
        }
    }
    OsString::from_wide(&characters).to_string_lossy().into_owned()
}

/// `%ProgramData%\Hamn`, as the system knows the folder and not as an environment says (`SHGetKnownFolderPath`).
fn program_data() -> PathBuf {
    let (folder, mut found) = (FOLDERID_ProgramData, null_mut());
    // SAFETY: the folder's id lives through the call, no token means this account, and `found` takes the text.
    let result = unsafe { SHGetKnownFolderPath(&raw const folder, 0, null_mut(), &raw mut found) };
    // SAFETY: a text that ends with a zero, or null.
    let text = unsafe { text_at(found) };
    // SAFETY: the call says to free it so, whatever its result.
    unsafe { CoTaskMemFree(found.cast()) };
    let folder = if result == 0 && !text.is_empty() { text } else { "C:\\ProgramData".to_owned() };
    PathBuf::from(folder).join("Hamn")
}

/// Settings, intent, secrets and caches; closed to all but administrators, and everything else lies in it.
#[must_use]
pub fn state_dir() -> PathBuf {
    program_data()
}

/// What the disk of the state directory would not take. No directory of Windows is emptied at the next boot; an intent in it
/// is newer than the saved one for as long as it exists, so it is right then as well.
#[must_use]
pub fn runtime_dir() -> PathBuf {
    program_data().join("run")
}

/// The administrator's files, beside the policies in the registry.
#[must_use]
pub fn policy_dir() -> PathBuf {
    program_data().join("etc")
}

/// Where the local API listens: a pipe; `HAMN_SOCKET` names another one. The environment of a service belongs to
/// administrators.
#[must_use]
pub fn api_address(_runtime_dir: &Path) -> PathBuf {
    let named = std::env::var_os("HAMN_SOCKET").filter(|name| !name.is_empty());
    named.map_or_else(|| PathBuf::from(hamn_ipc::DEFAULT_SOCKET), PathBuf::from)
}

/// How it is started.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Run in this console instead of under the service manager: for tests.
    #[arg(long)]
    pub foreground: bool,
    /// Run under the service manager, which is also what happens without it: what the service is registered with.
    #[arg(long, conflicts_with = "foreground")]
    pub service: bool,
    /// The same as `install-service`, as an option for installers.
    #[arg(long)]
    pub configure_service: bool,
    /// What to do instead of running.
    #[command(subcommand)]
    pub maintenance: Option<Maintenance>,
}

/// What the installers ask for. Doing it twice is as good as once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Maintenance {
    /// Register this program as the service, with its recovery actions, privileges and event source.
    InstallService,
    /// Stop and remove the service. Rules that are in force stay: `--restore-network` takes them away.
    UninstallService,
}

/// Before anything else: libraries come from the system's directory alone.
///
/// # Errors
/// Others than administrators could put another program in the place of this one.
pub fn begin() -> anyhow::Result<()> {
    // SAFETY: the call takes a constant.
    unsafe { SetDefaultDllDirectories(LOAD_LIBRARY_SEARCH_SYSTEM32) };
    let program = std::env::current_exe().context("find this program")?;
    let directory = program.parent().context("find this program's directory")?;
    directory::is_readable(directory)
}

/// No report of a crash with our memory in it (G14), no foreign code in this process ("Process mitigation policies" at
/// learn.microsoft.com; an older Windows that does not know one refuses it).
pub fn keep_memory_private() {
    // SAFETY: the call takes constants.
    unsafe { SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX) };
    // Each of these structures is one field of flags: DisableExtensionPoints; NoRemoteImages, NoLowMandatoryLabelImages and
    // PreferSystem32Images; ProhibitDynamicCode.
    let policies: [(&str, PROCESS_MITIGATION_POLICY, u32); 3] = [
        ("extension points", ProcessExtensionPointDisablePolicy, 0b1),
        ("images from elsewhere", ProcessImageLoadPolicy, 0b111),
        ("generated code", ProcessDynamicCodePolicy, 0b1),
    ];
    for (what, policy, flags) in policies {
        // SAFETY: the pointer and the length are those of `flags`.
        let done = unsafe { SetProcessMitigationPolicy(policy, (&raw const flags).cast::<c_void>(), size_of::<u32>()) };
        if done == 0 {
            tracing::warn!(error = %io::Error::last_os_error(), "{what} could not be forbidden");
        }
    }
}

/// Ends this process now, without cleaning up: the service manager starts it again (`TerminateProcess`).
pub fn end_at_once() {
    // SAFETY: the pseudo handle of this process needs no closing.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the handle is this process's own.
    unsafe { TerminateProcess(process, 1) };
}

/// Now: `GetTickCount64` counts "the time the system spends in sleep or hibernation" as well (learn.microsoft.com, "Acquiring
/// high-resolution time stamps").
#[must_use]
pub fn now() -> Now {
    // SAFETY: the call takes nothing and touches no memory of ours.
    let monotonic_ms = unsafe { GetTickCount64() };
    let unix_s = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX).saturating_neg(),
    };
    Now { monotonic_ms, unix_s }
}

/// The name of this computer (`GetComputerNameExW`); empty when the system tells none.
#[must_use]
pub fn name() -> String {
    // A DNS label has 63 characters at most.
    let mut buffer = [0_u16; 256];
    let mut length = 255;
    // SAFETY: the buffer has room for `length` characters and the zero after them.
    let done = unsafe { GetComputerNameExW(ComputerNamePhysicalDnsHostname, buffer.as_mut_ptr(), &raw mut length) };
    let length = if done == 0 { 0 } else { usize::try_from(length).unwrap_or(0) };
    buffer.get(..length).map(String::from_utf16_lossy).unwrap_or_default()
}

/// Edition, version and build of the system, as the registry has them.
#[must_use]
pub fn system() -> String {
    let Ok(key) = LOCAL_MACHINE.open("SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion") else {
        return "unknown Windows".to_owned();
    };
    let text = |name: &str| key.get_string(name).unwrap_or_default();
    format!("{} {}, kernel build {}", text("ProductName"), text("DisplayVersion"), text("CurrentBuild"))
}

/// A resolver that programs of this system ask: the first of the list that the system keeps (`GetNetworkParams`).
#[must_use]
pub fn resolver() -> Option<IpAddr> {
    let mut size = 0;
    // SAFETY: without a buffer the call says how large it must be.
    if unsafe { GetNetworkParams(null_mut(), &raw mut size) } != ERROR_BUFFER_OVERFLOW {
        return None;
    }
    let words = usize::try_from(size).ok()?.max(size_of::<FIXED_INFO_W2KSP1>()).div_ceil(8);
    let mut buffer = vec![0_u64; words];
    let mut size = u32::try_from(words.saturating_mul(8)).ok()?;
    // SAFETY: the buffer is aligned and has `size` bytes.
    if unsafe { GetNetworkParams(buffer.as_mut_ptr().cast(), &raw mut size) } != 0 {
        return None;
    }
    // SAFETY: the call has put this structure at the beginning of the buffer.
    let information = unsafe { buffer.as_ptr().cast::<FIXED_INFO_W2KSP1>().read() };
    let text = information.DnsServerList.IpAddress.String.map(i8::cast_unsigned);
    let end = text.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(text.get(..end)?).ok()?.parse().ok()
}

/// The filters know our sockets by this program and its service SID; the routes are passed by tying the socket to the
/// interface that leads out.
///
/// # Errors
/// The interface has gone.
pub fn mark_as_ours(socket: &socket2::Socket) -> io::Result<()> {
    let mut refused = None;
    for ipv4 in [true, false] {
        // A socket does not say of which family it is before it is bound; the option of the other one is refused.
        match crate::outer::last_interface(ipv4).map(|index| bind_to_interface(socket, index, ipv4)) {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => refused = Some(error),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// Packets of this socket leave by this interface alone: `IP_UNICAST_IF`, which takes the index in network byte order, and
/// `IPV6_UNICAST_IF`, which takes it in the computer's ("IPPROTO_IP socket options" at learn.microsoft.com).
pub(crate) fn bind_to_interface(socket: &socket2::Socket, index: u32, ipv4: bool) -> io::Result<()> {
    let (level, option, value) = if ipv4 {
        (IPPROTO_IP, IP_UNICAST_IF, index.to_be_bytes())
    } else {
        (IPPROTO_IPV6, IPV6_UNICAST_IF, index.to_ne_bytes())
    };
    let handle = usize::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    let length = i32::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the socket is open, and pointer and length are those of `value`.
    if unsafe { setsockopt(handle, level, option, value.as_ptr(), length) } != SOCKET_ERROR {
        return Ok(());
    }
    // SAFETY: the call takes nothing.
    Err(io::Error::from_raw_os_error(unsafe { WSAGetLastError() }))
}
