//! Windows: links, addresses and routes from the IP helper, and hearing of changes to them and of sleep (learn.microsoft.com,
//! "IP Helper", functions of `netioapi.h`; `PowerRegisterSuspendResumeNotification`).
#![expect(unsafe_code, reason = "the system is reached by calls of iphlpapi.dll and powrprof.dll")]

use super::bell::Bell;
use super::facts::{AddressView, HostView, LinkView, RouteView};
use crate::keeper::host::{Ears, Host};
use hamn_core::net::{InterfaceName, TUNNEL_INTERFACE};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::net::IpAddr;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::Duration;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::NetworkManagement::IpHelper as ip;
use windows_sys::Win32::NetworkManagement::Ndis::{IfOperStatusUp, MediaConnectStateDisconnected, NET_LUID_LH};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, AF_UNSPEC, IN_ADDR, IN_ADDR_0, IN6_ADDR, IN6_ADDR_0, IpDadStateDeprecated, IpDadStatePreferred,
    MIB_IPPROTO_LOCAL, SOCKADDR_IN, SOCKADDR_IN6, SOCKADDR_INET,
};
use windows_sys::Win32::System::Power::{
    DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS, PowerRegisterSuspendResumeNotification, PowerUnregisterSuspendResumeNotification,
};
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::Win32::System::WindowsProgramming::QueryUnbiasedInterruptTime;
use windows_sys::Win32::UI::WindowsAndMessaging::DEVICE_NOTIFY_CALLBACK;

/// When nothing rings: for a notice that was missed.
const EVERY: Duration = Duration::from_secs(30);
/// The same where waking up does not ring.
const EVERY_WITHOUT_POWER: Duration = Duration::from_secs(5);
/// A computer has fewer of each; a table that says otherwise is not believed.
const ROWS_LIMIT: usize = 1 << 20;
/// Bit of `InterfaceAndOperStatusFlags`: a filter driver's shadow of another interface.
const FILTER_INTERFACE: u8 = 2;

/// A result code as a `Result`.
pub(crate) fn status(code: u32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(i32::try_from(code).unwrap_or(i32::MAX))) }
}

/// Reads everything once (`GetIfTable2`, `GetUnicastIpAddressTable`, `GetIpForwardTable2`).
///
/// # Errors
/// The system refuses one of them.
pub fn read() -> io::Result<HostView> {
    let metrics = interface_metrics();
    let links = links()?;
    let addresses = addresses()?.rows().iter().filter_map(address).collect();
    let routes = forward_table()?.rows().iter().filter_map(|row| route(row, &metrics)).collect();
    Ok(HostView { links, addresses, routes })
}

/// Index of the physical interface by which a packet to this address leaves outside the tunnel. Our own sockets are bound to
/// it (`IP_UNICAST_IF`, `IPV6_UNICAST_IF`), because the default route leads into the tunnel.
///
/// # Errors
/// Links or routes cannot be read.
pub fn outer_interface(to: IpAddr) -> io::Result<Option<u32>> {
    read().map(|view| view.outer_interface_to(TUNNEL_INTERFACE, to))
}

fn links() -> io::Result<Vec<LinkView>> {
    let mut table: *mut ip::MIB_IF_TABLE2 = null_mut();
    // SAFETY: the table is set on success only.
    let code = unsafe { ip::GetIfTable2(&raw mut table) };
    let table = Table::new(table);
    status(code)?;
    Ok(table.rows().iter().filter(|row| row.InterfaceAndOperStatusFlags._bitfield & FILTER_INTERFACE == 0).map(link).collect())
}

fn addresses() -> io::Result<Table<ip::MIB_UNICASTIPADDRESS_TABLE>> {
    let mut table: *mut ip::MIB_UNICASTIPADDRESS_TABLE = null_mut();
    // SAFETY: the table is set on success only.
    let code = unsafe { ip::GetUnicastIpAddressTable(AF_UNSPEC, &raw mut table) };
    let table = Table::new(table);
    status(code).map(|()| table)
}

/// All routes of both families.
pub(crate) fn forward_table() -> io::Result<Table<ip::MIB_IPFORWARD_TABLE2>> {
    let mut table: *mut ip::MIB_IPFORWARD_TABLE2 = null_mut();
    // SAFETY: the table is set on success only.
    let code = unsafe { ip::GetIpForwardTable2(AF_UNSPEC, &raw mut table) };
    let table = Table::new(table);
    status(code).map(|()| table)
}

