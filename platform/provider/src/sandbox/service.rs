//! The small services of the laboratory: what-is-my-address, resolvers that write down queries, an observer.
//!
//! Each is a thread inside a host. All of them end when the write end of the [`Stop`] pipe closes, without polling.

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::address;
use super::namespace::Host;

/// No client of these services is waited for longer than this.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Logs stop growing here.
const LOG_LIMIT: usize = 100_000;

/// Ends all services when dropped.
pub struct Stop {
    reader: PipeReader,
    _writer: PipeWriter,
}

impl Stop {
    /// A fresh pipe.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("create a pipe")?;
        Ok(Self { reader, _writer: writer })
    }

    fn watch(&self) -> Result<PipeReader> {
        self.reader.try_clone().context("duplicate a pipe")
    }
}

/// Waits until one of `sources` is readable; `None` when the services must end.
fn readable(stop: &PipeReader, sources: &[BorrowedFd<'_>]) -> Option<Vec<usize>> {
    let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
    fds.extend(sources.iter().map(|source| PollFd::new(*source, PollFlags::POLLIN)));
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
            Ok(_) => break,
        }
    }
    let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
    let (stopped, rest) = fds.split_first()?;
    if ready(stopped) {
        return None;
    }
    Some(rest.iter().enumerate().filter(|(_, fd)| ready(fd)).map(|(index, _)| index).collect())
}

/// One question that a resolver saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name asked for, without the final dot.
    pub name: String,
    /// Record type number (1 is A, 28 is AAAA).
    pub kind: u16,
    /// Who asked.
    pub from: SocketAddr,
    /// True when asked over TCP.
    pub tcp: bool,
}

/// What a resolver or observer has seen so far.
#[derive(Debug)]
pub struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Log<T> {
    /// All entries.
    #[must_use]
    pub fn entries(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets all entries.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn add(&self, entry: T) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < LOG_LIMIT {
            log.push(entry);
        }
    }
}

/// A TCP listener on `address`, made inside `host`.
fn listen(host: &Host, address: SocketAddr) -> Result<TcpListener> {
    host.run(move || TcpListener::bind(address))?.with_context(|| format!("listen on {address}"))
}

/// Serves each connection of a listener on its own thread.
fn serve_tcp(
    host: &Host,
    stop: &Stop,
    addresses: &[SocketAddr],
    serve: impl Fn(TcpStream, SocketAddr) + Clone + Send + 'static,
) -> Result<()> {
    let listeners = addresses.iter().map(|address| listen(host, *address)).collect::<Result<Vec<_>>>()?;
    let stop = stop.watch()?;
    host.thread("tcp", move || {
        let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        while let Some(ready) = readable(&stop, &fds) {
            for listener in ready.iter().filter_map(|index| listeners.get(*index)) {
                let Ok((stream, from)) = listener.accept() else { continue };
                let serve = serve.clone();
                let _ = stream.set_read_timeout(Some(CLIENT_TIMEOUT));
                let _ = stream.set_write_timeout(Some(CLIENT_TIMEOUT));
                std::thread::spawn(move || serve(stream, from));
            }
        }
    })?;
    Ok(())
}

/// A web server that answers every request with the caller's address as text (`/ip`) — or a line of its own elsewhere.
///
/// # Errors
/// When an address cannot be bound.
pub fn web(host: &Host, stop: &Stop, addresses: &[SocketAddr], greeting: &'static str) -> Result<()> {
    serve_tcp(host, stop, addresses, move |mut stream, from| {
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap_or(0);
        let body = if request.get(..length).is_some_and(|bytes| bytes.starts_with(b"GET /ip")) {
            format!("{}\n", from.ip().to_canonical())
        } else {
            format!("{greeting}\n")
        };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    })
}

/// A resolver that answers every name and writes down every question, on UDP and TCP.
///
/// # Errors
/// When an address cannot be bound.
pub fn resolver(host: &Host, stop: &Stop, addresses: &[SocketAddr]) -> Result<Log<Query>> {
    let log = Log::default();
    let tcp_log = log.clone();
    serve_tcp(host, stop, addresses, move |mut stream, from| {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut question).is_err() {
                return;
            }
            let Some(answer) = answer(&question, from, true, &tcp_log) else { return };
            let size = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
            if stream.write_all(&[size.as_slice(), &answer].concat()).is_err() {
                return;
            }
        }
    })?;
    let udp_log = log.clone();
    serve_udp(host, stop, addresses, move |socket, packet, from| {
        if let Some(answer) = answer(packet, from, false, &udp_log) {
            let _ = socket.send_to(&answer, from);
        }
    })?;
    Ok(log)
}

