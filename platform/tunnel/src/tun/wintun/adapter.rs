//! The adapter and its ring of packets (`wintun.h`; learn.microsoft.com: ConvertInterfaceAliasToLuid,
//! ConvertInterfaceLuidToGuid, WaitForMultipleObjects).
#![expect(unsafe_code, reason = "the library's functions are foreign")]

use super::library::Library;
use crate::error::TunnelError;
use crate::tun::settings::Settings;
use hamn_core::net::{InterfaceName, TUNNEL_ADAPTER_GUID};
use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::Notify;
use windows_sys::Win32::Foundation::{
    ERROR_BUFFER_OVERFLOW, ERROR_HANDLE_EOF, ERROR_INVALID_DATA, ERROR_NO_MORE_ITEMS, HANDLE, WAIT_OBJECT_0,
};
use windows_sys::Win32::NetworkManagement::IpHelper::{ConvertInterfaceAliasToLuid, ConvertInterfaceLuidToGuid};
use windows_sys::Win32::NetworkManagement::Ndis::NET_LUID_LH;
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects};
use windows_sys::core::GUID;

/// Bytes of each of the two rings: some 5000 full packets, which is 50 ms at 1.2 Gbit/s.
pub(super) const RING_BYTES: u32 = 8 << 20;
/// The kind of adapter, as Windows shows it.
const KIND: &str = "Hamn";

/// A handle of the library. It names a structure that the library guards by itself.
#[derive(Clone, Copy)]
struct Handle(NonNull<c_void>);

// SAFETY: wintun.h allows the use of a handle from every thread.
unsafe impl Send for Handle {}
// SAFETY: as above; the functions that several threads may call at once are said to be thread-safe, and only those are
// called through a shared reference.
unsafe impl Sync for Handle {}

/// An adapter, removed on drop, with its session.
pub(crate) struct Adapter {
    library: &'static Library,
    adapter: Handle,
}

impl Adapter {
    /// Creates the adapter of this name with the fixed GUID and sets MTU, metrics and addresses. Takes up to some seconds
    /// when the driver is installed for the first time.
    ///
    /// # Errors
    /// [`TunnelError::InterfaceExists`] if another adapter has the name, whoever made it (TAMPER-04).
    pub(crate) fn create(name: &InterfaceName, settings: &Settings) -> Result<Self, TunnelError> {
        let failed = |source: io::Error| TunnelError::Device { name: name.clone(), source };
        let library = Library::installed().map_err(|error| failed(io::Error::other(error)))?;
        let guid = GUID::from_u128(TUNNEL_ADAPTER_GUID);
        let alias = wide(name.as_str());
        // One with our GUID is the rest of a process that died; the library replaces it.
        if owner_of(&alias).is_some_and(|owner| !same(&owner, &guid)) {
            return Err(TunnelError::InterfaceExists(name.clone()));
        }
        let kind = wide(KIND);
        // SAFETY: both texts end with zero, and they and the GUID live through the call.
        let adapter = unsafe { (library.create_adapter)(alias.as_ptr(), kind.as_ptr(), &raw const guid) };
        let adapter = NonNull::new(adapter).ok_or_else(|| failed(io::Error::last_os_error()))?;
        let adapter = Self { library, adapter: Handle(adapter) };
        // The firewall admits the tunnel by this name; the library takes another one where it is in use.
        if !owner_of(&alias).is_some_and(|owner| same(&owner, &guid)) {
            return Err(TunnelError::InterfaceExists(name.clone()));
        }
        // SAFETY: takes nothing.
        let version = unsafe { (library.driver_version)() };
        tracing::debug!(major = version >> 16, minor = version & 0xffff, "the driver of Wintun");
        super::interface::configure(name, adapter.luid(), settings)?;
        Ok(adapter)
    }

    fn luid(&self) -> NET_LUID_LH {
        let mut luid = NET_LUID_LH::default();
        // SAFETY: the adapter is open and `luid` is writable.
        unsafe { (self.library.adapter_luid)(self.adapter.0.as_ptr(), &raw mut luid) };
        luid
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        // SAFETY: the adapter is open, its session has ended, and nobody else has the handle.
        unsafe { (self.library.close_adapter)(self.adapter.0.as_ptr()) };
    }
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// The GUID of the interface that has this alias.
fn owner_of(alias: &[u16]) -> Option<GUID> {
    let (mut luid, mut guid) = (NET_LUID_LH::default(), GUID::from_u128(0));
    // SAFETY: the alias ends with zero, and `luid` is writable.
    let found = unsafe { ConvertInterfaceAliasToLuid(alias.as_ptr(), &raw mut luid) };
    if found != 0 {
        return None;
    }
    // SAFETY: both are valid through the call.
    let found = unsafe { ConvertInterfaceLuidToGuid(&raw const luid, &raw mut guid) };
    (found == 0).then_some(guid)
}

fn same(one: &GUID, other: &GUID) -> bool {
    (one.data1, one.data2, one.data3, one.data4) == (other.data1, other.data2, other.data3, other.data4)
}

/// The rings of an adapter, and a thread that says when there is something to read. Dropping it removes the adapter.
pub(crate) struct Session {
    session: Handle,
    library: &'static Library,
    /// Rung by the thread.
    readable: Arc<Notify>,
    stop: Arc<OwnedHandle>,
    waiter: Option<JoinHandle<()>>,
    // Dropped after the session has ended.
    _adapter: Adapter,
}

impl Session {
    pub(crate) fn start(adapter: Adapter) -> io::Result<Self> {
        let library = adapter.library;
        let stop = Arc::new(event()?);
        // SAFETY: the adapter is open and has no session.
        let session = unsafe { (library.start_session)(adapter.adapter.0.as_ptr(), RING_BYTES) };
        let session = Handle(NonNull::new(session).ok_or_else(io::Error::last_os_error)?);
        let readable = Arc::new(Notify::new());
        let mut this = Self { session, library, readable, stop, waiter: None, _adapter: adapter };
        // SAFETY: the session was just started.
        let ready = unsafe { (library.read_wait_event)(session.0.as_ptr()) };
        let ready = Handle(NonNull::new(ready).ok_or_else(io::Error::last_os_error)?);
        let (rings, stop) = (Arc::clone(&this.readable), Arc::clone(&this.stop));
        let waiter = std::thread::Builder::new().name("wintun".to_owned());
        this.waiter = Some(waiter.spawn(move || wait(ready, &stop, &rings))?);
        Ok(this)
    }

