//! A client in a network and mount namespace of its own, with a router behind `eth0` and a far end behind `hamn0`. Needs root.
#![allow(dead_code, missing_docs, clippy::allow_attributes, reason = "each test binary uses a part")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

use hamn_core::event::HostEvent;
use hamn_core::net::{Endpoint, InterfaceName};
use hamn_core::policy::{Enforced, NetworkPolicy, TunnelAccess, TunnelTraffic};
use hamn_network::{Config, Network};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A network and mount namespace.
pub struct Namespace {
    net: File,
    mount: File,
}

impl Namespace {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes namespaces: run it as root");
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let open = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}")).unwrap();
            Self { net: open("net"), mount: open("mnt") }
        });
        let namespace = made.join().unwrap();
        namespace.sh("ip link set lo up");
        namespace
    }

    /// Runs `work` on a thread that belongs to the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS).unwrap();
                setns(&self.net, CloneFlags::CLONE_NEWNET).unwrap();
                setns(&self.mount, CloneFlags::CLONE_NEWNS).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// As `run`, with an event loop of its own, whose threads belong to the namespace too.
    pub fn block_on<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> T {
        self.run(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build().unwrap().block_on(work())
        })
    }

    /// Runs programs, one a line; words are split at spaces.
    pub fn sh(&self, lines: &str) {
        self.run(|| sh(lines));
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.net.as_raw_fd())
    }
}

