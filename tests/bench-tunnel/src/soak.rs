//! Full rate for long, with new keys every few seconds: every byte arrives as it left, memory and descriptors stay where they are.

use crate::bench::{Programs, tunnel};
use crate::lab::{Lab, server};
use crate::programs::End;
use crate::traffic::Direction;
use crate::transfer::Bytes;
use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Streams in each direction.
const STREAMS: usize = 2;
/// Between handshakes that the client begins; the gateway begins its own a little less often, so that some coincide.
const REKEY: Duration = Duration::from_secs(3);
const GATEWAY_REKEY: Duration = Duration::from_millis(3_700);
/// Between lines.
const LINE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(30);
const CHUNK: usize = 1 << 16;
/// Buffers are warm after this, or half of a shorter run.
const WARM: Duration = Duration::from_secs(10);
/// Memory that may be added after that, in MiB.
const GROWTH_MIB: f64 = 1.0;
/// The most memory of an end, in MiB.
const BOUND_MIB: f64 = 16.0;

struct Stream {
    name: String,
    sender: JoinHandle<Result<(u64, [u8; 32])>>,
    receiver: JoinHandle<Result<(u64, [u8; 32])>>,
}

/// Both ends of the tunnel at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    rss_mib: [f64; 2],
    descriptors: [usize; 2],
}

impl Look {
    fn at(ends: &[End; 2]) -> Result<Self> {
        let [near, far] = [ends[0].process, ends[1].process];
        Ok(Self { rss_mib: [near.rss_mib()?, far.rss_mib()?], descriptors: [near.descriptors()?, far.descriptors()?] })
    }
}

/// What was seen of the ends.
struct Watch {
    /// When its buffers are warm.
    settled: Look,
    last: Look,
    highest: [f64; 2],
    /// Handshakes that were asked for.
    forced: u64,
}

