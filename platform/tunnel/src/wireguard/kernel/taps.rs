//! What the kernel's WireGuard does not tell: whether packets, and not only handshakes, come out of the tunnel, when the
//! first one goes in, and the answers to our probes.
//!
//! Three packet sockets on the interface (packet(7)) see what passes it, below the firewall: one counts what comes out, one what
//! goes in, and one takes the answers and puts probes in. The two that count are never emptied while traffic flows: a socket
//! that is full costs a filter's few steps a packet, and the kernel counts on.
#![expect(unsafe_code, reason = "filter, address and statistics of a packet socket have no safe wrappers")]

use crate::tun;
use crate::wireguard::probe::Probe;
use bytes::BytesMut;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socket, sockopt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Room for a packet or two: the least that the kernel allows, which it raises as it needs.
const SMALL_BUFFER: usize = 1;
/// An answer to a probe; longer packets are none, and are cut.
const ANSWER: usize = 2_048;
/// Packets removed from a socket before it is watched. It holds fewer.
const DRAIN: usize = 64;
/// Looks for an interface that is down, and how long between them.
const LOOKS: u32 = 10;
const LOOK: Duration = Duration::from_millis(50);

/// `PACKET_STATISTICS` of `linux/if_packet.h`.
const PACKET_STATISTICS: libc::c_int = 6;

/// `struct tpacket_stats`: the first number has the second in it.
#[repr(C)]
struct Statistics {
    packets: u32,
    _full: u32,
}

/// Instructions: operation, skip if true, skip if false, operand (`linux/filter.h`).
type Filter<'a> = &'a [(u32, u8, u8, u32)];
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE_AFTER: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
const LOAD_HALF_AFTER: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_IPV4_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
/// A constant in the place of a header's length.
const LOAD_IPV6_LENGTH: u32 = libc::BPF_LDX | libc::BPF_IMM;
const SHIFT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// `SKF_AD_OFF + SKF_AD_PKTTYPE`: not a place in the packet, but which way it goes.
const DIRECTION: u32 = 0xffff_f000 + 4;
/// `PACKET_OUTGOING`.
const OUTGOING: u32 = 4;
const ALL: u32 = u32::MAX;

/// Everything that comes out of the tunnel.
const COMES: Filter<'static> = &[(LOAD_WORD, 0, 0, DIRECTION), (EQUAL, 0, 1, OUTGOING), (RETURN, 0, 0, 0), (RETURN, 0, 0, ALL)];
/// Everything that goes into it.
const GOES: Filter<'static> = &[(LOAD_WORD, 0, 0, DIRECTION), (EQUAL, 0, 1, OUTGOING), (RETURN, 0, 0, ALL), (RETURN, 0, 0, 0)];
/// Echo replies and answers of resolvers out of the tunnel, unfragmented and without IPv6 extensions. Each jump counts from the
/// next instruction; the last two refuse and take.
const ANSWERS: Filter<'static> = &[
    (LOAD_WORD, 0, 0, DIRECTION),
    (EQUAL, 20, 0, OUTGOING),
    (LOAD_BYTE, 0, 0, 0),
    (SHIFT, 0, 0, 4),
    (EQUAL, 9, 0, 6),
    (EQUAL, 0, 16, 4),
    // IPv4: no later fragment; an ICMP echo reply, or UDP.
    (LOAD_HALF, 0, 0, 6),
    (ANY_BIT, 14, 0, 0x1fff),
    (LOAD_IPV4_LENGTH, 0, 0, 0),
    (LOAD_BYTE, 0, 0, 9),
    (EQUAL, 0, 2, 1),
    (LOAD_BYTE_AFTER, 0, 0, 0),
    (EQUAL, 10, 9, 0),
    (EQUAL, 6, 8, 17),
    // IPv6: an ICMPv6 echo reply, or UDP.
    (LOAD_BYTE, 0, 0, 6),
    (EQUAL, 0, 2, 58),
    (LOAD_BYTE, 0, 0, 40),
    (EQUAL, 5, 4, 129),
    (EQUAL, 0, 3, 17),
    (LOAD_IPV6_LENGTH, 0, 0, 40),
    // UDP of either: from port 53.
    (LOAD_HALF_AFTER, 0, 0, 0),
    (EQUAL, 1, 0, 53),
    (RETURN, 0, 0, 0),
    (RETURN, 0, 0, ALL),
];

