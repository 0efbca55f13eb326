//! Two network namespaces joined by a veth pair, engines and other WireGuards in them, and transfers between them.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "each test file uses a part of it, and a test may panic"
)]

use hamn_wireguard::x25519::{PublicKey, StaticSecret};
use hamn_wireguard::{Device, Engine, EngineOptions, Event, Listen, Offload, PeerConfig, Roaming, TimerParams};
use nix::sched::{CloneFlags, unshare};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub const PORT: u16 = 51_820;

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own. What it starts lives there; it ends with the last job sender.
#[derive(Clone)]
pub struct Namespace {
    jobs: mpsc::Sender<Job>,
    pub thread_id: i32,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
            ready.send(nix::unistd::gettid().as_raw()).unwrap();
            queue.iter().for_each(|job| job());
        });
        Self { jobs, thread_id: is_ready.recv().unwrap() }
    }

    /// Runs the work in the namespace.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || done.send(work()).unwrap())).unwrap();
        result.recv().expect("the work did not panic")
    }

    /// Runs the work in a thread of its own in the namespace.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        self.run(move || std::thread::spawn(work))
    }

    pub fn sh(&self, script: &str) -> String {
        let (success, text) = self.try_sh(script);
        assert!(success, "{script}: {text}");
        text
    }

    pub fn try_sh(&self, script: &str) -> (bool, String) {
        let script = script.to_owned();
        let output = self.run(move || Command::new("sh").args(["-ec", &script]).output().unwrap());
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    pub fn process(&self, arguments: &[&str]) -> Process {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = self.run(move || {
            Command::new(&arguments[0]).args(&arguments[1..]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        });
        Process(child)
    }
}

/// A process that ends with this value.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Lab {
    pub client: Namespace,
    pub gateway: Namespace,
}

pub fn client_key() -> StaticSecret {
    StaticSecret::from([0x42; 32])
}

pub fn gateway_key() -> StaticSecret {
    StaticSecret::from([0x51; 32])
}

/// client c0 10.0.0.2, fd01::2 <-> 10.0.0.1, fd01::1 g0 gateway.
pub fn lab() -> Lab {
    // With RUST_LOG set, failures explain themselves; a second initialisation in the same process changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let (client, gateway) = (Namespace::new(), Namespace::new());
    client.sh(&format!(
        "ip link set lo up; ip link add c0 type veth peer name g0; ip link set g0 netns {}
         ip addr add 10.0.0.2/24 dev c0; ip addr add fd01::2/64 dev c0 nodad; ip link set c0 up",
        gateway.thread_id
    ));
    gateway.sh("ip link set lo up; ip addr add 10.0.0.1/24 dev g0; ip addr add fd01::1/64 dev g0 nodad; ip link set g0 up");
    Lab { client, gateway }
}

/// An engine with its interface up, and what it tells.
pub struct Running {
    pub engine: Engine,
    pub events: mpsc::Receiver<Event>,
}

impl Running {
    pub fn totals(&self) -> hamn_wireguard::Totals {
        self.engine.counters().totals()
    }

    pub fn await_handshake(&self) {
        loop {
            match self.events.recv_timeout(Duration::from_secs(10)).expect("a handshake in time") {
                Event::Handshake(_) => return,
                Event::Traffic | Event::DeviceLost => {}
            }
        }
    }
}

pub struct Setup {
    /// Asked for.
    pub offload: Offload,
    /// What the kernel agrees to.
    pub agreed: Offload,
    pub change: Box<dyn FnOnce(&mut EngineOptions) + Send>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { offload: Offload::TcpUdp, agreed: Offload::TcpUdp, change: Box::new(|_| {}) }
    }
}

pub fn fast_timers() -> TimerParams {
    let ms = Duration::from_millis;
    TimerParams { rekey_timeout: ms(200)..=ms(250), ..TimerParams::default() }
}

pub fn nets(nets: &[&str]) -> Vec<ipnet::IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

/// The gateway as the client sees it.
pub fn gateway_peer(endpoint: &str) -> PeerConfig {
    PeerConfig {
        endpoint: Some(endpoint.parse().unwrap()),
        roaming: Roaming::Fixed,
        keepalive_s: Some(25),
        timers: Some(fast_timers()),
        ..PeerConfig::new(PublicKey::from(&gateway_key()), nets(&["0.0.0.0/0", "::/0"]))
    }
}

/// The client as the gateway sees it.
pub fn client_peer() -> PeerConfig {
    PeerConfig::new(PublicKey::from(&client_key()), nets(&["10.64.0.2/32", "fd64::2/128"]))
}

impl Lab {
    pub fn client(&self, peer: PeerConfig, setup: Setup) -> Running {
        start(
            &self.client,
            "hc0",
            ("10.64.0.2/24", "fd64::2/64"),
            EngineOptions::new(client_key(), Listen::OnDemand),
            peer,
            setup,
        )
    }

