//! Bytes that are known at both ends: TCP both ways at once compared by SHA-256, and datagrams of odd sizes compared one by one.

use crate::lab::Namespace;
use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// A cheap source of bytes (a linear congruential generator), the same for the same seed.
#[derive(Clone, Debug)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16
    }

    /// A number below `end`.
    #[must_use]
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_mut(6) {
            let bytes = self.next().to_le_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
    }
}

/// Sends `bytes` each way at once over one connection and compares the digests of what left and what arrived.
///
/// # Errors
/// When the connection fails, stalls beyond `patience`, or a digest differs.
pub fn tcp(client: &Namespace, far: &Namespace, server: IpAddr, bytes: usize, patience: Duration) -> Result<()> {
    let listener = far.run(move || TcpListener::bind(SocketAddr::new(server, 0)))?.context("listen")?;
    let address = listener.local_addr()?;
    let near = client.spawn(move || TcpStream::connect_timeout(&address, patience))?;
    let near = near.join().map_err(|_| anyhow!("panicked"))?.context("connect")?;
    let (far, _) = listener.accept()?;
    let seed = rand::random();
    let one = std::thread::spawn(move || exchange(near, seed, bytes, patience));
    let other = std::thread::spawn(move || exchange(far, seed ^ 1, bytes, patience));
    let (sent1, got1) = one.join().map_err(|_| anyhow!("panicked"))??;
    let (sent2, got2) = other.join().map_err(|_| anyhow!("panicked"))??;
    ensure!(sent1 == got2 && sent2 == got1, "the digests of {bytes} bytes differ (seed {seed})");
    Ok(())
}

type Digests = ([u8; 32], [u8; 32]);

fn exchange(stream: TcpStream, seed: u64, bytes: usize, patience: Duration) -> Result<Digests> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    socket2::SockRef::from(&stream).set_tcp_congestion(b"cubic")?;
    let mut out = stream.try_clone()?;
    let writer = std::thread::spawn(move || -> Result<[u8; 32]> {
        let (mut digest, mut source, mut left, mut chunk) = (Sha256::new(), Bytes(seed), bytes, vec![0; 65_521]);
        while left > 0 {
            source.fill(&mut chunk);
            let now = left.min(chunk.len());
            digest.update(&chunk[..now]);
            out.write_all(&chunk[..now]).context("write")?;
            left -= now;
        }
        out.shutdown(Shutdown::Write)?;
        Ok(digest.finalize().into())
    });
    let (mut digest, mut input, mut chunk) = (Sha256::new(), stream, vec![0; 1 << 16]);
    loop {
        match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => digest.update(&chunk[..count]),
            // A debugger came or went.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("read"),
        }
    }
    let got = digest.finalize().into();
    Ok((writer.join().map_err(|_| anyhow!("panicked"))??, got))
}

/// How many datagrams were sent and how many came back whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echoes {
    /// Sent.
    pub sent: usize,
    /// Came back, each once, with the same bytes.
    pub answered: usize,
}

/// Sends datagrams of these sizes to an echo server, few without an answer, and compares what comes back. After
/// `patience` without an answer those are lost.
///
/// # Errors
/// When one comes back with other bytes or length, or twice.
pub fn echoes(client: &Namespace, far: &Namespace, server: IpAddr, sizes: &[usize], patience: Duration) -> Result<Echoes> {
    let echo = far.run(move || UdpSocket::bind(SocketAddr::new(server, 0)))??;
    let address = echo.local_addr()?;
    enlarge(&echo);
    echo.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        let mut datagram = vec![0; 1 << 16];
        while !matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)) {
            if let Ok((length, from)) = echo.recv_from(&mut datagram) {
                let _ = echo.send_to(&datagram[..length], from);
            }
        }
    });
    let socket = client.run(move || -> std::io::Result<UdpSocket> {
        let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        Ok(socket)
    })??;
    enlarge(&socket);
    let result = send_and_compare(&socket, sizes, patience);
    drop(stop);
    server.join().map_err(|_| anyhow!("the echo panicked"))?;
    result
}

/// Datagrams of many fragments wait in the socket. Without the right to do so the usual size has to do.
fn enlarge(socket: &UdpSocket) {
    let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RcvBufForce, &(4 << 20));
}

fn datagram(seed: u64, number: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size.max(4)];
    Bytes(seed ^ u64::try_from(number).unwrap_or(0)).fill(&mut bytes);
    bytes[..4].copy_from_slice(&u32::try_from(number).unwrap_or(0).to_be_bytes());
    bytes
}

fn send_and_compare(socket: &UdpSocket, sizes: &[usize], patience: Duration) -> Result<Echoes> {
    // What waits fits into any program's receive buffer, or else the test would lose what the tunnel did not.
    const WINDOW: usize = 8;
    const WINDOW_BYTES: usize = 50_000;
    let seed: u64 = rand::random();
    socket.set_read_timeout(Some(Duration::from_millis(30)))?;
    let (mut next, mut open, mut seen) = (0, BTreeSet::new(), BTreeSet::new());
    let mut buffer = vec![0; 1 << 16];
    let mut quiet_since = Instant::now();
    loop {
        while next < sizes.len()
            && open.len() < WINDOW
            && open.iter().map(|&one: &usize| sizes[one]).sum::<usize>() + sizes[next] < WINDOW_BYTES
        {
            socket.send(&datagram(seed, next, sizes[next])).context("send")?;
            open.insert(next);
            next += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let number = buffer.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)).context("a short datagram")?;
                let number = usize::try_from(number)?;
                let size = *sizes.get(number).context("a datagram that nobody sent")?;
                ensure!(
                    buffer[..length] == datagram(seed, number, size),
                    "datagram {number} of {size} bytes came back otherwise"
                );
                ensure!(seen.insert(number), "datagram {number} came back twice");
                open.remove(&number);
                quiet_since = Instant::now();
            }
            // Lost, then: the window moves on.
            Err(_) if quiet_since.elapsed() > patience => {
                if next == sizes.len() {
                    return Ok(Echoes { sent: sizes.len(), answered: seen.len() });
                }
                open.clear();
                quiet_since = Instant::now();
            }
            Err(_) => {}
        }
        if next == sizes.len() && open.is_empty() {
            return Ok(Echoes { sent: sizes.len(), answered: seen.len() });
        }
    }
}
