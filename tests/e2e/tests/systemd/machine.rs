//! A Debian machine with real systemd on the laboratory's client host, with the shipped files of Hamn installed.

use anyhow::{Context, Result, bail, ensure};
use hamn_e2e::World;
use hamn_e2e::api::LocalApi;
use hamn_e2e::binaries::binary;
use hamn_e2e::debian_root::{DebianRoot, ResolverPackage};
use hamn_e2e::wait::{ms, s, until};
use hamn_e2e::world::Setup;
use hamn_provider::sandbox::{HostCommand, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::peer::Peer;

/// Services that make no sense without hardware, or would wake up in the middle of a test.
const MASKED: [&str; 13] = [
    "systemd-udevd.service",
    "systemd-udevd-kernel.socket",
    "systemd-udevd-control.socket",
    "systemd-udev-trigger.service",
    "systemd-logind.service",
    "getty.target",
    "console-getty.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "dpkg-db-backup.timer",
    "NetworkManager-wait-online.service",
];

/// systemd-resolved cannot build its own sandbox inside ours.
const RESOLVED_DROP_IN: &str = "[Service]
PrivateDevices=no
PrivateTmp=no
ProtectSystem=no
ProtectHome=no
ProtectControlGroups=no
ProtectKernelTunables=no
ProtectKernelLogs=no
ProtectKernelModules=no
ProtectClock=no
ProtectProc=default
RestrictNamespaces=no
SystemCallFilter=
";

/// The LAN's resolver is the one that NetworkManager learns for `eth0`.
const ETH0_CONNECTION: &str = "[connection]
id=eth0
type=ethernet
interface-name=eth0
[ipv4]
method=manual
address1=10.0.1.2/24,10.0.1.1
dns=10.0.1.50;
[ipv6]
method=ignore
";

const NETWORK_MANAGER_CONF: &str = "[main]
no-auto-default=*
[keyfile]
unmanaged-devices=interface-name:wlan0
";

/// What can be different from one machine to the next.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Who answers for `/etc/resolv.conf`.
    pub resolver: ResolverPackage,
    /// NetworkManager runs and configures `eth0`; otherwise the laboratory does.
    pub network_manager: bool,
    /// `/etc/resolv.conf` before the start, when it is a file.
    pub resolv_conf: Option<&'static str>,
    /// Files to add: path, content. Those under `/var/lib/hamn` get the helper's permissions.
    pub files: Vec<(&'static str, String)>,
    /// Units to enable before the start.
    pub enabled: Vec<&'static str>,
    /// The laboratory brings `eth0` up before the start, unless NetworkManager does.
    pub plugged_in: bool,
    /// Programs without rights send from before the start for so long.
    pub flood: Option<Duration>,
}

impl Kind {
    /// No service for DNS, no NetworkManager: a plain server.
    pub fn plain() -> Self {
        Self {
            resolver: ResolverPackage::None,
            network_manager: false,
            resolv_conf: Some("nameserver 10.0.1.50\n"),
            files: vec![],
            enabled: vec![],
            plugged_in: true,
            flood: None,
        }
    }

    /// systemd-resolved and NetworkManager: a desktop.
    pub fn desktop() -> Self {
        Self { resolver: ResolverPackage::Resolved, network_manager: true, resolv_conf: None, ..Self::plain() }
    }
}

/// The machine. Dropping it kills everything in it.
pub struct Machine {
    /// The WireGuard server at the gateway.
    pub peer: Peer,
    /// The laboratory around it.
    pub world: World,
    /// What `Kind::flood` started.
    pub flooders: Vec<Child>,
    unshare: Child,
    init: Pid,
    group: String,
    mounts: PathBuf,
}

/// True when the environment says that these tests are not wanted; says so.
pub fn skipped() -> bool {
    let skip = std::env::var_os("HAMN_SKIP_SYSTEMD").is_some_and(|value| value == "1");
    if skip {
        eprintln!("skipped: HAMN_SKIP_SYSTEMD=1 (these tests need debootstrap and a Debian mirror)");
    }
    skip
}

impl Machine {
    /// Boots and waits until systemd has started everything. The helper is installed and not started.
    pub fn boot(kind: &Kind) -> Result<Self> {
        let root = DebianRoot::ready().context("the Debian root cannot be made (HAMN_SKIP_SYSTEMD=1 skips these tests)")?;
        let lab = Options { link_up: false, ..Options::default() };
        let world = World::with(Setup { lab, provider: false, helper: false, login: false })?;
        let peer = Peer::start(&world.lab)?;
        let directory = world.lab.directory().to_owned();
        let top = directory.join("layer");
        write_layer(&top, kind)?;
        let mut layers = vec![top];
        layers.extend(root.layers(kind.resolver));
        let layers = layers.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>().join(":");
        sweep(&world, &directory)?;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let group = format!("hamn-guest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mounts = directory.join("machine");
        fs::create_dir(&mounts)?;
        let mut command = world.lab.client.command("sh").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd/boot.sh"));
        command = command.arg(&layers).arg(&mounts).arg(&group).arg(binary("hamn-helper")?).arg("/usr/lib/hamn/hamn-helper");
        if let Ok(program) = binary("hamn") {
            command = command.arg(program).arg("/usr/bin/hamn");
        }
        if kind.plugged_in && !kind.network_manager {
            world.lab.plug_in()?;
        }
        let flooders = kind.flood.map(|time| world.flood(time)).transpose()?.map(Vec::from).unwrap_or_default();
        let unshare = command.log_to(&directory.join("systemd.log"))?.spawn()?;
        let mut machine = Self { peer, world, flooders, unshare, init: Pid::from_raw(0), group, mounts };
        machine.wait_for_boot().with_context(|| fs::read_to_string(directory.join("systemd.log")).unwrap_or_default())?;
        Ok(machine)
    }

    fn wait_for_boot(&mut self) -> Result<()> {
        let outer = self.unshare.id();
        let children = format!("/proc/{outer}/task/{outer}/children");
        self.init = until("systemd runs", s(30), || {
            if let Some(status) = self.unshare.try_wait()? {
                bail!("the first process ended: {status}");
            }
            let child =
                fs::read_to_string(&children).unwrap_or_default().split_whitespace().next().and_then(|pid| pid.parse().ok());
            Ok(child
                .filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "systemd"))
                .map(Pid::from_raw))
        })?;
        until("systemd answers", s(30), || Ok(self.command("systemctl").arg("show-environment").succeeds().then_some(())))?;
        let state = self.command("systemctl").args(["is-system-running", "--wait"]).timeout(s(60)).output()?;
        let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
        let failed = self.run("systemctl --failed --no-legend --plain").unwrap_or_default();
        ensure!(state == "running", "systemd is {state}: {failed}{}", self.journal());
        Ok(())
    }

    /// A program inside the machine, as root.
    pub fn command(&self, program: &str) -> HostCommand<'_> {
        let command = self.world.lab.client.command("nsenter").arg("--target").arg(self.init.to_string());
        let command = command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", "env", "-i"]);
        command.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", program])
    }

    /// A command line inside the machine that must succeed; returns what it prints.
    pub fn run(&self, line: &str) -> Result<String> {
        self.command("sh").args(["-euc", line]).timeout(s(40)).ok()
    }

    /// A command line inside the machine, running beside the test.
    pub fn beside(&self, line: &str) -> Result<Child> {
        self.command("sh")
            .args(["-uc", line])
            .with(|command| {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            })
            .spawn()
    }

    /// The helper's local API.
    pub fn api(&self) -> LocalApi {
        LocalApi::new(Path::new(&format!("/proc/{}/root/run/hamn/helper.sock", self.init)))
    }

    /// What the helper and systemd said, for failures.
    pub fn journal(&self) -> String {
        self.run("journalctl --no-pager -o short-precise -n 80 -u hamn-helper -u hamn-lockdown").unwrap_or_default()
    }

    /// Adds the journal to an error.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.with_context(|| self.journal())
    }

    /// The helper's process id inside the machine.
    pub fn helper_pid(&self) -> Result<u32> {
        Ok(self.run("systemctl show hamn-helper --property MainPID --value")?.trim().parse()?)
    }

    /// Enables and starts the helper as an administrator does.
    pub fn start_helper(&self) -> Result<()> {
        self.explain(self.run("systemctl enable --now hamn-helper 2>&1").map(drop))
    }

    /// A call that must be taken.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.explain(self.api().call(method, path, Some(body)))?;
        ensure!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.body);
        Ok(answer.body)
    }

    /// Imports the peer's profile and connects with it.
    pub fn connect(&self) -> Result<()> {
        self.call("POST", "/v1/profiles", &json!({ "name": "peer", "conf": self.peer.profile(), "replace": true }))?;
        self.call("POST", "/v1/connect", &json!({ "destination": { "kind": "profile", "name": "peer" } }))?;
        self.wait_for("connected", s(20))
    }

    /// Disconnects and waits until it is done.
    pub fn disconnect(&self) -> Result<()> {
        self.call("POST", "/v1/disconnect", &json!({}))?;
        self.wait_for("disconnected", s(20))
    }

    /// Waits for a state whose policy is in force.
    pub fn wait_for(&self, state: &str, limit: Duration) -> Result<()> {
        let (api, mut last) = (self.api(), Value::Null);
        let reached = until(&format!("state {state}"), limit, || {
            last = api.status().unwrap_or_default();
            Ok((last["state"] == state && last["protection"]["in_force"] == true).then_some(()))
        });
        self.explain(reached.with_context(|| format!("{last:#}")))
    }

    /// The backend that the helper says it uses.
    pub fn backend(&self) -> Result<String> {
        Ok(self.api().status()?["protection"]["dns_backend"].as_str().unwrap_or("none").to_owned())
    }

    /// Looks a name up as every program does.
    pub fn look_up(&self, name: &str) -> bool {
        self.command("timeout").args(["4", "getent", "ahostsv4", name]).succeeds()
    }

    /// How often each resolver was asked for a name: on the LAN, in the tunnel.
    pub fn asked(&self, name: &str) -> (usize, usize) {
        let count =
            |log: Vec<hamn_provider::sandbox::service::Query>| log.iter().filter(|query| query.name.contains(name)).count();
        (count(self.world.lab.lan_dns.entries()), count(self.peer.dns.entries()))
    }

    /// Looks a name up, again while the tunnel moves to another path; it must be resolved in the tunnel alone.
    pub fn resolves_inside(&self, name: &str) -> Result<()> {
        let resolved = until(&format!("{name} is resolved"), s(10), || Ok(self.look_up(name).then_some(())));
        let (lan, tunnel) = self.asked(name);
        self.explain(resolved)?;
        self.explain(if lan == 0 && tunnel > 0 { Ok(()) } else { bail!("{name}: LAN asked {lan}, tunnel asked {tunnel}") })
    }

    /// Looks a name up that must be resolved on the LAN alone: the control, and the state after a disconnect.
    pub fn resolves_outside(&self, name: &str) -> Result<()> {
        // A service that was just told of a change may still be at it.
        let mut round = 0;
        until(&format!("{name} is resolved on the LAN"), s(20), || {
            round += 1;
            let name = format!("{name}{round}.test");
            self.look_up(&name);
            Ok((self.asked(&name).0 > 0 && self.asked(&name).1 == 0).then_some(()))
        })
        .with_context(|| self.journal())
    }

    /// Our rules in the kernel.
    pub fn rules(&self) -> Result<String> {
        Ok(self.run("nft list ruleset")?.split("table ").filter(|table| table.contains("hamn")).collect())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of a PID namespace's first process is the end of all of them.
        if self.init.as_raw() > 0 {
            let _ = kill(self.init, Signal::SIGKILL);
        }
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        let group = self.mounts.join("cgroup").join(&self.group);
        // Processes that were killed are in it until they are gone.
        let _ = until("the control group is empty", s(10), || {
            let emptied = self.world.lab.client.command("sh").args(["-c", REMOVE_GROUP]).arg(&group).succeeds();
            Ok(emptied.then_some(()))
        });
    }
}

