//! Two network namespaces joined by a veth pair, each with a runtime of its own, and gateways to put in one of them.

use hamn_core::event::TunnelEvent;
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::{Endpoint, FWMARK, InterfaceName};
use hamn_core::plan::{KeySource, Place, TunnelPlan};
use hamn_tunnel::wireguard::server::{ServerOptions, WireGuardServer};
use hamn_tunnel::{Engine, Limits, Options, Secrets, Tunnel, TunnelError};
use nix::sched::{CloneFlags, unshare};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

pub const PORT: u16 = 51820;
pub const ECHO: u16 = 7000;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread in a network namespace of its own. Everything spawned there lives there; it ends with the test process.
pub struct Namespace {
    jobs: mpsc::UnboundedSender<Job>,
    pub thread_id: i32,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                while let Some(job) = queue.recv().await {
                    tokio::spawn(job);
                }
            });
        });
        Self { jobs, thread_id: is_ready.recv().unwrap() }
    }

    /// Runs the future in the namespace.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        let job = async move {
            let _ = done.send(work.await);
        };
        assert!(self.jobs.send(Box::pin(job)).is_ok(), "the namespace's thread lives");
        result.await.expect("the work did not panic")
    }

    pub async fn sh(&self, script: &str) -> String {
        let script = script.to_owned();
        self.run(async move { sh(&script).await }).await
    }
}

async fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}: {}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

pub struct Lab {
    pub client: Namespace,
    pub gateway: Namespace,
    pub gateway_key: SecretKey,
    pub client_key: SecretKey,
    /// At both ends.
    pub engine: Engine,
}

/// client c0 10.0.0.2, fd01::2 <-> 10.0.0.1, fd01::1 g0 gateway, with an nft count of marked and unmarked WireGuard
/// packets at the client, and an echo (UDP and TCP) and a resolver at the gateway.
pub async fn lab(engine: Engine) -> Lab {
    let (client, gateway) = (Namespace::new(), Namespace::new());
    let gateway_thread = gateway.thread_id;
    client
        .sh(&format!(
            "ip link set lo up; ip link add c0 type veth peer name g0; ip link set g0 netns {gateway_thread}
             ip addr add 10.0.0.2/24 dev c0; ip addr add fd01::2/64 dev c0 nodad; ip link set c0 up
             nft -f - <<'END'
             table inet count {{
                 counter marked {{ }}
                 counter unmarked {{ }}
                 chain output {{
                     type filter hook output priority 0
                     udp dport {PORT} meta mark {FWMARK} counter name marked
                     udp dport {PORT} meta mark != {FWMARK} counter name unmarked
                 }}
             }}
END"
        ))
        .await;
    gateway.sh("ip link set lo up; ip addr add 10.0.0.1/24 dev g0; ip addr add fd01::1/64 dev g0 nodad; ip link set g0 up").await;
    gateway.run(async { services().await }).await;
    Lab { client, gateway, gateway_key: SecretKey::new([0x51; 32]), client_key: SecretKey::new([0x42; 32]), engine }
}

async fn services() {
    for address in ["0.0.0.0", "::"] {
        let socket = udp(address, ECHO);
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
                // The interface may be gone just then.
                let _ = socket.send_to(&buffer[..count], from).await;
            }
        });
        let socket = udp(address, 53);
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
                buffer[2] |= 0x80;
                let _ = socket.send_to(&buffer[..count], from).await;
            }
        });
    }
    let listener = TcpListener::bind(("::", ECHO)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
}

fn udp(address: &str, port: u16) -> UdpSocket {
    let address: SocketAddr = (address.parse::<std::net::IpAddr>().unwrap(), port).into();
    let domain = nix::sys::socket::AddressFamily::Inet6;
    if address.is_ipv4() {
        let socket = std::net::UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        return UdpSocket::from_std(socket).unwrap();
    }
    use nix::sys::socket::{SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket, sockopt};
    use std::os::fd::AsRawFd;
    let fd = socket(domain, SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::Ipv6V6Only, &true).unwrap();
    let SocketAddr::V6(address) = address else { unreachable!() };
    bind(fd.as_raw_fd(), &SockaddrIn6::from(address)).unwrap();
    UdpSocket::from_std(std::net::UdpSocket::from(fd)).unwrap()
}

pub fn public(key: &SecretKey) -> PublicKey {
    let secret = gotatun::x25519::StaticSecret::from(*key.reveal());
    PublicKey::new(gotatun::x25519::PublicKey::from(&secret).to_bytes()).unwrap()
}

