//! Runs gotatun's own `Device` in the foreground: `hamn-stock INTERFACE FILE`, on the kind of device and with the socket
//! options that the stock tunnel has: one packet per read and write, receive offload on the socket.
//!
//! It says `ready` on standard output and ends with its standard input.
#![expect(
    unsafe_code,
    reason = "TUNSETIFF is an ioctl without a safe wrapper; so is the registration of a descriptor with the runtime"
)]

use anyhow::{Context, Result, ensure};
use gotatun::device::{DeviceBuilder, Peer};
use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use gotatun::udp::socket::{UdpSocket, UdpSocketFactory};
use gotatun::udp::{UdpRecv, UdpTransportFactory, UdpTransportFactoryParams};
use hamn_bench_tunnel::conf::Conf;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::Mode;
use std::ffi::{c_char, c_short};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use tokio::io::unix::AsyncFd;

/// Packets taken from the device at one wake-up.
const BATCH: usize = 64;
const MTU: u16 = 1_420;
const SOCKET_BUFFER: usize = 2 << 20;

mod ioctl {
    nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);
}

fn device(name: &str) -> Result<OwnedFd> {
    ensure!(name.len() < 16, "an interface's name has at most 15 bytes");
    let device = open("/dev/net/tun", OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())?;
    let flags = c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
    let mut request = libc::ifreq { ifr_name: [0; 16], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    // SAFETY: the descriptor is open and `request` is an initialised ifreq that lives through the call.
    unsafe { ioctl::set_interface(device.as_raw_fd(), &raw const request) }.context("make the interface")?;
    Ok(device)
}

fn register(device: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, names one file description and does not change until it is dropped with the AsyncFd.
    let registered = unsafe { AsyncFd::register(device) };
    Ok(registered.map_err(io::Error::from)?)
}

struct Writer(Arc<AsyncFd<OwnedFd>>);

impl IpSend for Writer {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        let packet = packet.into_bytes();
        loop {
            match nix::unistd::write(self.0.get_ref().as_fd(), &packet) {
                Err(Errno::EAGAIN) => self.0.writable().await?.clear_ready(),
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }
}

struct Reader {
    device: Arc<AsyncFd<OwnedFd>>,
    batch: Vec<Packet<Ip>>,
}

impl IpRecv for Reader {
    async fn recv<'a>(&'a mut self, pool: &mut PacketBufPool) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        while self.batch.is_empty() {
            let mut ready = self.device.readable().await?;
            while self.batch.len() < BATCH {
                let mut packet = pool.get();
                match nix::unistd::read(ready.get_inner().as_fd(), &mut packet) {
                    Ok(length) => {
                        packet.truncate(length);
                        self.batch.extend(packet.try_into_ip().ok());
                    }
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(self.batch.drain(..))
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(MTU)
    }
}

/// gotatun's sockets with larger buffers and receive offload.
struct Sockets;

impl UdpTransportFactory for Sockets {
    type Send = UdpSocket;
    type Recv = UdpSocket;

    async fn bind(&mut self, params: &UdpTransportFactoryParams) -> io::Result<(UdpSocket, UdpSocket)> {
        let (send, receive) = UdpSocketFactory::default().bind(params).await?;
        setsockopt(&send, sockopt::RcvBufForce, &SOCKET_BUFFER)?;
        setsockopt(&send, sockopt::SndBufForce, &SOCKET_BUFFER)?;
        let _ = receive.enable_udp_gro();
        Ok((send, receive))
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (name, file) = arguments.next().zip(arguments.next()).context("usage: hamn-stock INTERFACE FILE")?;
    let conf = Conf::parse(&std::fs::read_to_string(file)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let device = Arc::new(register(device(&name)?)?);
        let reader = Reader { device: Arc::clone(&device), batch: Vec::with_capacity(BATCH) };
        let peers = conf.peers.into_iter().map(|peer| {
            let mut stock = Peer::new(peer.public_key);
            stock.endpoint = peer.endpoint;
            // gotatun's own prefix type is not re-exported by it; both write and read the same notation.
            stock.allowed_ips = peer.allowed_ips.iter().filter_map(|net| net.trunc().to_string().parse().ok()).collect();
            stock
        });
        let _running = DeviceBuilder::new()
            .with_udp(Sockets)
            .with_ip_pair(Writer(device), reader)
            .with_listen_port(conf.port)
            .with_private_key(conf.private_key)
            .with_peers(peers)
            .build()
            .await?;
        writeln!(io::stdout(), "ready")?;
        tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
        Ok(())
    })
}
