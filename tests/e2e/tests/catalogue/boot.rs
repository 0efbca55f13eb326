//! BOOT: from before the network comes up until the helper decides, and around its end (G7, G16).

use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::binaries::binary;
use hamn_e2e::wait::{ms, s};
use hamn_e2e::world::Setup;
use hamn_provider::sandbox::{Options, address as at};
use nix::sys::signal::Signal;
use std::path::Path;

/// The machine before boot: link down, no rules, and the state directory of the machine that was shut down.
fn powered_off(state_dir: &Path) -> Result<World> {
    let lab = Options { link_up: false, ..Options::default() };
    let world = World::with(Setup { lab, helper: false, login: false, ..Setup::default() })?;
    copy(state_dir, &world.state_dir())?;
    Ok(world)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp failed");
    Ok(())
}

fn early_boot(world: &World) -> Result<()> {
    world.helper_command()?.arg("--early-boot").ok().map(drop)
}

fn boots_closed(world: &mut World, why: &str) -> Result<()> {
    early_boot(world)?;
    world.lab.reset_witness()?;
    world.lab.plug_in()?;
    world.fire()?;
    world.assert_nothing_outside(&format!("{why}: after early boot"))?;
    world.start_helper()?;
    world.assert_no_leak(&format!("{why}: after the helper's start"))
}

/// BOOT-01: lockdown holds from before the link comes up, through the helper's start.
#[test]
fn boot_01_lockdown_holds_from_before_the_network() -> Result<()> {
    let mut before = World::start()?;
    before.set("kill_switch", "always")?;
    before.stop_helper(Signal::SIGTERM)?;
    let mut world = powered_off(&before.state_dir())?;
    boots_closed(&mut world, "lockdown")?;
    world.restore_network()?;
    world.control()
}

/// BOOT-01, with a tunnel wanted: it comes back by itself and nothing is outside.
#[test]
fn boot_01_a_wanted_tunnel_comes_back_after_a_reboot() -> Result<()> {
    let mut before = World::start()?;
    before.connect()?;
    before.kill_helper()?;
    let mut world = powered_off(&before.state_dir())?;
    // The new world has a new provider that does not know the old keys, so the intent is what is tested.
    boots_closed(&mut world, "tunnel wanted")?;
    let status = world.status()?;
    ensure!(status["target"]["want"] == "connected", "the intent survived: {status:#}");
    world.restore_network()?;
    world.control()
}

/// The opposite: without lockdown or a wanted tunnel, a boot leaves the network alone.
#[test]
fn boot_01_nothing_is_blocked_when_nothing_was_wanted() -> Result<()> {
    let mut before = World::start()?;
    before.stop_helper(Signal::SIGTERM)?;
    let world = powered_off(&before.state_dir())?;
    early_boot(&world)?;
    world.lab.plug_in()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"));
    Ok(())
}

/// BOOT-02: an intent that cannot be read is a closed one.
#[test]
fn boot_02_an_unreadable_intent_is_closed() -> Result<()> {
    let mut before = World::start()?;
    before.stop_helper(Signal::SIGTERM)?;
    let damages: [(&str, &str, Option<&[u8]>); 7] = [
        ("missing", "target.json", None),
        ("empty", "target.json", Some(b"")),
        ("garbage", "target.json", Some(b"\x00\xff not json")),
        ("newer version", "target.json", Some(br#"{"version":4000000000,"target":{"want":"disconnected"}}"#)),
        ("settings missing", "settings.json", None),
        ("settings empty", "settings.json", Some(b"")),
        ("settings garbage", "settings.json", Some(b"{\"kill_switch\":")),
    ];
    for (why, file, bytes) in damages {
        let mut world = powered_off(&before.state_dir())?;
        let path = world.state_dir().join(file);
        match bytes {
            None => std::fs::remove_file(&path)?,
            Some(bytes) => std::fs::write(&path, bytes)?,
        }
        boots_closed(&mut world, why)?;
        let status = world.status()?;
        ensure!(status["state"] == "blocked" && status["blocked"]["code"] == "intent_unreadable", "{why}: {status:#}");
        // One command gets the user out.
        world.disconnect()?;
        assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"), "{why}");
    }
    Ok(())
}

/// BOOT-04: SIGTERM, as at shutdown: rules stay when protection was wanted, and go when it was not.
#[test]
fn boot_04_sigterm_keeps_the_rules_when_protection_is_wanted() -> Result<()> {
    let mut world = World::start()?;
    world.set("kill_switch", "always")?;
    world.stop_helper(Signal::SIGTERM)?;
    world.assert_no_leak("lockdown, after SIGTERM")?;
    world.start_helper()?;
    world.set("kill_switch", "while_connected")?;
    world.connect()?;
    world.stop_helper(Signal::SIGTERM)?;
    world.assert_no_leak("tunnel wanted, after SIGTERM")?;
    world.start_helper()?;
    world.wait_for_exit(at::GATEWAY_V4, s(10))?;
    world.stop_helper(Signal::SIGUSR1)?;
    world.assert_no_leak("tunnel wanted, after SIGUSR1")?;
    world.start_helper()?;
    world.wait_for_exit(at::GATEWAY_V4, s(10))?;
    world.disconnect()?;
    world.stop_helper(Signal::SIGTERM)?;
    assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"), "nothing was wanted: the network is open");
    let rules = world.lab.client.command("nft").args(["list", "tables"]).ok()?;
    ensure!(!rules.contains("hamn"), "no table of ours is left: {rules}");
    let policy_rules = world.lab.client.ip("rule show")? + &world.lab.client.ip("-6 rule show")?;
    ensure!(!policy_rules.contains("0x68616d6e"), "no routing rule of ours is left: {policy_rules}");
    world.control()
}

/// `restore-network` opens the network with the helper dead, from every state, and leaves nothing behind (G19).
#[test]
fn boot_06_restore_network_works_without_a_helper() -> Result<()> {
    let mut world = World::start()?;
    world.set("kill_switch", "always")?;
    world.connect()?;
    world.kill_helper()?;
    assert_eq!(world.lab.exit_address(false, ms(300))?, None);
    let command = world.lab.client.command(binary("hamn-helper")?).arg("--restore-network");
    command.arg("--state-dir").arg(world.state_dir()).arg("--runtime-dir").arg(world.runtime_dir()).ok()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"));
    world.control()
}
