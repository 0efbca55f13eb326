//! Opens `/dev/net/tun` (Linux `Documentation/networking/tuntap.rst`).
#![expect(
    unsafe_code,
    reason = "TUNSETIFF is an ioctl without a safe wrapper; so is the registration of a descriptor with the runtime"
)]

use crate::error::TunnelError;
use hamn_core::net::InterfaceName;
use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;
use std::ffi::{c_char, c_short};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);

/// Makes a TUN interface of this name (IFF_TUN), without packet information (IFF_NO_PI), and refuses one that exists
/// (IFF_TUN_EXCL). It is not persistent: closing the descriptor, or the death of the process, removes it.
pub(super) fn open(name: &InterfaceName) -> Result<OwnedFd, TunnelError> {
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
        Err(nix::errno::Errno::EBUSY) => Err(TunnelError::InterfaceExists(name.clone())),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Registers a descriptor with the runtime.
pub(crate) fn register(device: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, names one file description and does not change until it is dropped with the AsyncFd.
    let registered = unsafe { AsyncFd::register(device) };
    registered.map_err(io::Error::from)
}
