//! BOOT-01: from the kernel to the first helper, with and without an intent to be protected.

use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::ms;

use crate::machine::{Kind, Machine, skipped};

/// Brings the link up as early as any network service may, and notes which rules were there in this moment.
const NETWORK: &str = "[Unit]
DefaultDependencies=no
Wants=network-pre.target
After=network-pre.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -euc 'nft list ruleset > /run/rules-before-link; ip link set eth0 up; ip address add 10.0.1.2/24 dev eth0; ip route add default via 10.0.1.1'
";

/// Settings and intent as the helper itself writes them.
fn saved(connected: bool) -> Result<Vec<(&'static str, String)>> {
    let machine = Machine::boot(&Kind::plain())?;
    machine.start_helper()?;
    if connected {
        machine.connect()?;
    }
    let file = |name: &str| machine.run(&format!("cat /var/lib/hamn/{name}"));
    Ok(vec![("/var/lib/hamn/settings.json", file("settings.json")?), ("/var/lib/hamn/target.json", file("target.json")?)])
}

fn boot(intent: Vec<(&'static str, String)>) -> Result<Machine> {
    let mut files = intent;
    files.push(("/usr/lib/systemd/system/lab-network.service", NETWORK.to_owned()));
    // The helper is not enabled: the early unit stands alone.
    let enabled = vec!["hamn-lockdown.service", "lab-network.service"];
    Machine::boot(&Kind { files, enabled, plugged_in: false, flood: Some(ms(2500)), ..Kind::plain() })
}

/// How many packets of the flood reached the ISP.
fn escaped(machine: &mut Machine) -> Result<u64> {
    for flooder in std::mem::take(&mut machine.flooders) {
        ensure!(World::flooded(flooder)?.tried > 1000, "the flood was too small");
    }
    Ok(machine.world.lab.seen()?.outside)
}

#[test]
fn boot_01_lockdown_is_in_place_before_the_link_is_up() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut machine = boot(saved(true)?)?;
    let early = machine.run("cat /run/rules-before-link")?;
    ensure!(early.contains("hamn"), "no rules when the link came up: {early:?}\n{}", machine.journal());
    assert_eq!(escaped(&mut machine)?, 0, "{:#?}", machine.world.lab.witness.samples());
    ensure!(machine.run("cat /sys/class/net/eth0/operstate")?.trim() == "up", "control: the link is up");
    machine.world.assert_no_leak("before any helper")
}

#[test]
fn boot_01_an_open_intent_boots_open() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut machine = boot(saved(false)?)?;
    ensure!(!machine.run("cat /run/rules-before-link")?.contains("hamn"), "rules without an intent");
    ensure!(machine.rules()?.is_empty(), "rules without an intent");
    // The control of the test above: this is what the same flood looks like without the rules.
    ensure!(escaped(&mut machine)? > 100, "the flood reached nobody");
    Ok(())
}

/// BOOT-02 under systemd: an intent that cannot be read is closed.
#[test]
fn boot_02_an_unreadable_intent_boots_closed() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let mut intent = saved(false)?;
    for (path, text) in &mut intent {
        if path.ends_with("target.json") {
            text.truncate(text.len() / 2);
        }
    }
    let mut machine = boot(intent)?;
    assert_eq!(escaped(&mut machine)?, 0, "{:#?}", machine.world.lab.witness.samples());
    ensure!(!machine.rules()?.is_empty());
    Ok(())
}
