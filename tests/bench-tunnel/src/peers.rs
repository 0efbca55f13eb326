//! A gateway with many peers: its memory, how many handshakes it makes, and whether each peer's packets come through.

use crate::conf::{Conf, Peer, new_key};
use crate::lab::{GATEWAY, Lab, MANY};
use crate::programs::{End, Program};
use anyhow::{Context, Result, anyhow, ensure};
use bytes::BytesMut;
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::tun::MtuWatcher;
use hamn_wireguard::x25519::{PublicKey, StaticSecret};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PORT: u16 = 51_999;
/// Peers that wait for an answer at the same time.
const AT_ONCE: usize = 16;
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(500);
const ATTEMPTS: usize = 5;
/// The gateway's own address in the tunnel.
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

/// What a gateway of many did.
#[derive(Debug, Serialize)]
pub struct ManyPeers {
    /// The program.
    pub gateway: String,
    /// How many.
    pub peers: u16,
    /// Resident memory when it knew them all.
    pub rss_configured_mib: f64,
    /// And when each had a session.
    pub rss_sessions_mib: f64,
    /// Handshakes with answers. The clients' share of the work is done on the same cores at the same time.
    pub handshakes_per_s: f64,
    /// What one costs the gateway.
    pub cpu_ms_per_handshake: f64,
    /// Cookies that it sent instead.
    pub cookies: usize,
    /// Handshakes without any answer.
    pub failed: usize,
    /// Peers whose echo through the tunnel was answered.
    pub echoes: usize,
}

struct Client {
    tunn: Tunn,
    socket: UdpSocket,
    inside: Ipv4Addr,
}

#[derive(Default)]
struct Count {
    handshakes: usize,
    cookies: usize,
    failed: usize,
}

impl Count {
    const fn add(&mut self, other: &Self) {
        self.handshakes += other.handshakes;
        self.cookies += other.cookies;
        self.failed += other.failed;
    }
}

fn address(network: [u8; 2], number: u16) -> Ipv4Addr {
    let [high, low] = (number + 256).to_be_bytes();
    Ipv4Addr::new(network[0], network[1], high, low)
}

/// Runs `program` as a gateway of `peers` peers, each of which makes `rounds` handshakes and sends an echo.
///
/// # Errors
/// When the gateway does not start.
pub fn measure(lab: &Lab, program: &Program, peers: u16, rounds: u16, directory: &Path) -> Result<ManyPeers> {
    // A socket for each client.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).context("allow many descriptors")?;
    let key = new_key();
    let public = PublicKey::from(&key);
    let keys: Vec<(u16, StaticSecret)> = (0..peers).map(|number| (number, new_key())).collect();
    let known = keys.iter().map(|(number, key)| Peer {
        public_key: PublicKey::from(key),
        endpoint: None,
        allowed_ips: vec![IpAddr::V4(address([10, 200], *number)).into()],
    });
    let conf = Conf { private_key: key, port: PORT, peers: known.collect() };
    let gateway = End::start(&lab.gateway, program, "many0", &[format!("{INSIDE}/16")], &conf, directory)?;
    let rss_configured_mib = gateway.process.rss_mib()?;
    let clients: Vec<Client> =
        lab.client.run(move || keys.iter().map(|(number, key)| client(*number, key, public)).collect::<Result<_>>())??;

    let (start, cpu) = (Instant::now(), gateway.process.cpu_s()?);
    // All peers once, then all again: wireguard-go drops a peer's handshake within 20 ms of its last.
    let (mut clients, mut count) = (clients, Count::default());
    for _ in 0..rounds {
        let (back, more) = in_parallel(clients, handshake)?;
        clients = back;
        count.add(&more);
    }
    let (time, cpu) = (start.elapsed(), gateway.process.cpu_s()? - cpu);
    let rss_sessions_mib = gateway.process.rss_mib()?;
    let (_, echoes) = in_parallel(clients, |client, count| {
        if (0..ATTEMPTS).any(|_| echo(client).unwrap_or(false)) {
            count.handshakes += 1;
        }
    })?;
    let made = f64::from(u32::try_from(count.handshakes)?);
    ensure!(made > 0.0, "not one handshake");
    Ok(ManyPeers {
        gateway: program.name.clone(),
        peers,
        rss_configured_mib,
        rss_sessions_mib,
        handshakes_per_s: made / time.as_secs_f64(),
        cpu_ms_per_handshake: cpu * 1e3 / made,
        cookies: count.cookies,
        failed: count.failed,
        echoes: echoes.handshakes,
    })
}

