//! One TCP stream through whatever carries the client's traffic, from a sender of our own.

use anyhow::{Context, Result, bail};
use hamn_provider::sandbox::{Host, Lab, address as at};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const PORT: u16 = 5201;

/// Starts the server: it reads (first byte 'u') or writes (first byte 'd') until the client closes.
///
/// # Errors
/// When the port is taken.
pub fn serve(lab: &Lab) -> Result<()> {
    let listener = lab.internet.run(|| TcpListener::bind((at::WEB_V4, PORT)))??;
    lab.internet.thread("speed", move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve_one(stream));
        }
    })?;
    Ok(())
}

fn serve_one(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 128 * 1024];
    let mut direction = [0];
    stream.read_exact(&mut direction)?;
    if direction == *b"u" {
        while stream.read(&mut buffer)? > 0 {}
        return Ok(());
    }
    loop {
        stream.write_all(&buffer)?;
    }
}

/// Mbit/s of one stream from the client (`up`) or to it, measured after a warm-up.
///
/// # Errors
/// When nothing gets through.
pub fn measure(client: &Host, up: bool, time: Duration) -> Result<f64> {
    let (sender, result) = std::sync::mpsc::sync_channel(1);
    client.thread("speed", move || drop(sender.send(run(up, time))))?;
    result.recv_timeout(time + Duration::from_secs(10)).context("the measurement hangs")?
}

fn run(up: bool, time: Duration) -> Result<f64> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(at::WEB_V4, PORT), Duration::from_secs(3)).context("connect the stream")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(if up { b"u" } else { b"d" })?;
    let mut buffer = vec![0; 128 * 1024];
    let warm = Instant::now() + Duration::from_millis(500);
    let mut step = || if up { stream.write(&buffer) } else { stream.read(&mut buffer) };
    while Instant::now() < warm {
        step()?;
    }
    let (start, mut bytes) = (Instant::now(), 0_usize);
    while start.elapsed() < time {
        match step()? {
            0 => bail!("the stream ended early"),
            some => bytes += some,
        }
    }
    Ok(bytes as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e6)
}

/// The middle of a few measurements.
#[must_use]
pub fn median(mut series: Vec<f64>) -> f64 {
    series.sort_by(f64::total_cmp);
    series.get(series.len() / 2).copied().unwrap_or(0.0)
}
