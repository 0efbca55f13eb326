//! The probes of the live self-test: unmarked sockets, bound to each physical interface, that must not get a packet out.
//!
//! A datagram that the kernel takes (`sendto` succeeds) has left. Only the firewall's own answer counts as stopped: a
//! packet that the output hook drops or rejects gives EPERM (`nf_hook_slow` in the kernel's net/netfilter/core.c). Every
//! other error says something about the socket, the routes or the interface, and proves nothing.

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, sendto, setsockopt, socket, sockopt,
};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// More interfaces than this are not probed.
const MAX_INTERFACES: usize = 16;
/// How long a resolver may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// What became of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The kernel took it: it left.
    Left,
    /// The firewall stopped it.
    Stopped,
    /// No route leads there from this interface, by our routes or for want of any: nothing was put to the test.
    NoRoute(Errno),
    /// The probe itself failed.
    Failed(Errno),
}

/// What one probe tried and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Interface the socket was bound to.
    pub interface: String,
    /// What was tried, for people.
    pub what: &'static str,
    /// Where to.
    pub target: SocketAddr,
    /// What became of it.
    pub fate: Fate,
}

/// Physical interfaces that are up, by name: everything but loopback and the tunnel.
///
/// # Errors
/// The interfaces cannot be listed.
pub fn physical_interfaces() -> Result<BTreeSet<String>, Errno> {
    let names = getifaddrs()?
        .filter(|interface| {
            interface.flags.contains(InterfaceFlags::IFF_UP) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .map(|interface| interface.interface_name)
        .filter(|name| name != hamn_core::net::TUNNEL_INTERFACE);
    Ok(names.collect())
}

/// Sends one small datagram to each target from every physical interface.
///
/// # Errors
/// The interfaces cannot be listed.
pub fn probe_all(targets: &[(&'static str, SocketAddr)]) -> Result<Vec<Outcome>, Errno> {
    let mut outcomes = Vec::new();
    for interface in physical_interfaces()?.into_iter().take(MAX_INTERFACES) {
        for (what, target) in targets {
            outcomes.push(Outcome { interface: interface.clone(), what, target: *target, fate: send_from(&interface, *target) });
        }
    }
    Ok(outcomes)
}

fn send_from(interface: &str, target: SocketAddr) -> Fate {
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let opened = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
        .and_then(|socket| setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface)).map(|()| socket));
    let socket = match opened {
        Ok(socket) => socket,
        // EPERM means something else here than at the sending.
        Err(error) => return Fate::Failed(error),
    };
    let sent = match target {
        SocketAddr::V4(v4) => sendto(socket.as_raw_fd(), b"hamn", &SockaddrIn::from(v4), MsgFlags::empty()),
        SocketAddr::V6(v6) => sendto(socket.as_raw_fd(), b"hamn", &SockaddrIn6::from(v6), MsgFlags::empty()),
    };
    match sent {
        Ok(_) => Fate::Left,
        Err(Errno::EPERM) => Fate::Stopped,
        Err(error @ (Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EADDRNOTAVAIL | Errno::EACCES)) => Fate::NoRoute(error),
        Err(error) => Fate::Failed(error),
    }
}

/// Asks a resolver for the name servers of the root, which says nothing about the user.
///
/// # Errors
/// Why there was no answer.
pub fn ask_resolver(resolver: SocketAddr) -> std::io::Result<()> {
    let id: [u8; 2] = rand::random();
    // Header of RFC 1035 section 4.1.1: recursion desired, one question: the root, type NS, class IN.
    let query = [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]].concat();
    let unspecified: SocketAddr = if resolver.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(unspecified)?;
    socket.set_read_timeout(Some(ANSWER_WAIT))?;
    socket.connect(resolver)?;
    socket.send(&query)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    match answer.get(..length) {
        // Its id, and the bit that says "answer". Whatever it says, it was asked and it answered.
        Some([first, second, flags, ..]) if [*first, *second] == id && flags & 0x80 != 0 => Ok(()),
        Some(_) | None => Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "what came is no answer to the question")),
    }
}
