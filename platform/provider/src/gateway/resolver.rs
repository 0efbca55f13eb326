//! The resolver inside the tunnel: forwards questions to the gateway's upstream resolvers and back, nothing else.
//!
//! It neither caches nor logs. Answers are passed on as they come; only the message's id is checked (RFC 1035 section 4.1.1),
//! on a socket that is connected to the upstream and has a fresh port for each question (RFC 5452 section 9.2).

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Questions under way at once, per listener and transport.
const MAX_QUESTIONS: usize = 256;
/// For one upstream to answer.
const UPSTREAM: Duration = Duration::from_secs(2);
/// For a TCP client to send its next question.
const IDLE: Duration = Duration::from_secs(5);
/// Header of a DNS message.
const HEADER: usize = 12;

/// Listens on UDP and TCP. A fresh interface's IPv6 address may need a moment.
pub(super) async fn start(tasks: &mut JoinSet<()>, address: SocketAddr, upstreams: Vec<SocketAddr>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let (udp, tcp) = loop {
        let bound = async { Ok::<_, std::io::Error>((UdpSocket::bind(address).await?, TcpListener::bind(address).await?)) }.await;
        match bound {
            Ok(sockets) => break sockets,
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error).with_context(|| format!("listen on {address}")),
        }
    };
    let upstreams: Arc<[SocketAddr]> = upstreams.into();
    tasks.spawn(serve_udp(udp, Arc::clone(&upstreams)));
    tasks.spawn(serve_tcp(tcp, upstreams));
    Ok(())
}

async fn serve_udp(socket: UdpSocket, upstreams: Arc<[SocketAddr]>) {
    let socket = Arc::new(socket);
    let room = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let mut running = JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        while running.try_join_next().is_some() {}
        let Some(question) = buffer.get(..length).filter(|bytes| is_question(bytes)).map(<[u8]>::to_vec) else { continue };
        // Over the limit a question is dropped; the client asks again.
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (socket, upstreams) = (Arc::clone(&socket), Arc::clone(&upstreams));
        running.spawn(async move {
            let mut answer = Vec::new();
            for upstream in upstreams.iter() {
                if let Ok(Ok(found)) = timeout(UPSTREAM, ask_udp(&question, *upstream)).await {
                    answer = found;
                    break;
                }
            }
            let answer = if answer.is_empty() { failure(&question) } else { answer };
            let _ = socket.send_to(&answer, from).await;
            drop(permit);
        });
    }
}

async fn ask_udp(question: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if upstream.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = buffer.get(..length).filter(|answer| is_answer(answer, question)) {
            return Ok(answer.to_vec());
        }
    }
}

async fn serve_tcp(listener: TcpListener, upstreams: Arc<[SocketAddr]>) {
    let room = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let mut running = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        while running.try_join_next().is_some() {}
        let Ok((mut stream, _)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let upstreams = Arc::clone(&upstreams);
        running.spawn(async move {
            while let Ok(Ok(question)) = timeout(IDLE, read_message(&mut stream)).await {
                if !is_question(&question) {
                    break;
                }
                let mut answer = failure(&question);
                for upstream in upstreams.iter() {
                    if let Ok(Ok(found)) = timeout(UPSTREAM, ask_tcp(&question, *upstream)).await {
                        answer = found;
                        break;
                    }
                }
                if !matches!(timeout(IDLE, write_message(&mut stream, &answer)).await, Ok(Ok(()))) {
                    break;
                }
            }
            drop(permit);
        });
    }
}

async fn ask_tcp(question: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    write_message(&mut stream, question).await?;
    let answer = read_message(&mut stream).await?;
    if is_answer(&answer, question) { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

/// A complete header with the response bit clear.
fn is_question(message: &[u8]) -> bool {
    message.len() >= HEADER && message.get(2).is_some_and(|flags| flags & 0x80 == 0)
}

/// A complete header with the response bit set and the question's id.
fn is_answer(message: &[u8], question: &[u8]) -> bool {
    message.len() >= HEADER && message.get(2).is_some_and(|flags| flags & 0x80 != 0) && message.get(..2) == question.get(..2)
}

/// The question, sent back as SERVFAIL.
fn failure(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    if let [_, _, high, low, ..] = answer.as_mut_slice() {
        *high |= 0x80;
        *low = 0x82;
    }
    answer
}