fn client(number: u16, key: &StaticSecret, gateway: PublicKey) -> Result<Client> {
    let limiter = Arc::new(RateLimiter::new(&PublicKey::from(key), 1_000));
    let tunn = Tunn::new(key.clone(), gateway, None, None, IndexTable::from_os_rng(), limiter);
    let socket = UdpSocket::bind((address(MANY, number), 0)).context("bind a client")?;
    socket.connect((GATEWAY, PORT))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(Client { tunn, socket, inside: address([10, 200], number) })
}

/// Does something with every client, on a few threads.
fn in_parallel(
    mut clients: Vec<Client>,
    work: impl Fn(&mut Client, &mut Count) + Send + Sync + 'static,
) -> Result<(Vec<Client>, Count)> {
    let share = clients.len().div_ceil(AT_ONCE).max(1);
    let work = Arc::new(work);
    let mut threads = Vec::new();
    while !clients.is_empty() {
        let mut some = clients.split_off(clients.len().saturating_sub(share));
        let work = Arc::clone(&work);
        threads.push(std::thread::spawn(move || {
            let mut count = Count::default();
            some.iter_mut().for_each(|client| work(client, &mut count));
            (some, count)
        }));
    }
    let (mut all, mut sum) = (Vec::new(), Count::default());
    for thread in threads {
        let (some, count) = thread.join().map_err(|_| anyhow!("a client panicked"))?;
        all.extend(some);
        sum.add(&count);
    }
    Ok((all, sum))
}

fn send(socket: &UdpSocket, message: WgKind) {
    // A lost datagram is sent again by whoever waits for an answer.
    let _ = socket.send(&Packet::<[u8]>::from(message));
}

fn receive(socket: &UdpSocket) -> Option<WgKind> {
    let mut datagram = [0; 2_048];
    let length = socket.recv(&mut datagram).ok()?;
    Packet::from_bytes(BytesMut::from(&datagram[..length])).try_into_wg().ok()
}

/// One handshake, with as many attempts and cookies as it needs.
fn handshake(client: &mut Client, count: &mut Count) {
    for _ in 0..ATTEMPTS {
        let Some(initiation) = client.tunn.format_handshake_initiation(true) else { break };
        send(&client.socket, initiation.into());
        let Some(answer) = receive(&client.socket) else { continue };
        let (is_cookie, is_answer) = (matches!(answer, WgKind::CookieReply(_)), matches!(answer, WgKind::HandshakeResp(_)));
        let result = client.tunn.handle_incoming_packet(answer);
        if is_cookie {
            count.cookies += 1;
        } else if let (true, TunnResult::WriteToNetwork(confirmation)) = (is_answer, result) {
            send(&client.socket, confirmation);
            count.handshakes += 1;
            return;
        }
    }
    count.failed += 1;
}

/// Sums 16-bit words as the Internet's checksum does.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap_or(0).to_be_bytes()
}

/// An ICMP echo to the gateway, through the tunnel.
fn echo(client: &mut Client) -> Result<bool> {
    let mut packet = [0_u8; 60];
    packet[0] = 0x45;
    packet[3] = 60;
    packet[8] = 64;
    packet[9] = 1;
    packet[12..16].copy_from_slice(&client.inside.octets());
    packet[16..20].copy_from_slice(&INSIDE.octets());
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum);
    packet[20] = 8;
    let sum = checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&sum);
    let out =
        client.tunn.handle_outgoing_packet(Packet::from_bytes(BytesMut::from(&packet[..])), Some(&mut MtuWatcher::new(1_420)));
    send(&client.socket, out.context("no session")?);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let Some(message) = receive(&client.socket) else { return Ok(false) };
        match client.tunn.handle_incoming_packet(message) {
            TunnResult::WriteToTunnel(answer) if answer.get(9) == Some(&1) && answer.get(20) == Some(&0) => return Ok(true),
            TunnResult::WriteToNetwork(more) => send(&client.socket, more),
            TunnResult::WriteToTunnel(_) | TunnResult::Done | TunnResult::Err(_) => {}
        }
    }
    Ok(false)
}
