//! Sockets bound to an interface, on Windows, of a thread without our service SID: the filters let pass who has it, so a
//! socket of the service's proves nothing. What the filters block gives WSAEACCES ("Application Layer Enforcement (ALE)" at
//! learn.microsoft.com: a blocked authorisation fails the call with it).
#![expect(unsafe_code, reason = "restricted tokens and the table of interfaces have no safe wrapper")]

use super::{DATAGRAM, Fate};
use crate::host::security::own_token;
use crate::host::{Wide, bind_to_interface, text_at};
use crate::service::plan::ACCOUNT;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    FreeMibTable, GetIfTable2, IF_TYPE_SOFTWARE_LOOPBACK, MIB_IF_ROW2, MIB_IF_TABLE2,
};
use windows_sys::Win32::NetworkManagement::Ndis::IfOperStatusUp;
use windows_sys::Win32::Networking::WinSock::{
    WSAEACCES, WSAEADDRNOTAVAIL, WSAECANCELLED, WSAEHOSTUNREACH, WSAENETDOWN, WSAENETUNREACH,
};
use windows_sys::Win32::Security::{
    CreateRestrictedToken, DISABLE_MAX_PRIVILEGE, ImpersonateLoggedOnUser, LookupAccountNameW, RevertToSelf, SID_AND_ATTRIBUTES,
    TOKEN_ASSIGN_PRIMARY, TOKEN_DUPLICATE, TOKEN_IMPERSONATE, TOKEN_QUERY,
};

/// An error of Windows, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// In words.
    #[must_use]
    pub fn desc(self) -> String {
        io::Error::from_raw_os_error(self.0).to_string()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc())
    }
}

/// What stands for a probe that did not run at all.
pub const NOT_RUN: Errno = Errno(WSAECANCELLED);
/// More interfaces than any computer has.
const MOST_INTERFACES: usize = 4_096;
/// Bit of `InterfaceAndOperStatusFlags`: a filter of a driver on top of an interface, not one itself (`MIB_IF_ROW2`).
const FILTER_INTERFACE: u8 = 1 << 1;
/// A SID has 68 bytes at most (`SECURITY_MAX_SID_SIZE`).
const SID_SIZE: usize = 68;

/// The table of interfaces, given back when dropped.
struct Interfaces(*mut MIB_IF_TABLE2);

impl Drop for Interfaces {
    fn drop(&mut self) {
        // SAFETY: the table came from GetIfTable2 and is freed once.
        unsafe { FreeMibTable(self.0.cast()) };
    }
}

/// Physical interfaces that are up, by name and index: everything but loopback, the tunnel and filters on other interfaces
/// (`GetIfTable2`).
///
/// # Errors
/// The interfaces cannot be listed.
pub fn physical_interfaces() -> Result<BTreeMap<String, u32>, Errno> {
    let mut table = null_mut();
    // SAFETY: `table` takes the pointer.
    let result = unsafe { GetIfTable2(&raw mut table) };
    if result != 0 {
        return Err(Errno(result.cast_signed()));
    }
    let table = Interfaces(table);
    // SAFETY: the call has filled the table.
    let count = usize::try_from(unsafe { (*table.0).NumEntries }).unwrap_or(0).min(MOST_INTERFACES);
    // SAFETY: the rows begin here.
    let first: *const MIB_IF_ROW2 = unsafe { (&raw const (*table.0).Table).cast() };
    // SAFETY: the table has so many rows, one after the other, and lives longer than the slice.
    let rows = unsafe { std::slice::from_raw_parts(first, count) };
    let physical = rows.iter().filter(|row| {
        row.OperStatus == IfOperStatusUp
            && row.Type != IF_TYPE_SOFTWARE_LOOPBACK
            && row.InterfaceAndOperStatusFlags._bitfield & FILTER_INTERFACE == 0
    });
    // SAFETY: the alias is text that ends with a zero.
    let named = physical.map(|row| (unsafe { text_at(row.Alias.as_ptr()) }, row.InterfaceIndex));
    Ok(named.filter(|(name, _)| name != hamn_core::net::TUNNEL_INTERFACE).collect())
}

/// Runs the probes without our service SID and without privileges (`CreateRestrictedToken`, `ImpersonateLoggedOnUser`). A
/// helper that was started by hand has no such SID and is anybody already.
///
/// # Errors
/// The thread keeps its identity.
pub(super) fn as_anybody<T>(work: impl FnOnce() -> T) -> Result<T, Errno> {
    let Some(service) = service_sid() else { return Ok(work()) };
    let token = restricted(&service).map_err(|error| number(&error))?;
    // SAFETY: the token is open.
    if unsafe { ImpersonateLoggedOnUser(token.as_raw_handle()) } == 0 {
        return Err(number(&io::Error::last_os_error()));
    }
    let done = work();
    // SAFETY: the call takes nothing.
    if unsafe { RevertToSelf() } == 0 {
        tracing::warn!(error = %io::Error::last_os_error(), "a thread could not become the service's again");
    }
    Ok(done)
}

/// The SID of the service's account, when the service is installed (`LookupAccountNameW`).
fn service_sid() -> Option<Vec<u32>> {
    let name = Wide::new(ACCOUNT);
    let (mut sid, mut domain) = (vec![0_u32; SID_SIZE / 4], [0_u16; 256]);
    let (mut size, mut domain_size, mut kind) = (u32::try_from(SID_SIZE).ok()?, 256, 0);
    // SAFETY: the name ends with a zero, and both buffers have the sizes that are given.
    let found = unsafe {
        LookupAccountNameW(
            null(),
            name.as_ptr(),
            sid.as_mut_ptr().cast(),
            &raw mut size,
            domain.as_mut_ptr(),
            &raw mut domain_size,
            &raw mut kind,
        )
    };
    (found != 0).then_some(sid)
}

/// This process's token, in which that SID only forbids and no privilege is left.
fn restricted(service: &[u32]) -> io::Result<OwnedHandle> {
    let own = own_token(TOKEN_DUPLICATE | TOKEN_QUERY | TOKEN_IMPERSONATE | TOKEN_ASSIGN_PRIMARY)?;
    let forbidden = SID_AND_ATTRIBUTES { Sid: service.as_ptr().cast_mut().cast(), Attributes: 0 };
    let mut made = null_mut();
    // SAFETY: one SID is given, which lives through the call, and `made` takes the handle.
    let done = unsafe {
        CreateRestrictedToken(
            own.as_raw_handle(),
            DISABLE_MAX_PRIVILEGE,
            1,
            &raw const forbidden,
            0,
            null(),
            0,
            null(),
            &raw mut made,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is ours alone and open.
    Ok(unsafe { OwnedHandle::from_raw_handle(made) })
}

pub(super) fn send_from(_interface: &str, index: u32, target: SocketAddr) -> Fate {
    let socket = match open(index, target) {
        Ok(socket) => socket,
        Err(error) => return Fate::Failed(number(&error)),
    };
    match socket.send_to(DATAGRAM, &target.into()).map_err(|error| number(&error)) {
        Ok(_) => Fate::Left,
        Err(Errno(WSAEACCES)) => Fate::Stopped,
        Err(error @ Errno(WSAENETUNREACH | WSAEHOSTUNREACH | WSAEADDRNOTAVAIL | WSAENETDOWN)) => Fate::NoRoute(error),
        Err(error) => Fate::Failed(error),
    }
}

fn open(index: u32, target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    bind_to_interface(&socket, index, target.is_ipv4())?;
    Ok(socket)
}

fn number(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(NOT_RUN, Errno)
}