    /// Waits until there may be something to read.
    pub(crate) async fn readable(&self) {
        self.readable.notified().await;
    }

    /// Copies the next packet and says its length; 0 if there is no room for it. `WouldBlock` if there is none.
    pub(crate) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        // SAFETY: the session has not ended, and `length` is writable.
        let packet = unsafe { (self.library.receive_packet)(self.session.0.as_ptr(), &raw mut length) };
        let Some(packet) = NonNull::new(packet) else { return Err(read_error(io::Error::last_os_error())) };
        let length = usize::try_from(length).unwrap_or_default();
        let copied = room.get_mut(..length).map_or(0, |room| {
            // SAFETY: the library gave this packet of this length, and nobody else has it until it is released.
            let packet = unsafe { std::slice::from_raw_parts(packet.as_ptr(), length) };
            room.copy_from_slice(packet);
            length
        });
        // SAFETY: the packet came from this session and was not released.
        unsafe { (self.library.release_receive_packet)(self.session.0.as_ptr(), packet.as_ptr()) };
        Ok(copied)
    }

    /// Hands a packet to the system. Where the ring is full, it is dropped, as on any interface that is overrun.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<()> {
        // WINTUN_MAX_IP_PACKET_SIZE is 0xffff.
        let Some(length) = u16::try_from(packet.len()).ok().filter(|length| *length > 0) else { return Ok(()) };
        // SAFETY: the session has not ended, and the length is at most WINTUN_MAX_IP_PACKET_SIZE.
        let place = unsafe { (self.library.allocate_send_packet)(self.session.0.as_ptr(), length.into()) };
        let Some(place) = NonNull::new(place) else {
            let error = io::Error::last_os_error();
            return if is_code(&error, ERROR_BUFFER_OVERFLOW) { Ok(()) } else { Err(error) };
        };
        // SAFETY: the library gave room for exactly this many bytes, which is its own memory.
        unsafe { ptr::copy_nonoverlapping(packet.as_ptr(), place.as_ptr(), packet.len()) };
        // SAFETY: the room came from this session and was filled.
        unsafe { (self.library.send_packet)(self.session.0.as_ptr(), place.as_ptr()) };
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the event is open. A failure would be a handle that is not ours, which cannot be.
        unsafe { SetEvent(self.stop.as_raw_handle()) };
        if let Some(waiter) = self.waiter.take() {
            // It waits for the session's event, so it ends before the session does. It does not panic.
            let _ = waiter.join();
        }
        // SAFETY: the session was started, nobody else has it, and all packets were released.
        unsafe { (self.library.end_session)(self.session.0.as_ptr()) };
    }
}

/// Rings whenever the session's event is signalled; ends with the other event.
fn wait(ready: Handle, stop: &OwnedHandle, rings: &Notify) {
    let events: [HANDLE; 2] = [stop.as_raw_handle(), ready.0.as_ptr()];
    let second = WAIT_OBJECT_0.saturating_add(1);
    loop {
        // SAFETY: both events are open as long as this thread runs: the session waits for it before it ends.
        let woken = unsafe { WaitForMultipleObjects(2, events.as_ptr(), 0, INFINITE) };
        if woken != second {
            return;
        }
        rings.notify_one();
    }
}

/// An event that stays signalled.
fn event() -> io::Result<OwnedHandle> {
    // SAFETY: no attributes, no name.
    let event = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
    if event.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle is open, and nobody else has it.
    Ok(unsafe { OwnedHandle::from_raw_handle(event) })
}

fn read_error(error: io::Error) -> io::Error {
    if is_code(&error, ERROR_NO_MORE_ITEMS) { io::ErrorKind::WouldBlock.into() } else { error }
}

fn is_code(error: &io::Error, code: u32) -> bool {
    error.raw_os_error().map(i32::cast_unsigned) == Some(code)
}

/// The adapter is going away, or its ring is damaged.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    is_code(error, ERROR_HANDLE_EOF) || is_code(error, ERROR_INVALID_DATA)
}