const REMOVE_GROUP: &str = "find \"$0\" -depth -type d -exec rmdir {} + 2>/dev/null; [ ! -d \"$0\" ]";

/// Removes control groups of test processes that were killed.
fn sweep(world: &World, directory: &Path) -> Result<()> {
    let script = "mkdir -p \"$0\" && mount -t cgroup2 cgroup2 \"$0\" && cd \"$0\" && for group in hamn-guest-*; do
        pid=${group#hamn-guest-}; [ -d \"$group\" ] && [ ! -d \"/proc/${pid%-*}\" ] && find \"$group\" -depth -type d -exec rmdir {} \\; ; done
        cd / && umount \"$0\"; exit 0";
    world.lab.client.command("sh").args(["-c", script]).arg(directory.join("sweep")).ok().map(drop)
}

/// The top layer: what a package of Hamn installs, and what this kind of machine has.
fn write_layer(top: &Path, kind: &Kind) -> Result<()> {
    let installers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../installers/linux");
    for unit in ["hamn-helper.service", "hamn-lockdown.service"] {
        let text = fs::read_to_string(installers.join("systemd").join(unit))?;
        put(top, &format!("/usr/lib/systemd/system/{unit}"), &text, 0o644)?;
    }
    put(top, "/usr/lib/sysctl.d/50-hamn.conf", &fs::read_to_string(installers.join("sysctl/50-hamn.conf"))?, 0o644)?;
    for unit in MASKED {
        link(top, unit, "/dev/null", "")?;
    }
    for unit in &kind.enabled {
        let target = if unit.contains("lockdown") { "sysinit.target.wants/" } else { "multi-user.target.wants/" };
        link(top, unit, &format!("/usr/lib/systemd/system/{unit}"), target)?;
    }
    put(top, "/etc/systemd/system/systemd-resolved.service.d/lab.conf", RESOLVED_DROP_IN, 0o644)?;
    put(top, "/etc/NetworkManager/system-connections/eth0.nmconnection", ETH0_CONNECTION, 0o600)?;
    put(top, "/etc/NetworkManager/conf.d/lab.conf", NETWORK_MANAGER_CONF, 0o644)?;
    if !kind.network_manager {
        link(top, "NetworkManager.service", "/dev/null", "")?;
    }
    if let Some(text) = kind.resolv_conf {
        put(top, "/etc/resolv.conf", text, 0o644)?;
    }
    for (path, text) in &kind.files {
        put(top, path, text, if path.starts_with("/var/lib/hamn") { 0o600 } else { 0o644 })?;
    }
    let state = top.join("var/lib/hamn");
    if state.is_dir() {
        fs::set_permissions(state, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn put(top: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let path = top.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().context("no parent")?)?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

fn link(top: &Path, unit: &str, to: &str, wants: &str) -> Result<()> {
    let path = top.join(format!("etc/systemd/system/{wants}{unit}"));
    fs::create_dir_all(path.parent().context("no parent")?)?;
    std::os::unix::fs::symlink(to, &path).with_context(|| format!("link {}", path.display()))
}

/// How long a reaction of a service may take that nothing announces.
pub const SOON: Duration = ms(4000);
