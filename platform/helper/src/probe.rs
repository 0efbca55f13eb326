//! The probes of the live self-test: unmarked sockets, bound to each physical interface, that must not get a packet out.
//!
//! A datagram that the kernel takes (`sendto` succeeds) has left; one that is stopped gives an error at once, because the
//! output hook answers a drop with EPERM and an unreachable route with its own error (ip(7), nft(8) "reject").

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, sendto, setsockopt, socket, sockopt};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

/// What one probe tried and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Interface the socket was bound to.
    pub interface: String,
    /// What was tried, for people.
    pub what: &'static str,
    /// `Ok(reason)` when it was stopped, `Err(reason)` when it left.
    pub stopped: Result<String, String>,
}

/// Physical interfaces that are up, by name: everything but loopback and the tunnel.
#[must_use]
pub fn physical_interfaces() -> BTreeSet<String> {
    let Ok(all) = getifaddrs() else { return BTreeSet::new() };
    all.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .map(|interface| interface.interface_name)
        .filter(|name| name != hamn_core::net::TUNNEL_INTERFACE)
        .collect()
}

/// Sends one small datagram to each target from every physical interface.
#[must_use]
pub fn probe_all(targets: &[(&'static str, SocketAddr)]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for interface in physical_interfaces() {
        for (what, target) in targets {
            let stopped = match send_from(&interface, *target) {
                Ok(()) => Err(format!("a datagram to {target} left through {interface}")),
                Err(error) => Ok(format!("stopped: {}", error.desc())),
            };
            outcomes.push(Outcome { interface: interface.clone(), what, stopped });
        }
    }
    outcomes
}

fn send_from(interface: &str, target: SocketAddr) -> Result<(), nix::Error> {
    let family = if target.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))?;
    let sent = match target {
        SocketAddr::V4(v4) => sendto(socket.as_raw_fd(), b"hamn", &SockaddrIn::from(v4), nix::sys::socket::MsgFlags::empty()),
        SocketAddr::V6(v6) => sendto(socket.as_raw_fd(), b"hamn", &SockaddrIn6::from(v6), nix::sys::socket::MsgFlags::empty()),
    };
    sent.map(|_| ())
}
