//! MTU, metrics and addresses of the adapter (learn.microsoft.com: GetIpInterfaceEntry, SetIpInterfaceEntry,
//! CreateUnicastIpAddressEntry).
#![expect(unsafe_code, reason = "the IP helper's functions are foreign")]

use crate::error::TunnelError;
use crate::tun::settings::{Family, FamilySettings, Settings};
use hamn_core::net::InterfaceName;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use windows_sys::Win32::Foundation::{ERROR_NOT_FOUND, ERROR_OBJECT_ALREADY_EXISTS, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    CreateUnicastIpAddressEntry, GetIpInterfaceEntry, InitializeIpInterfaceEntry, InitializeUnicastIpAddressEntry,
    MIB_IPINTERFACE_ROW, MIB_UNICASTIPADDRESS_ROW, SetIpInterfaceEntry,
};
use windows_sys::Win32::NetworkManagement::Ndis::NET_LUID_LH;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, IN_ADDR, IN_ADDR_0, IN6_ADDR, IN6_ADDR_0, IpDadStatePreferred, RouterDiscoveryDisabled, SOCKADDR_IN,
    SOCKADDR_IN6, SOCKADDR_INET,
};

/// A new adapter joins IPv4 and IPv6 a moment after it was created.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Sets everything, in the order of `settings`.
pub(super) fn configure(name: &InterfaceName, luid: NET_LUID_LH, settings: &Settings) -> Result<(), TunnelError> {
    let failed = |what: &'static str| {
        move |source: io::Error| TunnelError::Configure { what, name: name.clone(), source: Box::new(source) }
    };
    for family in &settings.families {
        match joined(luid, family) {
            Ok(row) => set(row, family).map_err(failed("mtu and metric"))?,
            // Switched off by the administrator.
            Err(error) if !family.needed => tracing::debug!(%error, family = ?family.family, "not on the tunnel interface"),
            Err(error) => return Err(failed("index")(error)),
        }
    }
    for address in &settings.addresses {
        add(luid, *address).map_err(failed("address"))?;
    }
    Ok(())
}

/// Waits until the adapter has joined the family.
fn joined(luid: NET_LUID_LH, settings: &FamilySettings) -> io::Result<MIB_IPINTERFACE_ROW> {
    let until = Instant::now() + JOIN_TIMEOUT;
    loop {
        match read(luid, settings.family) {
            Err(ERROR_NOT_FOUND) if settings.needed && Instant::now() < until => std::thread::sleep(BETWEEN_LOOKS),
            Err(code) => return Err(error(code)),
            Ok(row) => return Ok(row),
        }
    }
}

fn read(luid: NET_LUID_LH, family: Family) -> Result<MIB_IPINTERFACE_ROW, u32> {
    let mut row = MIB_IPINTERFACE_ROW::default();
    // SAFETY: the row is writable.
    unsafe { InitializeIpInterfaceEntry(&raw mut row) };
    row.InterfaceLuid = luid;
    row.Family = number(family);
    // SAFETY: the row is initialised and writable.
    match unsafe { GetIpInterfaceEntry(&raw mut row) } {
        NO_ERROR => Ok(row),
        code => Err(code),
    }
}

/// Sets MTU and metric, and reads them back. Nobody else is on the link: no duplicate detection, and no router is listened
/// to.
fn set(mut row: MIB_IPINTERFACE_ROW, settings: &FamilySettings) -> io::Result<()> {
    row.NlMtu = settings.mtu;
    row.UseAutomaticMetric = false;
    row.Metric = settings.metric;
    row.DadTransmits = 0;
    row.RouterDiscoveryBehavior = RouterDiscoveryDisabled;
    row.ManagedAddressConfigurationSupported = false;
    row.OtherStatefulConfigurationSupported = false;
    if settings.family == Family::V4 {
        // What was read is refused for IPv4 otherwise, as the page of SetIpInterfaceEntry says.
        row.SitePrefixLength = 0;
    }
    // SAFETY: the row is initialised and writable.
    let code = unsafe { SetIpInterfaceEntry(&raw mut row) };
    if code != NO_ERROR {
        return Err(error(code));
    }
    let now = read(row.InterfaceLuid, settings.family).map_err(error)?;
    if (now.NlMtu, now.Metric) == (settings.mtu, settings.metric) {
        Ok(())
    } else {
        Err(io::Error::other(format!("MTU {} and metric {} came of {settings:?}", now.NlMtu, now.Metric)))
    }
}

fn add(luid: NET_LUID_LH, address: IpAddr) -> io::Result<()> {
    let mut row = MIB_UNICASTIPADDRESS_ROW::default();
    // SAFETY: the row is writable.
    unsafe { InitializeUnicastIpAddressEntry(&raw mut row) };
    row.InterfaceLuid = luid;
    row.Address = socket_address(address);
    // It stands alone: no other address is on the link.
    row.OnLinkPrefixLength = if address.is_ipv4() { 32 } else { 128 };
    row.DadState = IpDadStatePreferred;
    // SAFETY: the row is initialised.
    match unsafe { CreateUnicastIpAddressEntry(&raw const row) } {
        // An adapter of this GUID that ended before its time leaves its addresses behind.
        NO_ERROR | ERROR_OBJECT_ALREADY_EXISTS => Ok(()),
        code => Err(error(code)),
    }
}

fn socket_address(address: IpAddr) -> SOCKADDR_INET {
    match address {
        IpAddr::V4(address) => SOCKADDR_INET {
            Ipv4: SOCKADDR_IN {
                sin_family: AF_INET,
                sin_addr: IN_ADDR { S_un: IN_ADDR_0 { S_addr: u32::from_ne_bytes(address.octets()) } },
                ..SOCKADDR_IN::default()
            },
        },
        IpAddr::V6(address) => SOCKADDR_INET {
            Ipv6: SOCKADDR_IN6 {
                sin6_family: AF_INET6,
                sin6_addr: IN6_ADDR { u: IN6_ADDR_0 { Byte: address.octets() } },
                ..SOCKADDR_IN6::default()
            },
        },
    }
}

const fn number(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

fn error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code.cast_signed())
}
