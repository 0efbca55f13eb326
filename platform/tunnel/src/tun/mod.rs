//! The TUN device: created exclusively, non-persistent, configured through netlink, without routes.

mod address;
#[cfg(target_os = "linux")]
mod linux;
mod packets;

#[cfg(target_os = "linux")]
use linux as platform;

pub(crate) use packets::{DeviceHandle, TunReader, TunWriter, pair};
pub(crate) use platform::register;

use crate::error::TunnelError;
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use std::os::fd::OwnedFd;

/// Creates the interface `name`, sets MTU and addresses and brings it up. It exists as long as the descriptor is open.
///
/// No IPv6 link-local address is made, so nothing but what is routed into it comes out of it.
///
/// # Errors
/// [`TunnelError::InterfaceExists`] if there is an interface of that name, whoever made it (TAMPER-04).
pub(crate) async fn create(name: &InterfaceName, addresses: &[IpNet], mtu: u16) -> Result<OwnedFd, TunnelError> {
    let device = platform::open(name)?;
    configure(name, addresses, mtu).await?;
    Ok(device)
}

/// Sets MTU and addresses of an interface and brings it up.
pub(crate) async fn configure(name: &InterfaceName, addresses: &[IpNet], mtu: u16) -> Result<(), TunnelError> {
    address::configure(name, addresses, mtu).await
}