pub fn interface() -> InterfaceName {
    InterfaceName::tunnel()
}

pub fn v4() -> SocketAddr {
    SocketAddr::new("10.0.0.1".parse().unwrap(), PORT)
}

pub fn v6() -> SocketAddr {
    SocketAddr::new("fd01::1".parse().unwrap(), PORT)
}

impl Lab {
    pub fn plan(&self, endpoints: &[SocketAddr]) -> TunnelPlan {
        TunnelPlan {
            place: Place::default(),
            endpoints: endpoints.iter().copied().map(Endpoint::udp).collect(),
            peer: public(&self.gateway_key),
            key: KeySource::Device,
            has_preshared_key: false,
            addresses: vec!["10.64.0.2/32".parse().unwrap(), "fd64::2/128".parse().unwrap()],
            allowed_ips: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
            resolvers: vec![],
            gateway: vec!["10.64.0.1".parse().unwrap(), "fd64::1".parse().unwrap()],
            mtu: 1400,
            keepalive_s: None,
        }
    }

    pub async fn server(&self) -> WireGuardServer {
        let key = self.gateway_key.clone();
        let (client, engine) = (public(&self.client_key), self.engine);
        self.gateway
            .run(async move {
                let options = ServerOptions {
                    interface: InterfaceName::try_from("gw0".to_owned()).unwrap(),
                    addresses: vec!["10.64.0.1/24".parse().unwrap(), "fd64::1/64".parse().unwrap()],
                    mtu: 1400,
                    listen_port: PORT,
                    private_key: key,
                };
                let server = WireGuardServer::start_on(engine, options).await.unwrap();
                server.add_peer(client, &inner(), None).await.unwrap();
                server
            })
            .await
    }

    /// Starts the client; the interface gets a route to the gateway's network, as the network side would make one.
    pub async fn connect(&self, plan: TunnelPlan, limits: Limits) -> Connection {
        self.connect_with(plan, limits, None).await.expect("the tunnel starts")
    }

    pub async fn connect_with(
        &self,
        plan: TunnelPlan,
        limits: Limits,
        preshared_key: Option<SecretKey>,
    ) -> Result<Connection, TunnelError> {
        let secrets = Secrets { private_key: self.client_key.clone(), preshared_key };
        let (sender, events) = mpsc::channel(4);
        let (started, engine) = (Instant::now(), self.engine);
        let tunnel = self
            .client
            .run(async move {
                let options = Options { limits, ..Options::default() };
                hamn_tunnel::start_on(engine, &plan, secrets, options, sender).await
            })
            .await?;
        Ok(Connection { tunnel, events, started })
    }

    pub async fn route(&self) {
        self.client
            .sh("ip route add 10.64.0.0/24 dev hamn0 src 10.64.0.2; ip -6 route add fd64::/64 dev hamn0 src fd64::2")
            .await;
    }

    /// Packets to the gateway's port at the client: with our mark, without.
    pub async fn outer_packets(&self) -> (u64, u64) {
        let count = async |name: &str| {
            let text = self.client.sh(&format!("nft list counter inet count {name}")).await;
            let mut words = text.split_whitespace();
            words.find(|word| *word == "packets").unwrap();
            words.next().unwrap().parse::<u64>().unwrap()
        };
        (count("marked").await, count("unmarked").await)
    }

    pub async fn interface_exists(&self, name: &str) -> bool {
        self.client.sh("ip -br link").await.lines().any(|line| line.split([' ', '@']).next() == Some(name))
    }

    /// One echo over TCP inside the tunnel.
    pub async fn tcp_echo(&self, address: &str) {
        let address: SocketAddr = (address.parse::<std::net::IpAddr>().unwrap(), ECHO).into();
        let work = async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(b"through the tunnel").await.unwrap();
            let mut reply = [0; 18];
            stream.read_exact(&mut reply).await.unwrap();
            assert_eq!(&reply, b"through the tunnel");
        };
        tokio::time::timeout(Duration::from_secs(5), self.client.run(work)).await.expect("an echo in time");
    }

    /// Sends an echo request every 20 ms from now on; the receiver gets the moment of each answer.
    pub async fn stream_of_echoes(&self) -> mpsc::UnboundedReceiver<Instant> {
        let (sender, answers) = mpsc::unbounded_channel();
        self.client
            .run(async move {
                let socket = std::sync::Arc::new(UdpSocket::bind("10.64.0.2:0").await.unwrap());
                let receiver = std::sync::Arc::clone(&socket);
                tokio::spawn(async move {
                    let target: SocketAddr = ("10.64.0.1".parse::<std::net::IpAddr>().unwrap(), ECHO).into();
                    loop {
                        let _ = socket.send_to(b"are you there?", target).await;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                });
                tokio::spawn(async move {
                    let mut buffer = [0; 64];
                    loop {
                        if receiver.recv_from(&mut buffer).await.is_ok() && sender.send(Instant::now()).is_err() {
                            return;
                        }
                    }
                });
            })
            .await;
        answers
    }
}

