//! The `utun` kernel control (XNU `bsd/net/if_utun.c`, developer.apple.com: sockaddr_ctl, CTLIOCGINFO): a socket that makes
//! an interface of the unit that is asked for, and takes it away when it is closed or the process dies.
#![expect(
    unsafe_code,
    reason = "the interface's ioctls have no safe wrapper; nor has the registration of a descriptor with the runtime"
)]

use super::settings::Settings;
use super::utun;
use crate::error::TunnelError;
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SysControlAddr, connect, socket};
use nix::sys::uio::{readv, writev};
use std::ffi::c_char;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::sleep;

nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, libc::ifreq);
nix::ioctl_write_ptr_bad!(add_ipv4, libc::SIOCAIFADDR, libc::ifaliasreq);
nix::ioctl_write_ptr_bad!(add_ipv6, libc::SIOCAIFADDR_IN6, libc::in6_aliasreq);

/// `UTUN_CONTROL_NAME` of `net/if_utun.h`.
const CONTROL: &str = "com.apple.net.utun_control";
/// The kernel frees a unit a moment after its socket was closed. So often, and so long apart, is it asked for again before
/// the unit counts as somebody else's.
const TRIES: u32 = 40;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// `ND6_INFINITE_LIFETIME` of `netinet6/nd6.h`.
const FOR_EVER: u32 = u32::MAX;

/// The control socket: the interface exists as long as it is open.
pub(crate) type Device = OwnedFd;

/// Creates the interface `name`, sets MTU and addresses. It is up from the start, and has no link-local address of IPv6
/// (the kernel makes none on these interfaces).
///
/// # Errors
/// [`TunnelError::InterfaceExists`] if there is an interface of that name, whoever made it (TAMPER-04).
pub(crate) async fn create(name: &InterfaceName, addresses: &[IpNet], mtu: u16) -> Result<Device, TunnelError> {
    let failed = |source: io::Error| TunnelError::Device { name: name.clone(), source };
    let unit = utun::control_unit(name.as_str())
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a utun interface")))?;
    let mut tries = 1;
    let device = loop {
        match open(unit) {
            Ok(device) => break device,
            Err(Errno::EBUSY) if tries < TRIES => sleep(BETWEEN_TRIES).await,
            Err(Errno::EBUSY) => return Err(TunnelError::InterfaceExists(name.clone())),
            Err(errno) => return Err(failed(errno.into())),
        }
        tries += 1;
    };
    if_nametoindex(name.as_str()).map_err(|errno| failed(errno.into()))?;
    configure(name, &Settings::new(addresses, mtu))?;
    Ok(device)
}

/// Makes the interface of this unit.
fn open(unit: u32) -> nix::Result<OwnedFd> {
    let control = socket(AddressFamily::System, SockType::Datagram, SockFlag::empty(), SockProtocol::KextControl)?;
    fcntl(&control, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let address = SysControlAddr::from_name(control.as_raw_fd(), CONTROL, unit)?;
    connect(control.as_raw_fd(), &address)?;
    fcntl(&control, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(control)
}

/// Sets MTU and addresses (ifconfig(8) makes the same calls).
fn configure(name: &InterfaceName, settings: &Settings) -> Result<(), TunnelError> {
    let failed =
        |what: &'static str| move |errno: Errno| TunnelError::Configure { what, name: name.clone(), source: Box::new(errno) };
    let asks = |family| socket(family, SockType::Datagram, SockFlag::empty(), None);
    let ipv4 = asks(AddressFamily::Inet).map_err(failed("address"))?;
    fcntl(&ipv4, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(failed("address"))?;
    let mtu = libc::ifreq {
        ifr_name: interface_field(name),
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_mtu: i32::from(settings.mtu) },
    };
    // SAFETY: the socket is open and `mtu` is an initialised ifreq that lives through the call.
    unsafe { set_mtu(ipv4.as_raw_fd(), &raw const mtu) }.map_err(failed("mtu"))?;
    for address in &settings.addresses {
        match address {
            IpAddr::V4(address) => {
                let request = ipv4_request(name, *address);
                // SAFETY: the socket is open and `request` is an initialised ifaliasreq that lives through the call.
                unsafe { add_ipv4(ipv4.as_raw_fd(), &raw const request) }.map_err(failed("address"))?;
            }
            IpAddr::V6(address) => {
                let ipv6 = asks(AddressFamily::Inet6).map_err(failed("address"))?;
                let request = ipv6_request(name, *address);
                // SAFETY: the socket is open and `request` is an initialised in6_aliasreq that lives through the call.
                unsafe { add_ipv6(ipv6.as_raw_fd(), &raw const request) }.map_err(failed("address"))?;
            }
        }
    }
    Ok(())
}

/// The name as requests hold it, ended by zeros: an [`InterfaceName`] is shorter than the field.
fn interface_field(name: &InterfaceName) -> [c_char; libc::IFNAMSIZ] {
    let mut field = [0; libc::IFNAMSIZ];
    for (place, byte) in field.iter_mut().zip(name.as_str().bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    field
}

/// A `sockaddr_in` in the place of a `sockaddr`: port, address, padding.
fn ipv4_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (place, octet) in data.iter_mut().skip(2).zip(address.octets()) {
        *place = c_char::from_ne_bytes([octet]);
    }
    libc::sockaddr { sa_len: 16, sa_family: family(libc::AF_INET), sa_data: data }
}

fn ipv6_address(address: Ipv6Addr) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_len: 28,
        sin6_family: family(libc::AF_INET6),
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address.octets() },
        sin6_scope_id: 0,
    }
}