/// Runs for this long. Says what it sees and gives the failures.
///
/// # Errors
/// When the tunnel does not come up.
pub fn run(programs: &Programs, time: Duration, say: &dyn Fn(&str)) -> Result<Vec<String>> {
    let directory = tempfile::tempdir()?;
    let lab = Lab::new()?;
    let mut ends = tunnel(&lab, 1, &programs.engine, &programs.engine, directory.path())?;
    let (stop, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut streams = Vec::new();
    for (number, direction) in
        (0..STREAMS).flat_map(|number| [Direction::Up, Direction::Down].map(|direction| (number, direction)))
    {
        streams.push(stream(&lab, server(1, number % 2 == 1), direction, &stop, &arrived)?);
    }
    let mut failures = Vec::new();
    let watch = watch(&mut ends, time, &arrived, &mut failures, say)?;
    let made = ends[0].counters()?;
    stop.store(true, Ordering::Relaxed);
    for stream in streams {
        let sent = stream.sender.join().map_err(|_| anyhow!("panicked"))?.with_context(|| stream.name.clone())?;
        let got = stream.receiver.join().map_err(|_| anyhow!("panicked"))?.with_context(|| stream.name.clone())?;
        say(&format!(
            "{}: {} bytes sent, {} arrived, digests {}",
            stream.name,
            sent.0,
            got.0,
            if sent == got { "equal" } else { "DIFFER" }
        ));
        if sent != got {
            failures.push(format!("{}: what arrived is not what was sent", stream.name));
        }
    }
    let Watch { settled, last, highest, forced } = &watch;
    say(&format!("client: {made}\ngateway: {}", ends[1].counters()?));
    say(&format!("{forced} handshakes forced; settled {settled:?}; last {last:?}; highest {highest:.1?} MiB"));
    judge(&watch, &mut failures);
    if made["handshakes"].as_u64().unwrap_or(0) < forced / 2 {
        failures.push(format!("{forced} handshakes were forced, {} made", made["handshakes"]));
    }
    Ok(failures)
}

fn watch(
    ends: &mut [End; 2],
    time: Duration,
    arrived: &AtomicU64,
    failures: &mut Vec<String>,
    say: &dyn Fn(&str),
) -> Result<Watch> {
    say("   s |  Mbit/s | handshakes | RSS MiB client, gateway | descriptors");
    let start = Instant::now();
    let mut due = [REKEY, GATEWAY_REKEY];
    let (mut line, mut since, mut before) = (LINE.min(time / 3), start, 0);
    let (mut settled, mut last, mut highest, mut forced) = (None, Look::at(ends)?, [0.0_f64; 2], 0);
    while start.elapsed() < time {
        std::thread::sleep(Duration::from_millis(100));
        let now = start.elapsed();
        for (end, every) in [REKEY, GATEWAY_REKEY].into_iter().enumerate() {
            if now >= due[end] {
                ends[end].tell("handshake")?;
                (due[end], forced) = (due[end] + every, forced + 1);
            }
        }
        last = Look::at(ends)?;
        highest = [0, 1].map(|end| highest[end].max(last.rss_mib[end]));
        if settled.is_none() && now > (time / 10).max(WARM.min(time / 2)) {
            settled = Some(last);
        }
        if now >= line {
            let (bytes, handshakes) = (arrived.load(Ordering::Relaxed), ends[0].counters()?["handshakes"].clone());
            let rate = number(bytes - before)? * 8.0 / 1e6 / since.elapsed().as_secs_f64();
            let [near, far] = last.rss_mib;
            say(&format!("{:>4} | {rate:>7.0} | {handshakes:>10} | {near:.1}, {far:.1} | {:?}", now.as_secs(), last.descriptors));
            if bytes == before {
                failures.push(format!("nothing arrived before second {}", now.as_secs()));
            }
            (before, line, since) = (bytes, line + LINE, Instant::now());
        }
    }
    Ok(Watch { settled: settled.context("no time to settle")?, last, highest, forced })
}

fn judge(watch: &Watch, failures: &mut Vec<String>) {
    let Watch { settled, last, highest, .. } = watch;
    for (end, name) in ["client", "gateway"].into_iter().enumerate() {
        if last.rss_mib[end] > settled.rss_mib[end] + GROWTH_MIB || highest[end] > BOUND_MIB {
            failures.push(format!("memory of the {name}: {:.1} MiB, then {:.1}", settled.rss_mib[end], last.rss_mib[end]));
        }
        if last.descriptors[end] != settled.descriptors[end] {
            failures.push(format!("descriptors of the {name}: {}, then {}", settled.descriptors[end], last.descriptors[end]));
        }
    }
}

fn number(count: u64) -> Result<f64> {
    // 2^53 bytes would take weeks.
    Ok(format!("{count}").parse()?)
}

fn stream(lab: &Lab, server: IpAddr, direction: Direction, stop: &Arc<AtomicBool>, arrived: &Arc<AtomicU64>) -> Result<Stream> {
    let listener = lab.net.run(move || TcpListener::bind(SocketAddr::new(server, 0)))??;
    let address = listener.local_addr()?;
    let near = lab.client.run(move || TcpStream::connect_timeout(&address, PATIENCE))?.context("connect")?;
    let (far, _) = listener.accept()?;
    for end in [&near, &far] {
        end.set_read_timeout(Some(PATIENCE))?;
        end.set_write_timeout(Some(PATIENCE))?;
        socket2::SockRef::from(end).set_tcp_congestion(b"cubic")?;
    }
    let (out, mut input) = if direction == Direction::Up { (near, far) } else { (far, near) };
    let (stop, arrived) = (Arc::clone(stop), Arc::clone(arrived));
    let sender = std::thread::spawn(move || send(out, &stop));
    let receiver = std::thread::spawn(move || {
        let (mut digest, mut chunk, mut sum) = (Sha256::new(), vec![0; CHUNK], 0);
        loop {
            let length = input.read(&mut chunk).context("read")?;
            if length == 0 {
                return Ok((sum, digest.finalize().into()));
            }
            digest.update(&chunk[..length]);
            sum += u64::try_from(length)?;
            arrived.fetch_add(u64::try_from(length)?, Ordering::Relaxed);
        }
    });
    Ok(Stream { name: format!("{direction:?} {server}"), sender, receiver })
}

/// No two chunks are the same: each carries its number.
fn send(mut out: TcpStream, stop: &AtomicBool) -> Result<(u64, [u8; 32])> {
    let (mut digest, mut chunk, mut sum, mut number) = (Sha256::new(), vec![0; CHUNK], 0, 0_u64);
    Bytes(rand::random()).fill(&mut chunk);
    while !stop.load(Ordering::Relaxed) {
        chunk[..8].copy_from_slice(&number.to_be_bytes());
        number += 1;
        digest.update(&chunk);
        out.write_all(&chunk).context("write")?;
        sum += u64::try_from(chunk.len())?;
    }
    out.shutdown(Shutdown::Write)?;
    Ok((sum, digest.finalize().into()))
}