pub struct Connection {
    pub tunnel: Box<dyn Tunnel>,
    pub events: mpsc::Receiver<TunnelEvent>,
    pub started: Instant,
}

impl Connection {
    pub async fn event(&mut self, within: Duration) -> TunnelEvent {
        tokio::time::timeout(within, self.events.recv()).await.expect("an event in time").expect("the tunnel lives")
    }

    pub async fn verified(&mut self) -> Duration {
        assert_eq!(self.event(Duration::from_secs(10)).await, TunnelEvent::Verified);
        self.started.elapsed()
    }
}

pub fn inner() -> Vec<ipnet::IpNet> {
    vec!["10.64.0.2/32".parse().unwrap(), "fd64::2/128".parse().unwrap()]
}

/// Waits for the first answer after `moment`.
pub async fn first_after(answers: &mut mpsc::UnboundedReceiver<Instant>, moment: Instant, within: Duration) -> Duration {
    let wait = async {
        loop {
            let answer = answers.recv().await.expect("the echo lives");
            if answer > moment {
                return answer.duration_since(moment);
            }
        }
    };
    tokio::time::timeout(within, wait).await.expect("traffic again in time")
}

/// Debian's wireguard-go in the gateway's namespace.
pub struct WireguardGo {
    child: Child,
    pub name: String,
}

impl WireguardGo {
    pub async fn start(lab: &Lab, preshared_key: Option<&SecretKey>) -> Self {
        let name = format!("wg{}", std::process::id());
        let directory = tempfile::tempdir().unwrap();
        let write = |file: &str, key: &SecretKey| {
            let path = directory.path().join(file);
            std::fs::write(&path, key.reveal_base64().as_bytes()).unwrap();
            path.display().to_string()
        };
        let key = write("key", &lab.gateway_key);
        let psk = preshared_key.map(|key| format!("preshared-key {}", write("psk", key))).unwrap_or_default();
        let client = public(&lab.client_key);
        let interface = name.clone();
        let child = lab
            .gateway
            .run(async move {
                Command::new("wireguard-go")
                    .args(["-f", &interface])
                    .kill_on_drop(true)
                    .stdout(std::process::Stdio::null())
                    .stderr(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .await;
        lab.gateway
            .sh(&format!(
                "for i in $(seq 100); do [ -S /var/run/wireguard/{name}.sock ] && break; sleep 0.02; done
                 wg set {name} listen-port {PORT} private-key {key} peer {client} {psk} allowed-ips 10.64.0.2/32,fd64::2/128
                 ip addr add 10.64.0.1/24 dev {name}; ip addr add fd64::1/64 dev {name}
                 ip link set {name} mtu 1400 up"
            ))
            .await;
        Self { child, name }
    }

    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.name));
    }
}

/// Whether `ip` can make one.
pub async fn makes_wireguard_interfaces() -> bool {
    let made = Command::new("ip").args(["link", "add", "probe0", "type", "wireguard"]).output().await.unwrap().status.success();
    if made {
        sh("ip link del probe0").await;
    }
    made
}

/// From now on the calling thread, and what it starts, gets this error for an ioctl of this number (seccomp(2)).
#[expect(unsafe_code, reason = "seccomp has no safe wrapper")]
pub fn refuse_ioctl(number: libc::Ioctl, errno: i32) {
    const NUMBER: u32 = 0;
    // Low half of the second argument, in `struct seccomp_data` of a little-endian machine.
    const SECOND_ARGUMENT: u32 = 16 + 8;
    let load = |offset| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let unless = |value, skip| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, value);
    let answer = |value| (libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let program = [
        load(NUMBER),
        unless(u32::try_from(libc::SYS_ioctl).unwrap(), 3),
        load(SECOND_ARGUMENT),
        unless(u32::try_from(number).unwrap(), 1),
        answer(libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let mut filter = program.map(|(code, jt, jf, k)| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k });
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter live through the call, which copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
