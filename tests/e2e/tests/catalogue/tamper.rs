//! TAMPER: other programs change our rules, routes or device under us.

use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{in_time, ms, s, until, within};
use hamn_provider::sandbox::address as at;
use std::time::Instant;

fn rules(world: &World) -> Result<String> {
    world.lab.client.command("nft").args(["list", "tables"]).ok()
}

/// TAMPER-01: `nft flush ruleset` while connected: restored within 100 ms, reported, and the gap leaks nothing.
#[test]
fn tamper_01_flushed_rules_are_restored() -> Result<()> {
    in_time(flushed_rules_are_restored)
}

fn flushed_rules_are_restored() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    let mut took = Vec::new();
    world.lab.reset_witness()?;
    let flooders = world.flood(s(3))?;
    let counted = || Ok::<u64, anyhow::Error>(world.status()?["protection"]["tampered"].as_u64().unwrap_or_default());
    for _ in 0..10 {
        let before = counted()?;
        world.lab.client.nft("flush ruleset\n")?;
        let start = Instant::now();
        until("the table is there again", s(2), || Ok(rules(&world)?.contains("hamn").then_some(())))?;
        took.push(start.elapsed());
        // A policy that happens to be applied at that moment comes first, and then nothing is left to count.
        let _ = until("the tampering is counted", s(2), || Ok((counted()? > before).then_some(())));
    }
    ensure!(counted()? >= 8, "of 10 flushes only {} were counted", counted()?);
    for flooder in flooders {
        ensure!(World::flooded(flooder)?.tried > 1000, "the flood was too small");
    }
    // In the gap nothing holds the kernel's own reports of multicast groups; everything else is held by the routes.
    world.assert_no_traffic_outside("while the rules were flushed")?;
    took.sort();
    let warnings = world.status()?["warnings"].to_string();
    ensure!(warnings.contains("tampered"), "the user is told: {warnings}");
    world.assert_no_leak("after the rules were restored")?;
    // Half of what is measured here is the listing itself.
    within(&format!("restored (median of {took:?})"), took[took.len() / 2], ms(100))
}

/// TAMPER-01: our routing rules and routes are taken away.
#[test]
fn tamper_01_flushed_routing_rules_are_restored() -> Result<()> {
    let mut world = World::start()?;
    world.connect()?;
    world.lab.reset_witness()?;
    for family in ["", "-6 "] {
        let shown = world.lab.client.ip(&format!("{family}rule show"))?;
        let ours: Vec<&str> = shown
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(number, _)| number)
            .filter(|n| !["0", "32766", "32767"].contains(n))
            .collect();
        ensure!(!ours.is_empty(), "there are rules of ours: {shown}");
        for number in ours {
            let _ = world.lab.client.ip(&format!("{family}rule del pref {number}"));
        }
        until("the rules are back", s(2), || Ok((world.lab.client.ip(&format!("{family}rule show"))? == shown).then_some(())))?;
    }
    world.wait_for_exit(at::GATEWAY_V4, s(3))?;
    world.assert_nothing_outside("while the routing rules were gone")?;
    world.assert_no_leak("after the routing rules were restored")
}

/// TAMPER-03: the tunnel device is deleted, renamed, set down, or given an absurd MTU.
#[test]
fn tamper_03_the_device_is_taken_away() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    for change in ["link del hamn0", "link set hamn0 down", "link set hamn0 mtu 68", "address flush dev hamn0"] {
        world.connect()?;
        world.lab.reset_witness()?;
        let flooders = world.flood(ms(800))?;
        world.lab.client.ip(change)?;
        world.fire()?;
        for flooder in flooders {
            World::flooded(flooder)?;
        }
        world.assert_nothing_outside(change)?;
        world.wait_for_exit(at::GATEWAY_V4, s(15)).map_err(|error| error.context(format!("after `ip {change}`")))?;
        world.assert_nothing_outside(&format!("after recovery from `ip {change}`"))?;
        world.disconnect()?;
    }
    world.connect()?;
    world.lab.reset_witness()?;
    world.lab.client.ip_batch("link set hamn0 down\nlink set hamn0 name other0\nlink set other0 up\n")?;
    world.fire()?;
    world.assert_nothing_outside("renamed")?;
    world.wait_for_exit(at::GATEWAY_V4, s(15))?;
    world.assert_no_leak("after recovery from a rename")
}

/// `hamn verify` tells a protected machine from an open one.
#[test]
fn verify_01_tells_protected_from_open() -> Result<()> {
    let world = World::start()?;
    world.connect()?;
    let report = world.json("verify")?;
    let results: Vec<&str> =
        report["checks"].as_array().into_iter().flatten().filter_map(|check| check["result"].as_str()).collect();
    ensure!(results.len() >= 6 && !results.contains(&"fail"), "{report:#}");
    world.disconnect()?;
    let open = world.hamn("verify")?.output()?;
    ensure!(
        open.status.code() != Some(0) || String::from_utf8_lossy(&open.stdout).contains("not"),
        "without a tunnel it does not say that all is well"
    );
    Ok(())
}
