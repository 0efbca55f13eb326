//! The outer UDP sockets: one for each IP family, never connected, with segmentation both ways.

mod address;
mod receive;
mod send;

pub(crate) use receive::{Datagram, Receiver};
pub(crate) use send::{Outgoing, SendQueue};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Room for what arrives while the thread is busy, in bytes: the loss of one train costs about 45 packets.
const BUFFER: usize = 4 << 20;
/// How long segments of a size that the kernel refused are sent one by one: the path may change.
const REFUSED_MS: u64 = 60_000;
/// Attempts to find a port that is free in both families.
const PORT_ATTEMPTS: usize = 8;

/// Called with each socket before it is bound, to mark it or to tie it to an interface.
pub type Prepare = Arc<dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync>;

/// Where the engine listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On this port in both families (a gateway); 0 lets the kernel choose. A machine without IPv6 listens in IPv4.
    Port(u16),
    /// On a new random port, only in the families of the peers' endpoints (a client).
    OnDemand,
}

/// An outer socket.
#[derive(Debug)]
pub(crate) struct Socket {
    file: OwnedFd,
    /// The kernel or the link segments nothing on this socket.
    single: bool,
    /// Segments of this size (bytes) or above were refused, and until when (ms of the boot clock) that is believed.
    refused: Option<(usize, u64)>,
}

impl Socket {
    fn open(v6: bool, port: u16, segmentation: bool, prepare: &Prepare) -> io::Result<Self> {
        let domain = if v6 { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
        // Close-on-exec is the default of this constructor.
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if v6 {
            socket.set_only_v6(true)?;
            socket.set_recv_tclass_v6(true)?;
        } else {
            socket.set_recv_tos_v4(true)?;
        }
        let file = OwnedFd::from(socket);
        buffers(&file);
        allow_fragments(&file, v6);
        let receives = segmentation && setsockopt(&file, sockopt::UdpGroSegment, &true).is_ok();
        // A kernel that does not know the option takes no notice of it in a message (Linux before 4.18), and would send what
        // stands in it as one datagram.
        let sends = segmentation && getsockopt(&file, sockopt::UdpGsoSegment).is_ok();
        tracing::debug!(v6, receives, sends, "outer socket");
        prepare(file.as_fd())?;
        let any: SocketAddr = if v6 { (Ipv6Addr::UNSPECIFIED, port).into() } else { (Ipv4Addr::UNSPECIFIED, port).into() };
        let socket = socket2::Socket::from(file);
        socket.bind(&any.into())?;
        Ok(Self { file: socket.into(), single: !sends, refused: None })
    }

    fn port(&self) -> Option<u16> {
        let bound = socket2::SockRef::from(&self.file).local_addr().ok()?;
        bound.as_socket().map(|address| address.port())
    }

    /// Whether segments of this size may be handed over in one piece.
    fn segments(&self, size: usize, now_ms: u64) -> bool {
        !self.single && self.refused.is_none_or(|(limit, until)| size < limit || now_ms >= until)
    }

    /// Remembers that the kernel refused a train of segments. What is refused is sent one by one, never lost.
    fn refuse(&mut self, size: usize, everything: bool, now_ms: u64) {
        if everything {
            self.single = true;
        } else {
            let limit = self.refused.filter(|(_, until)| now_ms < *until).map_or(size, |(limit, _)| limit.min(size));
            self.refused = Some((limit, now_ms.saturating_add(REFUSED_MS)));
        }
        tracing::debug!(size, everything, "the kernel refuses segments");
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The sockets of both families.
pub(crate) struct Sockets {
    listen: Listen,
    segmentation: bool,
    prepare: Prepare,
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl Sockets {
    /// Opens nothing yet.
    pub(crate) const fn new(listen: Listen, segmentation: bool, prepare: Prepare) -> Self {
        Self { listen, segmentation, prepare, v4: None, v6: None }
    }

    pub(crate) const fn get(&self, v6: bool) -> Option<&Socket> {
        if v6 { self.v6.as_ref() } else { self.v4.as_ref() }
    }

    const fn get_mut(&mut self, v6: bool) -> Option<&mut Socket> {
        if v6 { self.v6.as_mut() } else { self.v4.as_mut() }
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &Socket> {
        [&self.v4, &self.v6].into_iter().flatten()
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.open().find_map(Socket::port)
    }

    /// Makes the open sockets those that are needed: families with an endpoint, or both for a gateway.
    pub(crate) fn provide(&mut self, needed: [bool; 2]) -> io::Result<()> {
        if let Listen::Port(port) = self.listen {
            return if self.v4.is_none() { self.listen_on(port) } else { Ok(()) };
        }
        for v6 in [false, true] {
            let wanted = if v6 { needed[1] } else { needed[0] };
            let open = self.get(v6).is_some();
            if wanted == open {
                continue;
            }
            let socket = if wanted { Some(Socket::open(v6, 0, self.segmentation, &self.prepare)?) } else { None };
            *(if v6 { &mut self.v6 } else { &mut self.v4 }) = socket;
        }
        Ok(())
    }

    /// New sockets in place of the old. Where the port is ours to choose the new ones are open before the old are closed,
    /// and a failure leaves the old.
    pub(crate) fn rebind(&mut self, needed: [bool; 2]) -> io::Result<()> {
        let mut fresh = Self::new(self.listen, self.segmentation, Arc::clone(&self.prepare));
        if matches!(self.listen, Listen::Port(_)) {
            self.close();
        }
        fresh.provide(needed)?;
        *self = fresh;
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        (self.v4, self.v6) = (None, None);
    }

    fn listen_on(&mut self, wanted: u16) -> io::Result<()> {
        for _ in 0..PORT_ATTEMPTS {
            let v4 = Socket::open(false, wanted, self.segmentation, &self.prepare)?;
            let port = v4.port().unwrap_or(wanted);
            let v6 = match Socket::open(true, port, self.segmentation, &self.prepare) {
                Ok(socket) => Some(socket),
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) && wanted == 0 => continue,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => None,
                Err(error) => return Err(error),
            };
            (self.v4, self.v6) = (Some(v4), v6);
            return Ok(());
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// Beyond the system's bound with CAP_NET_ADMIN, else up to it.
fn buffers(file: &OwnedFd) {
    let forced = setsockopt(file, sockopt::RcvBufForce, &BUFFER).and(setsockopt(file, sockopt::SndBufForce, &BUFFER));
    if forced.is_err() {
        let asked = setsockopt(file, sockopt::RcvBuf, &BUFFER).and(setsockopt(file, sockopt::SndBuf, &BUFFER));
        tracing::debug!(?asked, "no privilege for larger buffers");
    }
}

/// As WireGuard in the kernel: the outer packet may be fragmented on the way. A smaller path is slow rather than dead.
#[expect(unsafe_code, reason = "IP_MTU_DISCOVER has no safe wrapper")]
fn allow_fragments(file: &OwnedFd, v6: bool) {
    let (level, option, value) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    };
    let size = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the descriptor is open; value and size describe one int that lives through the call.
    let result = unsafe { libc::setsockopt(file.as_raw_fd(), level, option, (&raw const value).cast(), size) };
    if result != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "outer packets must not be fragmented");
    }
}