fn serve_udp(
    host: &Host,
    stop: &Stop,
    addresses: &[SocketAddr],
    serve: impl Fn(&UdpSocket, &[u8], SocketAddr) + Send + 'static,
) -> Result<()> {
    let bind = |address: &SocketAddr| {
        let address = *address;
        host.run(move || UdpSocket::bind(address))?.with_context(|| format!("bind {address}"))
    };
    let sockets = addresses.iter().map(bind).collect::<Result<Vec<_>>>()?;
    let stop = stop.watch()?;
    host.thread("udp", move || {
        let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        let mut packet = [0; 4096];
        while let Some(ready) = readable(&stop, &fds) {
            for socket in ready.iter().filter_map(|index| sockets.get(*index)) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                if let Some(bytes) = packet.get(..length) {
                    serve(socket, bytes, from);
                }
            }
        }
    })?;
    Ok(())
}

/// The address behind a name in the laboratory.
fn look_up(name: &str) -> (Vec<IpAddr>, Vec<IpAddr>) {
    match name {
        "api.sandbox.test" => (vec![address::API_V4, address::API_SECOND_V4], vec![address::API_V6]),
        "printer.lan" => (vec![address::LAN_HOST_V4], vec![address::LAN_HOST_V6]),
        _ => (vec![address::WEB_V4], vec![address::WEB_V6]),
    }
}

/// Answers one DNS message (RFC 1035 §4.1) and writes the question down. `None` for anything that is not a question.
fn answer(question: &[u8], from: SocketAddr, tcp: bool, log: &Log<Query>) -> Option<Vec<u8>> {
    let (header, mut rest) = question.split_at_checked(12)?;
    let is_question = header.get(2)? & 0x80 == 0;
    if !is_question || header.get(4..6)? != [0, 1] {
        return None;
    }
    let mut labels = Vec::new();
    loop {
        let (length, tail) = rest.split_first()?;
        if *length == 0 {
            rest = tail;
            break;
        }
        let (label, tail) = tail.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        rest = tail;
    }
    let (kind_bytes, rest) = rest.split_first_chunk::<2>()?;
    let (_class, rest) = rest.split_first_chunk::<2>()?;
    let kind = u16::from_be_bytes(*kind_bytes);
    let name = labels.join(".");
    let (v4, v6) = look_up(&name);
    log.add(Query { name, kind, from, tcp });
    let records: Vec<Vec<u8>> = match kind {
        1 => v4.iter().map(octets).collect(),
        28 => v6.iter().map(octets).collect(),
        _ => Vec::new(),
    };
    let asked = question.get(12..question.len().checked_sub(rest.len())?)?;
    let mut reply = header.get(..2)?.to_vec();
    // Flags: response, recursion desired and available, no error. One question, n answers, nothing else.
    reply.extend([0x81, 0x80, 0, 1, 0, u8::try_from(records.len()).ok()?, 0, 0, 0, 0]);
    reply.extend(asked);
    for record in records {
        // Name: pointer to byte 12. Class IN, 60 seconds.
        reply.extend([0xc0, 12]);
        reply.extend(kind_bytes);
        reply.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(record.len()).ok()?]);
        reply.extend(record);
    }
    Some(reply)
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// One piece of data that reached the observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// From whom, after any address translation.
    pub from: SocketAddr,
    /// True for TCP.
    pub tcp: bool,
    /// How many bytes.
    pub bytes: usize,
}

/// Writes down every datagram and every piece of every stream, and echoes it.
///
/// # Errors
/// When an address cannot be bound.
pub fn observer(host: &Host, stop: &Stop, addresses: &[SocketAddr]) -> Result<Log<Seen>> {
    let log = Log::default();
    let tcp_log = log.clone();
    serve_tcp(host, stop, addresses, move |mut stream, from| {
        let _ = stream.set_read_timeout(None);
        let mut buffer = [0; 4096];
        while let Ok(bytes) = stream.read(&mut buffer) {
            tcp_log.add(Seen { from, tcp: true, bytes });
            if bytes == 0 || buffer.get(..bytes).is_none_or(|echo| stream.write_all(echo).is_err()) {
                return;
            }
        }
    })?;
    let udp_log = log.clone();
    serve_udp(host, stop, addresses, move |socket, packet, from| {
        udp_log.add(Seen { from, tcp: false, bytes: packet.len() });
        let _ = socket.send_to(packet, from);
    })?;
    Ok(log)
}
