//! The TUN device: opened with a virtio header and segmentation offload where the kernel has them.
//!
//! Facts: Linux `Documentation/networking/tuntap.rst`; `TUN_F_USO4`/`USO6` exist since Linux 6.2.

use crate::merge::{Accepts, Joined};
use crate::virtio::{self, Header};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_file};
use nix::sys::stat::Mode;
use nix::sys::uio::writev;
use std::ffi::{c_char, c_int, c_short};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Room for the longest frame: a virtio header and an IP packet of 65535 bytes.
pub const FRAME: usize = virtio::LENGTH + 65_535 + 1;
/// The virtio header, the common headers and the pieces.
const SLICES: usize = crate::merge::PIECES + 2;
const TUN_DEVICE: &str = "/dev/net/tun";

mod ioctl {
    //! The ioctls of the device, each with its type.
    // The kernel writes the request back, with the name that it gave.
    nix::ioctl_read_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_header_size, libc::TUNSETVNETHDRSZ, libc::c_int);
    nix::ioctl_write_int_bad!(set_offload, libc::TUNSETOFFLOAD);
    nix::ioctl_read_bad!(get_mtu, libc::SIOCGIFMTU, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, libc::ifreq);
}

/// What the kernel hands over in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offload {
    /// Single packets without a virtio header.
    Plain,
    /// A virtio header, single packets.
    Header,
    /// TCP super-packets.
    Tcp,
    /// TCP and UDP super-packets.
    TcpUdp,
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// An interface of that name exists, made by somebody else; it is never taken over.
    #[error("an interface named {0} exists already")]
    Exists(String),
    /// The name is empty or longer than 15 bytes.
    #[error("{0:?} is no name for an interface")]
    Name(String),
    /// The kernel refused.
    #[error("open the TUN device: {0}")]
    Kernel(#[from] io::Error),
}

/// Result of taking a frame from the device.
#[derive(Debug)]
pub enum Frame {
    /// So many bytes were read, the virtio header included.
    Read(usize),
    /// Nothing is there.
    Dry,
    /// The interface was deleted.
    Lost,
}

/// A TUN interface that lives as long as this value.
#[derive(Debug)]
pub struct Device {
    file: OwnedFd,
    name: String,
    offload: Offload,
}