/// Metric of each interface and family; Windows adds it to that of a route. Empty when it cannot be read, so that the
/// routes' own metrics remain.
fn interface_metrics() -> BTreeMap<(u32, bool), u32> {
    let mut table: *mut ip::MIB_IPINTERFACE_TABLE = null_mut();
    // SAFETY: the table is set on success only.
    let code = unsafe { ip::GetIpInterfaceTable(AF_UNSPEC, &raw mut table) };
    let table = Table::new(table);
    if let Err(error) = status(code) {
        tracing::debug!(%error, "interface metrics cannot be read");
        return BTreeMap::new();
    }
    table.rows().iter().map(|row| ((row.InterfaceIndex, row.Family == AF_INET), row.Metric)).collect()
}

/// The LUID of the interface of this name (`ConvertInterfaceAliasToLuid`); `None` when there is no such interface.
pub(crate) fn luid_of(name: &InterfaceName) -> Option<u64> {
    let alias: Vec<u16> = name.as_str().encode_utf16().chain(std::iter::once(0)).collect();
    let mut luid = NET_LUID_LH::default();
    // SAFETY: the name ends with a zero and the LUID is set on success only.
    let code = unsafe { ip::ConvertInterfaceAliasToLuid(alias.as_ptr(), &raw mut luid) };
    // SAFETY: both members of the union are the same 64 bits.
    let value = unsafe { luid.Value };
    (code == 0).then_some(value)
}

fn link(row: &ip::MIB_IF_ROW2) -> LinkView {
    let alias: Vec<u16> = row.Alias.iter().copied().take_while(|unit| *unit != 0).collect();
    LinkView {
        index: row.InterfaceIndex,
        name: String::from_utf16_lossy(&alias),
        up: row.OperStatus == IfOperStatusUp && row.MediaConnectState != MediaConnectStateDisconnected,
        loopback: row.Type == ip::IF_TYPE_SOFTWARE_LOOPBACK,
    }
}

fn address(row: &ip::MIB_UNICASTIPADDRESS_ROW) -> Option<AddressView> {
    let address = ip_address(&row.Address)?;
    let attached = IpNet::new(address, row.OnLinkPrefixLength).ok()?;
    let usable = row.DadState == IpDadStatePreferred || row.DadState == IpDadStateDeprecated;
    Some(AddressView { interface: row.InterfaceIndex, address, attached, usable })
}

fn route(row: &ip::MIB_IPFORWARD_ROW2, metrics: &BTreeMap<(u32, bool), u32>) -> Option<RouteView> {
    if row.Loopback {
        return None;
    }
    let destination = destination(row)?;
    let of_interface = metrics.get(&(row.InterfaceIndex, destination.addr().is_ipv4())).copied().unwrap_or(0);
    Some(RouteView {
        destination,
        interface: row.InterfaceIndex,
        gateway: ip_address(&row.NextHop).filter(|gateway| !gateway.is_unspecified()),
        metric: row.Metric.saturating_add(of_interface),
        from_address: row.Protocol == MIB_IPPROTO_LOCAL,
    })
}

/// The destination prefix of a route.
pub(crate) fn destination(row: &ip::MIB_IPFORWARD_ROW2) -> Option<IpNet> {
    let address = ip_address(&row.DestinationPrefix.Prefix)?;
    IpNet::new(address, row.DestinationPrefix.PrefixLength).ok().map(|net| net.trunc())
}

/// An address of either family; `None` when it is of neither.
fn ip_address(address: &SOCKADDR_INET) -> Option<IpAddr> {
    // SAFETY: every member of the union begins with the family.
    match unsafe { address.si_family } {
        AF_INET => {
            // SAFETY: the family says which member is set.
            let v4 = unsafe { address.Ipv4 };
            // SAFETY: all members of this union are the same four bytes.
            let bytes = unsafe { v4.sin_addr.S_un.S_addr };
            Some(IpAddr::from(bytes.to_ne_bytes()))
        }
        AF_INET6 => {
            // SAFETY: the family says which member is set.
            let v6 = unsafe { address.Ipv6 };
            // SAFETY: both members of this union are the same sixteen bytes.
            Some(IpAddr::from(unsafe { v6.sin6_addr.u.Byte }))
        }
        _ => None,
    }
}

