//! Network namespaces for tests: a client, what its cable leads to, and what its tunnel leads to. Needs root.

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

/// A network namespace that lives as long as this value.
pub struct Namespace(File);

impl Namespace {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces and loads nftables: run it as root");
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(file.join().unwrap())
    }

    /// Runs `work` on a thread that belongs to the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// As `run`, with an event loop of its own on that thread.
    pub fn block_on<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> T {
        self.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work()))
    }

    /// Runs programs, one a line; words are split at spaces.
    pub fn sh(&self, lines: &str) {
        self.run(|| {
            for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let mut words = line.split_whitespace();
                let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
                assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            }
        });
    }

    /// Standard output of a program.
    pub fn output_of(&self, line: &str) -> String {
        self.run(|| {
            let mut words = line.split_whitespace();
            let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// Sets a value under `/proc/sys/net` of the namespace.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap());
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const TUNNEL_V4: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);

/// Client with `eth0` to `isp` (203.0.113.0/24, 2001:db8:1::/64) and `hamn0` to `inner`; every neighbour is known for good.
pub struct Lab {
    pub client: Namespace,
    pub isp: Namespace,
    pub inner: Namespace,
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self { client: Namespace::new(), isp: Namespace::new(), inner: Namespace::new() };
        let (isp, inner) = (lab.isp.path(), lab.inner.path());
        for namespace in [&lab.client, &lab.isp, &lab.inner] {
            for kind in ["default", "all"] {
                namespace.sysctl(&format!("ipv6/conf/{kind}/accept_dad"), "0");
                namespace.sysctl(&format!("ipv4/conf/{kind}/rp_filter"), "0");
            }
            namespace.sh("ip link set lo up");
        }
        lab.client.sh(&format!(
            "ip link add eth0 address 02:00:00:00:00:01 type veth peer name isp0 address 02:00:00:00:00:fe netns {isp}
             ip link add hamn0 address 02:00:00:00:01:01 type veth peer name tun0 address 02:00:00:00:01:fe netns {inner}"
        ));
        lab.isp.sh("ip addr add 203.0.113.254/24 dev isp0
             ip addr add 2001:db8:1::fe/64 dev isp0 nodad
             ip link set isp0 up");
        lab.inner.sh("ip link set tun0 up");
        lab.client.sh("ip addr add 203.0.113.1/24 dev eth0
             ip addr add 2001:db8:1::1/64 dev eth0 nodad
             ip addr add 10.64.0.2/32 dev hamn0
             ip addr add fd64::2/128 dev hamn0 nodad
             ip link set eth0 up
             ip link set hamn0 up
             ip neigh replace 203.0.113.254 lladdr 02:00:00:00:00:fe nud permanent dev eth0
             ip neigh replace 2001:db8:1::fe lladdr 02:00:00:00:00:fe nud permanent dev eth0
             ip neigh replace 10.64.0.254 lladdr 02:00:00:00:01:fe nud permanent dev hamn0
             ip neigh replace fd64::fe lladdr 02:00:00:00:01:fe nud permanent dev hamn0
             ip route add default via 203.0.113.254 dev eth0
             ip route add default via 10.64.0.254 dev hamn0 onlink metric 500
             ip -6 route add default via 2001:db8:1::fe dev eth0
             ip -6 route add default via fd64::fe dev hamn0 onlink metric 500");
        lab.isp.sh("ip neigh replace 203.0.113.1 lladdr 02:00:00:00:00:01 nud permanent dev isp0
             ip neigh replace 2001:db8:1::1 lladdr 02:00:00:00:00:01 nud permanent dev isp0");
        // Carrier and addresses are ready only when the kernel says so.
        until("the links are up", || lab.client.output_of("ip -6 addr show tentative").is_empty());
        lab
    }
}

/// Waits for something that must come true.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A frame that a sniffer saw, as far as tests look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
    pub payload: Vec<u8>,
}

/// Sees every frame of its namespace.
pub struct Sniffer(OwnedFd);

impl Sniffer {
    /// Opens in the namespace of the calling thread.
    pub fn open() -> Self {
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
        setsockopt(&fd, sockopt::RcvBufForce, &(32 << 20)).unwrap();
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::milliseconds(60)).unwrap();
        Self(fd)
    }

    /// The next frame with IP in it; `None` after 60 ms of silence.
    pub fn next(&self) -> Option<Frame> {
        let mut buffer = [0; 2048];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
            if let Some(frame) = frame(&buffer[..length]) {
                return Some(frame);
            }
        }
    }
}

fn frame(bytes: &[u8]) -> Option<Frame> {
    let kind = u16::from_be_bytes(*bytes.get(12..)?.first_chunk()?);
    let packet = &bytes[14..];
    let (destination, protocol, body) = match kind {
        0x0800 => {
            let destination = Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?);
            (IpAddr::V4(destination), *packet.get(9)?, packet.get(usize::from(packet[0] & 15) * 4..)?)
        }
        0x86dd => {
            let destination = Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?);
            (IpAddr::V6(destination), *packet.get(6)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| body.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |two| u16::from_be_bytes(*two));
    let payload = body.get(8..).unwrap_or_default().to_vec();
    Some(Frame { destination, protocol, source_port: port(0), destination_port: port(2), payload })
}
