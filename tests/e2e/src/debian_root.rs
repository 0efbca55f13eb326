//! A Debian root file system to boot real services in: made once by `debootstrap` from the mirror that this machine's apt
//! uses, kept in the target directory, and never written to afterwards (tests stack an overlay on it).

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Grows when the content changes, so that an old cache is not used.
const VERSION: u32 = 1;
/// What every variant has. No recommended packages; `polkitd` comes with NetworkManager.
const BASE: &str = "systemd,systemd-sysv,dbus,libpam-systemd,network-manager,iproute2,nftables,procps,ca-certificates";

/// Who answers for `/etc/resolv.conf`. The three packages exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolverPackage {
    /// None: NetworkManager or a plain file.
    None,
    /// systemd-resolved.
    Resolved,
    /// Debian's resolvconf.
    Resolvconf,
    /// openresolv.
    Openresolv,
}

impl ResolverPackage {
    const WITH_LAYER: [Self; 3] = [Self::Resolved, Self::Resolvconf, Self::Openresolv];

    const fn package(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Resolved => Some("systemd-resolved"),
            Self::Resolvconf => Some("resolvconf"),
            Self::Openresolv => Some("openresolv"),
        }
    }
}

/// The root on disk.
#[derive(Clone, Debug)]
pub struct DebianRoot {
    directory: PathBuf,
}

impl DebianRoot {
    /// The cached root, built first when there is none (a minute or two). One process builds, all others wait.
    ///
    /// # Errors
    /// When `debootstrap` cannot be had, the mirror cannot be reached or a package does not install.
    pub fn ready() -> Result<Self> {
        let target = target_directory()?;
        fs::create_dir_all(&target).with_context(|| format!("create {}", target.display()))?;
        let release = release()?;
        let name = format!("debian-root-{release}-v{VERSION}");
        let directory = target.join(&name);
        if directory.is_dir() {
            return Ok(Self { directory });
        }
        let lock = File::create(target.join(format!("{name}.lock"))).context("create the lock file")?;
        lock.lock().context("lock the root file system")?;
        if !directory.is_dir() {
            let partial = target.join(format!("{name}.partial"));
            if partial.exists() {
                fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
            }
            fs::create_dir(&partial).with_context(|| format!("create {}", partial.display()))?;
            build(&partial, &release)?;
            fs::rename(&partial, &directory).context("put the root file system in its place")?;
        }
        Ok(Self { directory })
    }

    /// The read-only layers of this variant as overlayfs wants them: the top one first.
    #[must_use]
    pub fn layers(&self, variant: ResolverPackage) -> Vec<PathBuf> {
        let layers = variant.package().into_iter().chain(["base"]);
        layers.map(|name| self.directory.join(name)).collect()
    }
}

/// The target directory of the build, which is outside the clone or ignored by it.
fn target_directory() -> Result<PathBuf> {
    if let Some(directory) = ["HAMN_TARGET_DIR", "CARGO_TARGET_DIR"].iter().find_map(std::env::var_os) {
        return std::path::absolute(directory).context("make the target directory's path absolute");
    }
    let this = std::env::current_exe().context("find the running program")?;
    let profile = this.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
    Ok(profile.and_then(Path::parent).context("the running program is not in a target directory")?.to_owned())
}

/// This machine's release: its mirror is known to work.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).map(|name| name.trim_matches('"').to_owned());
    name.context("/etc/os-release has no VERSION_CODENAME: these tests need apt and debootstrap")
}

/// The mirror that apt uses for a release, and the key ring that it trusts for it.
struct Mirror {
    uri: String,
    keyring: Option<String>,
}

fn mirror(release: &str) -> Result<Mirror> {
    let listing = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(CREATED_BY)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)|$(SIGNED_BY)",
    ]))?;
    for line in listing.lines() {
        if let ["Packages", "main", found, uri, keyring] = line.split('|').collect::<Vec<_>>().as_slice()
            && *found == release
        {
            let keyring = Some((*keyring).to_owned()).filter(|path| Path::new(path).is_file());
            return Ok(Mirror { uri: (*uri).to_owned(), keyring });
        }
    }
    bail!("apt of this machine has no source for {release} main")
}

fn build(directory: &Path, release: &str) -> Result<()> {
    let program = debootstrap()?;
    let Mirror { uri, keyring } = mirror(release)?;
    let base = directory.join("base");
    let mut command = Command::new(program);
    command.arg("--variant=minbase").arg(format!("--include={BASE}"));
    if let Some(keyring) = keyring {
        command.arg(format!("--keyring={keyring}"));
    }
    command.arg(release).arg(&base).arg(uri);
    run_logged(with_proxy(&mut command), &directory.join("base.log"))?;
    for variant in ResolverPackage::WITH_LAYER {
        let Some(package) = variant.package() else { continue };
        let layer = directory.join(package);
        let work = directory.join("work");
        fs::create_dir(&layer).and_then(|()| fs::create_dir(&work)).context("create a layer")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-eu", "-c", ADD_LAYER, "layer"]);
        command.arg(&base).arg(&layer).arg(&work).arg(package);
        run_logged(with_proxy(&mut command), &directory.join(format!("{package}.log")))?;
        fs::remove_dir_all(&work).context("remove overlayfs's work directory")?;
    }
    for cache in ["var/cache/apt/archives", "var/lib/apt/lists"] {
        let path = base.join(cache);
        fs::remove_dir_all(&path).and_then(|()| fs::create_dir(&path)).with_context(|| format!("empty {}", path.display()))?;
    }
    Ok(())
}

/// Installs a package on top of the base, keeping the changes apart. Services are not started (policy-rc.d).
const ADD_LAYER: &str = "
base=$1 layer=$2 work=$3 package=$4
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/root
mount -t overlay overlay -o \"lowerdir=$base,upperdir=$layer,workdir=$work\" /mnt/root
cd /mnt/root
cp /etc/resolv.conf etc/resolv.conf.new
mv etc/resolv.conf.new etc/resolv.conf
printf '#!/bin/sh\\nexit 101\\n' > usr/sbin/policy-rc.d
chmod 755 usr/sbin/policy-rc.d
mount -t proc proc proc
DEBIAN_FRONTEND=noninteractive chroot . apt-get -q -y --no-install-recommends install \"$package\"
rm usr/sbin/policy-rc.d
";

/// `debootstrap`, installed when it is missing.
fn debootstrap() -> Result<&'static str> {
    const PATH: &str = "/usr/sbin/debootstrap";
    let install = || {
        Command::new("apt-get")
            .args(["-q", "-y", "--no-install-recommends", "install", "debootstrap"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
    };
    for update_first in [false, true] {
        if Path::new(PATH).is_file() {
            return Ok(PATH);
        }
        if update_first {
            let _ = Command::new("apt-get").args(["-q", "update"]).output();
        }
        let _ = install();
    }
    ensure!(Path::new(PATH).is_file(), "debootstrap cannot be installed: run `apt-get install debootstrap`");
    Ok(PATH)
}

/// apt's proxy, for programs that look in the environment.
fn with_proxy(command: &mut Command) -> &mut Command {
    let proxy = output(Command::new("apt-config").args(["shell", "proxy", "Acquire::http::Proxy"])).unwrap_or_default();
    // It prints proxy='http://…', or nothing.
    match proxy.trim().strip_prefix("proxy='").and_then(|rest| rest.strip_suffix('\'')) {
        Some(proxy) if !proxy.is_empty() => command.env("http_proxy", proxy),
        _ => command,
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone().context("duplicate a file handle")?).stderr(file);
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    bail!("{command:?} failed ({status}):\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}