/// An address as the system takes it, without port.
pub(crate) fn socket_address(address: IpAddr) -> SOCKADDR_INET {
    match address {
        IpAddr::V4(v4) => {
            let sin_addr = IN_ADDR { S_un: IN_ADDR_0 { S_addr: u32::from_ne_bytes(v4.octets()) } };
            SOCKADDR_INET { Ipv4: SOCKADDR_IN { sin_family: AF_INET, sin_addr, ..Default::default() } }
        }
        IpAddr::V6(v6) => {
            let sin6_addr = IN6_ADDR { u: IN6_ADDR_0 { Byte: v6.octets() } };
            SOCKADDR_INET { Ipv6: SOCKADDR_IN6 { sin6_family: AF_INET6, sin6_addr, ..Default::default() } }
        }
    }
}

/// A table that the system allocated; given back when dropped (`FreeMibTable`).
pub(crate) struct Table<T>(Option<NonNull<T>>);

/// A table of the IP helper: a count, then that many rows.
pub(crate) trait Rows {
    type Row;
    /// The first row and how many there are.
    fn extent(&self) -> (*const Self::Row, u32);
}

macro_rules! rows {
    ($($table:ident of $row:ident),+) => {
        $(impl Rows for ip::$table {
            type Row = ip::$row;
            fn extent(&self) -> (*const ip::$row, u32) {
                (self.Table.as_ptr(), self.NumEntries)
            }
        })+
    };
}

rows!(
    MIB_IF_TABLE2 of MIB_IF_ROW2,
    MIB_UNICASTIPADDRESS_TABLE of MIB_UNICASTIPADDRESS_ROW,
    MIB_IPFORWARD_TABLE2 of MIB_IPFORWARD_ROW2,
    MIB_IPINTERFACE_TABLE of MIB_IPINTERFACE_ROW
);

impl<T> Table<T> {
    const fn new(pointer: *mut T) -> Self {
        Self(NonNull::new(pointer))
    }
}

impl<T: Rows> Table<T> {
    /// The rows; none when the call failed.
    pub(crate) fn rows(&self) -> &[T::Row] {
        // SAFETY: the system returned one initialised table, which lives until it is given back.
        let Some(table) = self.0.map(|pointer| unsafe { pointer.as_ref() }) else { return &[] };
        let (first, count) = table.extent();
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 || count > ROWS_LIMIT {
            return &[];
        }
        // SAFETY: the table says how many rows follow its count, in the same memory.
        unsafe { std::slice::from_raw_parts(first, count) }
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        if let Some(pointer) = self.0 {
            // SAFETY: the system allocated it and it is given back once.
            unsafe { ip::FreeMibTable(pointer.as_ptr().cast()) };
        }
    }
}

/// Rings a bell when links, addresses or routes change, and when the computer wakes; until it is dropped.
pub struct Notices {
    handles: Vec<HANDLE>,
    power: Option<Power>,
    // The callbacks hold a pointer to it.
    _bell: Arc<Bell>,
}

// SAFETY: the handles may be cancelled from any thread.
unsafe impl Send for Notices {}

impl Notices {
    /// Subscribes (`NotifyIpInterfaceChange`, `NotifyRouteChange2`, `NotifyUnicastIpAddressChange`). Read everything once
    /// after this.
    ///
    /// # Errors
    /// The system refuses a subscription. Without the one for sleep it goes on: the clocks tell of it a little later.
    pub fn open(bell: Arc<Bell>) -> io::Result<Self> {
        let context: *const c_void = Arc::as_ptr(&bell).cast();
        let power = Power::open(&bell).inspect_err(|error| tracing::warn!(%error, "waking up is noticed late")).ok();
        let mut notices = Self { handles: Vec::new(), power, _bell: bell };
        let mut handle: HANDLE = null_mut();
        // SAFETY: the bell lives until the subscription is cancelled, and the callback only reads it.
        status(unsafe { ip::NotifyIpInterfaceChange(AF_UNSPEC, Some(interface), context, false, &raw mut handle) })?;
        notices.handles.push(handle);
        // SAFETY: as above.
        status(unsafe { ip::NotifyRouteChange2(AF_UNSPEC, Some(routes), context, false, &raw mut handle) })?;
        notices.handles.push(handle);
        // SAFETY: as above.
        status(unsafe { ip::NotifyUnicastIpAddressChange(AF_UNSPEC, Some(unicast), context, false, &raw mut handle) })?;
        notices.handles.push(handle);
        Ok(notices)
    }
}

impl Ears for Notices {
    fn every(&self) -> Duration {
        if self.power.is_some() { EVERY } else { EVERY_WITHOUT_POWER }
    }
}

