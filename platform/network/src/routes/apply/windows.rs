//! Windows: routes into the tunnel interface and its settings (learn.microsoft.com: `CreateIpForwardEntry2`,
//! `DeleteIpForwardEntry2`, `GetIpForwardTable2`, `SetIpInterfaceEntry`).
//!
//! The routes are those of the running system only: a restart forgets them, and so does the end of the interface.
#![expect(unsafe_code, reason = "the table is reached by calls of iphlpapi.dll")]

use crate::keeper::guarded::{Asks, Difference, Guarded, Wish};
use crate::monitor::windows::{destination, forward_table, luid_of, socket_address, status};
use crate::routes::plan::Family;
use crate::routes::plan_windows::{INTERFACE_METRIC, ROUTE_METRIC, WindowsRoutes};
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use windows_sys::Win32::Foundation::{ERROR_NOT_FOUND, ERROR_OBJECT_ALREADY_EXISTS};
use windows_sys::Win32::NetworkManagement::IpHelper as ip;
use windows_sys::Win32::NetworkManagement::Ndis::NET_LUID_LH;
use windows_sys::Win32::Networking::WinSock::{AF_INET, AF_INET6, MIB_IPPROTO_NETMGMT, RouterDiscoveryDisabled};

/// Why routes are not as planned.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// A call failed.
    #[error("cannot {action}: {source}")]
    Call {
        /// What was tried.
        action: String,
        /// Why not.
        source: io::Error,
    },
}

fn failed(action: impl Into<String>) -> impl FnOnce(io::Error) -> RouteError {
    let action = action.into();
    |source| RouteError::Call { action, source }
}

/// The routes of one policy in the system's table.
#[derive(Default)]
pub struct Routes {
    /// The interface that routes were added to last; they go with it.
    used: Option<InterfaceName>,
    /// Its LUID then: another one is a new interface, which nobody emptied.
    luid: Option<u64>,
}

impl Wish for WindowsRoutes {
    fn asks(&self) -> Asks {
        if self.tunnel.is_some() { Asks::Keeping } else { Asks::Removal }
    }
}

impl Guarded for Routes {
    type Wish = WindowsRoutes;
    type Error = RouteError;
    const NAME: &'static str = "routes";
    const ALL_OR_NOTHING: bool = false;

    fn every(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn put(&mut self, wish: &WindowsRoutes) -> Result<Option<String>, RouteError> {
        let Some(name) = &wish.tunnel else {
            // Also what a crashed process of ours left.
            let removed = remove(&self.used.take().unwrap_or_else(InterfaceName::tunnel))?;
            return Ok(removed.then(|| "routes removed".to_owned()));
        };
        if let Some(previous) = self.used.replace(name.clone()).filter(|used| used != name) {
            remove(&previous)?;
        }
        self.luid = luid_of(name);
        // While a tunnel is being verified its routes are added once the interface appears.
        let Some(luid) = self.luid else { return Ok(None) };
        for family in wish.families() {
            settle_interface(luid, family)?;
        }
        let difference = wish.difference(&ours(luid)?);
        difference.missing.iter().try_for_each(|net| create(luid, *net))?;
        difference.extra.iter().try_for_each(|net| delete(luid, *net))?;
        Ok(None)
    }

    fn difference(&mut self, wish: &WindowsRoutes) -> Result<Option<Difference>, RouteError> {
        // Without its interface there is nothing to restore; the reporter tells of the loss.
        let Some(luid) = wish.tunnel.as_ref().and_then(luid_of) else { return Ok(None) };
        let found = wish.difference(&ours(luid)?);
        let differs = || Difference { what: found.to_string(), tampered: self.luid == Some(luid) };
        Ok((!found.is_empty()).then(differs))
    }

    fn lacks(&mut self, wish: &WindowsRoutes) -> Result<Option<String>, RouteError> {
        let gone = wish.tunnel.as_ref().filter(|name| wish.required && luid_of(name).is_none());
        Ok(gone.map(|name| format!("there is no interface {name}")))
    }

    fn in_words(wish: &WindowsRoutes) -> &'static str {
        if wish.tunnel.is_some() { "routes are those of the policy" } else { "no route of ours" }
    }
}