impl Device {
    /// Makes the interface `name`, exclusively and not persistent, with as much offload as the kernel has, up to `most`.
    /// It has no address, the kernel's default MTU and is down.
    ///
    /// # Errors
    /// [`DeviceError::Exists`] if there is an interface of that name, whoever made it.
    pub fn open(name: &str, most: Offload) -> Result<Self, DeviceError> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(|byte| byte == 0 || byte == b'/') {
            return Err(DeviceError::Name(name.to_owned()));
        }
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = open_file(TUN_DEVICE, flags, Mode::empty()).map_err(io::Error::from)?;
        let exclusive = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        let kernel = |errno: Errno| match errno == Errno::EBUSY {
            true => DeviceError::Exists(name.to_owned()),
            false => DeviceError::Kernel(errno.into()),
        };
        let headers = most > Offload::Plain;
        let with_header = headers
            && attach(&file, name, exclusive | libc::IFF_VNET_HDR).map_err(kernel).map(|()| true).or_else(
                // A kernel from before the virtio header, if there are any left.
                |error| {
                    if matches!(&error, DeviceError::Kernel(cause) if cause.raw_os_error() == Some(libc::EINVAL)) {
                        Ok(false)
                    } else {
                        Err(error)
                    }
                },
            )?;
        if !with_header {
            attach(&file, name, exclusive).map_err(kernel)?;
        }
        let offload = if with_header { ask_for_offload(&file, most) } else { Offload::Plain };
        Ok(Self { file, name: name.to_owned(), offload })
    }

    /// The interface's name at creation.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel agreed to.
    #[must_use]
    pub const fn offload(&self) -> Offload {
        self.offload
    }

    /// The super-packets that may be written.
    #[must_use]
    pub fn accepts(&self) -> Accepts {
        Accepts { tcp: self.offload >= Offload::Tcp, udp: self.offload >= Offload::TcpUdp }
    }

    /// Takes one frame. `buffer` has [`FRAME`] bytes.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Frame {
        loop {
            match nix::unistd::read(&self.file, buffer) {
                Ok(count) => return Frame::Read(count),
                Err(Errno::EINTR) => {}
                Err(errno) if is_gone(errno) => return Frame::Lost,
                // EIO: the interface is down.
                Err(_) => return Frame::Dry,
            }
        }
    }

    /// Takes a frame apart; `None` if it is too short or of an unknown kind.
    pub(crate) fn parse<'f>(&self, frame: &'f [u8]) -> Option<(Header, &'f [u8])> {
        if self.offload == Offload::Plain {
            return Some((Header::default(), frame));
        }
        let (header, packet) = frame.split_first_chunk::<{ virtio::LENGTH }>()?;
        Some((Header::parse(*header).ok()?, packet))
    }

    /// Writes a super-packet.
    ///
    /// # Errors
    /// What the kernel says; `EINVAL` means that it does not take this kind.
    pub(crate) fn write<B: AsRef<[u8]>>(&self, joined: &Joined<'_, B>) -> Result<(), Errno> {
        let header = joined.virtio().to_bytes();
        let mut slices = [IoSlice::new(&[]); SLICES];
        let parts = [self.virtio(&header), joined.headers()].into_iter().chain(joined.payloads());
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        self.write_slices(slices.get(..count).unwrap_or_default())
    }

    /// Writes one packet as it is.
    pub(crate) fn write_packet(&self, packet: &[u8]) -> Result<(), Errno> {
        let header = Header::default().to_bytes();
        let both = [IoSlice::new(self.virtio(&header)), IoSlice::new(packet)];
        let skipped = usize::from(self.offload == Offload::Plain);
        self.write_slices(both.get(skipped..).unwrap_or_default())
    }

    fn virtio<'h>(&self, header: &'h [u8]) -> &'h [u8] {
        if self.offload == Offload::Plain { &[] } else { header }
    }

    fn write_slices(&self, slices: &[IoSlice<'_>]) -> Result<(), Errno> {
        loop {
            match writev(&self.file, slices) {
                Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The interface's MTU in bytes, now. `socket` is any socket of the interface's network namespace.
    pub(crate) fn mtu(&self, socket: BorrowedFd<'_>) -> io::Result<u16> {
        let mut request = request(&self.name);
        #[expect(unsafe_code, reason = "SIOCGIFMTU has no safe wrapper")]
        // SAFETY: the descriptor is open and `request` is an initialised ifreq that lives through the call.
        let result = unsafe { ioctl::get_mtu(socket.as_raw_fd(), &raw mut request) };
        result?;
        #[expect(unsafe_code, reason = "the answer stands in a union")]
        // SAFETY: SIOCGIFMTU succeeded, so the kernel wrote this member; any bits are a c_int.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        u16::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Changes the interface's MTU.
    pub(crate) fn set_mtu(&self, socket: BorrowedFd<'_>, mtu: u16) -> io::Result<()> {
        let mut request = request(&self.name);
        request.ifr_ifru.ifru_mtu = c_int::from(mtu);
        #[expect(unsafe_code, reason = "SIOCSIFMTU has no safe wrapper")]
        // SAFETY: the descriptor is open and `request` is an initialised ifreq that lives through the call.
        let result = unsafe { ioctl::set_mtu(socket.as_raw_fd(), &raw const request) };
        result.map(drop).map_err(io::Error::from)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The interface of this descriptor was deleted: EBADFD is what a detached TUN descriptor says.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::EBADFD | Errno::EBADF | Errno::ENODEV)
}

fn attach(file: &OwnedFd, name: &str, flags: c_int) -> Result<(), Errno> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = c_short::from_ne_bytes(u16::try_from(flags).unwrap_or_default().to_ne_bytes());
    #[expect(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]
    // SAFETY: the descriptor is open and `request` is an initialised ifreq that lives through the call.
    let result = unsafe { ioctl::set_interface(file.as_raw_fd(), &raw mut request) };
    result.map(drop)
}

/// Asks for the best first. What the kernel does not know it refuses as a whole.
fn ask_for_offload(file: &OwnedFd, most: Offload) -> Offload {
    let size = c_int::try_from(virtio::LENGTH).unwrap_or_default();
    #[expect(unsafe_code, reason = "TUNSETVNETHDRSZ has no safe wrapper")]
    // SAFETY: the descriptor is open and `size` lives through the call.
    let result = unsafe { ioctl::set_header_size(file.as_raw_fd(), &raw const size) };
    // Ten bytes are the default, should the call be refused.
    if let Err(error) = result {
        tracing::debug!(%error, "size of the virtio header");
    }
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    let udp = libc::TUN_F_USO4 | libc::TUN_F_USO6;
    for (offload, features) in [(Offload::TcpUdp, tcp | udp), (Offload::Tcp, tcp)] {
        if offload > most {
            continue;
        }
        let features = c_int::try_from(features).unwrap_or_default();
        #[expect(unsafe_code, reason = "TUNSETOFFLOAD has no safe wrapper")]
        // SAFETY: the descriptor is open; the argument is a number.
        let result = unsafe { ioctl::set_offload(file.as_raw_fd(), features) };
        match result {
            Ok(_) => return offload,
            Err(error) => tracing::debug!(%error, ?offload, "the kernel refuses this offload"),
        }
    }
    Offload::Header
}

fn request(name: &str) -> libc::ifreq {
    #[expect(unsafe_code, reason = "one member of the union would leave the rest of it undefined, and the kernel reads it all")]
    // SAFETY: an ifreq is numbers, texts and pointers that nobody follows; each may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    request
}
