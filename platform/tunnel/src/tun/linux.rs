//! Opens `/dev/net/tun` (Linux `Documentation/networking/tuntap.rst`).
#![expect(
    unsafe_code,
    reason = "TUNSETIFF is an ioctl without a safe wrapper; so is the registration of a descriptor with the runtime"
)]

#[path = "linux/address.rs"]
mod address;

use crate::error::TunnelError;
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;
use std::ffi::{c_char, c_short};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);

/// The descriptor: the interface exists as long as it is open.
pub(crate) type Device = OwnedFd;

/// Creates the interface `name`, sets MTU and addresses and brings it up.
///
/// No IPv6 link-local address is made, so nothing but what is routed into it comes out of it.
///
/// # Errors
/// [`TunnelError::InterfaceExists`] if there is an interface of that name, whoever made it (TAMPER-04).
pub(crate) async fn create(name: &InterfaceName, addresses: &[IpNet], mtu: u16) -> Result<Device, TunnelError> {
    let device = open(name)?;
    configure(name, addresses, mtu).await?;
    Ok(device)
}

/// Sets MTU and addresses of an interface and brings it up.
pub(crate) async fn configure(name: &InterfaceName, addresses: &[IpNet], mtu: u16) -> Result<(), TunnelError> {
    address::configure(name, addresses, mtu).await
}

/// Makes a TUN interface of this name (IFF_TUN), without packet information (IFF_NO_PI), and refuses one that exists
/// (IFF_TUN_EXCL). It is not persistent: closing the descriptor, or the death of the process, removes it.
fn open(name: &InterfaceName) -> Result<OwnedFd, TunnelError> {
    let failed = |source: io::Error| TunnelError::Device { name: name.clone(), source };
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let device = open_file("/dev/net/tun", flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let wanted = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    let flags = c_short::from_ne_bytes(u16::try_from(wanted).unwrap_or_default().to_ne_bytes());
    let mut request = libc::ifreq { ifr_name: [0; 16], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    // SAFETY: the descriptor is open and `request` is an initialised ifreq that lives through the call.
    let result = unsafe { set_interface(device.as_raw_fd(), &raw const request) };
    match result {
        Ok(_) => Ok(device),
        Err(Errno::EBUSY) => Err(TunnelError::InterfaceExists(name.clone())),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Registers a descriptor with the runtime.
pub(crate) fn register(device: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, names one file description and does not change until it is dropped with the AsyncFd.
    let registered = unsafe { AsyncFd::register(device) };
    registered.map_err(io::Error::from)
}

/// A device that packets go through.
pub(crate) struct Port {
    descriptor: AsyncFd<OwnedFd>,
    // Last, so that it is dropped after the descriptor: its receiver learns that the interface is gone.
    _gone: oneshot::Sender<()>,
}

impl Port {
    /// `gone` is dropped when the interface is.
    pub(crate) fn new(device: Device, gone: oneshot::Sender<()>) -> io::Result<Self> {
        Ok(Self { descriptor: register(device)?, _gone: gone })
    }

    /// Waits until there is something to read or to know, and then calls `take` once.
    pub(crate) async fn when_readable(&self, take: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        // A device that was taken away reports an error, not readiness.
        let mut ready = self.descriptor.ready(Interest::READABLE | Interest::ERROR).await?;
        ready.try_io(|_| take()).unwrap_or(Ok(()))
    }

    /// The next packet's length; `WouldBlock` if there is none.
    pub(crate) fn read(&self, packet: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(self.descriptor.get_ref().as_fd(), packet)?)
    }

    /// Hands a packet to the system.
    pub(crate) async fn write(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            match nix::unistd::write(self.descriptor.get_ref().as_fd(), packet) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => self.descriptor.writable().await?.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The interface of this descriptor was deleted: EBADFD is what a detached TUN descriptor says.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::EBADF | libc::ENODEV))
}