/// Packets that passed the counting sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Out of the tunnel, answers to probes included.
    pub(super) came: u64,
    /// Into the tunnel, probes excluded.
    pub(super) went: u64,
}

/// See the module.
pub(super) struct Taps {
    comes: OwnedFd,
    goes: AsyncFd<OwnedFd>,
    ear: AsyncFd<OwnedFd>,
    counted: Mutex<Passed>,
    injected: AtomicU64,
    awaited: AtomicBool,
    pub(super) bell: Arc<Notify>,
}

impl Taps {
    /// Opens them on the interface of this number, in the calling thread's network namespace.
    pub(super) fn open(index: u32) -> io::Result<Self> {
        let comes = tap(index, COMES)?;
        let goes = tap(index, GOES)?;
        for counter in [&comes, &goes] {
            setsockopt(counter, sockopt::RcvBuf, &SMALL_BUFFER)?;
        }
        Ok(Self {
            comes,
            goes: tun::platform::register(goes)?,
            ear: tun::platform::register(tap(index, ANSWERS)?)?,
            counted: Mutex::new(Passed::default()),
            injected: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            bell: Arc::new(Notify::new()),
        })
    }

    /// Since the start. Super-packets count as one.
    pub(super) fn passed(&self) -> Passed {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        // An error leaves the count as it is, as if nothing had passed.
        counted.came = counted.came.saturating_add(take_statistics(&self.comes).unwrap_or(0));
        counted.went = counted.went.saturating_add(take_statistics(self.goes.get_ref()).unwrap_or(0));
        Passed { came: counted.came, went: counted.went.saturating_sub(self.injected.load(Ordering::SeqCst)) }
    }

    /// The next packet into the tunnel rings the bell, once.
    pub(super) fn await_traffic(&self) {
        self.awaited.store(true, Ordering::SeqCst);
        let mut byte = [0];
        for _ in 0..DRAIN {
            if recv(self.goes.get_ref().as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT).is_err() {
                return;
            }
        }
    }

    /// A packet that enters the tunnel as if it came from the operating system.
    pub(super) fn inject(&self, packet: &BytesMut) {
        // Counted before it is seen, so that it is never taken for somebody's traffic.
        self.injected.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = send(self.ear.get_ref().as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT) {
            self.injected.fetch_sub(1, Ordering::SeqCst);
            tracing::trace!(%error, "a probe was not sent");
        }
    }

    /// Rings the bell for awaited traffic, for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        while let Ok(mut ready) = self.goes.readable().await {
            if self.awaited.swap(false, Ordering::SeqCst) {
                self.bell.notify_one();
            }
            ready.clear_ready();
        }
    }

    /// Gives the answers to the probe, until `is_gone` says that the interface was deleted.
    pub(super) async fn listen(self: Arc<Self>, probe: Option<Arc<Probe>>, is_gone: impl Fn() -> bool + Send + Sync) {
        let mut buffer = [0; ANSWER];
        // A deleted interface is an error and nothing to read.
        while let Ok(mut ready) = self.ear.ready(Interest::READABLE | Interest::ERROR).await {
            match recv(self.ear.get_ref().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    if let Some((probe, packet)) = probe.as_deref().zip(buffer.get(..length)) {
                        probe.take_answer(packet);
                    }
                }
                Err(Errno::EINTR) => {}
                // ENETDOWN: down or deleted.
                Err(error) => {
                    if error != Errno::EAGAIN && is_gone_soon(&is_gone).await {
                        return;
                    }
                    ready.clear_ready();
                }
            }
        }
    }
}

