//! The TUN device of Windows: an adapter of Wintun.

use super::settings::Settings;
pub(crate) use super::wintun::is_gone;
use super::wintun::{Adapter, Session};
use crate::error::TunnelError;
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use std::future::{Ready, ready};
use std::io;
use tokio::sync::oneshot;

/// The adapter exists until this is dropped.
pub(crate) type Device = Adapter;

/// Creates the adapter `name`, sets MTU, metrics and addresses. It is up from the moment that packets are read.
///
/// # Errors
/// [`TunnelError::InterfaceExists`] if another adapter has the name, whoever made it (TAMPER-04).
pub(crate) async fn create(name: &InterfaceName, addresses: &[IpNet], mtu: u16) -> Result<Device, TunnelError> {
    let settings = Settings::new(addresses, mtu);
    let adapter = name.clone();
    // The driver may have to be installed first.
    let created = tokio::task::spawn_blocking(move || Adapter::create(&adapter, &settings)).await;
    created.map_err(|error| TunnelError::Device { name: name.clone(), source: io::Error::other(error) })?
}

/// A device that packets go through.
pub(crate) struct Port(Option<(Session, oneshot::Sender<()>)>);

impl Port {
    /// `gone` is dropped when the adapter is.
    pub(crate) fn new(device: Device, gone: oneshot::Sender<()>) -> io::Result<Self> {
        Ok(Self(Some((Session::start(device)?, gone))))
    }

    fn session(&self) -> io::Result<&Session> {
        // Empty only while it is dropped.
        self.0.as_ref().map(|(session, _)| session).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Calls `take`, and if there is nothing to take, waits until there may be.
    pub(crate) async fn when_readable(&self, take: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match take() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.session()?.readable().await;
                Ok(())
            }
            taken => taken,
        }
    }

    /// The next packet's length; `WouldBlock` if there is none.
    pub(crate) fn read(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.session()?.read(packet)
    }

    /// Hands a packet to the system.
    pub(crate) fn write(&self, packet: &[u8]) -> Ready<io::Result<()>> {
        ready(self.session().and_then(|session| session.write(packet)))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Removing an adapter takes as long as Windows likes; the runtime does not wait for it, whoever stops the tunnel
        // does. If no thread can be had, the adapter is removed here.
        let ends = self.0.take();
        let _ = std::thread::Builder::new().name("wintun-end".to_owned()).spawn(move || drop(ends));
    }
}
