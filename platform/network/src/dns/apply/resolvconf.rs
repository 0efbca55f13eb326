//! `resolvconf`, Debian's or openresolv: a fixed program with fixed arguments, our record on standard input.

use super::DnsError;
use super::journal::{Journal, Undo};
use crate::dns::plan::{DnsPlan, nameservers};
use crate::files;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Where the program may be. Nothing is looked up in PATH.
const PROGRAMS: [&str; 2] = ["/sbin/resolvconf", "/usr/sbin/resolvconf"];
/// Both are shell scripts that call a few programs.
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// They run hooks that restart a local cache.
const WAIT: Duration = Duration::from_secs(5);
/// Debian's order puts `tun*` before Ethernet and Wi-Fi; openresolv goes by `-m 0` (first) and `-x` (only us).
const PREFIX: &str = "tun.";

/// The program, when a real one is installed: systemd's stand-in is a link to `resolvectl`.
#[must_use]
pub fn program() -> Option<PathBuf> {
    PROGRAMS.iter().map(PathBuf::from).find(|path| {
        let real = std::fs::canonicalize(path);
        real.is_ok_and(|real| real.is_file() && real.file_name().is_some_and(|name| name != "resolvectl"))
    })
}

/// Adds our record. Returns false when the file asks our first resolver first already.
///
/// # Errors
/// The program fails, or the file reads back otherwise.
pub async fn set(path: &Path, journal: &Journal, plan: &DnsPlan) -> Result<bool, DnsError> {
    if is_set(path, plan)? {
        return Ok(false);
    }
    let record = format!("{PREFIX}{}", plan.interface);
    journal.save(Undo::Resolvconf { record: record.clone() })?;
    let lines: String = plan.resolvers.iter().map(|resolver| format!("nameserver {resolver}\n")).collect();
    run(&["-a", &record, "-m", "0", "-x"], lines.as_bytes()).await?;
    if is_set(path, plan)? { Ok(true) } else { Err(DnsError::ReadsBackDifferently(path.display().to_string())) }
}

/// True when the file asks our resolvers before any other.
///
/// # Errors
/// The file cannot be read.
pub fn is_set(path: &Path, plan: &DnsPlan) -> Result<bool, DnsError> {
    let content = match files::read_bounded(path, super::static_file::LIMIT) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(DnsError::file("read", path, source)),
    };
    let found = nameservers(&content);
    // Debian's keeps the first three; where a local cache is used it is the only one and asks our record.
    let local = found.len() == 1 && found.iter().all(|server| server.starts_with("127."));
    Ok(local || plan.resolvers.first().map(ToString::to_string).as_ref() == found.first())
}

/// Removes our record.
///
/// # Errors
/// The program fails.
pub async fn restore(record: &str) -> Result<String, DnsError> {
    run(&["-d", record], b"").await?;
    Ok(format!("resolvconf record {record} removed"))
}

async fn run(arguments: &[&str], input: &[u8]) -> Result<(), DnsError> {
    let program = program().ok_or_else(|| DnsError::Program("resolvconf is not installed".to_owned()))?;
    let failed = |error: std::io::Error| DnsError::Program(format!("resolvconf cannot be run: {error}"));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let finished = async {
        if let Some(mut stdin) = stdin {
            stdin.write_all(input).await?;
        }
        child.wait().await
    };
    match tokio::time::timeout(WAIT, finished).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(DnsError::Program(format!("resolvconf failed: {status}"))),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(DnsError::Program("resolvconf did not end in time".to_owned())),
    }
}