fn family(number: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or_default()
}

/// Both ends of the link are ours: the kernel makes one route, to our own address.
fn ipv4_request(name: &InterfaceName, address: Ipv4Addr) -> libc::ifaliasreq {
    let mut request = libc::ifaliasreq::default();
    request.ifra_name = interface_field(name);
    request.ifra_addr = ipv4_address(address);
    request.ifra_broadaddr = ipv4_address(address);
    request.ifra_mask = ipv4_address(Ipv4Addr::BROADCAST);
    request
}

/// No other end. Nobody else is on the link: no duplicate detection.
fn ipv6_request(name: &InterfaceName, address: Ipv6Addr) -> libc::in6_aliasreq {
    let mut request = libc::in6_aliasreq::default();
    request.ifra_name = interface_field(name);
    request.ifra_addr = ipv6_address(address);
    request.ifra_prefixmask = ipv6_address(Ipv6Addr::from_bits(u128::MAX));
    request.ifra_flags = libc::IN6_IFF_NODAD;
    request.ifra_lifetime.ia6t_vltime = FOR_EVER;
    request.ifra_lifetime.ia6t_pltime = FOR_EVER;
    request
}

/// A device that packets go through.
pub(crate) struct Port {
    control: AsyncFd<OwnedFd>,
    // Last, so that it is dropped after the descriptor: its receiver learns that the interface is gone.
    _gone: oneshot::Sender<()>,
}

impl Port {
    /// `gone` is dropped when the interface is.
    pub(crate) fn new(device: Device, gone: oneshot::Sender<()>) -> io::Result<Self> {
        // SAFETY: an OwnedFd is open, names one file description and does not change until it is dropped with the AsyncFd.
        let registered = unsafe { AsyncFd::register(device) };
        Ok(Self { control: registered.map_err(io::Error::from)?, _gone: gone })
    }

    /// Waits until there is something to read or to know, and then calls `take` once.
    pub(crate) async fn when_readable(&self, take: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut ready = self.control.ready(Interest::READABLE).await?;
        ready.try_io(|_| take()).unwrap_or(Ok(()))
    }

    /// The next packet's length, 0 if it is none of IP; `WouldBlock` if there is none.
    pub(crate) fn read(&self, packet: &mut [u8]) -> io::Result<usize> {
        let mut head = [0; utun::HEADER];
        let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(packet)];
        let read = readv(self.control.get_ref(), &mut parts)?;
        // The kernel has closed its end.
        if read == 0 {
            return Err(Errno::ENXIO.into());
        }
        Ok(utun::packet_length(head, packet, read))
    }

    /// Hands a packet to the system.
    pub(crate) async fn write(&self, packet: &[u8]) -> io::Result<()> {
        let Some(head) = utun::header(packet) else { return Ok(()) };
        loop {
            match writev(self.control.get_ref().as_fd(), &[IoSlice::new(&head), IoSlice::new(packet)]) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => self.control.writable().await?.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The kernel has taken the interface away.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOTCONN | libc::EBADF | libc::ENODEV | libc::ECONNRESET))
}