    pub fn gateway(&self, setup: Setup) -> Running {
        let options = EngineOptions::new(gateway_key(), Listen::Port(PORT));
        start(&self.gateway, "hg0", ("10.64.0.1/24", "fd64::1/64"), options, client_peer(), setup)
    }

    pub fn ping(&self, address: &str) -> bool {
        self.client.try_sh(&format!("ping -q -c 3 -i 0.05 -W 2 {address}")).0
    }

    pub fn pings(&self) {
        for address in ["10.64.0.1", "fd64::1"] {
            assert!(self.ping(address), "{address}");
        }
    }

    /// Mbit/s of one iperf3 stream of a second from the client, or to it.
    pub fn iperf(&self, address: &str, more: &str) -> f64 {
        // Not for one client: an attempt that fails half way would end it. With -J, iperf3 ends well when it was refused, too.
        let server = self.gateway.process(&["iperf3", "-s", "-p", "5201"]);
        let script = format!(
            "for i in $(seq 100); do iperf3 -c {address} -p 5201 -C cubic -t 1 -J {more} > /tmp/iperf.$$
                 grep -q sum_received /tmp/iperf.$$ && break; sleep 0.02; done
             cat /tmp/iperf.$$; rm /tmp/iperf.$$"
        );
        let text = self.client.sh(&script);
        drop(server);
        let sum = text.split("\"sum_received\"").nth(1).unwrap_or_else(|| panic!("{text}"));
        let rate = sum.split("\"bits_per_second\":").nth(1).unwrap_or_else(|| panic!("{text}")).split(',').next().unwrap();
        rate.trim().parse::<f64>().unwrap() / 1e6
    }

    /// Sends pseudo-random bytes both ways at once over one TCP connection and compares the digests.
    pub fn transfer(&self, address: &str, bytes: usize) -> Duration {
        let address: SocketAddr = (address.parse::<std::net::IpAddr>().unwrap(), 7_001).into();
        let (listening, is_listening) = mpsc::channel();
        let server = self.gateway.spawn(move || {
            let listener = TcpListener::bind(address).unwrap();
            listening.send(()).unwrap();
            exchange(listener.accept().unwrap().0, 1, bytes)
        });
        is_listening.recv_timeout(Duration::from_secs(5)).unwrap();
        let began = Instant::now();
        let client =
            self.client.spawn(move || exchange(TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap(), 2, bytes));
        let (sent1, got1) = client.join().unwrap();
        let (sent2, got2) = server.join().unwrap();
        assert!(sent1 == got2 && sent2 == got1, "the digests of {bytes} bytes differ");
        began.elapsed()
    }

    /// TCP and UDP checksum errors that the kernels saw.
    pub fn checksum_errors(&self) -> u64 {
        let count = |namespace: &Namespace| {
            let text = namespace.run(|| {
                let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
                snmp + &std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap()
            });
            let mut errors = 0;
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.windows(2) {
                let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
                errors += names
                    .zip(values)
                    .filter(|(name, _)| *name == "InCsumErrors")
                    .map(|(_, n)| n.parse().unwrap_or(0))
                    .sum::<u64>();
            }
            let v6 = lines.iter().filter(|line| line.starts_with("Udp6InCsumErrors"));
            errors + v6.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum::<u64>()
        };
        count(&self.client) + count(&self.gateway)
    }
}

