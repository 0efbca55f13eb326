//! The processes of one window: found by a mark in their environment, measured, and ended one by one.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

use crate::wait::until;

/// The environment variable that marks them.
pub const MARK: &str = "HAMN_WINDOW_RUN";

/// Ids of all processes that carry this mark and run a program whose name starts with one of `names` (all when empty).
#[must_use]
pub fn marked(mark: &str, names: &[&str]) -> Vec<Pid> {
    let wanted = format!("{MARK}={mark}");
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        let carries = std::fs::read(format!("/proc/{id}/environ"))
            .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()));
        let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        carries && (names.is_empty() || names.iter().any(|start| name.starts_with(start)))
    })
    .map(Pid::from_raw)
    .collect()
}

/// Waits until no marked process is left; those that stay are killed.
///
/// # Errors
/// When one cannot be killed.
pub fn end_marked(mark: &str, patience: Duration) -> Result<()> {
    let gone = until("the window's processes end", patience, || Ok(marked(mark, &[]).is_empty().then_some(())));
    if gone.is_ok() {
        return Ok(());
    }
    for id in marked(mark, &[]) {
        let _ = kill(id, Signal::SIGKILL);
    }
    until("the window's processes die", Duration::from_secs(5), || Ok(marked(mark, &[]).is_empty().then_some(())))
}

/// Proportional set size in KiB, as the kernel counts it: shared pages are divided among their users.
///
/// # Errors
/// When the process is gone.
pub fn pss_kib(id: Pid) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).with_context(|| format!("read the memory of {id}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    line.trim().trim_end_matches("kB").trim().parse().context("parse Pss")
}

/// The name that the kernel knows a process by (15 bytes).
#[must_use]
pub fn name(id: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default().trim().to_owned()
}

/// CPU time that a process has used, in clock ticks.
#[must_use]
pub fn ticks(id: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // After the name in parentheses: utime and stime are the fields 14 and 15 of proc(5).
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}
