//! What the helper must know of the computer, on macOS.

use anyhow::bail;
use hamn_core::time::Now;
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Settings, intent, secrets and caches.
#[must_use]
pub fn state_dir() -> PathBuf {
    PathBuf::from("/Library/Application Support/Hamn/state")
}

/// What lasts until the next boot: the system empties `/var/run` then (hier(7)).
#[must_use]
pub fn runtime_dir() -> PathBuf {
    PathBuf::from("/var/run/hamn")
}

/// The administrator's files, beside the managed preferences.
#[must_use]
pub fn policy_dir() -> PathBuf {
    PathBuf::from("/Library/Application Support/Hamn/etc")
}

/// Where the local API listens.
#[must_use]
pub fn api_address(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("helper.sock")
}

/// Nothing more can be said on this system: launchd starts the helper in the foreground.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {}

/// Before anything else.
///
/// # Errors
/// Others than root could put another program in the place of this one (administrators may replace what is in
/// /Applications, which must not make them root).
pub fn begin() -> anyhow::Result<()> {
    // Whatever umask launchd or an administrator left, our files are for us alone (G14).
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    for (above, path) in program.ancestors().enumerate() {
        let metadata = std::fs::symlink_metadata(path)?;
        // Program and directory by root alone; above them the system lets its administrators' group write in places.
        let forbidden = if above < 2 { 0o022 } else { 0o002 };
        if metadata.uid() != 0 || metadata.mode() & forbidden != 0 {
            bail!("{0} can be changed by others than root; run: chown root:wheel \"{0}\" && chmod go-w \"{0}\"", path.display());
        }
    }
    Ok(())
}

/// A core file would hold keys (G14). A tracer needs root or, with the hardened runtime, an entitlement that is not given.
pub fn keep_memory_private() {
    if let Err(error) = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "core files could not be switched off");
    }
}

/// Ends this process now, without cleaning up: launchd starts it again (`KeepAlive`).
pub fn end_at_once() {
    let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
}

/// Now: `CLOCK_MONOTONIC` "will continue to increment while the system is asleep" (clock_gettime(3) of macOS).
#[must_use]
pub fn now() -> Now {
    let read = |clock| clock_gettime(clock).map(|time| (time.tv_sec(), time.tv_nsec())).unwrap_or((0, 0));
    let (seconds, nanoseconds) = read(ClockId::CLOCK_MONOTONIC);
    let milliseconds = seconds.saturating_mul(1000).saturating_add(nanoseconds.checked_div(1_000_000).unwrap_or(0));
    Now { monotonic_ms: u64::try_from(milliseconds).unwrap_or(0), unix_s: read(ClockId::CLOCK_REALTIME).0 }
}

/// The name of this computer; empty when it has none that is text.
#[must_use]
pub fn name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// Version of the operating system (sw_vers(1) reads it from the same file), and of the kernel.
#[must_use]
pub fn system() -> String {
    let list = super::file::beginning_of("/System/Library/CoreServices/SystemVersion.plist");
    let version = list
        .split_once("<key>ProductVersion</key>")
        .and_then(|(_, rest)| rest.split_once("<string>")?.1.split_once("</string>"))
        .map_or("unknown version", |(version, _)| version);
    let kernel = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    format!("macOS {version}, kernel {kernel}")
}

/// A resolver that programs of this system ask: configd writes the primary one to this file (resolver(5)).
#[must_use]
pub fn resolver() -> Option<IpAddr> {
    super::file::beginning_of("/etc/resolv.conf").lines().find_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
}

/// The rules of pf know our sockets by their owner, root (SECURITY.md §9); the routes are passed by tying the socket to the
/// interface that leads out (`IP_BOUND_IF`, `IPV6_BOUND_IF`; ip(4), ip6(4)).
///
/// # Errors
/// This process is not root's, and the rules would stop the socket; or the interface has gone.
pub fn mark_as_ours(socket: &socket2::Socket) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let ipv4 = socket.local_addr()?.is_ipv4();
    match (crate::outer::last_interface(ipv4).and_then(NonZeroU32::new), ipv4) {
        (None, _) => Ok(()),
        (Some(index), true) => socket.bind_device_by_index_v4(Some(index)),
        (Some(index), false) => socket.bind_device_by_index_v6(Some(index)),
    }
}
