//! The relay of a bad link: passes datagrams between clients and a gateway and holds some back, so that they arrive out of order.

use crate::lab::Namespace;
use crate::transfer::Bytes;
use anyhow::{Context, Result};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Datagrams that are held back at the same time; more pass at once.
const HELD: usize = 256;
const TICK: Duration = Duration::from_micros(500);

/// What a relay does and did.
#[derive(Debug, Default)]
pub struct State {
    stop: AtomicBool,
    /// Of a thousand datagrams so many are held back.
    pub hold_per_mille: AtomicU64,
    /// Passed.
    pub passed: AtomicU64,
    /// Of those, held back.
    pub held: AtomicU64,
}

/// A relay for one client. It ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// What it does and did.
    pub state: Arc<State>,
    /// Where the client sends to.
    pub address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts one in a namespace, between an address of it and a gateway's.
    ///
    /// # Errors
    /// When a socket cannot be made.
    pub fn start(namespace: &Namespace, listen: SocketAddr, gateway: SocketAddr, seed: u64) -> Result<Self> {
        let (near, far) = namespace.run(move || -> std::io::Result<_> {
            let (near, far) = (UdpSocket::bind(listen)?, UdpSocket::bind("0.0.0.0:0")?);
            far.connect(gateway)?;
            Ok((near, far))
        })??;
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(TICK))?;
            let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RcvBufForce, &(8 << 20));
        }
        let (state, address) = (Arc::new(State::default()), near.local_addr()?);
        // The gateway's side learns from the client's where the client is.
        let (known, client) = std::sync::mpsc::channel::<SocketAddr>();
        let (near_out, far_out) = (near.try_clone().context("share a socket")?, far.try_clone().context("share a socket")?);
        let (up, down) = (Arc::clone(&state), Arc::clone(&state));
        let mut last = None;
        let upward = std::thread::spawn(move || {
            pass(&near, &up, seed, |datagram, from| {
                if last != Some(from) {
                    last = Some(from);
                    let _ = known.send(from);
                }
                let _ = far_out.send(datagram);
            });
        });
        let mut to = None;
        let downward = std::thread::spawn(move || {
            pass(&far, &down, seed ^ 1, |datagram, _| {
                to = client.try_iter().last().or(to);
                if let Some(to) = to {
                    let _ = near_out.send_to(datagram, to);
                }
            });
        });
        Ok(Self { state, address, threads: vec![upward, downward] })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn pass(socket: &UdpSocket, state: &State, seed: u64, mut out: impl FnMut(&[u8], SocketAddr)) {
    let mut held: Vec<(Instant, Vec<u8>, SocketAddr)> = Vec::new();
    let (mut datagram, mut random) = (vec![0; 1 << 16], Bytes(seed));
    while !state.stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            state.passed.fetch_add(1, Ordering::Relaxed);
            let hold = random.next() % 1_000 < state.hold_per_mille.load(Ordering::Relaxed);
            if hold && held.len() < HELD {
                state.held.fetch_add(1, Ordering::Relaxed);
                let delay = Duration::from_micros(500 + random.next() % 4_000);
                held.push((Instant::now() + delay, datagram[..length].to_vec(), from));
            } else {
                out(&datagram[..length], from);
            }
        }
        if !held.is_empty() {
            let now = Instant::now();
            held.retain(|(due, datagram, from)| {
                if *due <= now {
                    out(datagram, *from);
                }
                *due > now
            });
        }
    }
}