/// Runs programs in the namespace of the calling thread, one a line; words are split at spaces.
pub fn sh(lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let output = words(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Standard output of a program in the namespace of the calling thread.
pub fn output_of(line: &str) -> String {
    String::from_utf8(words(line).output().unwrap().stdout).unwrap()
}

fn words(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// Client with `eth0` (192.168.1.5/24, 2001:db8:1::5/64) to a router, and `hamn0` (10.64.0.2, fd64::2) to a far end.
pub struct Lab {
    pub client: Namespace,
    pub router: Namespace,
    pub far: Namespace,
    pub dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let lab =
            Self { client: Namespace::new(), router: Namespace::new(), far: Namespace::new(), dir: tempfile::tempdir().unwrap() };
        let (router, far) = (lab.router.path(), lab.far.path());
        for namespace in [&lab.client, &lab.router, &lab.far] {
            namespace.run(|| {
                for switch in [
                    "ipv6/conf/default/accept_dad",
                    "ipv6/conf/all/accept_dad",
                    "ipv4/conf/all/rp_filter",
                    "ipv4/conf/default/rp_filter",
                ] {
                    std::fs::write(format!("/proc/sys/net/{switch}"), "0").unwrap();
                }
            });
        }
        lab.client.sh(&format!("ip link add eth0 type veth peer name lan0 netns {router}"));
        lab.client.sh(&format!("ip link add hamn0 type veth peer name tun0 netns {far}"));
        lab.router.sh("ip addr add 192.168.1.1/24 dev lan0
             ip addr add 192.168.1.53/24 dev lan0
             ip addr add 203.0.113.80/32 dev lo
             ip addr add 198.51.100.10/32 dev lo
             ip addr add 2001:db8:1::1/64 dev lan0 nodad
             ip link set lan0 up
             ip route add 10.64.0.2/32 via 192.168.1.5");
        lab.far.sh("ip addr add 203.0.113.80/32 dev lo
             ip addr add 10.64.0.1/32 dev tun0
             ip -6 addr add fd64::1/128 dev lo nodad
             ip link set tun0 up
             ip route add 10.64.0.2/32 dev tun0
             ip route add 192.168.1.5/32 dev tun0
             ip -6 route add fd64::2/128 dev tun0");
        // Answers for everything, as a tunnel does.
        lab.far.run(|| std::fs::write("/proc/sys/net/ipv4/conf/tun0/proxy_arp", "1").unwrap());
        lab.far.sh("ip route add default dev lo");
        lab.client.sh("ip addr add 192.168.1.5/24 dev eth0
             ip addr add 2001:db8:1::5/64 dev eth0 nodad
             ip link set eth0 up
             ip addr add 10.64.0.2/32 dev hamn0
             ip addr add fd64::2/128 dev hamn0 nodad
             ip link set hamn0 up
             ip route add default via 192.168.1.1
             ip -6 route add default via 2001:db8:1::1");
        lab.client.run(|| {
            until("the links are up", || {
                output_of("ip -6 addr show tentative").is_empty() && output_of("ip link show eth0").contains("LOWER_UP")
            });
        });
        lab
    }

    /// A configuration whose files are the test's own.
    pub fn config(&self) -> Config {
        let mut config = Config::new(&self.dir.path().join("state"));
        config.resolv_conf = self.resolv_conf();
        config.bus_address = Some("unix:path=/nonexistent/bus".to_owned());
        config
    }

    pub fn resolv_conf(&self) -> PathBuf {
        let etc = self.dir.path().join("etc");
        std::fs::create_dir_all(&etc).unwrap();
        etc.join("resolv.conf")
    }

    /// Opens a network on the calling thread, which belongs to the client.
    pub async fn network(&self) -> (Network, mpsc::Receiver<HostEvent>) {
        let (sender, receiver) = mpsc::channel(64);
        (Network::open(self.config(), sender).await.unwrap(), receiver)
    }
}

/// The policies of the tests.
pub fn blocked() -> NetworkPolicy {
    NetworkPolicy::Enforce(Enforced::default())
}

/// All traffic in the tunnel; the gateway is 198.51.100.10.
pub fn connected(change: impl FnOnce(&mut Enforced)) -> NetworkPolicy {
    let tunnel = TunnelAccess {
        interface: InterfaceName::tunnel(),
        addresses: vec!["10.64.0.2/32".parse().unwrap(), "fd64::2/128".parse().unwrap()],
        traffic: TunnelTraffic::Everything { carries: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()] },
        resolvers: vec!["10.64.0.1".parse().unwrap()],
        lan_resolvers: Vec::new(),
    };
    let mut enforced = Enforced {
        endpoints: vec![Endpoint::udp("198.51.100.10:51820".parse().unwrap())],
        tunnel: Some(tunnel),
        ..Enforced::default()
    };
    change(&mut enforced);
    NetworkPolicy::Enforce(enforced)
}

/// Answers every datagram to this address with `name` until the returned value is dropped.
pub struct Echo {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    pub heard: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Echo {
    pub fn start(namespace: &Namespace, address: &str, name: &'static str) -> Self {
        let socket = namespace.run(|| UdpSocket::bind(address).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let echo = Self { stop: Default::default(), heard: Default::default() };
        let (stop, heard) = (echo.stop.clone(), echo.heard.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    heard.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let _ = socket.send_to(name.as_bytes(), from);
                }
            }
        });
        echo
    }

    pub fn count(&self) -> usize {
        self.heard.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Who answers a datagram from the calling thread's namespace; `None` when nobody does within 300 ms.
pub fn ask(to: &str, mark: Option<u32>) -> Option<String> {
    ask_from(0, to, mark)
}

/// As `ask`, when an answer must come: the first packets may be lost while neighbours get to know each other.
pub fn answered(to: &str, mark: Option<u32>) -> Option<String> {
    (0..10).find_map(|_| ask(to, mark))
}

/// As `ask`, from this port.
pub fn ask_from(port: u16, to: &str, mark: Option<u32>) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
    let socket = UdpSocket::bind((any, port)).unwrap();
    if let Some(mark) = mark {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, &mark).unwrap();
    }
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.send_to(b"?", to).ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Waits for an event that `wanted` accepts.
pub async fn event<T>(events: &mut mpsc::Receiver<HostEvent>, mut wanted: impl FnMut(HostEvent) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(events.recv().await.expect("the network is open")) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), search).await.expect("the event within 10 s")
}

/// Waits for something that must come true, while tasks on this thread go on.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

/// Waits for something that must come true.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The content of a file.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
