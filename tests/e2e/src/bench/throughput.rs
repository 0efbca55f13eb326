//! One TCP stream through each tunnel, up and down, in turn, and what it costs the process that carries it.

use crate::bench::clients::{Client, Clients};
use crate::bench::process::Process;
use crate::bench::report::{Report, ThroughputRow};
use crate::bench::stats::median;
use crate::bench::{Plan, keep};
use crate::wait::{s, until};
use crate::world::World;
use anyhow::{Context, Result, anyhow, ensure};
use hamn_provider::sandbox::address::{ISP_NAT_V4, WEB_V4};
use serde::Serialize;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes per call of read or write.
const CHUNK: usize = 128 * 1024;
/// Not counted: TCP opens its window.
const WARM_UP: Duration = Duration::from_millis(300);
/// The same for every stream, whatever the machine's default is.
const CONGESTION_CONTROL: &[u8] = b"cubic";

/// Which end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The client sends.
    Up,
    /// The web sends.
    Down,
}

/// One round.
#[derive(Clone, Copy, Debug)]
struct Round {
    mbit_per_s: f64,
    cpu_s_per_gbit: Option<f64>,
}

/// What is known of one client and direction.
struct Series {
    client: Option<Client>,
    direction: Direction,
    rounds: Vec<Round>,
    peak_rss_kib: u64,
}

/// Measures every client in turn, and the network without a tunnel.
pub fn measure(world: &World, clients: &Clients, plan: &Plan, report: &mut Report) {
    let subjects = std::iter::once(None).chain(Client::ALL.map(Some));
    let mut all: Vec<Series> = subjects
        .flat_map(|client| [Direction::Up, Direction::Down].map(|direction| (client, direction)))
        .map(|(client, direction)| Series { client, direction, rounds: Vec::new(), peak_rss_kib: 0 })
        .collect();
    for round in 0..plan.rounds {
        for pair in all.chunks_mut(2) {
            let client = pair.first().and_then(|series| series.client);
            let name = format!("throughput: {}, round {}", client.map_or("no tunnel", Client::name), round + 1);
            keep(&mut report.not_measured, &name, visit(world, clients, client, plan.window, pair));
        }
    }
    let reference = |direction| {
        let found = all.iter().find(|series| series.client == Some(Client::WireGuardGo) && series.direction == direction)?;
        median(&found.rounds.iter().map(|round| round.mbit_per_s).collect::<Vec<_>>())
    };
    let (up, down) = (reference(Direction::Up), reference(Direction::Down));
    for series in &all {
        let of = if series.direction == Direction::Up { up } else { down };
        report.throughput.extend(row(series, of));
    }
}

fn row(series: &Series, reference: Option<f64>) -> Option<ThroughputRow> {
    let rounds: Vec<f64> = series.rounds.iter().map(|round| round.mbit_per_s).collect();
    let mbit_per_s = median(&rounds)?;
    let cpu: Vec<f64> = series.rounds.iter().filter_map(|round| round.cpu_s_per_gbit).collect();
    Some(ThroughputRow {
        client: series.client.map_or("no tunnel", Client::name).to_owned(),
        direction: series.direction,
        mbit_per_s,
        rounds_mbit_per_s: rounds,
        ratio_to_wireguard_go: reference.filter(|_| series.client.is_some()).map(|of| mbit_per_s / of),
        client_cpu_s_per_gbit: median(&cpu),
        client_peak_rss_mib: series.client.map(|_| kib_to_mib(series.peak_rss_kib)),
    })
}

/// KiB as MiB.
#[must_use]
pub fn kib_to_mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

/// One client up, both directions, and down again.
fn visit(world: &World, clients: &Clients, client: Option<Client>, window: Duration, pair: &mut [Series]) -> Result<()> {
    let Some(client) = client else { return transfers(world, None, window, pair) };
    clients.up(world, client)?;
    let result = clients.process(world, client).and_then(|process| transfers(world, Some(process), window, pair));
    let down = clients.down(world, client);
    result.and(down)
}

