//! How long `hamn status --json` takes, and the same question on a connection that stays open.

use crate::bench::clients::Recipe;
use crate::bench::report::LatencyRow;
use crate::bench::stats::Spread;
use crate::bench::{inside, millis, some};
use crate::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Measures both.
///
/// # Errors
/// When a question is not answered.
pub fn measure(world: &World, times: usize) -> Result<Vec<LatencyRow>> {
    let status = Recipe::hamn(world, vec!["status".to_owned(), "--json".to_owned()])?;
    // A program that says nothing is quick, too.
    let said: Value = serde_json::from_str(&status.inside(world).ok()?).context("`hamn status --json` printed no JSON")?;
    ensure!(said["state"].is_string(), "`hamn status --json` printed no state: {said}");
    let program = inside(&world.lab.client, "status", move || {
        let mut samples = Vec::new();
        for _ in 0..times {
            let start = Instant::now();
            status.run()?;
            samples.push(millis(start.elapsed()));
        }
        Ok(samples)
    })?;
    let asked = on_one_connection(&world.socket(), times)?;
    let row = |what: &str, samples: &[f64]| -> Result<LatencyRow> {
        Ok(LatencyRow { what: what.to_owned(), ms: some(Spread::of(samples), "no samples")? })
    };
    Ok(vec![row("`hamn status --json`, start to exit", &program)?, row("`GET /v1/status` on one open connection", &asked)?])
}

fn on_one_connection(socket: &Path, times: usize) -> Result<Vec<f64>> {
    let mut stream = UnixStream::connect(socket).context("connect to the helper")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut samples = Vec::new();
    for asked in 0..times {
        let start = Instant::now();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: hamn\r\n\r\n")?;
        read_answer(&mut reader).with_context(|| format!("request {} on one connection", asked + 1))?;
        samples.push(millis(start.elapsed()));
    }
    Ok(samples)
}

/// Reads one answer with a length.
fn read_answer(reader: &mut impl BufRead) -> Result<()> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 200 "), "the helper answered {line:?}");
    let mut length = None;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<usize>()?);
        }
    }
    let mut body = vec![0; length.context("an answer without length")?];
    reader.read_exact(&mut body)?;
    Ok(())
}