/// The kernel says that an interface is down before it is gone, and says nothing afterwards.
async fn is_gone_soon(is_gone: &(impl Fn() -> bool + Send + Sync)) -> bool {
    for _ in 0..LOOKS {
        if is_gone() {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
    false
}

/// A packet socket that sees what the filter takes of what passes the interface. Nothing reaches it before it is bound.
fn tap(index: u32, filter: Filter<'_>) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let tap = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    attach(&tap, filter)?;
    let number = |value: i32| u16::try_from(value).unwrap_or_default();
    let address = libc::sockaddr_ll {
        sll_family: number(libc::AF_PACKET),
        sll_protocol: number(libc::ETH_P_ALL).to_be(),
        sll_ifindex: i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or_default();
    // SAFETY: the descriptor is open; address and length describe one initialised sockaddr_ll that lives through the call.
    let result = unsafe { libc::bind(tap.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 { Ok(tap) } else { Err(io::Error::last_os_error()) }
}

fn attach(tap: &OwnedFd, filter: Filter<'_>) -> io::Result<()> {
    let instruction = |&(code, jt, jf, k): &(u32, u8, u8, u32)| {
        Ok(libc::sock_filter { code: u16::try_from(code).map_err(|_| io::ErrorKind::InvalidInput)?, jt, jf, k })
    };
    let mut program = filter.iter().map(instruction).collect::<io::Result<Vec<_>>>()?;
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of_val(&program)).unwrap_or_default();
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the descriptor is open; `program` names as many instructions as its vector has, which lives through the call.
    let result = unsafe { libc::setsockopt(tap.as_raw_fd(), level, option, (&raw const program).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Packets since the last call, those included that found the socket full: the kernel begins at zero again (packet(7)).
fn take_statistics(tap: &OwnedFd) -> io::Result<u64> {
    let mut statistics = Statistics { packets: 0, _full: 0 };
    let mut size = libc::socklen_t::try_from(size_of_val(&statistics)).unwrap_or_default();
    let (level, option) = (libc::SOL_PACKET, PACKET_STATISTICS);
    // SAFETY: the descriptor is open; the statistics and their size live through the call, which writes no more than that.
    let result = unsafe { libc::getsockopt(tap.as_raw_fd(), level, option, (&raw mut statistics).cast(), &raw mut size) };
    if result == 0 { Ok(u64::from(statistics.packets)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boottime_ms;
    use hamn_core::key::PublicKey;
    use hamn_core::net::InterfaceName;
    use hamn_core::plan::{KeySource, Place, TunnelPlan};
    use nix::sched::{CloneFlags, unshare};
    use std::net::UdpSocket;

    fn plan() -> TunnelPlan {
        TunnelPlan {
            place: Place::default(),
            endpoints: vec![],
            peer: PublicKey::new([9; 32]).unwrap(),
            key: KeySource::Device,
            has_preshared_key: false,
            addresses: vec!["10.64.0.2/32".parse().unwrap(), "fd64::2/128".parse().unwrap()],
            allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            resolvers: vec!["10.64.0.1".parse().unwrap(), "fd64::1".parse().unwrap()],
            gateway: vec!["10.64.0.1".parse().unwrap(), "fd64::1".parse().unwrap()],
            mtu: 1420,
            keepalive_s: None,
        }
    }

    /// The answer to an echo request or a query, with the checksums that it had: nobody here verifies them.
    fn answer(question: &[u8]) -> Vec<u8> {
        let mut reply = question.to_vec();
        let (source, target, start, protocol) =
            if question[0] >> 4 == 4 { (12..16, 16..20, 20, 9) } else { (8..24, 24..40, 40, 6) };
        reply[source.clone()].copy_from_slice(&question[target.clone()]);
        reply[target].copy_from_slice(&question[source]);
        match question[protocol] {
            1 => reply[start] = 0,
            58 => reply[start] = 129,
            _ => {
                reply[start..start + 2].copy_from_slice(&question[start + 2..start + 4]);
                reply[start + 2..start + 4].copy_from_slice(&question[start..start + 2]);
                reply[start + 10] |= 0x80;
            }
        }
        reply
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let end_ms = boottime_ms() + 5_000;
        while !condition() {
            assert!(boottime_ms() < end_ms, "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A TUN device is to the kernel what its WireGuard's is: packets without link headers. The test plays the tunnel behind it.
    #[test]
    fn a_device_without_link_headers_is_counted_asked_and_listened_to() {
        let work = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(tapped());
        };
        std::thread::spawn(work).join().unwrap();
    }

    async fn tapped() {
        let name = InterfaceName::tunnel();
        let addresses: Vec<ipnet::IpNet> = vec!["10.64.0.2/24".parse().unwrap(), "fd64::2/64".parse().unwrap()];
        let device = tun::create(&name, &addresses, 1_420).await.unwrap();
        let index = nix::net::if_::if_nametoindex(name.as_str()).unwrap();
        let taps = Arc::new(Taps::open(index).unwrap());
        let probe = Arc::new(Probe::new(&plan()).unwrap());
        let watch = tokio::spawn(Arc::clone(&taps).watch());
        let gone = || nix::net::if_::if_nametoindex("hamn0").is_err();
        let listen = tokio::spawn(Arc::clone(&taps).listen(Some(Arc::clone(&probe)), gone));
        let read = |buffer: &mut [u8]| nix::unistd::read(&device, buffer);
        let mut buffer = [0; 2_048];
        assert_eq!(taps.passed(), Passed::default());

        // Probes come out of the device as they are, and are nobody's traffic.
        let questions = probe.packets();
        assert_eq!(questions.len(), 4);
        for question in &questions {
            taps.inject(question);
            let length = read(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], &question[..]);
        }
        assert_eq!(taps.passed(), Passed::default());

        // Their answers are heard, one by one; what is none is only counted.
        for (number, question) in (1..).zip(&questions) {
            nix::unistd::write(&device, &answer(question)).unwrap();
            tokio::time::timeout(Duration::from_secs(5), probe.answered.notified()).await.expect("an answer in time");
            assert_eq!(taps.passed().came, number);
        }
        assert!(probe.round_trip_ms().is_some());
        let other = UdpSocket::bind("10.64.0.2:4000").unwrap();
        let mut datagram = questions[0].to_vec();
        datagram[9] = 17;
        for _ in 0..100 {
            nix::unistd::write(&device, &datagram).unwrap();
        }
        until("each is counted, though the socket is full", || taps.passed().came == 104).await;
        let unheard = tokio::time::timeout(Duration::from_millis(50), probe.answered.notified()).await;
        assert!(unheard.is_err(), "no answer to a question");

        // Traffic rings once when it is awaited, also after the counting socket was full.
        for _ in 0..50 {
            other.send_to(b"out", "10.64.0.1:9").unwrap();
        }
        assert_eq!(taps.passed().went, 50);
        let rung = async |ms| tokio::time::timeout(Duration::from_millis(ms), taps.bell.notified()).await.is_ok();
        assert!(!rung(50).await, "nobody asked");
        taps.await_traffic();
        tokio::time::sleep(Duration::from_millis(50)).await;
        // What was there before may ring; then it is asked again, and nothing is there.
        rung(50).await;
        taps.await_traffic();
        assert!(!rung(50).await, "nothing went in");
        other.send_to(b"out", "10.64.0.1:9").unwrap();
        assert!(rung(5_000).await, "it went in");
        other.send_to(b"out", "10.64.0.1:9").unwrap();
        assert!(!rung(50).await, "once");
        assert_eq!(taps.passed().went, 52);

        drop(device);
        tokio::time::timeout(Duration::from_secs(5), listen).await.expect("it notices that the device is gone").unwrap();
        watch.abort();
    }
}
