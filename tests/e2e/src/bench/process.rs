//! What the helper costs: memory, threads, wake-ups.

use anyhow::{Context, Result};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::time::Duration;

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Context switches of all threads so far: each is a wake-up.
fn switches(pid: Pid) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let Ok(text) = std::fs::read_to_string(task?.path().join("status")) else { continue };
        sum += field(&text, "voluntary_ctxt_switches:");
    }
    Ok(sum)
}

/// Memory in MiB, threads, and wake-ups per second over `window`.
///
/// # Errors
/// When the process is gone.
pub fn cost(pid: Pid, window: Duration) -> Result<Value> {
    // What the last call set in motion shall not count.
    std::thread::sleep(Duration::from_secs(1));
    let before = switches(pid)?;
    std::thread::sleep(window);
    let wakeups = (switches(pid)? - before) as f64 / window.as_secs_f64();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read the process's status")?;
    Ok(json!({
        "rss_mib": (field(&status, "VmRSS:") as f64 / 102.4).round() / 10.0,
        "threads": field(&status, "Threads:"),
        "wakeups_per_s": (wakeups * 10.0).round() / 10.0,
    }))
}
