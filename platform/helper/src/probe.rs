//! The probes of the live self-test: sockets as any other program's, bound to each physical interface, that must not get a
//! packet out.
//!
//! A datagram that the kernel takes (`sendto` succeeds) has left. Only the firewall's own answer counts as stopped. Every
//! other error says something about the socket, the routes or the interface, and proves nothing.

#[cfg(target_os = "linux")]
#[path = "probe/linux.rs"]
mod bound;
#[cfg(target_os = "macos")]
#[path = "probe/macos.rs"]
mod bound;
#[cfg(windows)]
#[path = "probe/windows.rs"]
mod bound;

pub use bound::{Errno, NOT_RUN, physical_interfaces};

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// More interfaces than this are not probed.
const MAX_INTERFACES: usize = 16;
/// How long a resolver may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// What a probe sends.
const DATAGRAM: &[u8] = b"hamn";

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

/// Sends one small datagram to each target from every physical interface.
///
/// # Errors
/// The interfaces cannot be listed, or what sets this program apart from others cannot be laid aside.
pub fn probe_all(targets: &[(&'static str, SocketAddr)]) -> Result<Vec<Outcome>, Errno> {
    let interfaces = physical_interfaces()?;
    bound::as_anybody(|| {
        let mut outcomes = Vec::new();
        for (interface, place) in interfaces.into_iter().take(MAX_INTERFACES) {
            for (what, target) in targets {
                let fate = bound::send_from(&interface, place, *target);
                outcomes.push(Outcome { interface: interface.clone(), what, target: *target, fate });
            }
        }
        outcomes
    })
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
