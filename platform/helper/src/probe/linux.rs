//! Sockets bound to an interface, on Linux: unmarked, which is all that sets other programs apart from ours. A packet that
//! the output hook drops or rejects gives EPERM (`nf_hook_slow` in the kernel's net/netfilter/core.c).

use super::{DATAGRAM, Fate};
pub use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, sendto, setsockopt, socket, sockopt,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// What stands for a probe that did not run at all.
pub const NOT_RUN: Errno = Errno::ECANCELED;

/// Physical interfaces that are up: everything but loopback and the tunnel. The name is enough to bind to one.
///
/// # Errors
/// The interfaces cannot be listed.
pub fn physical_interfaces() -> Result<BTreeMap<String, ()>, Errno> {
    let names = getifaddrs()?
        .filter(|interface| {
            interface.flags.contains(InterfaceFlags::IFF_UP) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .map(|interface| interface.interface_name)
        .filter(|name| name != hamn_core::net::TUNNEL_INTERFACE);
    Ok(names.map(|name| (name, ())).collect())
}

/// Runs the probes. Their sockets carry no mark, so they are anybody's already.
///
/// # Errors
/// None.
pub(super) fn as_anybody<T>(work: impl FnOnce() -> T) -> Result<T, Errno> {
    Ok(work())
}

pub(super) fn send_from(interface: &str, (): (), target: SocketAddr) -> Fate {
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let opened = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
        .and_then(|socket| setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface)).map(|()| socket));
    let socket = match opened {
        Ok(socket) => socket,
        // EPERM means something else here than at the sending.
        Err(error) => return Fate::Failed(error),
    };
    let sent = match target {
        SocketAddr::V4(v4) => sendto(socket.as_raw_fd(), DATAGRAM, &SockaddrIn::from(v4), MsgFlags::empty()),
        SocketAddr::V6(v6) => sendto(socket.as_raw_fd(), DATAGRAM, &SockaddrIn6::from(v6), MsgFlags::empty()),
    };
    match sent {
        Ok(_) => Fate::Left,
        Err(Errno::EPERM) => Fate::Stopped,
        Err(error @ (Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EADDRNOTAVAIL | Errno::EACCES)) => Fate::NoRoute(error),
        Err(error) => Fate::Failed(error),
    }
}