/// Links, addresses, routes and clocks.
pub struct WindowsHost;

impl Host for WindowsHost {
    type Ears = Notices;

    fn listen(&self, bell: &Arc<Bell>) -> io::Result<Notices> {
        Notices::open(Arc::clone(bell))
    }

    fn look(&self) -> io::Result<HostView> {
        read()
    }

    fn asleep_since_boot(&self) -> io::Result<Duration> {
        asleep_since_boot()
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        for handle in self.handles.drain(..) {
            // SAFETY: the handle is that of a subscription of ours. The call waits for callbacks that run.
            let _ = unsafe { ip::CancelMibChangeNotify2(handle) };
        }
    }
}

fn ring(context: *const c_void) {
    // SAFETY: the pointer given to the subscription, which is cancelled before the bell goes.
    if let Some(bell) = unsafe { context.cast::<Bell>().as_ref() } {
        bell.ring();
    }
}

unsafe extern "system" fn interface(context: *const c_void, _: *const ip::MIB_IPINTERFACE_ROW, _: ip::MIB_NOTIFICATION_TYPE) {
    ring(context);
}

unsafe extern "system" fn routes(context: *const c_void, _: *const ip::MIB_IPFORWARD_ROW2, _: ip::MIB_NOTIFICATION_TYPE) {
    ring(context);
}

unsafe extern "system" fn unicast(context: *const c_void, _: *const ip::MIB_UNICASTIPADDRESS_ROW, _: ip::MIB_NOTIFICATION_TYPE) {
    ring(context);
}

unsafe extern "system" fn power(context: *const c_void, _kind: u32, _setting: *const c_void) -> u32 {
    ring(context);
    0
}

/// The subscription for suspend and resume.
struct Power {
    handle: *mut c_void,
    // The system keeps a pointer to it.
    _parameters: Box<DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS>,
}

impl Power {
    fn open(bell: &Arc<Bell>) -> io::Result<Self> {
        // Whether a callback may still run after the subscription has ended is not documented, so this one bell stays.
        let context = Arc::into_raw(Arc::clone(bell)).cast_mut().cast();
        let mut parameters = Box::new(DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS { Callback: Some(power), Context: context });
        let recipient: HANDLE = (&raw mut *parameters).cast();
        let mut handle = null_mut();
        // SAFETY: the parameters live as long as the subscription, the bell for ever.
        status(unsafe { PowerRegisterSuspendResumeNotification(DEVICE_NOTIFY_CALLBACK, recipient, &raw mut handle) })?;
        Ok(Self { handle, _parameters: parameters })
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        // SAFETY: the handle is that of the subscription.
        let _ = unsafe { PowerUnregisterSuspendResumeNotification(self.handle.expose_provenance().cast_signed()) };
    }
}

/// The clock that goes on in sleep less the one that stops (`GetTickCount64`, `QueryUnbiasedInterruptTime`).
///
/// # Errors
/// A clock cannot be read.
pub fn asleep_since_boot() -> io::Result<Duration> {
    // SAFETY: no arguments.
    let since_boot = Duration::from_millis(unsafe { GetTickCount64() });
    let mut awake = 0;
    // SAFETY: the number lives through the call.
    if unsafe { QueryUnbiasedInterruptTime(&raw mut awake) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(since_boot.saturating_sub(Duration::from_nanos(awake.saturating_mul(100))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_structures_of_the_system() {
        for text in ["192.0.2.1", "255.255.255.255", "2001:db8::1", "::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(ip_address(&socket_address(address)), Some(address));
        }
        assert_eq!(ip_address(&SOCKADDR_INET::default()), None);
    }

    #[test]
    fn this_computer_is_read_and_has_a_loopback_interface() {
        let view = read().unwrap();
        assert!(view.links.iter().any(|link| link.loopback), "{view:?}");
        assert!(view.addresses.iter().any(|address| address.address.is_loopback()), "{view:?}");
        assert_eq!(luid_of(&InterfaceName::tunnel()).is_some(), view.links.iter().any(|link| link.name == TUNNEL_INTERFACE));
    }

    #[test]
    fn the_clocks_agree_within_reason() {
        let before = asleep_since_boot().unwrap();
        assert!(asleep_since_boot().unwrap().abs_diff(before) < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn subscriptions_begin_and_end() {
        let notices = Notices::open(Arc::default()).unwrap();
        drop(notices);
    }
}
