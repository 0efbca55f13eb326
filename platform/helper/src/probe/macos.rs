//! Sockets bound to an interface, on macOS, of a thread that is nobody's: pf lets root past, so a socket of root's proves
//! nothing.
//!
//! A packet that pf drops gives EHOSTUNREACH (`ip_output_list` in the kernel's bsd/netinet/ip_output.c), as does a route
//! that rejects. `connect` looks up the route and asks no filter, so it is done first: after it EHOSTUNREACH is pf's.
#![expect(unsafe_code, reason = "the identity of one thread has no safe wrapper")]

use super::{DATAGRAM, Fate};
pub use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;

/// What stands for a probe that did not run at all.
pub const NOT_RUN: Errno = Errno::ECANCELED;
/// The user and group `nobody` (`id nobody` on macOS says -2).
const NOBODY: u32 = u32::MAX - 1;
/// Gives the thread the process's identity back (`KAUTH_UID_NONE` in the kernel's bsd/sys/kauth.h).
const PROCESS: u32 = u32::MAX - 100;

unsafe extern "C" {
    /// Sets user and group of the calling thread alone (bsd/kern/kern_prot.c, `settid`).
    fn pthread_setugid_np(uid: u32, gid: u32) -> i32;
}

/// Physical interfaces that are up, by name and index: everything but loopback and tunnels (`utun`).
///
/// # Errors
/// The interfaces cannot be listed.
pub fn physical_interfaces() -> Result<BTreeMap<String, u32>, Errno> {
    let names = getifaddrs()?
        .filter(|interface| {
            let flags = interface.flags;
            flags.contains(InterfaceFlags::IFF_UP)
                && !flags.intersects(InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT)
        })
        .map(|interface| interface.interface_name);
    Ok(names.filter_map(|name| if_nametoindex(name.as_str()).ok().map(|index| (name, index))).collect())
}

/// Runs the probes as `nobody`. A helper that is not root's is anybody already.
///
/// # Errors
/// The thread keeps its identity.
pub(super) fn as_anybody<T>(work: impl FnOnce() -> T) -> Result<T, Errno> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(work());
    }
    // SAFETY: the call takes two numbers and touches no memory of ours.
    if unsafe { pthread_setugid_np(NOBODY, NOBODY) } != 0 {
        return Err(Errno::last());
    }
    let done = work();
    // SAFETY: as above.
    if unsafe { pthread_setugid_np(PROCESS, PROCESS) } != 0 {
        // This thread goes on as nobody, which can harm nothing, and is told.
        tracing::warn!(error = %Errno::last(), "a thread could not become root's again");
    }
    Ok(done)
}

pub(super) fn send_from(_interface: &str, index: u32, target: SocketAddr) -> Fate {
    let opened = open(index, target);
    let socket = match opened {
        Ok(socket) => socket,
        Err(error) => return Fate::Failed(number(&error)),
    };
    if let Err(error) = socket.connect(&target.into()) {
        return without_way(number(&error));
    }
    match socket.send(DATAGRAM).map_err(|error| number(&error)) {
        Ok(_) => Fate::Left,
        Err(Errno::EHOSTUNREACH) => Fate::Stopped,
        Err(error) => without_way(error),
    }
}

/// `IP_BOUND_IF` and `IPV6_BOUND_IF` (ip(4), ip6(4)).
fn open(index: u32, target: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if target.is_ipv4() {
        socket.bind_device_by_index_v4(NonZeroU32::new(index))?;
    } else {
        socket.bind_device_by_index_v6(NonZeroU32::new(index))?;
    }
    Ok(socket)
}

fn without_way(error: Errno) -> Fate {
    if [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::EADDRNOTAVAIL, Errno::ENETDOWN, Errno::EHOSTDOWN].contains(&error) {
        Fate::NoRoute(error)
    } else {
        Fate::Failed(error)
    }
}

fn number(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(NOT_RUN, Errno::from_raw)
}
