//! Round trips of ICMP echoes, by the `ping` program, whose times the kernel takes.

use crate::lab::Namespace;
use anyhow::{Result, ensure};
use std::net::IpAddr;
use std::process::Command;

/// Microseconds of each answered echo out of `count`, `interval_ms` apart.
///
/// # Errors
/// When not one is answered.
pub fn ping(from: &Namespace, to: IpAddr, count: u32, interval_ms: u32) -> Result<Vec<f64>> {
    let mut command = Command::new("ping");
    command
        .args(["-n", "-c", &count.to_string(), "-i", &format!("{:.3}", f64::from(interval_ms) / 1e3), "-W", "2"])
        .arg(to.to_string());
    let (_, text) = from.output(command)?;
    let times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split_once("time=")?.1.split_whitespace().next()?.parse::<f64>().ok())
        .map(|ms| ms * 1e3)
        .collect();
    ensure!(!times.is_empty(), "no answer from {to}: {text}");
    Ok(times)
}

/// Sends echoes until one is answered.
///
/// # Errors
/// When none is within about ten seconds.
pub fn await_answer(from: &Namespace, to: IpAddr) -> Result<()> {
    let mut last = Ok(());
    for _ in 0..10 {
        match ping(from, to, 1, 10) {
            Ok(_) => return Ok(()),
            Err(error) => last = Err(error),
        }
    }
    last
}