fn exchange(stream: TcpStream, seed: u64, bytes: usize) -> ([u8; 32], [u8; 32]) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut out = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let (mut digest, mut state, mut left) = (Sha256::new(), seed, bytes);
        let mut chunk = vec![0_u8; 65_521];
        while left > 0 {
            for word in chunk.chunks_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let length = word.len();
                word.copy_from_slice(&state.to_le_bytes()[..length]);
            }
            let now = left.min(chunk.len());
            digest.update(&chunk[..now]);
            out.write_all(&chunk[..now]).unwrap();
            left -= now;
        }
        out.shutdown(std::net::Shutdown::Write).unwrap();
        digest.finalize().into()
    });
    let (mut digest, mut input, mut buffer) = (Sha256::new(), stream, vec![0_u8; 1 << 16]);
    loop {
        match input.read(&mut buffer).expect("bytes in time") {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    (writer.join().unwrap(), digest.finalize().into())
}

pub fn start(
    namespace: &Namespace,
    name: &'static str,
    addresses: (&str, &str),
    mut options: EngineOptions,
    peer: PeerConfig,
    setup: Setup,
) -> Running {
    let (sender, events) = mpsc::channel();
    options.on_event = Some(Box::new(move |event| {
        // The test may have heard enough.
        let _ = sender.send(event);
    }));
    (setup.change)(&mut options);
    let (offload, agreed) = (setup.offload, setup.agreed);
    let engine = namespace.run(move || {
        let device = Device::open(name, offload).unwrap();
        assert_eq!(device.offload(), agreed);
        Engine::start(device, options).unwrap()
    });
    engine.set_mtu(1_420).wait().unwrap();
    namespace.sh(&format!(
        "ip addr add {} dev {name}; ip addr add {} dev {name} nodad; ip link set {name} up",
        addresses.0, addresses.1
    ));
    engine.add_peer(peer).wait().unwrap();
    Running { engine, events }
}

/// Debian's wireguard-go with the keys of one side.
pub struct WireguardGo {
    _process: Process,
    socket: String,
}

impl WireguardGo {
    pub fn start(namespace: &Namespace, gateway: bool, endpoint: Option<&str>) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("w{}x{count}", std::process::id());
        let (own, peer, last) = if gateway { (gateway_key(), client_key(), 1) } else { (client_key(), gateway_key(), 2) };
        let directory = tempfile::tempdir().unwrap();
        let key_path = directory.path().join("key");
        std::fs::write(&key_path, base64(&own.to_bytes())).unwrap();
        let process = namespace.process(&["wireguard-go", "-f", &name]);
        let allowed = if gateway { "10.64.0.2/32,fd64::2/128" } else { "0.0.0.0/0,::/0" };
        let endpoint = endpoint.map(|endpoint| format!("endpoint {endpoint} persistent-keepalive 25")).unwrap_or_default();
        let port = if gateway { format!("listen-port {PORT}") } else { String::new() };
        namespace.sh(&format!(
            "for i in $(seq 200); do [ -S /var/run/wireguard/{name}.sock ] && break; sleep 0.02; done
             ip link set {name} mtu 1420
             ip addr add 10.64.0.{last}/24 dev {name}; ip addr add fd64::{last}/64 dev {name} nodad; ip link set {name} up
             wg set {name} {port} private-key {} peer {} {endpoint} allowed-ips {allowed}",
            key_path.display(),
            base64(PublicKey::from(&peer).as_bytes()),
        ));
        Self { _process: process, socket: format!("/var/run/wireguard/{name}.sock") }
    }
}

impl Drop for WireguardGo {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

pub fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Waits until the condition holds.
pub fn until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} within {within:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Commands of `SIOCETHTOOL` (`linux/ethtool.h`): whether the link computes checksums of what it sends.
pub const ETHTOOL_GTXCSUM: u32 = 0x16;
pub const ETHTOOL_STXCSUM: u32 = 0x17;

/// One command with one value to an interface of the calling thread's namespace; the value afterwards.
#[expect(unsafe_code, reason = "SIOCETHTOOL has no safe wrapper")]
pub fn ethtool(interface: &str, command: u32, value: u32) -> u32 {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command, data: value };
    let data = (&raw mut value).cast();
    let mut request = libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = std::ffi::c_char::from_ne_bytes([byte]);
    }
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: the descriptor is open; the request and the value that it points to live through the call and are written by it.
    let result = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCETHTOOL, &raw mut request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    value.data
}

/// A condition on an argument of a system call: its number, and what its lower half is or which of its bits are set.
#[derive(Clone, Copy)]
pub enum Argument {
    Is(u32, u32),
    HasAny(u32, u32),
}

/// From now on the calling thread, and what it starts, gets this error for a system call whose arguments fit (seccomp(2)).
#[expect(unsafe_code, reason = "seccomp has no safe wrapper")]
pub fn refuse(call: libc::c_long, arguments: &[Argument], errno: i32) {
    let load = |offset| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let answer = |value| (libc::BPF_RET | libc::BPF_K, 0, 0, value);
    // Instructions until the one that lets it pass, the last.
    let left = |done: usize| u8::try_from(arguments.len() * 2 - done + 1).unwrap();
    let mut program = vec![load(0), (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, left(0), u32::try_from(call).unwrap())];
    for (number, argument) in (0..).zip(arguments) {
        let (index, test, value) = match *argument {
            Argument::Is(index, value) => (index, libc::BPF_JEQ, value),
            Argument::HasAny(index, bits) => (index, libc::BPF_JSET, bits),
        };
        // Low half, in `struct seccomp_data` of a little-endian machine.
        program.push(load(16 + 8 * index));
        program.push((libc::BPF_JMP | test | libc::BPF_K, 0, left(number * 2 + 2), value));
    }
    program.push(answer(libc::SECCOMP_RET_ERRNO | u32::try_from(errno).unwrap()));
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let code = |code: u32| u16::try_from(code).unwrap();
    let mut filter: Vec<_> = program.into_iter().map(|(op, jt, jf, k)| libc::sock_filter { code: code(op), jt, jf, k }).collect();
    let program = libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter live through the call, which copies them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A number of `/proc/self/status` in kB: VmRSS, VmHWM.
pub fn memory_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Makes `VmHWM` begin again at what is resident now (proc(5)).
pub fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
