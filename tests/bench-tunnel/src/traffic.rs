//! Load: TCP streams and UDP floods between the client and a server, counted where they arrive.

use crate::lab::Namespace;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes per call of read or write.
const CHUNK: usize = 128 * 1024;
/// The same for every stream, whatever the machine's default is.
const CONGESTION_CONTROL: &[u8] = b"cubic";
const TIMEOUT: Duration = Duration::from_secs(5);

/// Which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The client.
    Up,
    /// The server.
    Down,
}

/// Load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    arrived: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    ends: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        Self { arrived: Arc::default(), stop: Arc::default(), ends: Vec::new(), threads: Vec::new() }
    }

    /// What arrived so far: bytes of streams, datagrams of floods.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Starts streams.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub fn streams(client: &Namespace, net: &Namespace, server: IpAddr, direction: Direction, count: usize) -> Result<Self> {
        let listener = net.run(move || TcpListener::bind(SocketAddr::new(server, 0)))?.context("listen")?;
        let address = listener.local_addr()?;
        let mut load = Self::new();
        for _ in 0..count {
            let near = client.run(move || TcpStream::connect_timeout(&address, TIMEOUT))?.context("connect")?;
            let (far, _) = listener.accept().context("accept")?;
            for stream in [&near, &far] {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                socket2::SockRef::from(stream).set_tcp_congestion(CONGESTION_CONTROL).context("choose the congestion control")?;
            }
            load.ends.extend([near.try_clone()?, far.try_clone()?]);
            let (sender, receiver) = if direction == Direction::Up { (near, far) } else { (far, near) };
            let (stop, end, arrived) = (Arc::clone(&load.stop), Arc::clone(&load.stop), Arc::clone(&load.arrived));
            load.threads.push(std::thread::spawn(move || pour(sender, &stop)));
            load.threads.push(std::thread::spawn(move || drain(receiver, &arrived, &end)));
        }
        Ok(load)
    }

    /// Starts a flood of datagrams with this many bytes, as fast as they can be sent.
    ///
    /// # Errors
    /// When not one arrives.
    pub fn flood(client: &Namespace, net: &Namespace, server: IpAddr, direction: Direction, bytes: usize) -> Result<Self> {
        let far = net.run(move || UdpSocket::bind(SocketAddr::new(server, 0)))?.context("bind")?;
        let address = far.local_addr()?;
        let near = client.run(move || -> std::io::Result<UdpSocket> {
            let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(address)?;
            Ok(socket)
        })??;
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            // Without the right to do so the usual size has to do.
            let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RcvBufForce, &(4 << 20));
        }
        // Through the translation of addresses there is only a way back.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            near.send(&[0])?;
            if let Ok((_, from)) = far.recv_from(&mut [0; 64]) {
                far.connect(from)?;
                break;
            }
            ensure!(Instant::now() < deadline, "no datagram arrives");
        }
        let (sender, receiver) = if direction == Direction::Up { (near, far) } else { (far, near) };
        let mut load = Self::new();
        let (stop, end, arrived) = (Arc::clone(&load.stop), Arc::clone(&load.stop), Arc::clone(&load.arrived));
        load.threads.push(std::thread::spawn(move || {
            let datagram = vec![0x5a; bytes];
            while !stop.load(Ordering::Relaxed) {
                let _ = sender.send(&datagram);
            }
        }));
        load.threads.push(std::thread::spawn(move || {
            let mut datagram = vec![0; 2_048];
            while !end.load(Ordering::Relaxed) {
                if receiver.recv(&mut datagram).is_ok_and(|length| length == bytes) {
                    arrived.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
        Ok(load)
    }

    /// Waits until something has arrived.
    ///
    /// # Errors
    /// When nothing does.
    pub fn await_first(&self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while self.arrived() == 0 {
            if Instant::now() > deadline {
                bail!("nothing arrives");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// When a thread of it panicked.
    pub fn stop(mut self) -> Result<()> {
        self.halt();
        for thread in std::mem::take(&mut self.threads) {
            thread.join().map_err(|_| anyhow!("load panicked"))?;
        }
        Ok(())
    }

    fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.halt();
    }
}

fn pour(mut stream: TcpStream, stop: &AtomicBool) {
    let chunk = vec![0x5a; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&chunk) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn drain(mut stream: TcpStream, count: &AtomicU64, stop: &AtomicBool) {
    let mut chunk = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(bytes) => drop(count.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
