//! LEAK: nothing but the tunnel leaves a physical link, in any protected state and in any change between them (G1, G2, G4, G8).

use crate::states::{Protected, enter, silence_gateway};
use anyhow::{Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s};
use hamn_provider::sandbox::address as at;
use serde_json::json;
use std::time::{Duration, Instant};

/// LEAK-01: at least 1000 swaps of the ruleset under three flooders.
#[test]
fn leak_01_slow_flood_through_a_thousand_transitions() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.set("kill_switch", "always")?;
    world.connect()?;
    let generation =
        |world: &World| -> Result<u64> { Ok(world.status()?["protection"]["applied_generation"].as_u64().unwrap_or(0)) };
    let (first, limit) = (generation(&world)?, s(200));
    world.lab.reset_witness()?;
    let mut flooders = Vec::from(world.flood(limit + s(5))?);
    flooders.push(world.flood_at(vec![at::WEB_V4, at::WEB_V6, at::API_V4], &[443, 53, 51820], limit + s(5))?);
    let start = Instant::now();
    let mut round = 0;
    while generation(&world)? < first + 1000 {
        ensure!(start.elapsed() < limit, "only {} swaps in {} s", generation(&world)? - first, limit.as_secs());
        round += 1;
        // Ordered pairs of states: S3 to itself with other rules, S3 S5 S2 S3, S3 S5 S1 S2 S3.
        world.patch(&json!({ "allow_lan": round % 2 == 0 }))?;
        if round % 10 == 0 {
            world.call("POST", "/v1/reconnect", &json!({}))?;
        }
        if round % 25 == 0 {
            world.give_up()?;
            world.want(if round % 50 == 0 { "us" } else { "se" })?;
        }
        if round % 100 == 0 {
            world.assert_no_traffic_outside(&format!("after {round} rounds"))?;
        }
    }
    for mut flooder in flooders {
        flooder.kill()?;
        flooder.wait()?;
    }
    world.assert_no_traffic_outside("after 1000 swaps under flood")?;
    world.give_up()?;
    world.set("kill_switch", "off")?;
    world.wait_in_force()?;
    world.control()
}

fn probes_in(state: Protected) -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    enter(&mut world, state)?;
    world.assert_no_leak(&format!("{state:?}"))?;
    world.patch(&json!({ "allow_lan": false }))?;
    world.assert_no_leak(&format!("{state:?}, after a change of settings"))
}

#[test]
fn leak_02_all_probes_in_lockdown() -> Result<()> {
    probes_in(Protected::Lockdown)
}

#[test]
fn leak_02_all_probes_while_connecting() -> Result<()> {
    probes_in(Protected::Connecting)
}

#[test]
fn leak_02_all_probes_while_the_gateway_is_silent() -> Result<()> {
    probes_in(Protected::Reconnecting)
}

#[test]
fn leak_02_all_probes_while_blocked() -> Result<()> {
    probes_in(Protected::Blocked)
}

/// S5: the tunnel goes down while a flood is on, into lockdown.
#[test]
fn leak_02_flood_while_disconnecting_into_lockdown() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.set("kill_switch", "always")?;
    for _ in 0..5 {
        world.connect()?;
        world.lab.reset_witness()?;
        let flooders = world.flood(ms(600))?;
        world.disconnect()?;
        for flooder in flooders {
            ensure!(World::flooded(flooder)?.tried > 1000, "the flood was too small");
        }
        world.assert_nothing_outside("disconnecting into lockdown")?;
    }
    world.assert_no_leak("disconnected in lockdown")
}

/// LEAK-03 with both families inside the tunnel.
#[test]
fn leak_03_all_probes_while_connected_dual_stack() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"));
    assert_eq!(world.exit_address_v6()?.as_deref(), Some("2001:db8:5::1"));
    world.assert_no_leak("connected")?;
    ensure!(world.lab.seen()?.tunnel > 0, "the witness saw the tunnel");
    world.disconnect()?;
    world.control()
}

/// LEAK-03 with IPv4 only: IPv6 is refused at once, not dropped in silence (G2).
#[test]
fn leak_03_all_probes_while_connected_ipv4_only() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.set("ipv6", "false")?;
    world.connect()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"));
    let start = Instant::now();
    assert_eq!(world.lab.exit_address(true, s(10))?, None);
    ensure!(start.elapsed() < s(5), "IPv6 must be refused, not dropped: it took {} ms", start.elapsed().as_millis());
    world.assert_no_leak("connected, IPv4 only")
}

