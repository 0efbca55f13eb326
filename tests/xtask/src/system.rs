//! The machine: which programs are missing, how to install them, how to become root.

use crate::output::say;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

static NO_INSTALL: AtomicBool = AtomicBool::new(false);

/// From here on a missing program is an error.
pub fn forbid_installing() {
    NO_INSTALL.store(true, Ordering::Relaxed);
}

/// False after `--no-install`.
pub fn may_install() -> bool {
    !NO_INSTALL.load(Ordering::Relaxed)
}

/// A program and the Debian package that has it.
pub type Need = (&'static str, &'static str);

/// What every run needs.
pub const BASE: &[Need] = &[("ip", "iproute2"), ("nft", "nftables"), ("cc", "build-essential")];
/// What the end-to-end tests need besides.
pub const TESTS: &[Need] = &[
    ("curl", "curl"),
    ("ping", "iputils-ping"),
    ("dig", "bind9-dnsutils"),
    ("conntrack", "conntrack"),
    ("wg", "wireguard-tools"),
    ("wireguard-go", "wireguard-go"),
    ("ethtool", "ethtool"),
    ("strace", "strace"),
    ("dbus-daemon", "dbus-daemon"),
    ("python3", "python3"),
    ("faketime", "faketime"),
];
/// What the benchmark needs besides.
pub const BENCH: &[Need] =
    &[("wg", "wireguard-tools"), ("wireguard-go", "wireguard-go"), ("sysctl", "procps"), ("unshare", "util-linux")];

/// The path of a program, looked up as a shell would, and in the directories for administrators.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// True when this process is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

/// Installs the packages of all missing programs.
pub fn install_missing(needs: &[&[Need]]) -> Result<()> {
    let missing: Vec<Need> =
        needs.iter().flat_map(|list| list.iter()).filter(|(program, _)| find(program).is_none()).copied().collect();
    if missing.is_empty() {
        say("Nothing to install: every system package that this needs is here.");
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let packages = packages.join(" ");
    if !may_install() || find("apt-get").is_none() {
        bail!("these packages are missing (Debian's names): {packages}");
    }
    say(&format!("Installing with apt-get: {packages}"));
    let apt = |words: &str| -> Result<bool> {
        let mut command = as_root("apt-get")?;
        command.args(["-o", "DPkg::Lock::Timeout=300", "-qq"]).args(words.split_whitespace());
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        Ok(command.status().context("run apt-get")?.success())
    };
    let install = format!("install -y --no-install-recommends {packages}");
    // The package lists of a fresh machine may be missing or old.
    let installed = apt(&install)? || (apt("update")? && apt(&install)?);
    if !installed {
        bail!("apt-get could not install: {packages}");
    }
    Ok(())
}

/// A command that runs as root: directly, or through sudo.
pub fn as_root(program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let sudo = find("sudo").context("root is needed, and there is no sudo")?;
    say(&format!("Root is needed for {}: asking sudo.", program.as_ref().to_string_lossy()));
    let mut command = Command::new(sudo);
    command.arg("-E").arg(program);
    Ok(command)
}

/// A command in which namespaces, nft and a TUN device can be made: root as it is, a user namespace, or sudo.
pub fn with_namespaces(program: &Path) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let probe = "exec 3<>/dev/net/tun && ip link add hamn-probe type veth && nft list ruleset";
    let mut attempt = Command::new("unshare");
    attempt.args(["--user", "--map-root-user", "--net", "sh", "-c", probe]).stdout(Stdio::null()).stderr(Stdio::null());
    if attempt.status().is_ok_and(|status| status.success()) {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(program);
        return Ok(command);
    }
    as_root(program)
}
