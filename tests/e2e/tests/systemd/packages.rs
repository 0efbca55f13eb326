//! The helper's deb under the real service manager: installed, upgraded under fire, removed while a tunnel is up.

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::binaries::binary;
use hamn_e2e::wait::{s, until};
use std::path::Path;
use std::process::Command;

use crate::machine::{Kind, Machine, skipped};
use crate::peer::EXIT;

/// A plain machine without Hamn: takes away what the machine was booted with.
fn bare() -> Result<Machine> {
    let machine = Machine::boot(&Kind::plain())?;
    machine.run("umount /usr/lib/hamn/hamn-helper /usr/bin/hamn")?;
    machine.run("rm -r /usr/lib/hamn /usr/bin/hamn /usr/lib/systemd/system/hamn-* /usr/lib/sysctl.d/50-hamn.conf")?;
    machine.run("systemctl daemon-reload")?;
    Ok(machine)
}

/// Makes the helper's deb of this version and puts it into the machine.
fn offer(machine: &Machine, version: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let programs = binary("hamn-helper")?;
    let programs = programs.parent().context("the programs have no directory")?;
    let mut xtask = Command::new(binary("hamn-xtask")?);
    xtask.args(["package", "--dev", "--helper-only", "--package-version", version]);
    let output = xtask.arg("--from").arg(programs).arg("--to").arg(directory.path()).output().context("run hamn-xtask")?;
    ensure!(output.status.success(), "hamn-xtask package: {}", String::from_utf8_lossy(&output.stderr));
    let made = std::fs::read_dir(directory.path())?.filter_map(Result::ok).map(|entry| entry.path());
    let deb = made.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb")).context("there is no deb")?;
    let script = format!("cat > /tmp/hamn-{version}.deb");
    machine.command("sh").args(["-euc", &script]).input(std::fs::read(deb)?).ok().map(drop)
}

fn installed(machine: &Machine) -> Result<()> {
    machine.wait_for("disconnected", s(20))?;
    for unit in ["hamn-helper", "hamn-lockdown"] {
        machine.run(&format!("systemctl is-enabled {unit}"))?;
    }
    let mark = machine.run("sysctl -n net.ipv4.conf.all.src_valid_mark")?;
    ensure!(mark.trim() == "1", "the kernel setting was not applied: {mark}");
    Ok(())
}

fn gone(machine: &Machine) -> Result<()> {
    let left = machine.rules()?;
    ensure!(left.is_empty(), "rules are left: {left}");
    ensure!(machine.run("systemctl is-active hamn-helper || true")?.trim() == "inactive", "the helper still runs");
    let program = Path::new("/usr/lib/hamn/hamn-helper");
    ensure!(!machine.command("test").arg("-e").arg(program).succeeds(), "the helper's program is left");
    Ok(())
}

#[test]
fn the_deb_starts_the_helper_upgrades_it_closed_and_opens_the_network_when_removed() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut machine = bare()?;
    offer(&machine, "1.0.0")?;
    offer(&machine, "99.0.0")?;

    machine.run("dpkg -i /tmp/hamn-1.0.0.deb")?;
    installed(&machine)?;
    machine.world.control().context("an installation closed the network")?;

    machine.connect()?;
    let old = machine.helper_pid()?;
    machine.world.lab.reset_witness()?;
    let flooders = machine.world.flood(s(8))?;
    machine.explain(machine.run("dpkg -i /tmp/hamn-99.0.0.deb"))?;
    let new = until("another helper", s(20), || Ok(machine.helper_pid().ok().filter(|pid| *pid != 0)))?;
    ensure!(new != old, "the upgrade did not restart the helper");
    machine.wait_for("connected", s(20))?;
    for flooder in flooders {
        ensure!(World::flooded(flooder)?.tried > 1000, "the flood was too small");
    }
    machine.explain(machine.world.assert_nothing_outside("while the package was upgraded"))?;
    machine.explain(machine.world.wait_for_exit(EXIT.parse()?, s(5)).map(drop))?;
    let said = machine.journal();
    ensure!(said.contains("signal=Keep"), "the signal that keeps the rules was sent: {said}");

    machine.explain(machine.run("dpkg -r hamn"))?;
    gone(&machine)?;
    machine.world.control().context("removing did not open the network")?;
    machine.run("test -d /var/lib/hamn")?;

    // The uninstall forgot that a tunnel was wanted, and remembers no decision against the service.
    machine.run("dpkg -i /tmp/hamn-99.0.0.deb")?;
    installed(&machine)?;
    machine.run("dpkg -P hamn")?;
    gone(&machine)?;
    let list = "ls -d /var/lib/hamn /etc/hamn /run/hamn 2>/dev/null || true; getent group hamn || true; find /etc/systemd -name '*hamn*'";
    let left = machine.run(list)?;
    ensure!(left.trim().is_empty(), "purge left {left}");
    machine.world.control()
}
