//! What the helper must know of the computer, on Linux.

use hamn_core::time::Now;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Settings, intent, secrets and caches.
#[must_use]
pub fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/hamn")
}

/// What lasts until the next boot.
#[must_use]
pub fn runtime_dir() -> PathBuf {
    PathBuf::from("/run/hamn")
}

/// The administrator's files.
#[must_use]
pub fn policy_dir() -> PathBuf {
    PathBuf::from("/etc/hamn")
}

/// Where the local API listens.
#[must_use]
pub fn api_address(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("helper.sock")
}

/// Nothing more can be said on this system.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {}

/// Before anything else.
///
/// # Errors
/// None.
pub fn begin() -> anyhow::Result<()> {
    // Whatever umask the service manager or an administrator left, our files are for us alone (G14).
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    Ok(())
}

/// A core file or a tracer would get at keys (G14).
pub fn keep_memory_private() {
    if let Err(error) = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "core files could not be switched off");
    }
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "the memory could not be closed to tracers");
    }
}

/// Ends this process now, without cleaning up: the service manager starts it again.
pub fn end_at_once() {
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
}

/// Now: `CLOCK_BOOTTIME` counts through suspend (clock_gettime(2)).
#[must_use]
pub fn now() -> Now {
    let read = |clock| clock_gettime(clock).map(|time| (time.tv_sec(), time.tv_nsec())).unwrap_or((0, 0));
    let (seconds, nanoseconds) = read(ClockId::CLOCK_BOOTTIME);
    let milliseconds = seconds.saturating_mul(1000).saturating_add(nanoseconds.checked_div(1_000_000).unwrap_or(0));
    Now { monotonic_ms: u64::try_from(milliseconds).unwrap_or(0), unix_s: read(ClockId::CLOCK_REALTIME).0 }
}

/// The name of this computer; empty when it has none that is text.
#[must_use]
pub fn name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// Name and version of the operating system, and of the kernel.
#[must_use]
pub fn system() -> String {
    let release = super::file::beginning_of("/etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown system").trim_matches('"');
    format!("{name}, kernel {}", super::file::beginning_of("/proc/sys/kernel/osrelease").trim())
}

/// A resolver that programs of this system ask: the first `nameserver` of resolv.conf(5).
#[must_use]
pub fn resolver() -> Option<IpAddr> {
    super::file::beginning_of("/etc/resolv.conf").lines().find_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
}

/// Lets this socket of ours past the rules for others: the firewall and the routes know it by its mark.
///
/// # Errors
/// The kernel refuses.
pub fn mark_as_ours(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_mark(hamn_core::net::FWMARK)
}