/// Removes our routes from the interface of this name. True when there were any.
fn remove(interface: &InterfaceName) -> Result<bool, RouteError> {
    let Some(luid) = luid_of(interface) else { return Ok(false) };
    let ours = ours(luid)?;
    ours.iter().try_for_each(|net| delete(luid, *net))?;
    Ok(!ours.is_empty())
}

/// Our routes on the interface: those that a program made. The system's own, for addresses and multicast, are "local".
fn ours(luid: u64) -> Result<BTreeSet<IpNet>, RouteError> {
    let table = forward_table().map_err(failed("read the routing table"))?;
    let on_interface = table.rows().iter().filter(|row| {
        // SAFETY: both members of the union are the same 64 bits.
        let interface = unsafe { row.InterfaceLuid.Value };
        interface == luid && row.Protocol == MIB_IPPROTO_NETMGMT
    });
    Ok(on_interface.filter_map(destination).collect())
}

fn row(luid: u64, net: IpNet) -> ip::MIB_IPFORWARD_ROW2 {
    let mut row = ip::MIB_IPFORWARD_ROW2::default();
    // SAFETY: the row lives through the call, which sets every member to its default.
    unsafe { ip::InitializeIpForwardEntry(&raw mut row) };
    let on_link: IpAddr = match net {
        IpNet::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpNet::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    row.InterfaceLuid = NET_LUID_LH { Value: luid };
    row.DestinationPrefix = ip::IP_ADDRESS_PREFIX { Prefix: socket_address(net.addr()), PrefixLength: net.prefix_len() };
    row.NextHop = socket_address(on_link);
    row.Metric = ROUTE_METRIC;
    row.Protocol = MIB_IPPROTO_NETMGMT;
    row
}

/// `CreateIpForwardEntry2`
fn create(luid: u64, net: IpNet) -> Result<(), RouteError> {
    let row = row(luid, net);
    // SAFETY: the row is complete and lives through the call.
    let code = unsafe { ip::CreateIpForwardEntry2(&raw const row) };
    if code == ERROR_OBJECT_ALREADY_EXISTS {
        // Made by somebody else in this moment, or with another protocol number: what counts is that it is there.
        return Ok(());
    }
    status(code).map_err(failed(format!("add route {net}")))
}

/// `DeleteIpForwardEntry2`
fn delete(luid: u64, net: IpNet) -> Result<(), RouteError> {
    let row = row(luid, net);
    // SAFETY: the row names interface, prefix and next hop and lives through the call.
    let code = unsafe { ip::DeleteIpForwardEntry2(&raw const row) };
    if code == ERROR_NOT_FOUND {
        return Ok(());
    }
    status(code).map_err(failed(format!("remove route {net}")))
}

/// `SetIpInterfaceEntry`: a fixed low metric; the strong host model in both directions, so that the tunnel's address is
/// neither used nor answered on another link (G11); no routes from router advertisements.
fn settle_interface(luid: u64, family: Family) -> Result<(), RouteError> {
    let mut row = ip::MIB_IPINTERFACE_ROW::default();
    // SAFETY: the row lives through the call, which sets every member to its default.
    unsafe { ip::InitializeIpInterfaceEntry(&raw mut row) };
    row.InterfaceLuid = NET_LUID_LH { Value: luid };
    row.Family = match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    };
    // SAFETY: the row names interface and family, lives through the call and is filled by it.
    status(unsafe { ip::GetIpInterfaceEntry(&raw mut row) }).map_err(failed(format!("read the {family} interface")))?;
    let settled = !row.UseAutomaticMetric && row.Metric == INTERFACE_METRIC && !row.WeakHostSend && !row.WeakHostReceive;
    if settled && row.RouterDiscoveryBehavior == RouterDiscoveryDisabled {
        return Ok(());
    }
    row.UseAutomaticMetric = false;
    row.Metric = INTERFACE_METRIC;
    row.WeakHostSend = false;
    row.WeakHostReceive = false;
    row.RouterDiscoveryBehavior = RouterDiscoveryDisabled;
    // The documentation of the call asks for zero here.
    row.SitePrefixLength = 0;
    // SAFETY: the row was filled by the system and lives through the call.
    status(unsafe { ip::SetIpInterfaceEntry(&raw mut row) }).map_err(failed(format!("set up the {family} interface")))
}