/// LEAK-06: other programs, root or not, may not talk to the gateway outside the tunnel (G8, TunnelCrack ServerIP).
#[test]
fn leak_06_only_the_tunnel_reaches_the_gateway() -> Result<()> {
    let mut world = World::start()?;
    let gateway = hamn_e2e::probe::Salvo { targets: vec![at::GATEWAY_V4, at::GATEWAY_V6, at::GATEWAY_US_V4], ..world.salvo() };
    world.lab.reset_witness()?;
    world.fire_salvo(&gateway)?;
    let control = world.lab.seen()?.outside;
    ensure!(control > 100, "negative control: {control}");
    for state in [Protected::Connected, Protected::Reconnecting] {
        if state == Protected::Reconnecting {
            silence_gateway(&world)?;
        } else {
            enter(&mut world, state)?;
        }
        world.lab.reset_witness()?;
        world.fire_salvo(&gateway)?;
        let flooder = world.flood_at(vec![at::GATEWAY_V4, at::GATEWAY_V6], &[51820, 80, 53, 443], ms(300))?;
        ensure!(World::flooded(flooder)?.tried > 1000, "the flood was too small");
        world.assert_nothing_outside(&format!("to the gateway, {state:?}"))?;
    }
    Ok(())
}

/// LEAK-08: raw protocols, fragments, extension headers, one hop to live.
#[test]
fn leak_08_raw_protocols_and_odd_packets() -> Result<()> {
    let mut world = World::start()?;
    let odd = hamn_e2e::probe::Salvo { targets: vec![at::OBSERVER_V4, at::OBSERVER_V6], ..world.salvo() };
    world.lab.reset_witness()?;
    world.fire_salvo(&odd)?;
    let samples = world.lab.seen()?.outside;
    ensure!(samples > 50, "negative control: {samples}");
    for state in [Protected::Connected, Protected::Lockdown] {
        enter(&mut world, state)?;
        world.lab.reset_witness()?;
        world.fire_salvo(&odd)?;
        world.assert_nothing_outside(&format!("{state:?}"))?;
        world.disconnect()?;
    }
    Ok(())
}

/// LEAK-09: sockets bound to the physical link's address or to the link itself, as WebRTC and some programs do.
#[test]
fn leak_09_sockets_bound_to_the_physical_link() -> Result<()> {
    let mut world = World::start()?;
    let ask = |world: &World, extra: &[&str]| -> Result<bool> {
        let command = world.lab.client.command("curl").args(["-s", "--max-time", "1", "-o", "/dev/null"]).args(extra);
        Ok(command.arg(format!("http://{}/ip", at::WEB_V4)).as_nobody().succeeds())
    };
    let bindings: [&[&str]; 2] = [&["--interface", "10.0.1.2"], &["--interface", "eth0"]];
    for binding in bindings {
        ensure!(ask(&world, binding)?, "negative control: {binding:?} works without protection");
    }
    world.connect()?;
    world.lab.reset_witness()?;
    for binding in bindings {
        // Refused, or carried inside the tunnel: both are fine. Outside it is not.
        let _ = ask(&world, binding)?;
        world.assert_nothing_outside(&format!("{binding:?}"))?;
    }
    let bound = hamn_e2e::probe::Salvo { targets: vec![at::OBSERVER_V4, at::OBSERVER_V6, at::LAN_HOST_V4], ..world.salvo() };
    world.fire_salvo(&bound)?;
    world.assert_nothing_outside("bound probes")
}

/// A flood from before *connect* until after the helper's death never gets out (the whole of G4 in one case).
#[test]
fn leak_04_flood_across_connect_switch_and_reconnect() -> Result<()> {
    let mut world = World::start()?;
    world.connect()?;
    world.lab.reset_witness()?;
    let flooders = world.flood(Duration::from_secs(4))?;
    for place in ["us", "se", "us", "best"] {
        world.run(&format!("connect {place} --wait"))?;
    }
    world.run("reconnect --wait")?;
    world.set("allow_lan", "true")?;
    world.set("ipv6", "false")?;
    world.set("mtu", "1300")?;
    for flooder in flooders {
        ensure!(World::flooded(flooder)?.tried > 1000, "the flood was too small");
    }
    world.assert_no_traffic_outside("server and settings changes")
}
