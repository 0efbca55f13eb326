//! What `cargo xtask bench` measures. Ratios within one run mean something; absolute numbers belong to the machine.

pub mod lists;
pub mod process;
pub mod rival;
pub mod throughput;

use crate::wait::s;
use crate::world::World;
use anyhow::{Context, Result};
use hamn_provider::sandbox::address as at;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Percentiles of a series in milliseconds.
#[must_use]
pub fn percentiles(mut series: Vec<Duration>) -> Value {
    series.sort();
    let at = |percent: usize| {
        let index = (series.len() * percent / 100).min(series.len().saturating_sub(1));
        series.get(index).map(|time| (time.as_secs_f64() * 1e5).round() / 100.0)
    };
    json!({ "n": series.len(), "p50_ms": at(50), "p95_ms": at(95), "p99_ms": at(99), "max_ms": at(100) })
}

/// Command to first byte through the tunnel, `rounds` times.
///
/// # Errors
/// When a connect fails.
pub fn connect(world: &World, rounds: usize) -> Result<Value> {
    let mut series = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        world.connect()?;
        world.wait_for_exit(at::GATEWAY_V4, s(5)).context("first byte")?;
        series.push(start.elapsed());
        world.disconnect()?;
    }
    Ok(percentiles(series))
}

/// How long one swap of the whole ruleset takes, as the helper logs it (apply, read back, compare), while connected.
///
/// # Errors
/// When the helper refuses.
pub fn firewall_swaps(world: &World, rounds: usize) -> Result<Value> {
    world.connect()?;
    let before = swap_times(world)?.len();
    for round in 0..rounds {
        // Within the bound of calls per second.
        let start = Instant::now();
        world.patch(&json!({ "allow_lan": round % 2 == 0 }))?;
        std::thread::sleep(Duration::from_millis(30).saturating_sub(start.elapsed()));
    }
    world.wait_in_force()?;
    let series = swap_times(world)?.split_off(before);
    world.patch(&json!({ "allow_lan": false }))?;
    world.disconnect()?;
    Ok(percentiles(series))
}

fn swap_times(world: &World) -> Result<Vec<Duration>> {
    let log = std::fs::read_to_string(world.helper_log())?;
    let number = |line: &str| -> Option<u64> {
        let rest = line.split_once("took_us")?.1;
        // Between name and number there may be colour codes of the terminal.
        let digits: String = rest.chars().skip_while(|c| *c != '=').skip(1).skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    Ok(log.lines().filter(|line| line.contains("policy applied")).filter_map(number).map(Duration::from_micros).collect())
}

/// `hamn status`, from fork to exit, and the local API alone.
///
/// # Errors
/// When the helper does not answer.
pub fn status_latency(world: &World, rounds: usize) -> Result<Value> {
    let (mut cli, mut api) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        world.hamn("status")?.output()?;
        cli.push(start.elapsed());
        let start = Instant::now();
        world.status()?;
        api.push(start.elapsed());
    }
    Ok(json!({ "cli": percentiles(cli), "local_api": percentiles(api) }))
}