fn transfers(world: &World, process: Option<Process>, window: Duration, pair: &mut [Series]) -> Result<()> {
    for series in pair {
        let round = transfer(world, series.direction, window, process).with_context(|| format!("{:?}", series.direction))?;
        series.rounds.push(round);
        if let Some(process) = process {
            series.peak_rss_kib = series.peak_rss_kib.max(process.peak_rss_kib()?);
        }
    }
    Ok(())
}

fn transfer(world: &World, direction: Direction, window: Duration, process: Option<Process>) -> Result<Round> {
    let listener = world.lab.internet.run(|| TcpListener::bind(SocketAddr::new(WEB_V4, 0)))?.context("listen")?;
    let server_address = listener.local_addr()?;
    let connecting = world.lab.client.run(move || TcpStream::connect_timeout(&server_address, s(5)))?;
    let near = connecting.context("connect to the sink")?;
    // The handshake is over, so this one waits in the queue.
    let (far, from) = listener.accept().context("accept")?;
    let expected = if process.is_some() { Clients::EXIT } else { ISP_NAT_V4 };
    ensure!(from.ip() == expected, "the web saw {}, not {expected}: this stream did not take its way", from.ip());
    for stream in [&near, &far] {
        prepare(stream)?;
    }
    let (sender, receiver) = if direction == Direction::Up { (near, far) } else { (far, near) };
    let received = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let ends = [sender.try_clone()?, receiver.try_clone()?];
    let (count, sending_ends, receiving_ends) = (Arc::clone(&received), Arc::clone(&stop), Arc::clone(&stop));
    let send = std::thread::spawn(move || pour(sender, &sending_ends));
    let receive = std::thread::spawn(move || drain(receiver, &count, &receiving_ends));
    let counted = count_for(window, &received, process);
    stop.store(true, Ordering::Relaxed);
    for end in &ends {
        let _ = end.shutdown(Shutdown::Both);
    }
    let sent = send.join().map_err(|_| anyhow!("the sender panicked"))?;
    receive.join().map_err(|_| anyhow!("the receiver panicked"))?.context("receive")?;
    sent.context("send")?;
    counted
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(s(2)))?;
    stream.set_write_timeout(Some(s(2)))?;
    socket2::SockRef::from(stream).set_tcp_congestion(CONGESTION_CONTROL).context("choose the congestion control")
}

fn count_for(window: Duration, received: &AtomicU64, process: Option<Process>) -> Result<Round> {
    until("the first bytes arrive", s(5), || Ok((received.load(Ordering::Relaxed) > 0).then_some(())))?;
    std::thread::sleep(WARM_UP);
    let cpu = || process.map(Process::cpu_s).transpose();
    let (start, before, cpu_before) = (Instant::now(), received.load(Ordering::Relaxed), cpu()?);
    std::thread::sleep(window);
    let (time, bytes, cpu_after) = (start.elapsed(), received.load(Ordering::Relaxed) - before, cpu()?);
    let gbit = f64::from(u32::try_from(bytes / 1024)?) * 1024.0 * 8.0 / 1e9;
    ensure!(gbit > 0.0, "nothing arrived in {} ms", window.as_millis());
    let cpu_s_per_gbit = cpu_before.zip(cpu_after).map(|(before, after)| (after - before) / gbit);
    Ok(Round { mbit_per_s: gbit * 1e3 / time.as_secs_f64(), cpu_s_per_gbit })
}

/// Writes until told to stop.
fn pour(mut stream: TcpStream, stop: &AtomicBool) -> std::io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    loop {
        match stream.write(&chunk) {
            _ if stop.load(Ordering::Relaxed) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads and counts until told to stop.
fn drain(mut stream: TcpStream, count: &AtomicU64, stop: &AtomicBool) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk) {
            _ if stop.load(Ordering::Relaxed) => return Ok(()),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => drop(count.fetch_add(u64::try_from(bytes).unwrap_or(0), Ordering::Relaxed)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
