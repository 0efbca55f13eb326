//! Floods from every side: memory stays where it is, and those who have a session are served. Needs root.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test file: it may panic, and says what it measured"
)]

mod common;

use common::{Setup, client_peer, forget_peak, gateway_key, gateway_peer, lab, memory_kb, nets};
use gotatun::noise::Tunn;
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::packet::Packet;
use hamn_wireguard::x25519::{PublicKey, StaticSecret};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const GATEWAY: &str = "10.0.0.1:51820";
const TIME: Duration = Duration::from_secs(3);
/// What all engines of a test, and the test itself, may add to its memory meanwhile.
const GROWTH_KB: u64 = 8 << 10;
/// Two engines, the floods and the test.
const BOUND_KB: u64 = 2 * (16 << 10);

struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn new() -> Self {
        Self { stop: Arc::default(), sent: Arc::default(), threads: Vec::new() }
    }

    /// Sends what `next` makes, from the namespace, as fast as it can.
    fn add(&mut self, namespace: &common::Namespace, to: &'static str, mut next: impl FnMut(u64) -> Vec<u8> + Send + 'static) {
        let (stop, sent) = (Arc::clone(&self.stop), Arc::clone(&self.sent));
        self.threads.push(namespace.spawn(move || {
            let mut sockets: Vec<UdpSocket> = Vec::new();
            let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                // From ever other ports.
                if number % 512 == 0 {
                    sockets = (0..16).map(|_| UdpSocket::bind(any).unwrap()).collect();
                }
                let socket = &sockets[usize::try_from(number % 16).unwrap()];
                // A full buffer or an unreachable port is no reason to stop.
                if socket.send_to(&next(number), to).is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
                number += 1;
            }
        }));
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.sent.load(Ordering::Relaxed)
    }
}

/// Runs the flood and gives what was sent and the growth of memory in kB.
fn measure(lab: &common::Lab, flood: impl FnOnce(&mut Flood)) -> (u64, u64) {
    lab.pings();
    forget_peak();
    let before = memory_kb("VmRSS");
    let mut floods = Flood::new();
    flood(&mut floods);
    let (began, mut answered, mut asked) = (Instant::now(), 0, 0);
    while began.elapsed() < TIME {
        asked += 1;
        answered += u32::from(lab.client.try_sh("ping -q -c 1 -W 1 10.64.0.1").0);
    }
    let peak = memory_kb("VmHWM");
    let sent = floods.end();
    let growth = peak.saturating_sub(before);
    println!("{sent} sent; {answered} of {asked} pings answered; memory {before} kB, at most {peak} kB");
    assert!(growth <= GROWTH_KB && peak <= BOUND_KB, "{before} kB grew to {peak} kB");
    // What is lost in an unpaced flood is lost in the devices' queues. Afterwards all is as before.
    lab.pings();
    (sent, growth)
}

#[test]
fn a_flood_through_the_tunnel_from_both_ends_costs_no_memory() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    measure(&lab, |flood| {
        flood.add(&lab.client, "10.64.0.1:9", |_| vec![1; 1_300]);
        flood.add(&lab.client, "[fd64::1]:9", |_| vec![2; 60]);
        flood.add(&lab.gateway, "10.64.0.2:9", |_| vec![3; 1_300]);
        // Fragments.
        flood.add(&lab.gateway, "10.64.0.2:9", |_| vec![4; 30_000]);
    });
    let (near, far) = (client.totals(), gateway.totals());
    println!("{near:?}\n{far:?}");
    assert!(near.tx_packets > 1_000 && near.rx_packets > 1_000, "the flood went through: {near:?}");
}

#[test]
fn a_flood_of_garbage_and_handshakes_costs_no_memory_and_ends_no_session() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    // A stranger who knows the gateway's public key makes initiations that pass the first check.
    let stranger = StaticSecret::from([0x99; 32]);
    let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&stranger), 1_000));
    let public = PublicKey::from(&gateway_key());
    let mut tunn = Tunn::new(stranger, public, None, None, IndexTable::from_os_rng(), limiter);
    let mut initiations = move || {
        let message = tunn.format_handshake_initiation(true).unwrap();
        Packet::<[u8]>::from(gotatun::packet::WgKind::from(message)).to_vec()
    };
    let known: Vec<Vec<u8>> = (0..64).map(|_| initiations()).collect();
    let before = gateway.totals();
    measure(&lab, |flood| {
        flood.add(&lab.client, GATEWAY, move |number| known[usize::try_from(number % 64).unwrap()].clone());
        // Each kind of message, of right and of odd lengths, with bytes that mean nothing.
        flood.add(&lab.client, GATEWAY, |number| {
            let kind = u8::try_from(number % 6).unwrap();
            let length = [0, 148, 92, 64, 1_452, 33][usize::from(kind)] + usize::try_from(number % 2).unwrap();
            let mut bytes = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().repeat(length / 8 + 1);
            bytes.truncate(length);
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            bytes
        });
    });
    let after = gateway.totals();
    println!("{after:?}");
    assert!(after.refused - before.refused > 1_000, "{after:?}");
    assert_eq!(gateway.engine.peers().wait().unwrap().len(), 1, "strangers are no peers");
}

#[test]
fn a_thousand_peers_cost_little_each_and_are_told_apart() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    client.await_handshake();
    forget_peak();
    let before = memory_kb("VmRSS");
    for number in 0..1_000_u16 {
        let [high, low] = number.to_be_bytes();
        let mut key = [0x77; 32];
        key[4..6].copy_from_slice(&number.to_be_bytes());
        let mut peer = client_peer();
        peer.public_key = PublicKey::from(&StaticSecret::from(key));
        peer.allowed_ips = nets(&[&format!("10.66.{high}.{low}/32"), &format!("fd66::{number:x}/128")]);
        gateway.engine.add_peer(peer).wait().unwrap();
    }
    let growth = memory_kb("VmHWM").saturating_sub(before);
    println!("1000 peers: {growth} kB");
    assert_eq!(gateway.engine.peers().wait().unwrap().len(), 1_001);
    assert!(growth < 32 << 10, "{growth} kB");
    lab.pings();
    lab.transfer("10.64.0.1", 5_000_000);
    // Idle, a thousand silent peers wake nobody.
    std::thread::sleep(Duration::from_millis(600));
    let woken = gateway.totals().wakeups;
    std::thread::sleep(Duration::from_secs(3));
    let woken = gateway.totals().wakeups - woken;
    println!("wake-ups in 3 s: {woken}");
    assert!(woken <= 6, "{woken}");
}
